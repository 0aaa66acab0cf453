//! Trailer sections of HTTP/1.1 messages, read as their bytes pass (RFC 9112 §7.1.2).
//!
//! ```text
//! head CRLF CRLF │ size CRLF data CRLF │ … │ 0 CRLF │ name: value CRLF … │ CRLF
//!   skipped      │      jumped over         │        │      kept          │
//! ```
//! Whoever frames the message decides what its end is, and whether it is chunked at all; here is only kept what stands
//! behind the last chunk. Bytes that make no sense as chunks are taken for the head of the next message.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Bytes of one trailer section, at most.
pub const TRAILER_BYTES_MAX: usize = 16 << 10;

/// Fields of one trailer section, at most.
pub const TRAILERS_MAX: usize = 64;

/// Why a trailer section cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrailerError {
    /// It is longer than [`TRAILER_BYTES_MAX`], or has more fields than [`TRAILERS_MAX`].
    #[error("the trailer section is too large")]
    TooLarge,
    /// A line in it is no field.
    #[error("the trailer section is malformed")]
    Malformed,
    /// The line in which the size of a chunk should stand is empty: some take that for the end of the body.
    #[error("a chunk has no size")]
    NoSize,
}

/// Follows the messages of one direction of a connection.
#[derive(Debug, Default)]
pub struct TrailerReader {
    state: State,
    /// Bytes of the head we are in.
    head: u64,
    /// Bytes of the first head that ended since the message began, its empty line included.
    first_head: Option<u64>,
    /// The section being read, or the one that ended. Invariant: at most [`TRAILER_BYTES_MAX`] and one.
    section: Vec<u8>,
    ended: bool,
    /// If the message is chunked, one of its chunks has no size.
    sizeless: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a head, with so many bytes of the empty line that ends it.
    Head { matched: usize },
    /// In the line of a size.
    Size { value: u64, digits: u8 },
    /// Behind the size, up to the end of its line.
    Extension { value: u64 },
    /// So many bytes of a chunk are left, its CR LF included.
    Data { left: u64 },
    /// Behind the last chunk; `line` bytes of the line we are in.
    Section { line: usize },
    /// Nobody asks any more.
    Ignoring,
}

impl Default for State {
    fn default() -> Self {
        Self::Head { matched: 0 }
    }
}

const HEAD_END: &[u8] = b"\r\n\r\n";

impl TrailerReader {
    /// A message begins, as far as we did not see it begin.
    pub fn begin(&mut self) {
        if !matches!(self.state, State::Head { .. }) {
            self.state = State::default();
            self.head = 0;
        }
        self.first_head = None;
        self.section.clear();
        self.ended = false;
        self.sizeless = false;
    }

    /// The rest of the message cannot have any, or nobody wants them.
    pub fn ignore(&mut self) {
        self.state = State::Ignoring;
        self.section = Vec::new();
        self.ended = false;
        self.sizeless = false;
    }

    /// Bytes of the first head since the message began: what whoever parsed it can compare. `None` if none was seen,
    /// as of a message that came in the same bytes as the one before.
    pub fn head_bytes(&self) -> Option<u64> {
        self.first_head
    }

    /// The next bytes of the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.state != State::Ignoring {
            let used = self.step(rest);
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// The trailers of the message that has ended; none is an empty map. Only the first call gives them.
    ///
    /// # Errors
    /// [`TrailerError`].
    pub fn take(&mut self) -> Result<HeaderMap, TrailerError> {
        if std::mem::take(&mut self.sizeless) {
            return Err(TrailerError::NoSize);
        }
        let section = std::mem::take(&mut self.section);
        if section.len() > TRAILER_BYTES_MAX {
            return Err(TrailerError::TooLarge);
        }
        match std::mem::take(&mut self.ended) {
            true => parse(&section),
            false => Ok(HeaderMap::new()),
        }
    }

    /// Takes some bytes; gives how many. None only on the way to another state.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let first = bytes[0];
        match self.state {
            State::Head { matched } => self.head(bytes, matched),
            State::Size { value, digits } => {
                let digit = char::from(first).to_digit(16);
                self.state = match (digit, first) {
                    // Twelve digits are more than any body has.
                    (Some(digit), _) if digits < 12 => State::Size {
                        value: value << 4 | u64::from(digit),
                        digits: digits + 1,
                    },
                    (_, b'\r' | b';' | b' ' | b'\t') if digits > 0 => State::Extension { value },
                    (_, b'\r') => {
                        self.sizeless = true;
                        State::Ignoring
                    }
                    _ => {
                        self.head = u64::from(digits);
                        State::Head { matched: 0 }
                    }
                };
                // What is no size is looked at again, as a head.
                usize::from(!matches!(self.state, State::Head { .. }))
            }
            State::Extension { value } => match memchr::memchr(b'\n', bytes) {
                None => bytes.len(),
                Some(at) => {
                    self.state = match value {
                        0 => State::Section { line: 0 },
                        size => State::Data { left: size + 2 },
                    };
                    if value == 0 && self.ended {
                        // Two messages in the same bytes: those of the first are not taken yet.
                        self.state = State::Ignoring;
                    }
                    at + 1
                }
            },
            State::Data { left } => {
                let jumped = left.min(bytes.len() as u64);
                self.state = match left - jumped {
                    0 => State::Size {
                        value: 0,
                        digits: 0,
                    },
                    left => State::Data { left },
                };
                jumped as usize
            }
            State::Section { line } => self.section(bytes, line),
            State::Ignoring => bytes.len(),
        }
    }

    fn head(&mut self, bytes: &[u8], mut matched: usize) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if matched == 0 {
                // Most bytes end no line.
                match memchr::memchr(b'\r', &bytes[at..]) {
                    None => break,
                    Some(before) => at += before,
                }
            }
            matched = match bytes[at] {
                byte if byte == HEAD_END[matched] => matched + 1,
                b'\r' => 1,
                _ => 0,
            };
            at += 1;
            if matched == HEAD_END.len() {
                let head = self.head + at as u64;
                self.first_head.get_or_insert(head);
                self.state = State::Size {
                    value: 0,
                    digits: 0,
                };
                return at;
            }
        }
        self.head += bytes.len() as u64;
        self.state = State::Head { matched };
        bytes.len()
    }

    fn section(&mut self, bytes: &[u8], line: usize) -> usize {
        let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        let room = (TRAILER_BYTES_MAX + 1).saturating_sub(self.section.len());
        self.section.extend_from_slice(&bytes[..end.min(room)]);
        let ends = bytes[end - 1] == b'\n';
        let whole = line + end;
        self.state = match ends {
            false => State::Section { line: whole },
            true if whole <= 2 => {
                self.ended = true;
                self.head = 0;
                State::Head { matched: 0 }
            }
            true => State::Section { line: 0 },
        };
        end
    }
}

/// The fields of a section, its last empty line included.
fn parse(section: &[u8]) -> Result<HeaderMap, TrailerError> {
    let mut fields = HeaderMap::new();
    for line in section.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        if fields.len() == TRAILERS_MAX {
            return Err(TrailerError::TooLarge);
        }
        let colon = memchr::memchr(b':', line).ok_or(TrailerError::Malformed)?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| TrailerError::Malformed)?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii())
            .map_err(|_| TrailerError::Malformed)?;
        fields.append(name, value);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn read(text: &str, cut: usize) -> TrailerReader {
        let mut reader = TrailerReader::default();
        reader.begin();
        for piece in text.as_bytes().chunks(cut) {
            reader.push(piece);
        }
        reader
    }

    fn taken(text: &str, cut: usize) -> Vec<(String, String)> {
        let fields = read(text, cut).take().unwrap();
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        fields
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect()
    }

    #[test]
    fn trailers_are_read_however_the_bytes_arrive() {
        let expected = [
            ("x-sum".to_owned(), "1: 2".to_owned()),
            ("x-empty".to_owned(), String::new()),
        ];
        for body in [
            "3\r\nabc\r\n0\r\nX-Sum: 1: 2\r\nX-Empty:\r\n\r\n",
            "0\r\nX-Sum:1: 2\t\r\nx-empty: \r\n\r\n",
            "3;x=\"y\"\r\nab\n\r\nA \r\n0\r\n\r\n0123\r\n000;last\r\nX-Sum: 1: 2\r\nX-Empty:\r\n\r\n",
        ] {
            let text = format!("{HEAD}{body}");
            for cut in 1..text.len() {
                assert_eq!(taken(&text, cut), expected, "{body:?} {cut}");
            }
            // The next message may lie in the same bytes.
            let followed = format!("{text}GET / HTTP/1.1\r\nX: y\r\n\r\n");
            for cut in [7, 16, followed.len()] {
                assert_eq!(taken(&followed, cut), expected, "{body:?} {cut}");
            }
        }
    }

    #[test]
    fn a_body_without_trailers_has_none() {
        for body in [
            "",
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "3\r\n0\r\nX: y\r\n\r\n",
        ] {
            assert_eq!(taken(&format!("{HEAD}{body}"), 5), [], "{body:?}");
        }
    }

    #[test]
    fn an_interim_head_and_a_second_message_do_not_confuse_it() {
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        let text = format!("{interim}{HEAD}1\r\na\r\n0\r\nX-A: b\r\n\r\n");
        assert_eq!(taken(&text, 4), [("x-a".to_owned(), "b".to_owned())]);
        let mut reader = read(&text, 9);
        assert_eq!(reader.take().unwrap().len(), 1);
        assert_eq!(reader.take().unwrap().len(), 0, "given once");
        reader.begin();
        reader.push(format!("{HEAD}0\r\nX-C: d\r\n\r\n").as_bytes());
        assert_eq!(reader.take().unwrap()["x-c"], "d");
    }

    #[test]
    fn the_head_is_counted_so_that_two_readers_can_agree() {
        assert_eq!(read(HEAD, 3).head_bytes(), Some(HEAD.len() as u64));
        let whole = format!("{HEAD}0\r\nX-A: b\r\n\r\n");
        assert_eq!(read(&whole, 999).head_bytes(), Some(HEAD.len() as u64));
        let mut reader = read(HEAD, 3);
        reader.ignore();
        reader.push(b"0\r\nX-A: b\r\n\r\n");
        assert_eq!(reader.take().unwrap().len(), 0);
    }

    #[test]
    fn what_is_no_field_or_too_much_is_an_error() {
        let section = |text: &str| read(&format!("{HEAD}0\r\n{text}\r\n"), 700).take();
        assert_eq!(section("no colon\r\n"), Err(TrailerError::Malformed));
        assert_eq!(section("a b: c\r\n"), Err(TrailerError::Malformed));
        assert_eq!(section(": c\r\n"), Err(TrailerError::Malformed));
        for body in ["\r\n", "1\r\na\r\n\r\n0\r\n\r\n"] {
            let sizeless = read(&format!("{HEAD}{body}"), 3).take();
            assert_eq!(sizeless, Err(TrailerError::NoSize), "{body:?}");
        }
        let long = format!("x: {}\r\n", "y".repeat(TRAILER_BYTES_MAX));
        assert_eq!(section(&long), Err(TrailerError::TooLarge));
        let many: String = (0..=TRAILERS_MAX)
            .map(|at| format!("x-{at}: y\r\n"))
            .collect();
        assert_eq!(section(&many), Err(TrailerError::TooLarge));
    }
}
