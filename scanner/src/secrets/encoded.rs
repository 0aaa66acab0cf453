//! Stretches of a text that are long enough to be a value in another writing, and what they say.
//!
//! Decoding is one function from places of the text to bytes. It is run once to get the bytes and,
//! for the rare find, once more to learn where they came from: no offsets are kept.

use std::ops::Range;

use memchr::memchr;

use super::find::SecretForm;
use super::key::WINDOW_BYTES;

/// Letters of base64 that hold the shortest value.
const BASE64_MIN: usize = (WINDOW_BYTES * 8).div_ceil(6);

/// Hex digits that hold the shortest value.
const HEX_MIN: usize = WINDOW_BYTES * 2;

/// Letters on a line of base64 before its end may be a wrapping and not the end of the text.
const WRAPPED_LINE_MIN: usize = 32;

/// A part of a text and how to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) span: Range<usize>,
    writing: Writing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// The group of four letters begins after so many.
    Base64 {
        skip: u8,
    },
    /// The pair of digits begins after so many.
    Hex {
        skip: u8,
    },
    Percent,
    Escaped,
    Entities,
}

/// Calls `each` for every stretch worth reading.
pub(super) fn stretches(text: &[u8], mut each: impl FnMut(Stretch)) {
    runs(text, BASE64_LETTER, BASE64_MIN, true, |span| {
        // Whatever stands before the encoding without a border shifts it: try every shift.
        for skip in 0..4 {
            let writing = Writing::Base64 { skip };
            each(Stretch {
                span: span.clone(),
                writing,
            });
        }
    });
    runs(text, HEX_DIGIT | HEX_BETWEEN, HEX_MIN, false, |span| {
        for skip in 0..2 {
            let writing = Writing::Hex { skip };
            each(Stretch {
                span: span.clone(),
                writing,
            });
        }
    });
    let signs = [
        (b'%', Writing::Percent),
        (b'\\', Writing::Escaped),
        (b'&', Writing::Entities),
    ];
    for (sign, writing) in signs {
        if memchr(sign, text).is_some() {
            each(Stretch {
                span: 0..text.len(),
                writing,
            });
        }
    }
}

impl Stretch {
    pub(super) const fn form(&self) -> SecretForm {
        match self.writing {
            Writing::Base64 { .. } => SecretForm::Base64,
            Writing::Hex { .. } => SecretForm::Hex,
            Writing::Percent => SecretForm::Percent,
            Writing::Escaped => SecretForm::Escaped,
            Writing::Entities => SecretForm::Entities,
        }
    }

    /// Appends every byte it says to `out`.
    pub(super) fn bytes(&self, text: &[u8], out: &mut Vec<u8>) {
        match self.writing {
            Writing::Base64 { skip } => base64_bytes(&text[self.span.clone()], skip, out),
            Writing::Hex { .. } | Writing::Percent | Writing::Escaped | Writing::Entities => {
                self.decode(text, |byte, _| out.push(byte));
            }
        }
    }

    /// Calls `put` for every byte it says, with the bytes of `text` that say it, in order.
    pub(super) fn decode(&self, text: &[u8], put: impl FnMut(u8, Range<usize>)) {
        let span = self.span.clone();
        match self.writing {
            Writing::Base64 { skip } => base64(text, span, usize::from(skip), put),
            Writing::Hex { skip } => hex(text, span, usize::from(skip), put),
            Writing::Percent => in_place(text, b'%', percent, put),
            Writing::Escaped => in_place(text, b'\\', escape, put),
            Writing::Entities => in_place(text, b'&', entity, put),
        }
    }
}

/// Runs of at least `min` bytes of a class. Looks at one byte in `min` until one belongs to it.
fn runs(text: &[u8], class: u8, min: usize, wrapped: bool, mut each: impl FnMut(Range<usize>)) {
    let belongs = |at: usize| CLASSES[usize::from(text[at])] & class != 0;
    let (mut border, mut at) = (0, min - 1);
    while at < text.len() {
        if !belongs(at) {
            at += min;
            continue;
        }
        let mut start = at;
        while start > border && belongs(start - 1) {
            start -= 1;
        }
        let (mut end, mut line) = (at + 1, start);
        loop {
            while end < text.len() && belongs(end) {
                end += 1;
            }
            let next = match text[end..] {
                [b'\r', b'\n', ..] => end + 2,
                [b'\n', ..] => end + 1,
                _ => break,
            };
            if !wrapped || end - line < WRAPPED_LINE_MIN || next >= text.len() || !belongs(next) {
                break;
            }
            line = next;
            end = next;
        }
        if end - start >= min {
            each(start..end);
        }
        border = end;
        at = end + min - 1;
    }
}

fn base64(text: &[u8], span: Range<usize>, skip: usize, mut put: impl FnMut(u8, Range<usize>)) {
    let (mut bits, mut count, mut first) = (0_u32, 0, 0);
    let letters = span.filter(|at| CLASSES[usize::from(text[*at])] & BASE64_LETTER != 0);
    for at in letters.skip(skip) {
        bits = bits << 6 | u32::from(sextet(text[at]));
        count += 6;
        if count >= 8 {
            count -= 8;
            put((bits >> count) as u8, first..at + 1);
        }
        // The next byte begins in this letter if bits of it are left, else in the next one.
        first = if count > 0 { at } else { at + 1 };
    }
}

/// The bytes of [`base64`] without their places.
//
// PERF: four readings of a text of tokens, a million values known: 54 -> 20 us/KiB
// (cargo run --release -p oktsec-scanner --example secrets).
fn base64_bytes(text: &[u8], skip: u8, out: &mut Vec<u8>) {
    out.reserve(text.len());
    let mut rest = text;
    let (mut bits, mut count, mut skipped) = (0_u32, 0, 0);
    loop {
        // Whole groups while nothing is left over and no line ends.
        if count == 0 && skipped == skip {
            while let Some((group, tail)) = rest.split_first_chunk::<4>() {
                let [a, b, c, d] = group.map(|letter| SEXTETS[usize::from(letter)]);
                if (a | b | c | d) & 0x80 != 0 {
                    break;
                }
                let word =
                    u32::from(a) << 18 | u32::from(b) << 12 | u32::from(c) << 6 | u32::from(d);
                out.extend_from_slice(&word.to_be_bytes()[1..]);
                rest = tail;
            }
        }
        let Some((letter, tail)) = rest.split_first() else {
            return;
        };
        rest = tail;
        let value = SEXTETS[usize::from(*letter)];
        if value & 0x80 != 0 {
            continue;
        }
        if skipped < skip {
            skipped += 1;
            continue;
        }
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
}

/// The value of each letter; 80 for what is none.
const SEXTETS: [u8; 256] = {
    let mut table = [0x80; 256];
    let mut at = 0;
    while at < 256 {
        if CLASSES[at] & BASE64_LETTER != 0 {
            table[at] = sextet(at as u8);
        }
        at += 1;
    }
    table
};

const fn sextet(letter: u8) -> u8 {
    match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' | b'-' => 62,
        _ => 63,
    }
}

fn hex(text: &[u8], span: Range<usize>, skip: usize, mut put: impl FnMut(u8, Range<usize>)) {
    let mut high: Option<(usize, u8)> = None;
    let mut skipped = 0;
    for at in span {
        let Some(digit) = digit(text[at]) else {
            // A lone digit before a border belongs to no pair.
            high = None;
            continue;
        };
        if skipped < skip {
            skipped += 1;
            continue;
        }
        match high.take() {
            None => high = Some((at, digit)),
            Some((start, high)) => put(high << 4 | digit, start..at + 1),
        }
    }
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// What a sign and the bytes behind it say: the bytes, how many of them, and the length read.
struct Said {
    bytes: [u8; 4],
    count: usize,
    length: usize,
}

impl Said {
    fn byte(byte: u8, length: usize) -> Option<Self> {
        Some(Self {
            bytes: [byte, 0, 0, 0],
            count: 1,
            length,
        })
    }

    fn letter(code: u32, length: usize) -> Option<Self> {
        let mut bytes = [0; 4];
        let count = char::from_u32(code)?.encode_utf8(&mut bytes).len();
        Some(Self {
            bytes,
            count,
            length,
        })
    }
}

/// Everything stands for itself but what `read` can make sense of.
fn in_place(
    text: &[u8],
    sign: u8,
    read: impl Fn(&[u8]) -> Option<Said>,
    mut put: impl FnMut(u8, Range<usize>),
) {
    let mut at = 0;
    while at < text.len() {
        let said = if text[at] == sign {
            read(&text[at..])
        } else {
            None
        };
        match said {
            None => {
                put(text[at], at..at + 1);
                at += 1;
            }
            Some(said) => {
                let end = at + said.length;
                said.bytes[..said.count]
                    .iter()
                    .for_each(|byte| put(*byte, at..end));
                at = end;
            }
        }
    }
}

/// RFC 3986 section 2.1.
fn percent(text: &[u8]) -> Option<Said> {
    Said::byte(pair(text.get(1..3)?)?, 3)
}

/// RFC 8259 section 7, and `\x41` of C, Python and JavaScript.
fn escape(text: &[u8]) -> Option<Said> {
    let byte = match text.get(1)? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'f' => 12,
        b'x' => return Said::byte(pair(text.get(2..4)?)?, 4),
        b'u' => {
            let code = unit(text.get(2..6)?)?;
            let low = || match text.get(6..8) {
                Some(b"\\u") => unit(text.get(8..12)?),
                Some(_) | None => None,
            };
            return match (code, low()) {
                (0xD800..0xDC00, Some(low @ 0xDC00..0xE000)) => {
                    Said::letter(0x1_0000 + (code - 0xD800) * 0x400 + low - 0xDC00, 12)
                }
                (code, _) => Said::letter(code, 6),
            };
        }
        other @ (b'"' | b'\'' | b'\\' | b'/' | b'`' | b'$' | b'!') => *other,
        _ => return None,
    };
    Said::byte(byte, 2)
}

/// Numeric character references and the five names of XML.
fn entity(text: &[u8]) -> Option<Said> {
    const NAMES: [(&[u8], u8); 5] = [
        (b"&amp;", b'&'),
        (b"&lt;", b'<'),
        (b"&gt;", b'>'),
        (b"&quot;", b'"'),
        (b"&apos;", b'\''),
    ];
    for (name, byte) in NAMES {
        if text.starts_with(name) {
            return Said::byte(byte, name.len());
        }
    }
    let body = text.strip_prefix(b"&#")?;
    let length = body.iter().take(10).position(|byte| *byte == b';')?;
    let number = str::from_utf8(&body[..length]).ok()?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    Said::letter(code, length + 3)
}

fn pair(text: &[u8]) -> Option<u8> {
    Some(digit(text[0])? << 4 | digit(text[1])?)
}

fn unit(text: &[u8]) -> Option<u32> {
    let high = u32::from(pair(&text[..2])?);
    Some(high << 8 | u32::from(pair(&text[2..])?))
}

const BASE64_LETTER: u8 = 1;
const HEX_DIGIT: u8 = 2;
const HEX_BETWEEN: u8 = 4;

const CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_') {
            table[at] |= BASE64_LETTER;
        }
        if byte.is_ascii_hexdigit() {
            table[at] |= HEX_DIGIT;
        }
        if matches!(byte, b' ' | b':' | b'-' | b',' | b'\n') {
            table[at] |= HEX_BETWEEN;
        }
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str, form: SecretForm, wanted: &str) -> bool {
        let mut found = false;
        stretches(text.as_bytes(), |stretch| {
            let mut bytes = Vec::new();
            stretch.decode(text.as_bytes(), |byte, from| {
                assert!(!from.is_empty() && from.end <= text.len());
                bytes.push(byte);
            });
            let mut fast = Vec::new();
            stretch.bytes(text.as_bytes(), &mut fast);
            assert_eq!(bytes, fast, "both ways of reading agree");
            let holds = bytes
                .windows(wanted.len())
                .any(|window| window == wanted.as_bytes());
            found |= stretch.form() == form && holds;
        });
        found
    }

    #[test]
    fn base64_is_read_at_every_alignment_in_both_alphabets_and_over_lines() {
        for text in [
            "Pj4+Pz8/aGVsbG8=",
            "x=Pj4-Pz8_aGVsbG8",
            "a/Pj4+Pz8/aGVsbG8",
            "abc_Pj4-Pz8_aGVsbG8",
        ] {
            assert!(says(text, SecretForm::Base64, ">>>???hello"), "{text}");
        }
        let wrapped = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAPj4+\r\nPz8/aGVsbG8=";
        assert!(says(wrapped, SecretForm::Base64, ">>>???hello"));
        assert!(!says(
            "Pj4+\nPz8/aGVsbG8=",
            SecretForm::Base64,
            ">>>???hello"
        ));
    }

    #[test]
    fn hex_is_read_in_both_cases_with_and_without_separators() {
        for text in [
            "68656c6c6f2121313233",
            "id=a68656C6C6F2121313233;",
            "68:65:6c:6c:6f:21:21:31:32:33",
            "68 65 6c 6c 6f 21 21 31 32 33",
        ] {
            assert!(says(text, SecretForm::Hex, "hello!!123"), "{text}");
        }
    }

    #[test]
    fn escapes_are_read_where_they_stand() {
        assert!(says("p=he%6Clo%21%", SecretForm::Percent, "p=hello!%"));
        assert!(says(
            r#"a\"b\\c\u0064\x65\q"#,
            SecretForm::Escaped,
            r#"a"b\cde\q"#
        ));
        assert!(says(r"\ud83d\ude00!", SecretForm::Escaped, "\u{1F600}!"));
        assert!(says(
            "a&amp;b&#99;&#x64;&no;",
            SecretForm::Entities,
            "a&bcd&no;"
        ));
    }

    #[test]
    fn runs_are_found_whole_and_once() {
        let text = b"one two-three/four 0123456789abcdefXYZ end";
        let mut found = Vec::new();
        runs(text, BASE64_LETTER, BASE64_MIN, true, |span| {
            found.push(span)
        });
        assert_eq!(found, [4..18, 19..38]);
    }

    #[test]
    fn no_bytes_make_it_fail() {
        for text in [
            "%",
            "%4",
            "\\",
            "\\u12",
            "\\x",
            "&#",
            "&#99999999;",
            "&#xD800;",
            "\\ud800",
        ] {
            stretches(text.as_bytes(), |stretch| {
                let mut count = 0;
                stretch.decode(text.as_bytes(), |_, _| count += 1);
                assert_eq!(count, text.len(), "{text} stands for itself");
            });
        }
    }
}
