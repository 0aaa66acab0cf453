//! Runs automata over a text, many walks in step.
//!
//! Where a walk goes next depends on what it reads, so one alone waits for memory at every byte.
//! A dozen that take turns wait together.

use super::arena::{Arena, CLASSES, Outside, Packed};
use super::automaton::DEAD;
use crate::engine::prefetch;

/// An answer about a text before a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// Every place where the expression may begin was reported.
    Known,
    /// It may begin farther away.
    Farther,
}

/// Bytes a walk reads before it is another's turn.
const TURN_BYTES: usize = size_of::<u64>();

/// The same of its first turn.
const SHORT_TURN_BYTES: usize = 4;

/// A walk under way: what it needs of its automaton, and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// Which one it is, for whoever asked.
    number: u32,
    class_of: u32,
    table: u32,
    /// The next byte is here; before here, if it reads back.
    at: u32,
    classes: u16,
    /// Bytes it may still read. Invariant: the text has as many.
    left: u8,
    state: u8,
    outside: Outside,
    accept_max: u8,
    reads_back: bool,
    /// The answer if those bytes give none.
    otherwise: bool,
}

/// A walk that was asked for.
pub(super) enum Begun {
    /// Its answer was known at once.
    Known(bool),
    Walk(Walk),
}

/// What the first bytes of a text lead to, if they are known: so many need not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Known {
    pub(super) bytes: u8,
    pub(super) state: u8,
}

impl Arena {
    /// Asks whether the text may match from `at` on, where it begins with what is `known`.
    pub(super) fn forward(
        &self,
        one: &Packed,
        number: u32,
        text: &[u8],
        at: usize,
        known: Known,
        work: &mut u64,
    ) -> Begun {
        if one.empty {
            return Begun::Known(true);
        }
        let rest = &text[at..];
        let limit = usize::from(one.bytes_max);
        // If the text ends before, or no match is as long as what was seen: no. Otherwise nobody
        // knows.
        let otherwise = one.endless && rest.len() >= limit;
        if one.states == 0 {
            let answer = self.read_positions(one, rest.iter().take(limit), work);
            return Begun::Known(answer.unwrap_or(otherwise));
        }
        let bytes = usize::from(known.bytes);
        let left = rest.len().min(limit).saturating_sub(bytes);
        if left == 0 {
            return Begun::Known(otherwise);
        }
        Begun::Walk(Walk {
            at: (at + bytes) as u32,
            left: left as u8,
            state: known.state,
            reads_back: false,
            otherwise,
            ..Walk::of(one, number)
        })
    }

    /// Asks whether the text up to `at` may end with a match.
    pub(super) fn back(
        &self,
        one: &Packed,
        number: u32,
        text: &[u8],
        at: usize,
        work: &mut u64,
    ) -> Begun {
        if one.empty {
            return Begun::Known(true);
        }
        let limit = usize::from(one.bytes_max);
        let otherwise = one.endless && at > limit;
        if one.states == 0 {
            let bytes = text[..at].iter().rev().take(limit);
            let answer = self.read_positions(one, bytes, work);
            return Begun::Known(answer.unwrap_or(otherwise));
        }
        let left = at.min(limit);
        if left == 0 {
            return Begun::Known(otherwise);
        }
        Begun::Walk(Walk {
            at: at as u32,
            left: left as u8,
            reads_back: true,
            otherwise,
            ..Walk::of(one, number)
        })
    }

    /// What a walk needs of an automaton.
    pub(super) fn packed(&self, one: u32) -> &Packed {
        &self.automata[one as usize]
    }

    /// Ends these walks and says of each by its number how far it came, and whether its answer is
    /// yes; more than once, the last time counts. Takes
    /// what they read from `work`; when that is used up, those that are left have no answer.
    pub(super) fn run(
        &self,
        walks: &mut Vec<Walk>,
        text: &[u8],
        work: &mut u64,
        mut came: impl FnMut(u32, u32, bool),
    ) {
        for walk in &*walks {
            let byte = if walk.reads_back {
                walk.at.wrapping_sub(1)
            } else {
                walk.at
            };
            let byte = text.get(byte as usize).copied().unwrap_or_default();
            let byte = walk.outside.folded(byte.into());
            prefetch(self.bytes.all(), walk.class_of as usize + byte as usize);
            prefetch(
                self.bytes.all(),
                walk.table as usize + usize::from(walk.state) * usize::from(walk.classes),
            );
        }
        // Most end at once.
        self.turns::<SHORT_TURN_BYTES>(walks, text, work, &mut came);
        while !walks.is_empty() {
            self.turns::<TURN_BYTES>(walks, text, work, &mut came);
        }
    }

    /// Gives each walk its turn and keeps those without an answer; none when there is no work left.
    fn turns<const BYTES: usize>(
        &self,
        walks: &mut Vec<Walk>,
        text: &[u8],
        work: &mut u64,
        came: &mut impl FnMut(u32, u32, bool),
    ) {
        if *work == 0 {
            return walks.clear();
        }
        *work = work.saturating_sub((walks.len() * BYTES) as u64);
        let mut kept = 0;
        for at in 0..walks.len() {
            let mut walk = walks[at];
            let answer = self.turn::<BYTES>(&mut walk, text);
            came(walk.number, walk.at, answer == Some(true));
            // PERF: no branch, nobody could guess it.
            walks[kept] = walk;
            kept += usize::from(answer.is_none());
        }
        walks.truncate(kept);
    }

    /// Goes on with one walk. `None` if nothing is known yet.
    fn turn<const BYTES: usize>(&self, walk: &mut Walk, text: &[u8]) -> Option<bool> {
        let len = usize::from(walk.left).min(BYTES);
        let at = walk.at as usize;
        let bytes = if walk.reads_back {
            walk.at -= len as u32;
            bytes_at(text, at - len, len).swap_bytes() >> (8 * (TURN_BYTES - len))
        } else {
            walk.at += len as u32;
            bytes_at(text, at, len)
        };
        walk.left -= len as u8;
        // PERF: how many steps there are is known nearly always, and then they need no count.
        let accepted = if len == BYTES {
            self.steps(walk, bytes, BYTES)
        } else {
            self.steps(walk, bytes, len)
        };
        if accepted || walk.state == DEAD {
            Some(accepted)
        } else if walk.left == 0 {
            Some(walk.otherwise)
        } else {
            None
        }
    }

    /// Reads so many bytes, the lowest first: whether a match ended with one of them.
    #[inline(always)]
    fn steps(&self, walk: &mut Walk, mut bytes: u64, len: usize) -> bool {
        bytes = walk.outside.folded(bytes);
        let class_of = self.bytes.row(walk.class_of, CLASSES);
        let rows = self.bytes.rest(walk.table);
        let classes = usize::from(walk.classes);
        let (mut state, mut accepted) = (walk.state, false);
        for _ in 0..len {
            let class = class_of[usize::from(bytes as u8)];
            bytes >>= 8;
            state = rows[usize::from(state) * classes + usize::from(class)];
            accepted |= state.wrapping_sub(1) < walk.accept_max;
        }
        walk.state = state;
        accepted
    }

    /// What a text that begins with this window leads to. `is_read` says for each of its bytes
    /// whether an automaton may read it there.
    pub(super) fn known(&self, one: u32, window: impl Iterator<Item = u8>) -> Vec<u8> {
        let one = &self.automata[one as usize];
        if one.states == 0 || one.empty {
            return Vec::new();
        }
        let table = Table::of(self, one);
        let mut state = one.start;
        let follow = window.map_while(|byte| {
            let next = table.next(state, byte);
            state = next;
            (next > one.accept_max).then_some(next)
        });
        follow.collect()
    }

    /// Where an automaton begins.
    pub(super) fn start(&self, one: u32) -> u8 {
        self.automata[one as usize].start
    }

    /// Whether an automaton has this state.
    pub(super) fn has_state(&self, one: u32, state: u8) -> bool {
        self.automata
            .get(one as usize)
            .is_some_and(|one| one.states == 0 || u16::from(state) < one.states)
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
        let limit = usize::from(one.bytes_max);
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
        if alive && at > limit && one.endless {
            Back::Farther
        } else {
            Back::Known
        }
    }

    /// Whether these bytes may match. `None` if they were all read and nothing is known.
    fn read_positions<'t>(
        &self,
        one: &Packed,
        bytes: impl Iterator<Item = &'t u8>,
        work: &mut u64,
    ) -> Option<bool> {
        let masks = Masks::of(self, one);
        let mut live = masks.first;
        for byte in bytes {
            *work = work.saturating_sub(1);
            live &= masks.reach(*byte);
            if live & masks.accept != 0 || live == 0 {
                return Some(live != 0);
            }
            live = masks.step(live);
        }
        None
    }
}

impl Walk {
    /// At the beginning of an automaton.
    fn of(one: &Packed, number: u32) -> Self {
        Self {
            number,
            class_of: one.class_of,
            table: one.table,
            at: 0,
            classes: one.classes,
            left: 0,
            state: one.start,
            outside: one.outside,
            accept_max: one.accept_max,
            reads_back: false,
            otherwise: false,
        }
    }
}

/// Up to eight bytes of the text as a number, the first one lowest.
fn bytes_at(text: &[u8], at: usize, len: usize) -> u64 {
    match text[at..].first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => {
            let mut bytes = [0; TURN_BYTES];
            bytes[..len].copy_from_slice(&text[at..at + len]);
            u64::from_le_bytes(bytes)
        }
    }
}

/// The classes of bytes of one automaton.
#[derive(Clone, Copy)]
struct Classes<'a> {
    row: &'a [u8],
    outside: Outside,
}

impl<'a> Classes<'a> {
    fn of(arena: &'a Arena, one: &Packed) -> Self {
        let row = arena.bytes.row(one.class_of, one.outside.classes());
        Self {
            row,
            outside: one.outside,
        }
    }

    #[inline]
    fn of_byte(self, byte: u8) -> u8 {
        self.row[self.outside.folded(byte.into()) as usize]
    }
}

/// One automaton as a table.
pub(super) struct Table<'a> {
    class_of: Classes<'a>,
    rows: &'a [u8],
    classes: usize,
    pub(super) accept_max: u8,
}

impl<'a> Table<'a> {
    pub(super) fn of(arena: &'a Arena, one: &Packed) -> Self {
        let classes = usize::from(one.classes);
        Self {
            class_of: Classes::of(arena, one),
            rows: arena
                .bytes
                .row(one.table, usize::from(one.states) * classes),
            classes,
            accept_max: one.accept_max,
        }
    }

    /// What follows a state, by class.
    pub(super) fn row(&self, state: u8) -> &'a [u8] {
        let start = usize::from(state) * self.classes;
        &self.rows[start..start + self.classes]
    }

    pub(super) fn class(&self, byte: u8) -> u8 {
        self.class_of.of_byte(byte)
    }

    fn next(&self, state: u8, byte: u8) -> u8 {
        self.rows[usize::from(state) * self.classes + usize::from(self.class(byte))]
    }
}

/// The positions of one automaton.
pub(super) struct Masks<'a> {
    class_of: Classes<'a>,
    pub(super) first: u128,
    pub(super) accept: u128,
    reach: &'a [u128],
    follow: &'a [u128],
}

impl<'a> Masks<'a> {
    pub(super) fn of(arena: &'a Arena, one: &Packed) -> Self {
        let classes = usize::from(one.classes);
        let len = 2 + classes + usize::from(one.positions);
        let (ends, sets) = arena.words.row(one.table, len).split_at(2);
        let (reach, follow) = sets.split_at(classes);
        Self {
            class_of: Classes::of(arena, one),
            first: ends[0],
            accept: ends[1],
            reach,
            follow,
        }
    }

    pub(super) fn reach(&self, byte: u8) -> u128 {
        self.reach[usize::from(self.class_of.of_byte(byte))]
    }

    pub(super) fn step(&self, live: u128) -> u128 {
        let (mut rest, mut next) = (live, 0);
        while rest != 0 {
            next |= self.follow[rest.trailing_zeros() as usize];
            rest &= rest - 1;
        }
        next
    }
}
