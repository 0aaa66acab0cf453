//! Finds the first match of a large expression by reading from each place where one may begin.
//!
//! An automaton that looks for a match anywhere follows all that began before at once. Of an expression of thousands of
//! states that are as many combinations as the text has places: each is made when it is met, in a microsecond, and thrown
//! away for the next. Read from one place alone there are few, and most reads end with their first byte.

use std::ops::Range;

use regex_automata::hybrid::{LazyStateID, dfa};
use regex_automata::nfa::thompson::{NFA, State};
use regex_automata::util::look::Look;
use regex_automata::{Anchored, Input, MatchError};

use crate::lazy::{Step, ends, gives_up, step};

/// States of an expression from which on it is large.
const LARGE_STATES: usize = 768;

/// The bytes a match may begin with: behind a byte that is none of a word, and behind one that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct First([[bool; 256]; 2]);

impl First {
    /// `None` unless the expression is large, or if it matches nothing at all as well.
    pub(crate) fn of(nfa: &NFA) -> Option<Self> {
        let is_large = nfa.states().len() >= LARGE_STATES;
        is_large.then(|| Self::of_any(nfa))?
    }

    fn of_any(nfa: &NFA) -> Option<Self> {
        let behind = |is_word: bool| first_bytes(nfa, is_word);
        Some(Self([behind(false)?, behind(true)?]))
    }

    /// The first place in a part of the text where a match may begin.
    fn next(&self, text: &[u8], part: Range<usize>) -> Option<usize> {
        let before = part.start.checked_sub(1).map_or(0, |before| text[before]);
        let mut behind = &self.0[usize::from(is_word(before))];
        for (number, byte) in text[part.clone()].iter().enumerate() {
            if behind[usize::from(*byte)] {
                return Some(part.start + number);
            }
            behind = &self.0[usize::from(is_word(*byte))];
        }
        None
    }

    /// The first match in a part of the text, and what that took: bytes read, and passed over a few for one. What
    /// surrounds the part is seen by borders only.
    pub(crate) fn find(
        &self,
        dfa: &dfa::DFA,
        cache: &mut dfa::Cache,
        failed: &mut Failed,
        text: &[u8],
        part: Range<usize>,
    ) -> Result<(Option<Range<usize>>, usize), MatchError> {
        failed.start(part.clone());
        let (mut at, mut read) = (part.start, 0);
        while let Some(next) = self.next(text, at..part.end) {
            at = next;
            let end = failed.end_of_match(dfa, cache, text, at..part.end, &mut read)?;
            if let Some(end) = end {
                return Ok((Some(at..end), read + (at - part.start) / PASSED_OVER));
            }
            at += 1;
        }
        Ok((None, read + part.len() / PASSED_OVER))
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The bytes a match may begin with behind a byte of a word, or behind another. `None` if it may have none.
fn first_bytes(nfa: &NFA, behind_word: bool) -> Option<[bool; 256]> {
    let mut bytes = [false; 256];
    // Once with any byte next, and once with a border of a word before it.
    let mut seen = vec![[false; 2]; nfa.states().len()];
    let mut open = vec![(nfa.start_anchored(), false)];
    while let Some((at, border)) = open.pop() {
        if std::mem::replace(&mut seen[at.as_usize()][usize::from(border)], true) {
            continue;
        }
        let mut range = |low: u8, high: u8| {
            for byte in low..=high {
                bytes[usize::from(byte)] |= !border || is_word(byte) != behind_word;
            }
        };
        match nfa.state(at) {
            State::ByteRange { trans } => range(trans.start, trans.end),
            State::Sparse(all) => {
                let each = all.transitions.iter();
                each.for_each(|one| range(one.start, one.end));
            }
            State::Dense(all) => {
                let leads = |byte: &u8| all.transitions[usize::from(*byte)].as_usize() != 0;
                (0..=u8::MAX)
                    .filter(leads)
                    .for_each(|byte| range(byte, byte));
            }
            State::Look {
                look: Look::WordAscii,
                next,
            } => open.push((*next, true)),
            // Whether others are there is not asked.
            State::Look { next, .. } | State::Capture { next, .. } => open.push((*next, border)),
            State::Union { alternates } => {
                open.extend(alternates.iter().map(|next| (*next, border)));
            }
            State::BinaryUnion { alt1, alt2 } => open.extend([(*alt1, border), (*alt2, border)]),
            State::Fail => {}
            State::Match { .. } => return None,
        }
    }
    Some(bytes)
}

/// Bytes passed over in the time of one that is read.
const PASSED_OVER: usize = 4;

/// Reads of one search before what they came to is remembered: most have fewer.
const READS_MIN: u32 = 8;

/// Places at which states are remembered, at equal distances.
const PLACES_MAX: usize = 16 << 10;

/// States remembered at each place: beginnings one beside the other often lead to two in turn.
const STATES: usize = 2;

/// The states in which reads of one search were that came to no match, by place: one that comes to such a state comes
/// to none either.
#[derive(Default)]
pub(crate) struct Failed {
    reads: u32,
    /// How often the automaton's states had been thrown away when it was read.
    clears: usize,
    /// Where the searched part begins, and its length.
    from: usize,
    len: usize,
    /// At every so many places, as a power of two.
    distance: u32,
    /// The last ones come first. Empty until they are needed.
    states: Vec<[LazyStateID; STATES]>,
}

impl Failed {
    /// Begins another search.
    fn start(&mut self, part: Range<usize>) {
        self.reads = 0;
        (self.from, self.len) = (part.start, part.len());
        self.distance = (part.len() / PLACES_MAX + 1)
            .next_power_of_two()
            .trailing_zeros();
    }

    fn forget(&mut self, clears: usize) {
        self.clears = clears;
        self.states.clear();
        let places = (self.len >> self.distance) + 1;
        self.states.resize(places, [LazyStateID::default(); STATES]);
    }

    /// Whether a read came to nothing in this state at this place; notes that this one was there, for those that follow.
    fn was_at(&mut self, at: usize, state: LazyStateID, clears: usize) -> bool {
        let at = at - self.from;
        if at & ((1 << self.distance) - 1) != 0 {
            return false;
        }
        if self.clears != clears {
            // States have other numbers now.
            self.forget(clears);
        }
        let known = &mut self.states[at >> self.distance];
        if known.contains(&state) {
            return true;
        }
        *known = [state, known[0]];
        false
    }

    /// The end of the match that begins with the part, read until it cannot become longer.
    fn end_of_match(
        &mut self,
        dfa: &dfa::DFA,
        cache: &mut dfa::Cache,
        text: &[u8],
        part: Range<usize>,
        read: &mut usize,
    ) -> Result<Option<usize>, MatchError> {
        self.reads += 1;
        if self.reads == READS_MIN {
            self.forget(cache.clear_count());
        }
        let kept = self.reads >= READS_MIN;
        let clears = cache.clear_count();
        let input = Input::new(text).range(part.clone()).anchored(Anchored::Yes);
        let mut state = dfa.start_state_forward(cache, &input)?;
        let mut end = None;
        for at in part.clone() {
            if kept && self.was_at(at, state, cache.clear_count()) {
                return Ok(end);
            }
            if gives_up(at, cache, clears) {
                return Err(MatchError::gave_up(at));
            }
            let step = step(dfa, cache, &mut state, text, at)?;
            *read += 1;
            match step {
                Step::On => {}
                Step::Match => end = Some(at),
                Step::Dead => {
                    return Ok(end);
                }
            }
        }
        let ends = ends(dfa, cache, state, text, part.end)?;
        Ok(if ends { Some(part.end) } else { end })
    }
}

#[cfg(test)]
mod tests {
    use oktsec_rules::Expression;
    use proptest::prelude::*;
    use regex_automata::meta::Regex;
    use regex_syntax::hir::Hir;

    use super::*;
    use crate::lazy::{Way, automaton};

    /// Large ones that match little.
    const EXPRESSIONS: &[&str] = &[
        "(?i)(?:\\w+\\s+)?ab(?:[abc ]{0,40}?\\s)?(?:cd|dc){1,300}",
        "(?-u:\\b)(?:ab|b c)\\s?(?:\\S+\\s+){0,6}?\\S{0,30}d{2,200}",
        "a.{0,300}b{3}c",
        "c(?:a|b){2}[ab]{0,400}d(?-u:\\b)",
        "(?-u:^)(?:ab ){1,300}c",
    ];

    fn parse(expression: &str) -> Hir {
        Expression::Regex(expression.to_owned()).to_hir().unwrap()
    }

    proptest! {
        #[test]
        fn the_first_match_is_that_of_a_search(
            pieces in prop::collection::vec(
                prop::sample::select(vec!["a", "b", "c", "d", " ", "ab", "cd", "ab cd", "aaaa", "bbbc", "\n", "é"]),
                0..120,
            ),
            expression in prop::sample::select(EXPRESSIONS),
            cut in (0_usize..40, 0_usize..40),
        ) {
            let text = pieces.concat();
            let part = cut.0.min(text.len())..text.len().saturating_sub(cut.1).max(cut.0.min(text.len()));
            let hir = parse(expression);
            let regex = Regex::builder().build_from_hir(&hir).unwrap();
            let dfa = automaton(&hir, Way::Ahead).unwrap();
            let first = First::of_any(dfa.get_nfa()).unwrap();
            let wanted = regex.search(&Input::new(text.as_bytes()).range(part.clone()));
            let (found, _) = first
                .find(&dfa, &mut dfa.create_cache(), &mut Failed::default(), text.as_bytes(), part)
                .unwrap();
            prop_assert_eq!(found, wanted.map(|found| found.range()), "{} in {:?}", expression, text);
        }
    }

    #[test]
    fn what_is_small_is_not_read_from_each_place() {
        let of = |expression: &str| {
            First::of(automaton(&parse(expression), Way::Ahead).unwrap().get_nfa())
        };
        assert_eq!(of("ab|cd"), None);
        let first = of("(?:[ab]{0,9}c){1,99}").unwrap();
        let bytes = |behind: usize| -> Vec<u8> {
            let leads = |byte: &u8| first.0[behind][usize::from(*byte)];
            (0..=u8::MAX).filter(leads).collect()
        };
        assert_eq!(bytes(0), b"abc");
        assert_eq!(bytes(1), b"abc");
    }

    #[test]
    fn what_begins_with_a_word_does_not_begin_inside_of_one() {
        let dfa = automaton(&parse("(?-u:\\b)(?:ab|-c)d"), Way::Ahead).unwrap();
        let first = First::of_any(dfa.get_nfa()).unwrap();
        let next = |text: &str| first.next(text.as_bytes(), 1..text.len());
        assert_eq!(next(" abd"), Some(1));
        assert_eq!(next("xabd"), None);
        assert_eq!(next("x-cd"), Some(1));
        assert_eq!(next(" -cd"), None);
        assert_eq!(next("xab ab"), Some(4));
    }

    #[test]
    fn a_text_of_beginnings_is_read_a_few_times() {
        let dfa = automaton(&parse("(?:[ab]+ +)?ab[ab]*(?:cd|dc){1,300}x"), Way::Ahead).unwrap();
        let first = First::of_any(dfa.get_nfa()).unwrap();
        for text in ["ab".repeat(5000), "abab ".repeat(2000)] {
            let part = 0..text.len();
            let (cache, failed) = (&mut dfa.create_cache(), &mut Failed::default());
            let (found, read) = first
                .find(&dfa, cache, failed, text.as_bytes(), part)
                .unwrap();
            assert_eq!(found, None);
            assert!(read < 20 * text.len(), "{read}");
        }
    }
}
