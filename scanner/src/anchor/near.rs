//! What kinds of bytes surround a window: enough to reject most of them without another look.
//!
//! Bytes are of eight kinds. An anchor knows which kinds each of the eight bytes before and behind
//! its window may be of; the text is translated to kinds once, and one AND of words compares all
//! sixteen. What passes goes to the automata, whose tables are seldom in the cache.

use serde::{Deserialize, Serialize};

use super::automaton::Automaton;
use super::border::Border;
use super::{CASE, WINDOW_BYTES};

/// Bytes looked at on either side.
pub(super) const NEAR_BYTES: usize = 8;

/// Any kind, and what lies outside of a text.
pub(super) const ANY: u8 = 0xFF;

const LOW: u64 = u64::from_ne_bytes([1; NEAR_BYTES]);
const HIGH: u64 = LOW << 7;

/// Which kinds may surround a window: a byte for each byte of text, a bit for each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Near {
    pub(super) before: u64,
    pub(super) after: u64,
}

impl Near {
    pub(super) const ANYTHING: Self = Self {
        before: u64::MAX,
        after: u64::MAX,
    };

    /// Whether each byte around a window is of a kind that is allowed there.
    #[inline]
    pub(super) fn allows(self, text: Self) -> bool {
        let before = self.before & text.before;
        let after = self.after & text.after;
        let none = before.wrapping_sub(LOW) & !before | after.wrapping_sub(LOW) & !after;
        none & HIGH == 0
    }

    /// What may surround a window spelt like this. `lead` of its bytes belong to what comes
    /// before. `None` if no match contains the window in this spelling.
    pub(super) fn of(
        window: &[u8],
        lead: usize,
        border: Border,
        forward: &Automaton,
        back: &Automaton,
    ) -> Option<Self> {
        let after = walk(forward, window[lead..].iter().copied())?;
        let mut before = walk(back, window[..lead].iter().rev().copied())?;
        if lead == 0 {
            before[0] &= border.kinds(window[0]);
        }
        before.reverse();
        Some(Self {
            before: u64::from_le_bytes(before),
            after: u64::from_le_bytes(after),
        })
    }

    /// What a text may begin with to pass an automaton.
    pub(super) fn of_head(forward: &Automaton) -> Self {
        let after = walk(forward, std::iter::empty()).unwrap_or_default();
        Self {
            after: u64::from_le_bytes(after),
            ..Self::ANYTHING
        }
    }

    /// What a text begins with.
    pub(super) fn head(text: &[u8]) -> Self {
        let mut after = [ANY; NEAR_BYTES];
        for (kinds, byte) in after.iter_mut().zip(text) {
            *kinds = KINDS[usize::from(*byte)];
        }
        Self {
            after: u64::from_le_bytes(after),
            ..Self::ANYTHING
        }
    }
}

/// The kinds of the bytes that may come next when an automaton has read these, spelt without case.
fn walk(automaton: &Automaton, read: impl Iterator<Item = u8>) -> Option<[u8; NEAR_BYTES]> {
    let mut near = [ANY; NEAR_BYTES];
    if automaton.empty {
        return Some(near);
    }
    let reach = |byte: u8| automaton.reach[usize::from(automaton.class_of[usize::from(byte)])];
    let mut live = automaton.first;
    for byte in read {
        live &= reach(byte) | reach(byte & !CASE);
        if live == 0 {
            return None;
        }
        if live & automaton.accept != 0 {
            return Some(near);
        }
        live = automaton.step(live);
    }
    for near in &mut near {
        *near = 0;
        let mut next = 0;
        for byte in 0..=u8::MAX {
            let taken = live & reach(byte);
            if taken != 0 {
                *near |= KINDS[usize::from(byte)];
                next |= taken;
            }
        }
        // Behind the end of a match anything may come.
        if next & automaton.accept != 0 {
            break;
        }
        live = automaton.step(next);
    }
    Some(near)
}

/// What may be beside a window together: a row of bits for each kind of the byte behind it, a bit in it for each group of
/// kinds of the byte before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beside(u32);

impl Beside {
    /// Of what may surround a window.
    pub(super) fn of(near: Near) -> Self {
        let (before, after) = ((near.before >> 56) as u8, near.after as u8);
        let row = u32::from(GROUPS[usize::from(before)]);
        let rows = (0..8).filter(|kind| after >> kind & 1 == 1);
        Self(rows.fold(0, |all, kind| all | row << (4 * kind)))
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline]
    pub(super) fn allows(self, text: Self) -> bool {
        self.0 & text.0 != 0
    }
}

/// The groups that kinds are of: no word, digits, and two of letters.
const GROUPS: [u8; 256] = {
    let mut groups = [0; 256];
    let mut at = 0;
    while at < 256 {
        let kinds = at as u8;
        groups[at] = (kinds & !WORD_KINDS != 0) as u8
            | ((kinds & 1 << 3 != 0) as u8) << 1
            | ((kinds & 0b0011_0000 != 0) as u8) << 2
            | ((kinds & 0b1100_0000 != 0) as u8) << 3;
        at += 1;
    }
    groups
};

/// A piece of text as kinds, with room around it.
#[derive(Default)]
pub(super) struct Kinds {
    /// Of `NEAR_BYTES` before the piece, the piece, and what follows.
    of: Vec<u8>,
    start: usize,
}

impl Kinds {
    /// Translates a piece of a text, with all that [`Kinds::around`] needs of what surrounds it.
    pub(super) fn translate(&mut self, text: &[u8], start: usize, end: usize) {
        self.of.clear();
        self.start = start;
        let first = start.saturating_sub(NEAR_BYTES);
        let wanted = end + WINDOW_BYTES + NEAR_BYTES;
        let last = wanted.min(text.len());
        self.of.resize(NEAR_BYTES - (start - first), ANY);
        let kinds = text[first..last]
            .iter()
            .map(|byte| KINDS[usize::from(*byte)]);
        self.of.extend(kinds);
        self.of.resize(self.of.len() + (wanted - last), ANY);
    }

    /// What is beside the window of so many bytes at `at`, which lies in the piece.
    #[inline]
    pub(super) fn beside(&self, at: usize, width: usize) -> Beside {
        let kind = |at: usize| self.of.get(at).copied().unwrap_or(ANY);
        let place = at - self.start + NEAR_BYTES;
        let (before, after) = (kind(place - 1), kind(place + width));
        if after == ANY {
            return Beside(u32::MAX);
        }
        Beside(u32::from(GROUPS[usize::from(before)]) << (4 * after.trailing_zeros()))
    }

    /// What surrounds the window of so many bytes at `at`, which lies in the piece.
    #[inline]
    pub(super) fn around(&self, at: usize, width: usize) -> Near {
        let eight = |from: usize| {
            let bytes = self.of.get(from..).and_then(|rest| rest.first_chunk());
            bytes.map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
        };
        let before = at - self.start;
        Near {
            before: eight(before),
            after: eight(before + NEAR_BYTES + width),
        }
    }
}

/// The kinds of what counts as part of a word.
pub(super) const WORD_KINDS: u8 = 0b1111_1000;

/// The kind of each byte. Letters are spread so that each kind is about as frequent in English,
/// and either case is of one kind; no kind holds bytes of words and others. Blanks have one for themselves: `[^\s"]`
/// must not allow them.
pub(super) const KINDS: [u8; 256] = {
    let letters: [&[u8]; 4] = [b"elcuf", b"tormq", b"andwyzj", b"ishgpbvkx"];
    let mut kinds = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        kinds[at] = match byte {
            b'\t'..=b'\r' | b' ' => 1,
            b'0'..=b'9' | b'_' => 1 << 3,
            b'.' | b',' | b':' | b'!' | b'?' | b'\'' | b'"' | b'(' | b')' | b'-' => 1 << 1,
            0x80..=0xFF => 1 << (1 + byte % 2),
            _ => 1 << 2,
        };
        at += 1;
    }
    let mut kind = 0;
    while kind < letters.len() {
        let mut at = 0;
        while at < letters[kind].len() {
            let letter = letters[kind][at];
            kinds[letter as usize] = 1 << (4 + kind);
            kinds[letter.to_ascii_uppercase() as usize] = 1 << (4 + kind);
            at += 1;
        }
        kind += 1;
    }
    kinds
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_of_one_kind_and_words_are_of_their_own() {
        for byte in 0..=u8::MAX {
            let kind = KINDS[usize::from(byte)];
            assert_eq!(kind.count_ones(), 1);
            let is_word = byte.is_ascii_alphanumeric() || byte == b'_';
            assert_eq!(kind & WORD_KINDS != 0, is_word, "{byte}");
            assert_eq!(kind, KINDS[usize::from(byte.to_ascii_lowercase())]);
        }
    }

    #[test]
    fn one_byte_of_another_kind_is_enough_to_reject() {
        for at in 0..2 * NEAR_BYTES {
            let mut bytes = [1_u8; 2 * NEAR_BYTES];
            let near = |bytes: [u8; 16]| Near {
                before: u64::from_le_bytes(*bytes.first_chunk().unwrap()),
                after: u64::from_le_bytes(*bytes.last_chunk().unwrap()),
            };
            let wanted = near([0b11; 16]);
            assert!(wanted.allows(near(bytes)));
            bytes[at] = 0b100;
            assert!(!wanted.allows(near(bytes)));
        }
    }

    #[test]
    fn what_lies_outside_of_a_text_is_allowed() {
        let mut kinds = Kinds::default();
        for text in [&b"abcd"[..], b"ab"] {
            kinds.translate(text, 0, text.len());
            let around = kinds.around(0, WINDOW_BYTES);
            assert_eq!(around, Near::ANYTHING);
        }
        let text = b"x abcd!";
        kinds.translate(text, 2, text.len());
        let around = kinds.around(2, WINDOW_BYTES);
        let before = around.before.to_le_bytes();
        assert_eq!(
            before[6..],
            [KINDS[usize::from(b'x')], KINDS[usize::from(b' ')]]
        );
        assert_eq!(
            around.after.to_le_bytes()[..2],
            [KINDS[usize::from(b'!')], ANY]
        );
    }
}
