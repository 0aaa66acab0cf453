//! One pass over a text that finds every place where a window may be.
//!
//! Four bytes, letters without case, are hashed to one bit of a table; where it is set, a list of
//! the windows spelt like that is looked up. Text without windows costs the hash and the look.
//!
//! PERF: one Vectorscan database of the same rows of bytes, all places reported, 12.3 us/KiB -> this
//! table 7.1 us/KiB, with all anchors of each row; rows of up to eight bytes 45.9 us/KiB
//! (cargo test --release -p oktsec-scanner --lib versus -- --ignored --nocapture; two busy cores)

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{CASE, WINDOW_BYTES};

/// Bits of the table's index: 128 KiB, of which one bit in twenty is set.
const TABLE_BITS: u32 = 20;

/// Bits of the index of lists.
const LIST_BITS: u32 = 16;

const CASES: u32 = u32::from_ne_bytes([CASE; WINDOW_BYTES]);

/// Windows found by one look at eight bytes.
const STRIDE: usize = 4;

/// What is looked for: spellings of windows.
pub(super) struct Index {
    table: Box<[u64; 1 << (TABLE_BITS - 6)]>,
    /// For each value of the hash's upper bits the first of its spellings; one more at the end.
    lists: Box<[u32]>,
    spellings: Box<[Spelling]>,
}

/// Four bytes of a window without case, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Spelling {
    pub(super) bytes: u32,
    pub(super) anchor: u32,
}

impl Index {
    pub(super) fn new(mut spellings: Vec<Spelling>) -> Self {
        spellings.sort_unstable_by_key(|spelling| {
            let hash = hash(spelling.bytes);
            (hash, spelling.bytes, spelling.anchor)
        });
        spellings.dedup();
        let mut table = Box::new([0_u64; 1 << (TABLE_BITS - 6)]);
        let mut lists = vec![0_u32; (1 << LIST_BITS) + 1];
        for spelling in &spellings {
            let hash = hash(spelling.bytes);
            table[hash as usize >> 6] |= 1 << (hash & 63);
            lists[list_of(hash) + 1] += 1;
        }
        for at in 1..lists.len() {
            lists[at] += lists[at - 1];
        }
        Self {
            table,
            lists: lists.into(),
            spellings: spellings.into(),
        }
    }

    pub(super) fn spellings(&self) -> &[Spelling] {
        &self.spellings
    }

    pub(super) fn size_bytes(&self) -> usize {
        size_of_val(&*self.table) + size_of_val(&*self.lists) + size_of_val(&*self.spellings)
    }

    /// Calls `found` with each window that may begin in this part of the text, and its place;
    /// perhaps with some that begin right behind it. A text is continued with zeros.
    pub(super) fn scan(&self, text: &[u8], part: Range<usize>, mut found: impl FnMut(u32, usize)) {
        let mut at = part.start;
        while let Some(eight) = text.get(at..).and_then(|rest| rest.first_chunk::<8>())
            && at < part.end
        {
            let eight = u64::from_le_bytes(*eight) | u64::from(CASES) << 32 | u64::from(CASES);
            let windows =
                std::array::from_fn::<u32, STRIDE, _>(|lane| (eight >> (8 * lane)) as u32);
            let mut any = 0;
            for window in windows {
                any |= self.bit(hash(window));
            }
            if any & 1 != 0 {
                for (lane, window) in windows.into_iter().enumerate() {
                    self.look_up(window, at + lane, &mut found);
                }
            }
            at += STRIDE;
        }
        for at in at..part.end {
            let mut bytes = [0; WINDOW_BYTES];
            let len = WINDOW_BYTES.min(text.len() - at);
            bytes[..len].copy_from_slice(&text[at..at + len]);
            self.look_up(u32::from_le_bytes(bytes) | CASES, at, &mut found);
        }
    }

    fn bit(&self, hash: u32) -> u64 {
        self.table[hash as usize >> 6] >> (hash & 63)
    }

    fn look_up(&self, window: u32, at: usize, found: &mut impl FnMut(u32, usize)) {
        let hash = hash(window);
        if self.bit(hash) & 1 == 0 {
            return;
        }
        let list = list_of(hash);
        let range = self.lists[list] as usize..self.lists[list + 1] as usize;
        for spelling in &self.spellings[range] {
            if spelling.bytes == window {
                found(spelling.anchor, at);
            }
        }
    }
}

/// An index into the table.
fn hash(window: u32) -> u32 {
    window.wrapping_mul(0x9E37_79B1) >> (32 - TABLE_BITS)
}

fn list_of(hash: u32) -> usize {
    (hash >> (TABLE_BITS - LIST_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelling(text: &[u8; 4], anchor: u32) -> Spelling {
        Spelling {
            bytes: u32::from_le_bytes(*text) | CASES,
            anchor,
        }
    }

    #[test]
    fn windows_are_found_wherever_they_are() {
        let index = Index::new(vec![
            spelling(b"abcd", 7),
            spelling(b"abcd", 9),
            spelling(b"xy  ", 1),
        ]);
        for shift in 0..40 {
            let text = format!("{}aBcD{}xy", "-".repeat(shift), "+".repeat(shift / 2));
            let mut found = Vec::new();
            index.scan(text.as_bytes(), 0..text.len(), |anchor, at| {
                found.push((anchor, at))
            });
            // The text ends behind `xy`; a zero without case is a blank.
            let end = shift + 4 + shift / 2;
            assert_eq!(found, [(7, shift), (9, shift), (1, end)], "{text}");
        }
    }

    #[test]
    fn short_texts_are_looked_at_too() {
        let index = Index::new(vec![spelling(b"a   ", 0)]);
        let mut found = Vec::new();
        index.scan(b"a", 0..1, |anchor, at| found.push((anchor, at)));
        index.scan(b"", 0..0, |anchor, at| found.push((anchor, at)));
        assert_eq!(found, [(0, 0)]);
    }
}
