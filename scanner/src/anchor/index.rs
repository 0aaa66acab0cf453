//! One pass over a text that finds every place where a window may be.
//!
//! `WIDTH` bytes are hashed to one bit of a table; where it is set, a list of the windows spelt
//! like that is looked up. Four bytes are compared with letters without case, two as they are. Text without windows costs the hash and the look.
//! What surrounds a window must be of the kinds its anchor asks for ([`super::near`]).
//!
//! PERF: one Vectorscan database of the same rows of bytes, all places reported, 12.3 us/KiB -> this
//! table 7.1 us/KiB, with all anchors of each row; rows of up to eight bytes 45.9 us/KiB
//! (cargo test --release -p oktsec-scanner --lib versus -- --ignored --nocapture; two busy cores)

mod bytes;

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::near::{Beside, Kinds, Near};
use super::needs::Present;
use super::{CASE, WINDOW_BYTES};
use crate::engine::prefetch;

/// Windows found by one look at eight bytes.
const STRIDE: usize = 4;

/// Bytes taken through all steps at a time: what is between the steps stays in the nearest cache.
const PIECE_BYTES: usize = 512;

/// Windows of a piece, and room for one that is written and not kept.
const CANDIDATES_MAX: usize = 2 * PIECE_BYTES;

/// Windows that are compared at a time.
const FOUND_MAX: usize = 512;

/// Windows of a list that are compared without a branch; few lists have more.
const COMPARED: usize = 4;

/// Spellings of a window that are written without a branch; few windows have more.
const WRITTEN: usize = 4;

/// A window of the text whose bit is set.
#[derive(Clone, Copy, Default)]
struct Candidate {
    window: u32,
    at: u32,
}

/// A window of the text that is spelt like this: from which spelling up to which.
#[derive(Clone, Copy, Default)]
struct Spelt {
    first: u32,
    end: u32,
    at: u32,
}

/// A window that was found, and its place in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) anchor: u32,
    pub(super) at: u32,
}

/// What lies between the steps of a scan.
pub(super) struct Batch {
    candidates: Box<[Candidate; CANDIDATES_MAX]>,
    len: usize,
    /// For each candidate the first of the windows to compare and the one behind the last.
    lists: Box<[[u32; 2]; CANDIDATES_MAX]>,
    spelt: Box<[Spelt; CANDIDATES_MAX]>,
    found: Box<[Found; FOUND_MAX]>,
    kinds: Kinds,
    /// Of all pieces since it was cleared.
    pub(super) present: Present,
}

impl Batch {
    /// Calls `each` with the pieces of a part of a text, one after the other.
    ///
    /// PERF: as a function of its own it cost an ordinary text 1 to 3 % (JSON of 1 KiB, raw text alone, 9.16 -> 8.81 us).
    #[inline(always)]
    pub(super) fn pieces(
        &mut self,
        text: &[u8],
        part: Range<usize>,
        mut each: impl FnMut(Range<usize>, &mut Self),
    ) {
        for start in part.clone().step_by(PIECE_BYTES) {
            let piece = start..part.end.min(start + PIECE_BYTES);
            self.kinds.translate(text, piece.start, piece.end);
            each(piece, self);
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            candidates: Box::new([Candidate::default(); CANDIDATES_MAX]),
            len: 0,
            lists: Box::new([[0; 2]; CANDIDATES_MAX]),
            spelt: Box::new([Spelt::default(); CANDIDATES_MAX]),
            found: Box::new([Found::default(); FOUND_MAX]),
            kinds: Kinds::default(),
            present: Present::default(),
        }
    }
}

/// What is looked for: windows of `WIDTH` bytes, and what may surround each.
///
/// ```text
/// table ─ a bit ─► lists ─ upper bits of the hash ─► windows ─ the same bytes ─► surroundings ─► anchors
/// ```
pub(super) struct Index<const WIDTH: usize> {
    table: Box<[u64]>,
    /// For each value of the hash's upper bits the first of its windows; one more at the end.
    lists: Box<[u32]>,
    /// Each once, and one more than [`COMPARED`] at the end that stand for nothing.
    windows: Box<[Window]>,
    /// What may surround each window, in the order of the windows.
    surroundings: Box<[Surroundings]>,
    /// What may surround windows: many share one.
    nears: Box<[Near]>,
}

/// A spelling as it is compared.
#[derive(Clone, Copy)]
struct Window {
    bytes: u32,
    /// Where its surroundings begin; they end where those of the next begin.
    first: u32,
    /// What one of them at least allows beside it.
    beside: Beside,
}

/// What may surround a window, and the anchor it then is of.
#[derive(Clone, Copy)]
struct Surroundings {
    near: u32,
    anchor: u32,
}

/// The bytes of a window, little endian, and what may surround them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spelling {
    pub(super) bytes: u32,
    pub(super) anchor: u32,
    pub(super) near: Near,
}

impl<const WIDTH: usize> Index<WIDTH> {
    /// Bits of the table's index. Of four bytes: 128 KiB, of which one bit in twenty is set.
    pub(super) const TABLE_BITS: u32 = if WIDTH == WINDOW_BYTES { 20 } else { 16 };

    /// Bits of the index of lists.
    const LIST_BITS: u32 = if WIDTH == WINDOW_BYTES { 15 } else { 11 };

    /// What is set in every window, so that its spelling does not matter.
    const CASES: u32 = if WIDTH == WINDOW_BYTES {
        u32::from_ne_bytes([CASE; WINDOW_BYTES])
    } else {
        0
    };

    /// Bits of the bytes of a window.
    const MASK: u32 = u32::MAX >> (32 - 8 * WIDTH);

    pub(super) fn new(mut spellings: Vec<Spelling>) -> Self {
        spellings.sort_unstable_by_key(|spelling| {
            let hash = Self::hash(spelling.bytes);
            (hash, spelling.bytes, spelling.anchor, spelling.near)
        });
        spellings.dedup();
        let (mut windows, mut nears) = (Vec::new(), Vec::new());
        let mut known = FxHashMap::default();
        for same in spellings.chunk_by(|a, b| a.bytes == b.bytes) {
            windows.push([same[0].bytes, same.len() as u32]);
        }
        let surroundings = spellings.iter().map(|spelling| Surroundings {
            near: *known.entry(spelling.near).or_insert_with(|| {
                nears.push(spelling.near);
                (nears.len() - 1) as u32
            }),
            anchor: spelling.anchor,
        });
        let surroundings = surroundings.collect();
        Self::of(&windows, surroundings, nears.into()).expect("in order, and each once")
    }

    /// An index of these windows, each with how many of the surroundings it has. `None` if they are not in their order, or
    /// something is not there.
    fn of(
        counts: &[[u32; 2]],
        surroundings: Box<[Surroundings]>,
        nears: Box<[Near]>,
    ) -> Option<Self> {
        let mut table = vec![0_u64; 1 << (Self::TABLE_BITS - 6)];
        let mut lists = vec![0_u32; (1 << Self::LIST_BITS) + 1];
        let mut windows = Vec::with_capacity(counts.len() + COMPARED + 1);
        // PERF: many share one, and what it allows beside a window takes a while.
        let besides: Vec<Beside> = nears.iter().map(|near| Beside::of(*near)).collect();
        let (mut first, mut last) = (0_usize, None);
        for &[bytes, count] in counts {
            let hash = Self::hash(bytes);
            let bit = Self::bit_of(bytes, hash);
            *table.get_mut(bit as usize >> 6)? |= 1 << (bit & 63);
            lists[Self::list_of(hash) + 1] += 1;
            let end = first.checked_add(count as usize)?;
            let mut beside = Beside::default();
            for one in surroundings.get(first..end)? {
                beside = beside.or(*besides.get(one.near as usize)?);
            }
            windows.push(Window {
                bytes,
                first: first as u32,
                beside,
            });
            if count == 0 || last >= Some((hash, bytes)) {
                return None;
            }
            (first, last) = (end, Some((hash, bytes)));
        }
        if first != surroundings.len() {
            return None;
        }
        for at in 1..lists.len() {
            lists[at] += lists[at - 1];
        }
        let nothing = Window {
            // No window of a text: one of two bytes is less, and one of four has bits of case.
            bytes: !Self::MASK,
            first: first as u32,
            beside: Beside::default(),
        };
        windows.extend([nothing; COMPARED + 1]);
        Some(Self {
            table: table.into(),
            lists: lists.into(),
            windows: windows.into(),
            surroundings,
            nears,
        })
    }

    /// What spellings stand for: indices of anchors, or marks.
    pub(super) fn anchors(&self) -> impl Iterator<Item = u32> {
        self.surroundings.iter().map(|one| one.anchor)
    }

    pub(super) fn size_bytes(&self) -> usize {
        size_of_val(&*self.table)
            + size_of_val(&*self.lists)
            + size_of_val(&*self.windows)
            + size_of_val(&*self.surroundings)
            + size_of_val(&*self.nears)
    }

    /// Calls `found` with windows that may begin in a piece of a text and their places, in the
    /// order of their places. A text is continued with zeros. The piece is one of
    /// [`Batch::pieces`].
    pub(super) fn scan(
        &self,
        text: &[u8],
        piece: Range<usize>,
        batch: &mut Batch,
        found: &mut impl FnMut(&[Found]),
    ) {
        if WIDTH == WINDOW_BYTES && batch.present.complete().is_some() {
            self.candidates::<true>(text, piece, batch);
        } else {
            self.candidates::<false>(text, piece, batch);
        }
        self.look_up(batch, found);
    }

    /// The windows of a piece whose bit is set. All are noted where it is `NOTED` which there are.
    fn candidates<const NOTED: bool>(&self, text: &[u8], piece: Range<usize>, batch: &mut Batch) {
        let Batch {
            candidates,
            len,
            present,
            ..
        } = batch;
        let mut count = 0;
        let mut add = |window: u32, at: usize| {
            // PERF: no branch. A processor guesses wrong half of the time here, and could not go
            // on to the next window while the table is far away.
            candidates[count % CANDIDATES_MAX] = Candidate {
                window,
                at: at as u32,
            };
            let hash = Self::hash(window);
            if NOTED {
                present.insert(hash);
            }
            count += (self.bit(Self::bit_of(window, hash)) & 1) as usize;
        };
        let mut at = piece.start;
        while at + STRIDE <= piece.end
            && let Some(eight) = text.get(at..).and_then(|rest| rest.first_chunk::<8>())
        {
            let cases = u64::from(Self::CASES);
            let eight = u64::from_le_bytes(*eight) | cases << 32 | cases;
            for lane in 0..STRIDE {
                add((eight >> (8 * lane)) as u32 & Self::MASK, at + lane);
            }
            at += STRIDE;
        }
        for at in at..piece.end {
            let mut bytes = [0; WINDOW_BYTES];
            let len = WIDTH.min(text.len() - at);
            bytes[..len].copy_from_slice(&text[at..at + len]);
            add(u32::from_le_bytes(bytes) | Self::CASES, at);
        }
        *len = count;
    }

    /// An index into the table.
    pub(super) fn hash(window: u32) -> u32 {
        window.wrapping_mul(0x9E37_79B1) >> (32 - Self::TABLE_BITS)
    }

    /// Which bit of the table stands for a window: of two bytes there is one for each.
    fn bit_of(window: u32, hash: u32) -> u32 {
        if WIDTH == WINDOW_BYTES { hash } else { window }
    }

    fn list_of(hash: u32) -> usize {
        (hash >> (Self::TABLE_BITS - Self::LIST_BITS)) as usize
    }

    fn bit(&self, bit: u32) -> u64 {
        self.table[bit as usize >> 6] >> (bit & 63)
    }

    /// Compares the candidates with the windows in their lists, and what surrounds them.
    ///
    /// PERF: step by step for all of them. Each step reads memory that is seldom in the cache, but
    /// what it reads does not depend on the answers of the same step, so the reads overlap. One
    /// candidate after the other took three times as long.
    fn look_up(&self, batch: &mut Batch, found: &mut impl FnMut(&[Found])) {
        let Batch {
            candidates,
            len,
            kinds,
            lists,
            spelt,
            found: all,
            ..
        } = batch;
        let candidates = &candidates[..*len];
        for (candidate, range) in candidates.iter().zip(lists.iter_mut()) {
            let list = Self::list_of(Self::hash(candidate.window));
            *range = [self.lists[list], self.lists[list + 1]];
        }
        for [start, end] in &lists[..candidates.len()] {
            // The first and the last: seldom are there more than two lines of the cache.
            prefetch(&self.windows, *start as usize);
            prefetch(&self.windows, *end as usize);
        }
        let mut count = 0;
        for (candidate, [start, end]) in candidates.iter().zip(lists.iter()) {
            let beside = kinds.beside(candidate.at as usize, WIDTH);
            spelt[count] = self.spelt(*candidate, *start as usize..*end as usize, beside);
            count += usize::from(spelt[count].first < spelt[count].end);
        }
        for one in &spelt[..count] {
            prefetch(&self.surroundings, one.first as usize);
        }
        self.compare(&spelt[..count], all, kinds, found);
    }

    /// How the candidate is spelt, if one of these windows is and allows what is beside it: where another list begins, no
    /// window has the same bytes.
    #[inline]
    fn spelt(&self, candidate: Candidate, list: Range<usize>, beside: Beside) -> Spelt {
        let mut start = list.start;
        loop {
            let Some(windows) = self.windows.get(start..=start + COMPARED) else {
                return Spelt::default();
            };
            let mut spelt = Spelt {
                at: candidate.at,
                ..Spelt::default()
            };
            for at in 0..COMPARED {
                // PERF: no branch. Which of them it is nobody could guess.
                let same = windows[at].bytes == candidate.window;
                let same = u32::from(same & windows[at].beside.allows(beside)).wrapping_neg();
                spelt.first |= windows[at].first & same;
                spelt.end |= windows[at + 1].first & same;
            }
            start += COMPARED;
            if start >= list.end || spelt.first < spelt.end {
                return spelt;
            }
        }
    }

    /// Reports the anchors of what has the right surroundings.
    fn compare(
        &self,
        spelt: &[Spelt],
        all: &mut [Found; FOUND_MAX],
        kinds: &Kinds,
        found: &mut impl FnMut(&[Found]),
    ) {
        let mut count = 0;
        for one in spelt {
            let (mut first, end) = (one.first, one.end);
            loop {
                if count + WRITTEN > FOUND_MAX {
                    self.keep(&mut all[..count], kinds, found);
                    count = 0;
                }
                // PERF: most have no more, and how many nobody could guess.
                for (number, place) in all[count..count + WRITTEN].iter_mut().enumerate() {
                    *place = Found {
                        anchor: first + number as u32,
                        at: one.at,
                    };
                }
                let left = (end - first) as usize;
                count += left.min(WRITTEN);
                if left <= WRITTEN {
                    break;
                }
                first += WRITTEN as u32;
            }
        }
        self.keep(&mut all[..count], kinds, found);
    }

    /// The same of spellings.
    fn keep(&self, all: &mut [Found], kinds: &Kinds, found: &mut impl FnMut(&[Found])) {
        let mut count = 0;
        for at in 0..all.len() {
            let Found { anchor, at: place } = all[at];
            let surroundings = self.surroundings[anchor as usize];
            all[count] = Found {
                anchor: surroundings.anchor,
                at: place,
            };
            let near = self.nears[surroundings.near as usize];
            count += usize::from(near.allows(kinds.around(place as usize, WIDTH)));
        }
        if count > 0 {
            found(&all[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PAIR_BYTES;
    use super::*;

    pub(super) fn spelling(text: &[u8; 4], anchor: u32) -> Spelling {
        Spelling {
            bytes: u32::from_le_bytes(*text) | Index::<WINDOW_BYTES>::CASES,
            anchor,
            near: Near::ANYTHING,
        }
    }

    pub(super) fn all<const WIDTH: usize>(index: &Index<WIDTH>, text: &[u8]) -> Vec<(u32, usize)> {
        let mut all = Vec::new();
        Batch::default().pieces(text, 0..text.len(), |piece, batch| {
            index.scan(text, piece, batch, &mut |found| {
                all.extend(found.iter().map(|one| (one.anchor, one.at as usize)));
            });
        });
        all
    }

    #[test]
    fn windows_are_found_wherever_they_are() {
        let index = Index::<WINDOW_BYTES>::new(vec![
            spelling(b"abcd", 7),
            spelling(b"abcd", 9),
            spelling(b"xy  ", 1),
        ]);
        for shift in (0..40).chain(PIECE_BYTES - 20..PIECE_BYTES + 20) {
            let text = format!("{}aBcD{}xy", "-".repeat(shift), "+".repeat(shift / 2));
            // The text ends behind `xy`; a zero without case is a blank.
            let end = shift + 4 + shift / 2;
            assert_eq!(
                all(&index, text.as_bytes()),
                [(7, shift), (9, shift), (1, end)],
                "{text}"
            );
        }
    }

    #[test]
    fn two_bytes_are_found_as_they_are_spelt() {
        let pair = |text: &[u8; 2]| Spelling {
            bytes: u32::from(u16::from_le_bytes(*text)),
            anchor: 3,
            near: Near::ANYTHING,
        };
        let index = Index::<PAIR_BYTES>::new(vec![pair(b"Sk"), pair(b"z\0")]);
        for shift in 0..20 {
            let text = format!("{}Sk sk{}z", ".".repeat(shift), "_".repeat(shift));
            let last = 2 * shift + 5;
            assert_eq!(
                all(&index, text.as_bytes()),
                [(3, shift), (3, last)],
                "{text}"
            );
        }
    }

    #[test]
    fn short_texts_are_looked_at_too() {
        let index = Index::<WINDOW_BYTES>::new(vec![spelling(b"a   ", 0)]);
        assert_eq!(all(&index, b"a"), [(0, 0)]);
        assert_eq!(all(&index, b""), []);
    }

    #[test]
    fn more_windows_than_are_compared_at_a_time_are_all_found() {
        let many = 3 * FOUND_MAX as u32;
        let index =
            Index::<WINDOW_BYTES>::new((0..many).map(|anchor| spelling(b"abcd", anchor)).collect());
        let found = all(&index, b"-abcd-");
        assert_eq!(
            found,
            (0..many).map(|anchor| (anchor, 1)).collect::<Vec<_>>()
        );
        let text = b"abcd".repeat(PIECE_BYTES);
        assert_eq!(all(&index, &text).len(), PIECE_BYTES * many as usize);
    }
}
