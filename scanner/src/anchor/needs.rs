//! Which windows a text has at all, and which of them a match needs besides its anchor.
//!
//! `(?:copy|post|send) … (?:password|secret) … (?:gist|pastebin)` is looked for by the passwords;
//! where the text has no gist there is nothing to look at. One bit for each hash of four bytes:
//! two windows may share one, so that a text seems to have a few windows that it has not.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::WINDOW_BYTES;
use super::builder::spell;
use super::index::Index;
use super::plan::{NEEDED_MAX, Needs as Sets};

/// Bits of a hash.
const BITS: u32 = 16;

/// Longest text of which it is known: a longer one has most bits set.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// The windows of a content and of its views.
pub(super) struct Present {
    bits: Box<[u64; 1 << (BITS - 6)]>,
    /// All windows of the content are here, and they are few.
    complete: bool,
}

impl Default for Present {
    fn default() -> Self {
        Self {
            bits: Box::new([0; 1 << (BITS - 6)]),
            complete: false,
        }
    }
}

impl Present {
    /// Begins a content of so many bytes, of which so many will be looked at.
    pub(super) fn start(&mut self, len: usize, looked_at: usize) {
        self.complete = (1..=TEXT_BYTES_MAX).contains(&len) && len == looked_at;
        if self.complete {
            self.bits.fill(0);
        }
    }

    /// The windows of the content and of the views looked at so far, if they say something.
    pub(super) fn complete(&self) -> Option<&Self> {
        Some(self).filter(|_| self.complete)
    }

    /// Takes a hash of [`Index::hash`].
    #[inline]
    pub(super) fn insert(&mut self, hash: u32) {
        let bit = bit_of(hash);
        self.bits[usize::from(bit >> 6)] |= 1 << (bit & 63);
    }

    fn has(&self, bit: u16) -> bool {
        self.bits[usize::from(bit >> 6)] >> (bit & 63) & 1 != 0
    }
}

fn bit_of(hash: u32) -> u16 {
    // The upper bits, all there are.
    (hash >> (Index::<WINDOW_BYTES>::TABLE_BITS - BITS)) as u16
}

/// Sets of windows of which a text must have one: of each its length and then its bits.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Needs {
    lists: Vec<u16>,
    #[serde(skip)]
    known: FxHashMap<Vec<u16>, u32>,
}

/// Where two sets begin; [`NOTHING`] for none.
pub(super) type Needed = [u32; 2];

const NOTHING: u32 = u32::MAX;

impl Needs {
    /// Adds what a match needs.
    pub(super) fn add(&mut self, sets: &Sets) -> Needed {
        let mut needed = [NOTHING; 2];
        for (place, set) in needed.iter_mut().zip(sets) {
            let mut bits = Vec::new();
            for window in set.iter() {
                spell(window, |bytes| {
                    bits.push(bit_of(Index::<WINDOW_BYTES>::hash(bytes)))
                });
            }
            bits.sort_unstable();
            bits.dedup();
            bits.insert(0, bits.len() as u16);
            let lists = &mut self.lists;
            *place = *self.known.entry(bits).or_insert_with_key(|bits| {
                lists.extend_from_slice(bits);
                (lists.len() - bits.len()) as u32
            });
        }
        needed
    }

    /// Gives back what only [`Self::add`] needs.
    pub(super) fn finish(self) -> Self {
        Self {
            known: FxHashMap::default(),
            ..self
        }
    }

    /// Whether a text has what is needed.
    #[inline]
    pub(super) fn are_met(&self, needed: Needed, present: &Present) -> bool {
        needed.iter().all(|at| {
            self.list(*at)
                .is_none_or(|bits| bits.iter().any(|bit| present.has(*bit)))
        })
    }

    fn list(&self, at: u32) -> Option<&[u16]> {
        let (len, rest) = self.lists.get(at as usize..)?.split_first()?;
        rest.get(..usize::from(*len))
    }

    /// Whether these are sets, or none.
    pub(super) fn has(&self, needed: Needed) -> bool {
        needed
            .iter()
            .all(|at| *at == NOTHING || self.list(*at).is_some_and(|bits| bits.len() <= NEEDED_MAX))
    }

    pub(super) fn size_bytes(&self) -> usize {
        size_of_val(&self.lists[..])
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::Batch;
    use super::super::item::flatten;
    use super::super::plan::{Rates, needs_of_head};
    use super::*;

    fn present(text: &str) -> Batch {
        let mut batch = Batch::default();
        batch.present.start(text.len(), text.len());
        let nothing = Index::<WINDOW_BYTES>::new(Vec::new());
        batch.pieces(text.as_bytes(), 0..text.len(), |piece, batch| {
            nothing.scan(text.as_bytes(), piece, batch, &mut |_| ());
        });
        batch
    }

    fn are_met(expression: &str, text: &str) -> bool {
        let hir = regex_syntax::parse(expression).unwrap();
        let mut items = Vec::new();
        flatten(&hir, &mut items);
        let mut needs = Needs::default();
        let needed = needs.add(&needs_of_head(&items, &Rates::default()));
        assert!(needs.has(needed));
        needs.are_met(needed, &present(text).present)
    }

    #[test]
    fn a_text_needs_a_window_of_one_branch_in_either_case() {
        let places = "(?-u:[a-z]*)(?:pastebin|gist)(?-u:[a-z]*)";
        assert!(are_met(places, "put it on PasteBin") && are_met(places, "a gist"));
        assert!(!are_met(places, "put it on paper") && !are_met(places, ""));
    }

    #[test]
    fn what_every_text_has_is_not_asked_for() {
        assert!(are_met("(?-u:[a-z]+)", "") && are_met("(?:the |and |pastebin)", ""));
    }

    #[test]
    fn of_a_long_text_or_a_part_nothing_is_known() {
        let mut present = Present::default();
        for (len, looked_at, known) in [
            (TEXT_BYTES_MAX, TEXT_BYTES_MAX, true),
            (TEXT_BYTES_MAX + 1, TEXT_BYTES_MAX + 1, false),
            (20, 19, false),
        ] {
            present.start(len, looked_at);
            assert_eq!(present.complete().is_some(), known);
        }
    }
}
