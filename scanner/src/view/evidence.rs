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
    /// Twelve characters of an encoding's alphabet in a row, digits in groups, or `<~`.
    pub(super) encoded: bool,
    /// Among it perhaps lists of character codes or base85, not only long runs.
    pub(super) codes: bool,
    /// Single characters with separators between them.
    pub(super) spaced: bool,
    /// Digits or signs beside letters that could be letters too.
    pub(super) leet: bool,
}

const HIGH: u16 = 1;
const ESCAPE: u16 = 2;
const MARK: u16 = 4;
const TOKEN: u16 = 8;
const SINGLE: u16 = 16;
const SEPARATOR: u16 = 32;
const LEET: u16 = 64;
const DIGIT: u16 = 128;
const LETTER: u16 = 256;

const CLASSES: [u16; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        let mut class = 0;
        if byte >= 0x7F || (byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) {
            class |= HIGH;
        }
        if matches!(byte, b'\\' | b'&' | b'%' | b'=' | b'+') {
            class |= ESCAPE;
        }
        if matches!(byte, b'<' | b'*' | b'`' | b'~') {
            class |= MARK;
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_') {
            class |= TOKEN;
        }
        if byte.is_ascii_alphanumeric() {
            class |= SINGLE;
        }
        if matches!(
            byte,
            b' ' | b'.' | b'-' | b'_' | b'*' | b'|' | b',' | b'/' | b'+' | b'~'
        ) {
            class |= SEPARATOR;
        }
        if matches!(byte, b'0' | b'1' | b'3' | b'4' | b'5' | b'7' | b'@' | b'$') {
            class |= LEET;
        }
        if byte.is_ascii_digit() {
            class |= DIGIT;
        }
        if byte.is_ascii_alphabetic() {
            class |= LETTER;
        }
        table[at] = class;
        at += 1;
    }
    table
};

const GROUP: usize = 4;

/// Groups with a digit and a sign before numbers may be character codes; beside other encodings
/// half of them, which is less than the shortest list has.
const DIGIT_GROUPS_MIN: u32 = 8;

/// Letters beside digits or signs before a text is looked at that way.
const LEET_PAIRS_MIN: u32 = 2;

/// The bits of [`LEET`] or [`LETTER`] where one stands beside the other.
const fn leet_pair(one: u16, two: u16) -> u16 {
    const APART: u32 = LETTER.trailing_zeros() - LEET.trailing_zeros();
    (one & two >> APART | one >> APART & two) & LEET
}

/// What was counted in a text, or in parts of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Classes of its bytes.
    seen: u16,
    tokens: bool,
    spaced: bool,
    digit_groups: u32,
    leet_pairs: u32,
    base85: bool,
}

impl Counts {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut seen = 0;
        // Groups in a row that are wholly of an encoding, or wholly letter-separator pairs. A run
        // of sixteen holds three whole groups wherever it begins.
        let (mut token_groups, mut tokens) = (0_u32, false);
        let (mut spaced_groups, mut spaced) = (0_u32, false);
        let mut digit_groups = 0_u32;
        let (mut leet_pairs, mut last) = (0_u32, 0);
        let (groups, rest) = text.as_chunks::<GROUP>();
        for group in groups {
            let [a, b, c, d] = group.map(|byte| CLASSES[usize::from(byte)]);
            let (any, all) = (a | b | c | d, a & b & c & d);
            seen |= any;
            let pairs = leet_pair(last, a) | leet_pair(a, b) | leet_pair(b, c) | leet_pair(c, d);
            leet_pairs += u32::from(pairs / LEET);
            last = d;
            token_groups = if all & TOKEN != 0 {
                token_groups + 1
            } else {
                0
            };
            tokens |= token_groups >= 3;
            let (even, odd) = (a & c, b & d);
            let pairs = (even & SINGLE != 0 && odd & SEPARATOR != 0)
                || (odd & SINGLE != 0 && even & SEPARATOR != 0);
            spaced_groups = if pairs { spaced_groups + 1 } else { 0 };
            spaced |= spaced_groups >= 2;
            digit_groups += u32::from(any & DIGIT != 0 && all & TOKEN == 0);
        }
        for byte in rest {
            let class = CLASSES[usize::from(*byte)];
            seen |= class;
            leet_pairs += u32::from(leet_pair(last, class) / LEET);
            last = class;
        }
        Self {
            seen,
            tokens,
            spaced,
            digit_groups,
            leet_pairs,
            base85: seen & MARK != 0 && memchr::memmem::find(text, b"<~").is_some(),
        }
    }

    /// Of both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            seen: self.seen | other.seen,
            tokens: self.tokens | other.tokens,
            spaced: self.spaced | other.spaced,
            digit_groups: self.digit_groups.saturating_add(other.digit_groups),
            leet_pairs: self.leet_pairs.saturating_add(other.leet_pairs),
            base85: self.base85 | other.base85,
        }
    }

    pub(super) fn evidence(self) -> Evidence {
        Evidence {
            high: self.seen & HIGH != 0,
            escapes: self.seen & ESCAPE != 0,
            marks: self.seen & MARK != 0,
            encoded: self.tokens || self.digit_groups >= DIGIT_GROUPS_MIN || self.base85,
            codes: self.digit_groups >= DIGIT_GROUPS_MIN / 2 || self.base85,
            spaced: self.spaced,
            leet: self.leet_pairs >= LEET_PAIRS_MIN,
        }
    }
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
