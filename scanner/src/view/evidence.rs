//! One cheap pass that says which views a text asks for.

/// What a text shows. Wrong towards "yes" costs a view, towards "no" a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Bytes outside ASCII, or control characters.
    pub(super) high: bool,
    /// `\`, `&`, `%`, `=`, or a `+` between letters or quotes.
    pub(super) escapes: bool,
    /// `<`, `*`, `` ` `` or `~`.
    pub(super) marks: bool,
    /// Fourteen characters of an encoding's alphabet in a row, or `codes`.
    pub(super) encoded: bool,
    /// Lists of character codes, or `<~`.
    pub(super) codes: bool,
    /// Single characters with separators between them.
    pub(super) spaced: bool,
    /// Digits or signs beside letters that could be letters too.
    pub(super) leet: bool,
}

/// The shortest list of character codes has eight: each begins or ends with a digit beside what is neither letter nor
/// digit, and between two of them is a gap. Such a list, of codes of ten bytes at most, lies within so many blocks.
const CODE_BORDERS_MIN: u32 = 8;
const CODE_GAPS_MIN: u32 = 7;
const CODE_BLOCKS: usize = 3;

/// Letters beside digits or signs before a text is looked at that way.
const LEET_PAIRS_MIN: u32 = 2;

/// Bytes counted together, and how far ahead of the last of them is looked.
const BLOCK: usize = 64;
const AHEAD: usize = 16;

/// What was counted in a text, or in parts of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    high: bool,
    escapes: bool,
    marks: bool,
    tokens: bool,
    spaced: bool,
    /// In blocks one behind the other, where there are most.
    codes: CodeCounts,
    leet_pairs: u32,
    base85: bool,
}

/// What lists of character codes have.
#[derive(Clone, Copy, Debug, Default)]
struct CodeCounts {
    borders: u32,
    gaps: u32,
}

impl CodeCounts {
    fn and(self, other: Self) -> Self {
        Self {
            borders: self.borders.saturating_add(other.borders),
            gaps: self.gaps.saturating_add(other.gaps),
        }
    }

    /// The greater of each.
    fn most(self, other: Self) -> Self {
        Self {
            borders: self.borders.max(other.borders),
            gaps: self.gaps.max(other.gaps),
        }
    }
}

impl Counts {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut counts = Self::default();
        let mut before = [CodeCounts::default(); CODE_BLOCKS - 1];
        let mut add = |block| {
            let codes = counts.add(block);
            counts.codes = counts
                .codes
                .most(before.into_iter().fold(codes, CodeCounts::and));
            before.rotate_left(1);
            before[CODE_BLOCKS - 2] = codes;
        };
        let mut rest = text;
        while let Some(block) = rest.first_chunk() {
            add(block);
            rest = &rest[BLOCK..];
        }
        // Behind the text is nothing that counts.
        let mut last = [b'\n'; 2 * BLOCK + AHEAD];
        last[..rest.len()].copy_from_slice(rest);
        for start in (0..rest.len()).step_by(BLOCK) {
            if let Some(block) = last[start..].first_chunk() {
                add(block);
            }
        }
        counts.base85 = counts.marks && memchr::memmem::find(text, b"<~").is_some();
        counts
    }

    /// Counts one block; what is in it alone, a byte or a few at a time, each as a number of its own. What of it are codes
    /// is answered.
    ///
    /// PERF: the compiler makes instructions for sixteen bytes at a time of these loops; a table of classes took two to
    /// three times as long.
    fn add(&mut self, block: &[u8; BLOCK + AHEAD]) -> CodeCounts {
        let mut letter = [0; BLOCK + AHEAD];
        let mut digit = [0; BLOCK + AHEAD];
        let mut single = [0; BLOCK + AHEAD];
        let mut separator = [0; BLOCK + AHEAD];
        let mut token = [0; BLOCK + AHEAD];
        let mut leet = [0; BLOCK + AHEAD];
        let mut hex = [0; BLOCK + AHEAD];
        let mut gap = [0; BLOCK + AHEAD];
        let mut code = [0; BLOCK + AHEAD];
        for (at, byte) in block.iter().enumerate() {
            letter[at] = u8::from((byte | 0x20).wrapping_sub(b'a') < 26);
            digit[at] = u8::from(byte.wrapping_sub(b'0') < 10);
            single[at] = letter[at] | digit[at];
            separator[at] = among(*byte, *b" .-_*|,/+~");
            token[at] = single[at] | among(*byte, *b"+/-_");
            leet[at] = among(*byte, *b"013457@$");
            hex[at] = digit[at] | u8::from((byte | 0x20).wrapping_sub(b'a') < 6);
            gap[at] = among(*byte, *b" ,:;\n-");
            code[at] = hex[at] | among(*byte, *b"\\Uu");
        }
        let (mut high, mut escapes, mut marks) = (0, 0, 0);
        for byte in &block[..BLOCK] {
            let control = u8::from(*byte < 0x20) & (among(*byte, *b"\t\n\r") ^ 1);
            high |= u8::from(*byte >= 0x7F) | control;
            escapes |= among(*byte, *b"\\&%=+");
            marks |= among(*byte, *b"<*`~");
        }
        let mut pair = [0; BLOCK + AHEAD / 2];
        for (at, pair) in pair.iter_mut().enumerate() {
            *pair = single[at] & separator[at + 1];
        }
        // Of two, of four, of eight in a row.
        let mut row = token;
        for (apart, len) in [(1, BLOCK + 12), (2, BLOCK + 10), (4, BLOCK + 6)] {
            for at in 0..len {
                row[at] &= row[at + apart];
            }
        }
        let (mut spaced, mut tokens) = (0, 0);
        let (mut borders, mut gaps, mut leet_pairs) = (0_u8, 0_u8, 0_u8);
        for at in 0..BLOCK {
            spaced |= pair[at] & pair[at + 2] & pair[at + 4] & pair[at + 6] & pair[at + 8];
            tokens |= row[at] & row[at + 6];
            gaps += hex[at]
                & gap[at + 1]
                & (code[at + 2] | gap[at + 2] & (code[at + 3] | gap[at + 3] & code[at + 4]));
            borders += digit[at] & (single[at + 1] ^ 1) | (single[at] ^ 1) & digit[at + 1];
            leet_pairs += leet[at] & letter[at + 1] | letter[at] & leet[at + 1];
        }
        self.high |= high != 0;
        self.escapes |= escapes != 0;
        self.marks |= marks != 0;
        self.spaced |= spaced != 0;
        self.tokens |= tokens != 0;
        self.leet_pairs = self.leet_pairs.saturating_add(u32::from(leet_pairs));
        CodeCounts {
            borders: u32::from(borders),
            gaps: u32::from(gaps),
        }
    }

    /// Of both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            high: self.high | other.high,
            escapes: self.escapes | other.escapes,
            marks: self.marks | other.marks,
            tokens: self.tokens | other.tokens,
            spaced: self.spaced | other.spaced,
            codes: self.codes.and(other.codes),
            leet_pairs: self.leet_pairs.saturating_add(other.leet_pairs),
            base85: self.base85 | other.base85,
        }
    }

    pub(super) fn evidence(self) -> Evidence {
        let CodeCounts { borders, gaps } = self.codes;
        let codes = borders >= CODE_BORDERS_MIN && gaps >= CODE_GAPS_MIN || self.base85;
        Evidence {
            high: self.high,
            escapes: self.escapes,
            marks: self.marks,
            encoded: self.tokens || codes,
            codes,
            spaced: self.spaced,
            leet: self.leet_pairs >= LEET_PAIRS_MIN,
        }
    }
}

/// One if the byte is one of these, otherwise zero.
fn among<const COUNT: usize>(byte: u8, these: [u8; COUNT]) -> u8 {
    these
        .iter()
        .fold(0, |any, one| any | u8::from(byte == *one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(text: &[u8]) -> Evidence {
        Counts::of(text).evidence()
    }

    #[test]
    fn plain_text_asks_for_nothing() {
        let plain = "Please review the attached report, then send it to the team by Friday.\n";
        assert_eq!(gather(plain.repeat(20).as_bytes()), Evidence::default());
    }

    #[test]
    fn a_run_of_sixteen_is_seen_wherever_it_begins() {
        for shift in 0..8 {
            let text = format!("{}{} x", " ".repeat(shift), "aB3/".repeat(4));
            assert!(gather(text.as_bytes()).encoded, "{text:?}");
        }
    }

    #[test]
    fn lists_of_codes_are_seen_wherever_they_begin() {
        for shift in 0..70 {
            for list in [
                "49 67 6e 6f 72 65 20 61 6c 6c 20 70",
                "73 103 110 111 114 101 32 97",
                "0x49,0x67,0x6e,0x6f,0x72,0x65,0x20,0x61",
            ] {
                let seen = gather(format!("{} {list} x", "x".repeat(shift)).as_bytes());
                assert!(seen.encoded && seen.codes, "{shift} {list}");
            }
            assert!(
                !gather(format!("{} on 2024-10-31 at 10:45", "x ".repeat(shift)).as_bytes()).codes
            );
        }
    }

    #[test]
    fn the_shortest_lists_of_the_longest_codes_are_seen_wherever_they_begin() {
        for shift in 0..2 * BLOCK {
            for gap in [" ", ", ", ":\n ", ";"] {
                for code in ["U+0000006e", "01101110", "110", "d0", "0xb8"] {
                    let list = [code; 8].join(gap);
                    let seen = gather(format!("{} {list} x", "x".repeat(shift)).as_bytes());
                    assert!(seen.encoded && seen.codes, "{shift} {list}");
                    let list = [code; 6].join(gap);
                    let seen = gather(format!("{} {list}", "x ".repeat(shift)).as_bytes());
                    assert!(!seen.codes, "{shift} {list}");
                }
            }
        }
    }

    #[test]
    fn numbers_and_times_here_and_there_are_no_list() {
        let row = "{\"id\": 17, \"at\": 1711, \"size\": 250}, ";
        let line = "on 2024-10-31 there were 12 left, which nobody here had wished, nor would they who went on with it. ";
        for text in [line.repeat(9), row.repeat(9)] {
            assert!(!gather(text.as_bytes()).codes, "{text}");
        }
    }

    #[test]
    fn what_lies_across_blocks_is_seen() {
        for shift in 2 * BLOCK - 20..2 * BLOCK + AHEAD + 20 {
            let before = ". ".repeat(shift / 2) + &";".repeat(shift % 2);
            assert!(
                gather(format!("{before}i g n o r e").as_bytes()).spaced,
                "{shift}"
            );
            assert!(
                gather(format!("{before}p4ss 1t").as_bytes()).leet,
                "{shift}"
            );
            assert!(
                gather(format!("{before}a\u{e9}").as_bytes()).high,
                "{shift}"
            );
            assert!(gather(format!("{before}a%").as_bytes()).escapes, "{shift}");
        }
    }

    #[test]
    fn digits_among_letters_are_seen_wherever_they_are() {
        for shift in 0..8 {
            let shift = "x".repeat(shift);
            assert!(gather(format!("{shift} pr3vious r0w").as_bytes()).leet);
            assert!(gather(format!("{shift} a11 b0").as_bytes()).leet);
            assert!(!gather(format!("{shift} on 2024-10-31 at 10:45 for $300").as_bytes()).leet);
        }
    }

    #[test]
    fn letters_written_apart_are_seen_wherever_they_begin() {
        for shift in 0..8 {
            let text = format!("{}i g n o r e this", "x".repeat(shift));
            assert!(gather(text.as_bytes()).spaced, "{text:?}");
        }
    }
}
