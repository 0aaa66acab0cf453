//! Automata, packed: all tables in two blocks of memory that are written to disk as they are.
//!
//! They have no state of their own, so all cores share them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::automaton::{ACCEPT, Automaton, BYTES_MAX, START};
use super::block::Block;

/// What an automaton is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Use {
    /// To say whether a text may match from a place on.
    Forward,
    /// To say where a text that ends at a place may begin to match.
    Back,
}

/// An answer about a text before a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// Every place where the expression may begin was reported.
    Known,
    /// It may begin farther away.
    Farther,
}

/// Where the parts of an automaton lie; see [`Automaton`] for what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Packed {
    /// 256 bytes of the block of bytes.
    class_of: u32,
    classes: u16,
    /// Rows of `classes` bytes; none if there are too many states.
    table: u32,
    states: u16,
    /// Words of the block of words: one for each class, then one for each position. Left out if
    /// the table says all that is asked.
    masks: u32,
    positions: u16,
    first: u128,
    accept: u128,
    empty: bool,
    bytes_max: Option<u32>,
}

#[derive(Default, Serialize, Deserialize)]
pub(super) struct Arena {
    automata: Vec<Packed>,
    bytes: Block<u8>,
    words: Block<u128>,
    #[serde(skip)]
    known: Known,
}

/// What is in the arena already, while it is being filled.
#[derive(Default)]
struct Known {
    automata: HashMap<Packed, u32>,
    bytes: HashMap<Vec<u8>, u32>,
    words: HashMap<Vec<u128>, u32>,
}

impl Arena {
    /// Packs an automaton; the same one twice takes no more memory.
    pub(super) fn add(&mut self, automaton: &Automaton, purpose: Use) -> u32 {
        let Automaton {
            class_of,
            reach,
            follow,
            table,
            ..
        } = automaton;
        // Where a match begins is not in the table.
        let needs_masks = purpose == Use::Back || table.is_empty();
        let masks: Vec<u128> = reach.iter().chain(follow).copied().collect();
        let packed = Packed {
            class_of: self.bytes(class_of),
            classes: reach.len() as u16,
            table: self.bytes(table),
            states: (table.len() / reach.len()) as u16,
            masks: if needs_masks { self.words(masks) } else { 0 },
            positions: if needs_masks { follow.len() as u16 } else { 0 },
            first: automaton.first,
            accept: automaton.accept,
            empty: automaton.empty,
            bytes_max: automaton.bytes_max,
        };
        let Self {
            automata, known, ..
        } = self;
        *known.automata.entry(packed).or_insert_with(|| {
            automata.push(packed);
            (automata.len() - 1) as u32
        })
    }

    fn bytes(&mut self, bytes: &[u8]) -> u32 {
        if let Some(at) = self.known.bytes.get(bytes) {
            return *at;
        }
        let at = self.bytes.append(bytes);
        self.known.bytes.insert(bytes.to_vec(), at);
        at
    }

    fn words(&mut self, words: Vec<u128>) -> u32 {
        let block = &mut self.words;
        let append = |words: &Vec<u128>| block.append(words);
        *self.known.words.entry(words).or_insert_with_key(append)
    }

    /// Gives back what only [`Self::add`] needs.
    pub(super) fn finish(&mut self) {
        self.known = Known::default();
    }

    pub(super) fn len(&self) -> usize {
        self.automata.len()
    }

    pub(super) fn size_bytes(&self) -> usize {
        size_of_val(&self.automata[..]) + self.bytes.size_bytes() + self.words.size_bytes()
    }

    /// Whether every index lies within its table: true of what [`Self::add`] made, perhaps not of
    /// what was read from a file.
    pub(super) fn is_whole(&self) -> bool {
        self.automata.iter().all(|one| self.fits(one).is_some())
    }

    fn fits(&self, one: &Packed) -> Option<()> {
        let class_of = self.bytes.get(one.class_of, 256)?;
        let classes = usize::from(one.classes);
        let table = self
            .bytes
            .get(one.table, usize::from(one.states) * classes)?;
        let good = class_of.iter().all(|class| u16::from(*class) < one.classes)
            && (table.is_empty() || one.states > u16::from(START))
            && table.iter().all(|state| u16::from(*state) < one.states);
        if one.positions > 0 {
            let positions = u32::from(one.positions);
            let masks = self.words.get(one.masks, classes + positions as usize)?;
            let all = 1_u128
                .checked_shl(positions)
                .map_or(u128::MAX, |bit| bit - 1);
            if masks[..classes].iter().any(|reach| reach & !all != 0) {
                return None;
            }
        }
        (good && (one.positions > 0 || one.states > 0 || one.empty)).then_some(())
    }

    /// Whether the text may match from `at` on. Takes the bytes it looked at from `work`.
    pub(super) fn matches_from(&self, one: u32, text: &[u8], at: usize, work: &mut u64) -> bool {
        let one = &self.automata[one as usize];
        if one.empty {
            return true;
        }
        let limit = one.bytes_max.map_or(BYTES_MAX, |bytes| bytes as usize);
        let (answer, seen) = self.read(one, text[at..].iter().take(limit));
        *work = work.saturating_sub(seen as u64);
        // The text ended, or no match is as long as what was seen: no. Otherwise nobody knows.
        answer.unwrap_or(seen == BYTES_MAX && one.bytes_max.is_none())
    }

    /// Whether the text up to `at` may end with a match.
    pub(super) fn may_end_at(&self, one: u32, text: &[u8], at: usize, work: &mut u64) -> bool {
        let one = &self.automata[one as usize];
        if one.empty {
            return true;
        }
        let limit = one.bytes_max.map_or(BYTES_MAX, |bytes| bytes as usize);
        let (answer, seen) = self.read(one, text[..at].iter().rev().take(limit));
        *work = work.saturating_sub(seen as u64);
        answer.unwrap_or(one.bytes_max.is_none() && at > limit)
    }

    /// Calls `start` for each place from which the text up to `at` may match.
    pub(super) fn starts_before(
        &self,
        one: u32,
        text: &[u8],
        at: usize,
        work: &mut u64,
        mut start: impl FnMut(usize),
    ) -> Back {
        let one = &self.automata[one as usize];
        if one.empty {
            start(at);
        }
        let masks = Masks::of(self, one);
        let limit = one.bytes_max.map_or(BYTES_MAX, |bytes| bytes as usize);
        let mut live = one.first;
        for (seen, byte) in text[..at].iter().rev().take(limit).enumerate() {
            live &= masks.reach(*byte);
            *work = work.saturating_sub(1);
            if live == 0 {
                return Back::Known;
            }
            if live & one.accept != 0 {
                start(at - seen - 1);
            }
            live = masks.step(live);
        }
        if live != 0 && at > limit && one.bytes_max.is_none() {
            Back::Farther
        } else {
            Back::Known
        }
    }

    /// Whether these bytes, read until the answer is known, may match; and how many were read.
    /// `None` if they all were and nothing is known.
    fn read<'t>(&self, one: &Packed, bytes: impl Iterator<Item = &'t u8>) -> (Option<bool>, usize) {
        let mut seen = 0;
        if one.states == 0 {
            let masks = Masks::of(self, one);
            let mut live = one.first;
            for byte in bytes {
                seen += 1;
                live &= masks.reach(*byte);
                if live & one.accept != 0 || live == 0 {
                    return (Some(live != 0), seen);
                }
                live = masks.step(live);
            }
            return (None, seen);
        }
        let classes = usize::from(one.classes);
        let class_of = self.bytes.row(one.class_of, 256);
        let table = self.bytes.row(one.table, usize::from(one.states) * classes);
        let mut state = START;
        for byte in bytes {
            seen += 1;
            state = table[usize::from(state) * classes + usize::from(class_of[usize::from(*byte)])];
            if state < START {
                return (Some(state == ACCEPT), seen);
            }
        }
        (None, seen)
    }
}

/// The positions of one automaton.
struct Masks<'a> {
    class_of: &'a [u8],
    reach: &'a [u128],
    follow: &'a [u128],
}

impl<'a> Masks<'a> {
    fn of(arena: &'a Arena, one: &Packed) -> Self {
        let classes = usize::from(one.classes);
        let masks = arena
            .words
            .row(one.masks, classes + usize::from(one.positions));
        let (reach, follow) = masks.split_at(classes);
        Self {
            class_of: arena.bytes.row(one.class_of, 256),
            reach,
            follow,
        }
    }

    fn reach(&self, byte: u8) -> u128 {
        self.reach[usize::from(self.class_of[usize::from(byte)])]
    }

    fn step(&self, live: u128) -> u128 {
        let (mut rest, mut next) = (live, 0);
        while rest != 0 {
            next |= self.follow[rest.trailing_zeros() as usize];
            rest &= rest - 1;
        }
        next
    }
}
