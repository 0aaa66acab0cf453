//! Which groups of patterns a text can match at all.
//!
//! Patterns with a long literal cost nothing where it does not occur. The others (numbers, signs,
//! invisible characters) make the engine work on every byte, so they live in databases of their
//! own, each behind a gate: bytes that every match of every pattern in it contains.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Digits a text needs for [`Gate::Digits`].
const DIGITS_MIN: u32 = 6;

/// What a text must contain for a group to be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Gate {
    /// Nothing.
    Always = 0,
    /// A byte outside ASCII.
    High = 1,
    /// A control character other than tab and line breaks.
    Control = 2,
    /// [`DIGITS_MIN`] digits.
    Digits = 3,
    /// A backquote, `$`, `|`, `;` or `&`.
    Shell = 4,
    /// A backslash or `%`.
    Escape = 5,
    /// An angle bracket, brace, bracket, `#`, `~` or `^`.
    Markup = 6,
}

impl Gate {
    pub(crate) const ALL: [Self; 7] = [
        Self::Always,
        Self::High,
        Self::Control,
        Self::Digits,
        Self::Shell,
        Self::Escape,
        Self::Markup,
    ];

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|gate| *gate as u8 == byte)
    }

    /// The narrowest gate that every match of the expression passes.
    pub(crate) fn of(hir: &Hir) -> Self {
        let passes = |gate: &Self| match gate {
            Self::Always => true,
            Self::Digits => digits_min(hir) >= DIGITS_MIN,
            Self::High | Self::Control | Self::Shell | Self::Escape | Self::Markup => {
                always_contains(hir, gate.bit())
            }
        };
        let narrow = [
            Self::High,
            Self::Control,
            Self::Digits,
            Self::Shell,
            Self::Escape,
            Self::Markup,
        ];
        narrow.into_iter().find(passes).unwrap_or(Self::Always)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The gates a text passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open(u8);

impl Open {
    pub(crate) fn of(text: &[u8]) -> Self {
        let (mut seen, mut digits) = (Gate::Always.bit(), 0_u32);
        for byte in text {
            let class = BYTES[usize::from(*byte)];
            seen |= class;
            digits += u32::from(class & Gate::Digits.bit() != 0);
        }
        if digits < DIGITS_MIN {
            seen &= !Gate::Digits.bit();
        }
        Self(seen)
    }

    pub(crate) fn passes(self, gate: Gate) -> bool {
        self.0 & gate.bit() != 0
    }
}

const BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        table[at] = match byte {
            b'\t' | b'\n' | b'\r' => 0,
            0x80..=0xFF => Gate::High.bit(),
            0..0x20 | 0x7F => Gate::Control.bit(),
            b'0'..=b'9' => Gate::Digits.bit(),
            b'`' | b'$' | b'|' | b';' | b'&' => Gate::Shell.bit(),
            b'\\' | b'%' => Gate::Escape.bit(),
            b'<' | b'>' | b'{' | b'}' | b'[' | b']' | b'#' | b'~' | b'^' => Gate::Markup.bit(),
            _ => 0,
        };
        at += 1;
    }
    table
};

fn always_contains(hir: &Hir, bit: u8) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(Class::Unicode(_)) => false,
        HirKind::Literal(literal) => literal
            .0
            .iter()
            .any(|byte| BYTES[usize::from(*byte)] & bit != 0),
        HirKind::Class(Class::Bytes(class)) => class
            .ranges()
            .iter()
            .flat_map(|range| range.start()..=range.end())
            .all(|byte| BYTES[usize::from(byte)] & bit != 0),
        HirKind::Repetition(repetition) => {
            repetition.min > 0 && always_contains(&repetition.sub, bit)
        }
        HirKind::Capture(capture) => always_contains(&capture.sub, bit),
        HirKind::Concat(parts) => parts.iter().any(|part| always_contains(part, bit)),
        HirKind::Alternation(parts) => parts.iter().all(|part| always_contains(part, bit)),
    }
}

fn digits_min(hir: &Hir) -> u32 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(Class::Unicode(_)) => 0,
        HirKind::Literal(literal) => literal
            .0
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .count() as u32,
        HirKind::Class(Class::Bytes(class)) => u32::from(
            !class.ranges().is_empty()
                && class
                    .ranges()
                    .iter()
                    .all(|range| range.start().is_ascii_digit() && range.end().is_ascii_digit()),
        ),
        HirKind::Repetition(repetition) => {
            digits_min(&repetition.sub).saturating_mul(repetition.min)
        }
        HirKind::Capture(capture) => digits_min(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(digits_min).fold(0, u32::saturating_add),
        HirKind::Alternation(parts) => parts.iter().map(digits_min).min().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use oktsec_rules::Expression;

    use super::*;

    fn gate(text: &str) -> Gate {
        Gate::of(&Expression::Regex(text.to_owned()).to_hir().unwrap())
    }

    #[test]
    fn a_gate_is_what_every_match_contains() {
        assert_eq!(gate(r"\xE2\x80[\x8B-\x8F]"), Gate::High);
        assert_eq!(gate(r"[a-z]\x08"), Gate::Control);
        assert_eq!(gate(r"\d{3}-\d{2}-\d{4}"), Gate::Digits);
        assert_eq!(gate(r"\d{3}|\d{9}"), Gate::Always);
        assert_eq!(gate(r"(?:\$\(|`)id"), Gate::Shell);
        assert_eq!(gate(r"(?:\$\(|a)id"), Gate::Always);
        assert_eq!(gate(r"%2e%2e"), Gate::Escape);
        assert_eq!(gate(r"x\{\{"), Gate::Markup);
    }

    #[test]
    fn a_text_opens_the_gates_of_its_bytes() {
        let open = |text: &str, gate| Open::of(text.as_bytes()).passes(gate);
        assert!(open("", Gate::Always));
        assert!(open("12 34 56", Gate::Digits) && !open("12 34 5", Gate::Digits));
        assert!(open("é", Gate::High) && !open("e\n", Gate::High) && !open("e\n", Gate::Control));
        assert!(open("a;b", Gate::Shell) && open("50%", Gate::Escape) && open("<a>", Gate::Markup));
    }
}
