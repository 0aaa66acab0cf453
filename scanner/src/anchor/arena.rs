//! Automata, packed: all tables in two blocks of memory that are written to disk as they are.
//!
//! They have no state of their own, so all cores share them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::automaton::{Automaton, BYTES_MAX, DEAD};
use super::block::Block;
use super::minimal::Minimal;

/// An answer about a text before a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// Every place where the expression may begin was reported.
    Known,
    /// It may begin farther away.
    Farther,
}

/// Where the parts of an automaton lie: in a table, or as positions if it has too many states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Packed {
    /// 256 bytes of the block of bytes.
    class_of: u32,
    /// Rows of `classes` bytes of the block of bytes, one for each state.
    table: u32,
    states: u16,
    classes: u16,
    start: u8,
    /// The last accepting state; the first one follows the dead one.
    accept_max: u8,
    /// Passes everything.
    empty: bool,
    /// Of the block of words: where it begins, where it ends, what each class reaches, and what
    /// follows each position. None if there is a table.
    words: u32,
    positions: u16,
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
    /// Packs the automata of one pattern, in this order: they share what they can, and the same
    /// one twice takes no more memory.
    pub(super) fn add(&mut self, automata: &[&Automaton]) -> Vec<u32> {
        let mut added = vec![0; automata.len()];
        let mut tables = Vec::new();
        for (at, automaton) in automata.iter().enumerate() {
            if automaton.table.is_empty() {
                added[at] = self.add_positions(automaton);
            } else {
                tables.push(at);
            }
        }
        self.add_tables(automata, &tables, None, &mut added);
        added
    }

    /// Those at these places, in one table if that is smaller than two. `merged` is that table, if
    /// it was made already.
    fn add_tables(
        &mut self,
        automata: &[&Automaton],
        places: &[usize],
        merged: Option<Minimal>,
        added: &mut [u32],
    ) {
        if places.is_empty() {
            return;
        }
        let merge = |places: &[usize]| Minimal::of(places.iter().map(|at| automata[*at]));
        let whole = merged.or_else(|| merge(places));
        if places.len() == 1 {
            let whole = whole.expect("the table of one automaton becomes no larger");
            return self.add_table(automata, places, &whole, added);
        }
        let apart: usize = places.iter().map(|at| automata[*at].table.len()).sum();
        if let Some(whole) = whole.as_ref().filter(|whole| whole.bytes() <= apart / 2) {
            return self.add_table(automata, places, whole, added);
        }
        let (left, right) = places.split_at(places.len() / 2);
        let (one, two) = (merge(left), merge(right));
        let bytes = |one: &Option<Minimal>| one.as_ref().map(Minimal::bytes);
        let parts = bytes(&one).zip(bytes(&two)).map(|(one, two)| one + two);
        match whole {
            Some(whole) if parts.is_none_or(|parts| whole.bytes() <= parts) => {
                self.add_table(automata, places, &whole, added);
            }
            _ => {
                self.add_tables(automata, left, one, added);
                self.add_tables(automata, right, two, added);
            }
        }
    }

    fn add_table(
        &mut self,
        automata: &[&Automaton],
        places: &[usize],
        table: &Minimal,
        added: &mut [u32],
    ) {
        let shared = Packed {
            class_of: self.bytes(&table.class_of),
            table: self.bytes(&table.table),
            states: table.states as u16,
            classes: table.classes as u16,
            start: 0,
            accept_max: table.accept_max,
            empty: false,
            words: 0,
            positions: 0,
            bytes_max: None,
        };
        for (at, start) in places.iter().zip(&table.starts) {
            added[*at] = self.push(Packed {
                start: *start,
                bytes_max: automata[*at].bytes_max,
                ..shared
            });
        }
    }

    fn add_positions(&mut self, automaton: &Automaton) -> u32 {
        let Automaton {
            first,
            accept,
            reach,
            follow,
            ..
        } = automaton;
        let words = [first, accept].into_iter().chain(reach).chain(follow);
        let packed = Packed {
            class_of: self.bytes(&automaton.class_of),
            table: 0,
            states: 0,
            classes: reach.len() as u16,
            start: 0,
            accept_max: 0,
            empty: automaton.empty,
            words: self.words(words.copied().collect()),
            positions: follow.len() as u16,
            bytes_max: automaton.bytes_max,
        };
        self.push(packed)
    }

    fn push(&mut self, packed: Packed) -> u32 {
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
        let mut good = class_of.iter().all(|class| u16::from(*class) < one.classes);
        if one.states == 0 {
            let positions = u32::from(one.positions);
            let words = self
                .words
                .get(one.words, 2 + classes + positions as usize)?;
            let none = u128::MAX.checked_shl(positions).unwrap_or(0);
            // What is reached, and what may be at the beginning or the end.
            good &= words[..2 + classes].iter().all(|set| set & none == 0);
        } else {
            let table = self
                .bytes
                .get(one.table, usize::from(one.states) * classes)?;
            good &= u16::from(one.start) < one.states;
            good &= table.iter().all(|state| u16::from(*state) < one.states);
        }
        good.then_some(())
    }

    /// Reads what a walk that begins with this byte reads first.
    pub(super) fn touch(&self, one: u32, byte: u8) -> u8 {
        let one = &self.automata[one as usize];
        if one.states == 0 {
            return 0;
        }
        Table::of(self, one).next(one.start, byte)
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
        let limit = one.bytes_max.map_or(BYTES_MAX, |bytes| bytes as usize);
        let bytes = text[..at].iter().rev().take(limit);
        let mut alive = true;
        let mut seen = 0;
        let mut each = |lives: bool, accepts: bool| {
            alive = lives;
            seen += 1;
            if accepts {
                start(at - seen);
            }
            lives
        };
        if one.states == 0 {
            let masks = Masks::of(self, one);
            let mut live = masks.first;
            for byte in bytes {
                live &= masks.reach(*byte);
                if !each(live != 0, live & masks.accept != 0) {
                    break;
                }
                live = masks.step(live);
            }
        } else {
            let table = Table::of(self, one);
            let mut state = one.start;
            for byte in bytes {
                state = table.next(state, *byte);
                if !each(state != DEAD, state != DEAD && state <= one.accept_max) {
                    break;
                }
            }
        }
        *work = work.saturating_sub(seen as u64);
        if alive && at > limit && one.bytes_max.is_none() {
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
            let mut live = masks.first;
            for byte in bytes {
                seen += 1;
                live &= masks.reach(*byte);
                if live & masks.accept != 0 || live == 0 {
                    return (Some(live != 0), seen);
                }
                live = masks.step(live);
            }
            return (None, seen);
        }
        let table = Table::of(self, one);
        let mut state = one.start;
        for byte in bytes {
            seen += 1;
            state = table.next(state, *byte);
            if state <= one.accept_max {
                return (Some(state != DEAD), seen);
            }
        }
        (None, seen)
    }
}

/// One automaton as a table.
struct Table<'a> {
    class_of: &'a [u8],
    rows: &'a [u8],
    classes: usize,
}

impl<'a> Table<'a> {
    fn of(arena: &'a Arena, one: &Packed) -> Self {
        let classes = usize::from(one.classes);
        Self {
            class_of: arena.bytes.row(one.class_of, 256),
            rows: arena
                .bytes
                .row(one.table, usize::from(one.states) * classes),
            classes,
        }
    }

    fn next(&self, state: u8, byte: u8) -> u8 {
        let class = self.class_of[usize::from(byte)];
        self.rows[usize::from(state) * self.classes + usize::from(class)]
    }
}

/// The positions of one automaton.
struct Masks<'a> {
    class_of: &'a [u8],
    first: u128,
    accept: u128,
    reach: &'a [u128],
    follow: &'a [u128],
}

impl<'a> Masks<'a> {
    fn of(arena: &'a Arena, one: &Packed) -> Self {
        let classes = usize::from(one.classes);
        let len = 2 + classes + usize::from(one.positions);
        let (ends, sets) = arena.words.row(one.words, len).split_at(2);
        let (reach, follow) = sets.split_at(classes);
        Self {
            class_of: arena.bytes.row(one.class_of, 256),
            first: ends[0],
            accept: ends[1],
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
