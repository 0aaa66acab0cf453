//! Reads HTTP/1.1 answers from a stream of bytes: as little as a client needs that knows its server.

use memchr::memmem;

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: &'a [u8],
}

/// Bytes that are no answer as we understand one: HTTP/1.1 with a `Content-Length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Bytes received and not yet taken as answers.
#[derive(Debug, Default)]
pub struct Answers {
    pending: Vec<u8>,
    /// Bytes of `pending` already taken. Invariant: at most its length.
    taken: usize,
}

impl Answers {
    /// Adds what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken == self.pending.len() {
            self.pending.clear();
            self.taken = 0;
        }
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole answer.
    ///
    /// # Errors
    /// [`Malformed`]: nothing behind it can be understood.
    pub fn take(&mut self) -> Result<Option<Answer<'_>>, Malformed> {
        let bytes = &self.pending[self.taken..];
        let Some(head_end) = memmem::find(bytes, b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = &bytes[..head_end];
        let status = status(head).ok_or(Malformed("the answer has no HTTP/1.1 status line"))?;
        let length = content_length(head).ok_or(Malformed("the answer has no Content-Length"))?;
        let body_start = head_end + 4;
        if bytes.len() - body_start < length {
            return Ok(None);
        }
        let start = self.taken + body_start;
        self.taken = start + length;
        Ok(Some(Answer {
            status,
            body: &self.pending[start..self.taken],
        }))
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let line = head.split(|&byte| byte == b'\n').find(|line| {
        line.get(..NAME.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
    })?;
    std::str::from_utf8(&line[NAME.len()..])
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::{Answer, Answers, Malformed};

    const TWO: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 2\r\n\r\n{}\
        HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n";

    #[test]
    fn answers_are_found_however_the_bytes_arrive() {
        for piece in 1..TWO.len() {
            let mut answers = Answers::default();
            let mut found = Vec::new();
            for bytes in TWO.chunks(piece) {
                answers.push(bytes);
                while let Ok(Some(answer)) = answers.take() {
                    found.push((answer.status, answer.body.to_vec()));
                }
            }
            assert_eq!(
                found,
                [(200, b"{}".to_vec()), (403, b"no\n".to_vec())],
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn what_is_no_answer_is_said() {
        let cases: [(&[u8], &str); 2] = [
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "the answer has no Content-Length",
            ),
            (b"SSH-2.0\r\n\r\n", "the answer has no HTTP/1.1 status line"),
        ];
        for (bytes, cause) in cases {
            let mut answers = Answers::default();
            answers.push(bytes);
            assert_eq!(answers.take(), Err(Malformed(cause)));
        }
        let mut answers = Answers::default();
        answers.push(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(
            answers.take(),
            Ok(Some(Answer {
                status: 204,
                body: b""
            }))
        );
        assert_eq!(answers.take(), Ok(None));
    }
}
