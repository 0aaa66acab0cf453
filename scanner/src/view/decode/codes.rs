//! Character codes in a list: `49 67 6e`, `0x49, 0x67`, `73 103 110`, `01001001 01100111`.
//!
//! A list is walked once, in every radix at a time: tables of numbers are long, and nothing in them reads as text.

use std::ops::Range;

use super::{Found, open};

/// Codes in a row before a list of numbers is read as characters.
const CODES_MIN: usize = 8;

/// Control characters among what else may be text: more end it.
const NOISE_MAX: usize = 2;

/// Bytes in which the beginning of a code is looked for together.
const STRIDE: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Radix {
    Binary,
    Hex,
    Decimal,
    Octal,
}

/// What can be read in two of them is.
const RADIXES: [Radix; 4] = [Radix::Binary, Radix::Hex, Radix::Decimal, Radix::Octal];

/// Codes in a row that may be text in one radix.
#[derive(Default)]
struct Stretch {
    bytes: Vec<u8>,
    /// From its first code to its last that is no noise.
    range: Range<usize>,
    /// Bytes up to that one.
    good: usize,
    noise: usize,
}

impl Stretch {
    /// Adds a code; `false` if it is none in this radix, or one of too many that are noise.
    fn push(&mut self, value: Option<u8>, place: &Range<usize>) -> bool {
        let Some(value) = value else { return false };
        let noise = value != 0 && value < b' ' && !matches!(value, b'\t' | b'\n' | b'\r');
        if noise && (self.good == 0 || self.noise == NOISE_MAX + self.good / 16) {
            return false;
        }
        if self.bytes.is_empty() {
            self.range.start = place.start;
        }
        self.bytes.push(value);
        self.noise += usize::from(noise);
        if !noise {
            self.good = self.bytes.len();
            self.range.end = place.end;
        }
        true
    }

    /// What it is, if it is a text, and begins again.
    fn take(&mut self) -> Option<Text> {
        self.bytes.truncate(self.good);
        let long = self.bytes.len() >= CODES_MIN && self.bytes.iter().any(u8::is_ascii_alphabetic);
        let text = long.then(|| Text {
            bytes: std::mem::take(&mut self.bytes),
            range: self.range.clone(),
        });
        self.bytes.clear();
        (self.good, self.noise) = (0, 0);
        text
    }
}

/// Part of a list that may be text.
struct Text {
    bytes: Vec<u8>,
    range: Range<usize>,
}

/// A walk through one text, from one list of codes to the next.
#[derive(Default)]
pub(super) struct Codes {
    at: usize,
    /// What of the last list has not been answered, the first last.
    texts: Vec<Text>,
}

impl Codes {
    /// The next stretch that reads as text; its text is in `out`.
    pub(super) fn next(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Found> {
        loop {
            while let Some(Text { bytes, range }) = self.texts.pop() {
                let found = open(range, out, |out| {
                    out.extend_from_slice(&bytes);
                    true
                });
                if found.is_some() {
                    return found;
                }
            }
            let Some(start) = next_list(text, self.at) else {
                self.at = text.len();
                return None;
            };
            self.at = self.read(text, start);
        }
    }

    /// Reads the list that begins here; answers where it ends.
    fn read(&mut self, text: &[u8], start: usize) -> usize {
        let count = List::at(text, start).take(CODES_MIN).count();
        let mut end = start + 1;
        if count < CODES_MIN {
            return List::at(text, start)
                .last()
                .map_or(end, |last| last.place.end);
        }
        let mut stretches: [Stretch; RADIXES.len()] = Default::default();
        for code in List::at(text, start) {
            end = code.place.end;
            for (stretch, radix) in stretches.iter_mut().zip(RADIXES) {
                let value = code.value(radix);
                if !stretch.push(value, &code.place) {
                    self.texts.extend(stretch.take());
                    stretch.push(value, &code.place);
                }
            }
        }
        self.texts
            .extend(stretches.iter_mut().filter_map(Stretch::take));
        self.texts.sort_by_key(|text| text.range.start);
        self.texts.reverse();
        end
    }
}

/// The codes of a list, one after the other.
struct List<'a> {
    text: &'a [u8],
    next: Option<usize>,
}

impl<'a> List<'a> {
    fn at(text: &'a [u8], start: usize) -> Self {
        Self {
            text,
            next: Some(start),
        }
    }
}

impl<'a> Iterator for List<'a> {
    type Item = Code<'a>;

    fn next(&mut self) -> Option<Code<'a>> {
        let code = code_at(self.text, self.next?)?;
        let end = code.place.end;
        self.next = gap(self.text, end).map(|gap| end + gap);
        Some(code)
    }
}

/// Where the next code begins that another one follows.
fn next_list(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let digit = next_code(text, at)?;
        // `U+0049` as well.
        let before = text[..digit].last_chunk();
        let start = match before {
            Some(b"U+" | b"u+") if digit >= at + 2 => digit - 2,
            _ => digit,
        };
        if List::at(text, start).nth(1).is_some() {
            return Some(start);
        }
        at = digit + 1;
    }
}

/// Where the next two hexadecimal digits, or `0x`, stand behind what is neither letter nor digit.
fn next_code(text: &[u8], mut at: usize) -> Option<usize> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric();
    let begins = |before: u8, first: u8, second: u8| {
        !is_word(before)
            & first.is_ascii_hexdigit()
            & (second.is_ascii_hexdigit() | (second == b'x'))
    };
    let before = |at: usize| at.checked_sub(1).map_or(b' ', |before| text[before]);
    let found = |at: usize| begins(before(at), text[at], text[at + 1]);
    if at == 0 && text.len() > 1 {
        if found(0) {
            return Some(0);
        }
        at = 1;
    }
    // PERF: most strides have none, which the compiler sees for all their bytes at once.
    while let Some(before) = at.checked_sub(1)
        && let Some(stride) = text[before..].first_chunk::<{ STRIDE + 2 }>()
    {
        let mut any = false;
        for place in 0..STRIDE {
            any |= begins(stride[place], stride[place + 1], stride[place + 2]);
        }
        if any {
            break;
        }
        at += STRIDE;
    }
    (at..text.len().saturating_sub(1)).find(|at| found(*at))
}

/// Bytes between two codes.
fn gap(text: &[u8], at: usize) -> Option<usize> {
    let gap = text[at..]
        .iter()
        .take(3)
        .take_while(|byte| matches!(byte, b' ' | b',' | b':' | b';' | b'\n' | b'-'))
        .count();
    (gap > 0).then_some(gap)
}

struct Code<'a> {
    digits: &'a [u8],
    prefixed: bool,
    place: Range<usize>,
}

impl Code<'_> {
    fn value(&self, radix: Radix) -> Option<u8> {
        let text = std::str::from_utf8(self.digits).ok()?;
        let (base, fits) = match radix {
            Radix::Binary => (2, self.digits.len() == 8),
            Radix::Octal => (8, self.digits.len() == 3 && !self.prefixed),
            Radix::Decimal => (10, (2..=3).contains(&self.digits.len()) && !self.prefixed),
            // `U+0049` as well.
            Radix::Hex => (
                16,
                self.digits.len() == 2 || (self.prefixed && self.digits.starts_with(b"00")),
            ),
        };
        fits.then(|| u8::from_str_radix(text, base).ok()).flatten()
    }
}

fn code_at(text: &[u8], at: usize) -> Option<Code<'_>> {
    let rest = text.get(at..)?;
    let prefix = if [&b"0x"[..], b"\\x", b"U+", b"u+"]
        .iter()
        .any(|sign| rest.starts_with(sign))
    {
        2
    } else {
        0
    };
    let len = rest[prefix..]
        .iter()
        .take(9)
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let end = at + prefix + len;
    let clean = !text.get(end).is_some_and(u8::is_ascii_alphanumeric);
    ((2..=8).contains(&len) && clean).then(|| Code {
        digits: &rest[prefix..prefix + len],
        prefixed: prefix > 0,
        place: at..end,
    })
}
