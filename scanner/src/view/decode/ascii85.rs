//! Ascii85 in its brackets, `<~...~>`.

use memchr::memmem;

use super::{Found, open};

/// A walk through one text, from one bracket to the next.
#[derive(Default)]
pub(super) struct Brackets {
    at: usize,
    /// Where the bracket that was looked for last closes: each is looked for once.
    close: usize,
}

impl Brackets {
    /// The next stretch that reads as text; its text is in `out`.
    pub(super) fn next(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Found> {
        loop {
            let start = self.at + memmem::find(text.get(self.at..)?, b"<~")?;
            let body = start + 2;
            if self.close < body {
                self.close = body + memmem::find(&text[body..], b"~>")?;
            }
            let found = open(start..self.close + 2, out, |out| {
                decode(&text[body..self.close], out)
            });
            self.at = found.as_ref().map_or(body, |found| found.range.end);
            if found.is_some() {
                return found;
            }
        }
    }
}

/// `false` at the first byte that is none of its digits, which the mark of another bracket is.
fn decode(body: &[u8], out: &mut Vec<u8>) -> bool {
    let mut digits = [84_u32; 5];
    let mut count = 0;
    let write = |digits: &[u32; 5], count: usize, out: &mut Vec<u8>| {
        let word = digits.iter().fold(0_u32, |word, digit| {
            word.wrapping_mul(85).wrapping_add(*digit)
        });
        out.extend_from_slice(&word.to_be_bytes()[..count - 1]);
    };
    for byte in body {
        match byte {
            b'z' if count == 0 => out.extend_from_slice(&[0; 4]),
            b'!'..=b'u' => {
                digits[count] = u32::from(byte - b'!');
                count += 1;
                if count == 5 {
                    write(&digits, count, out);
                    (digits, count) = ([84; 5], 0);
                }
            }
            byte if byte.is_ascii_whitespace() => {}
            _ => return false,
        }
    }
    if count > 1 {
        write(&digits, count, out);
    }
    true
}
