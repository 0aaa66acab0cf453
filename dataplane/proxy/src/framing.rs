//! Where does a request end? Two parsers that answer differently make request smuggling, so a head is refused
//! unless there is exactly one way to read it (RFC 9112 §5, §6).
//!
//! pingora already refuses a line fold, a space before the colon, control bytes, a bad `Content-Length` and
//! `Transfer-Encoding` on HTTP/1.0; it tolerates bare LF, repeats a length and drops it beside a transfer
//! coding. This is the rest, looked for in the bytes as they came; see [`crate::refused_head`] for what becomes of
//! the former.

use oktsec_contract::limits::{HEADER_BYTES_MAX, HEADERS_MAX};
use pingora::http::RequestHeader;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadFault {
    /// More headers or bytes than we read: 431.
    TooLarge,
    /// No single reading: 400.
    Ambiguous(&'static str),
}

/// Checks the head of an HTTP/1 request: as parsed, and as it came.
pub(crate) fn check_h1(head: &RequestHeader, raw: &[u8]) -> Result<(), HeadFault> {
    if raw.len() > HEADER_BYTES_MAX {
        return Err(HeadFault::TooLarge);
    }
    check_lines(raw)?;
    check_common(head)?;
    let mut codings = head.headers.get_all(http::header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(HeadFault::Ambiguous("a transfer coding other than chunked"));
        }
        // pingora has removed the parsed header by now.
        if has_length(raw) {
            return Err(HeadFault::Ambiguous("both a length and a transfer coding"));
        }
    }
    if head.version == http::Version::HTTP_11 && !head.headers.contains_key(http::header::HOST) {
        return Err(HeadFault::Ambiguous("no host"));
    }
    Ok(())
}

/// Checks what also holds for HTTP/2, where frames say how long a body is.
pub(crate) fn check_common(head: &RequestHeader) -> Result<(), HeadFault> {
    if head.headers.len() > HEADERS_MAX {
        return Err(HeadFault::TooLarge);
    }
    let mut lengths = head.headers.get_all(http::header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let digits = length.as_bytes();
        if lengths.next().is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(HeadFault::Ambiguous("more than one length"));
        }
    }
    if head
        .headers
        .get_all(http::header::HOST)
        .iter()
        .nth(1)
        .is_some()
    {
        return Err(HeadFault::Ambiguous("more than one host"));
    }
    Ok(())
}

/// Checks the bytes of an answer's head over HTTP/1. What we read over goes to the agent in another form, and whoever
/// looked at the same bytes elsewhere may have taken them for something else.
pub(crate) fn check_answer(raw: &[u8]) -> Result<(), &'static str> {
    if let Err(HeadFault::Ambiguous(what)) = check_lines(raw) {
        return Err(what);
    }
    // pingora has removed the parsed header by now.
    match has_length(raw) && has_field(raw, b"transfer-encoding:") {
        true => Err("both a length and a transfer coding"),
        false => Ok(()),
    }
}

/// Every line ends in CR LF, and CR stands nowhere else.
fn check_lines(raw: &[u8]) -> Result<(), HeadFault> {
    let mut line_start = 0;
    for end in memchr::memchr2_iter(b'\r', b'\n', raw) {
        match raw[end] {
            b'\r' if raw.get(end + 1) == Some(&b'\n') => {
                if matches!(raw.get(line_start), Some(b' ' | b'\t')) {
                    return Err(HeadFault::Ambiguous("a folded line"));
                }
            }
            b'\n' if end > 0 && raw[end - 1] == b'\r' => line_start = end + 1,
            _ => return Err(HeadFault::Ambiguous("a bare CR or LF")),
        }
    }
    Ok(())
}

fn has_length(raw: &[u8]) -> bool {
    has_field(raw, b"content-length:")
}

/// Whether a line begins with this name and its colon.
fn has_field(raw: &[u8], name: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', raw)
        .filter_map(|end| raw.get(end + 1..end + 1 + name.len()))
        .any(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::{HeadFault, check_answer, check_common, check_lines, has_length};
    use pingora::http::RequestHeader;

    #[test]
    fn only_cr_lf_ends_a_line() {
        assert_eq!(check_lines(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(()));
        for bad in [
            &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: a\n\n",
            b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n",
        ] {
            assert!(check_lines(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn an_answer_has_one_reading_or_none() {
        let ok = "HTTP/1.1 200 OK\r\n";
        let fine = format!("{ok}Content-Length: 3\r\nX-Transfer-Encoding: chunked\r\n\r\n");
        assert_eq!(check_answer(fine.as_bytes()), Ok(()));
        for bad in [
            "X-Note: a\r\n b\r\n\r\n",
            "X-Note: a\nX-Other: b\r\n\r\n",
            "Content-Length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            let head = format!("{ok}{bad}");
            assert!(check_answer(head.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_length_is_found_in_any_case_and_only_as_a_name() {
        assert!(has_length(b"POST / HTTP/1.1\r\nCONTENT-length: 3\r\n\r\n"));
        assert!(!has_length(
            b"POST / HTTP/1.1\r\nX-Content-Length: 3\r\nA: content-length: 3\r\n\r\n"
        ));
    }

    #[test]
    fn lengths_must_be_one_number() {
        for (values, fine) in [
            (&["3"][..], true),
            (&["3", "3"], false),
            (&["3", "4"], false),
            (&["3, 3"], false),
            (&["+3"], false),
            (&[""], false),
        ] {
            let mut head = RequestHeader::build("POST", b"/", None).expect("a fixed head parses");
            for value in values {
                head.append_header("Content-Length", *value)
                    .expect("visible ASCII");
            }
            assert_eq!(check_common(&head).is_ok(), fine, "{values:?}");
        }
        let mut head = RequestHeader::build("GET", b"/", None).expect("a fixed head parses");
        for i in 0..101 {
            head.append_header(format!("X-{i}"), "1")
                .expect("visible ASCII");
        }
        assert_eq!(check_common(&head), Err(HeadFault::TooLarge));
    }
}
