//! Reads of one pattern's automaton from many places of a text: where one comes to the state in which the one before
//! was at the same place, the rest is known.
//!
//! A text of beginnings that lead nowhere is read to its end from each of them otherwise.

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa;
use regex_automata::{Anchored, Input, MatchError};

use crate::lazy::{Step, ends, gives_up, step};

/// Places of a text at which the state of a read is remembered, at equal distances: of a text that is not longer, all.
const PLACES_MAX: usize = 16 << 10;

/// Reads of one pattern before they are remembered: most patterns have fewer.
const READS_MIN: u32 = 8;

/// Beginnings of matches remembered of one read; with more it is forgotten.
const BEGINS_MAX: usize = 16 << 10;

/// The last read of an automaton.
#[derive(Default)]
pub(crate) struct Retrace {
    reads: u32,
    /// How often the automaton's states had been thrown away when it was read.
    clears: usize,
    /// From where to where the read is remembered.
    low: usize,
    high: usize,
    /// Its states at every so many places of the text, as a power of two. Empty until they are needed.
    states: Vec<LazyStateID>,
    distance: u32,
    /// Where matches begin, in ascending order: of the read that is remembered, and of one that is not.
    begins: Vec<usize>,
    others: Vec<usize>,
}

impl Retrace {
    /// Begins another pattern, in a text of so many bytes.
    pub(crate) fn start(&mut self, len: usize) {
        self.reads = 0;
        self.distance = (len / PLACES_MAX + 1).next_power_of_two().trailing_zeros();
        self.forget();
    }

    fn forget(&mut self) {
        (self.low, self.high) = (0, 0);
        self.begins.clear();
    }

    /// Whether this read is to be remembered.
    fn is_kept(&mut self, cache: &dfa::Cache) -> bool {
        self.reads = self.reads.saturating_add(1);
        if self.reads <= READS_MIN {
            return false;
        }
        if self.states.is_empty() {
            self.states.resize(PLACES_MAX + 1, LazyStateID::default());
        }
        self.same_states(cache);
        true
    }

    /// Forgets what is remembered if states have been thrown away since.
    fn same_states(&mut self, cache: &dfa::Cache) -> bool {
        let same = self.clears == cache.clear_count();
        if !same {
            self.clears = cache.clear_count();
            self.forget();
        }
        same
    }

    fn is_remembered(&self, place: usize) -> bool {
        place & ((1 << self.distance) - 1) == 0
    }

    fn set(&mut self, place: usize, state: LazyStateID) {
        self.states[place >> self.distance] = state;
    }

    fn was_at(&self, place: usize, state: LazyStateID) -> bool {
        (self.low..self.high).contains(&place) && self.states[place >> self.distance] == state
    }

    /// The end of the match that begins with the part, read until it cannot become longer. Parts begin one behind the
    /// other, none inside of a match, and end with the same byte.
    pub(crate) fn end_of_match(
        &mut self,
        dfa: &dfa::DFA,
        cache: &mut dfa::Cache,
        text: &[u8],
        part: std::ops::Range<usize>,
        searched: &mut usize,
    ) -> Result<Option<usize>, MatchError> {
        let kept = self.is_kept(cache);
        let input = Input::new(text).range(part.clone()).anchored(Anchored::Yes);
        let clears = cache.clear_count();
        let mut state = dfa.start_state_forward(cache, &input)?;
        let mut end = None;
        // From here on states are remembered.
        let mut from = part.start;
        for at in part.clone() {
            if kept && self.is_remembered(at) {
                if !self.same_states(cache) {
                    from = at;
                }
                if self.was_at(at, state) {
                    // That read came to no match from here, or this one would not begin where it does.
                    self.low = from;
                    return Ok(end);
                }
                self.set(at, state);
            }
            if gives_up(at, cache, clears) {
                return Err(MatchError::gave_up(at));
            }
            let step = step(dfa, cache, &mut state, text, at)?;
            *searched += 1;
            match step {
                Step::On => {}
                Step::Match => end = Some(at),
                Step::Dead => {
                    self.went_ahead(kept, from, at + 1);
                    return Ok(end);
                }
            }
        }
        let ends = ends(dfa, cache, state, text, part.end)?;
        self.went_ahead(kept, from, part.end);
        Ok(if ends { Some(part.end) } else { end })
    }

    /// Keeps the read that went farther.
    fn went_ahead(&mut self, kept: bool, from: usize, end: usize) {
        if !kept {
        } else if end >= self.high {
            (self.low, self.high) = (from, end);
        } else {
            self.low = self.low.max(end);
        }
    }

    /// The places from which the text up to `at` matches, in ascending order, and how many bytes were read. Reads begin
    /// one behind the other.
    pub(crate) fn beginnings(
        &mut self,
        dfa: &dfa::DFA,
        cache: &mut dfa::Cache,
        text: &[u8],
        at: usize,
    ) -> Result<(&[usize], usize), MatchError> {
        let kept = self.is_kept(cache);
        let input = Input::new(text).range(..at).anchored(Anchored::Yes);
        let clears = cache.clear_count();
        let mut state = dfa.start_state_reverse(cache, &input)?;
        self.others.clear();
        // Below here states are remembered.
        let mut below = at;
        for place in (0..at).rev() {
            if gives_up(place, cache, clears) {
                return Err(MatchError::gave_up(place));
            }
            match step(dfa, cache, &mut state, text, place)? {
                Step::On => {}
                Step::Match => self.others.push(place + 1),
                Step::Dead => {
                    return Ok((self.went_back(kept, place + 1, below), at - place));
                }
            }
            if kept && self.is_remembered(place) {
                if !self.same_states(cache) {
                    below = place + 1;
                }
                if self.was_at(place, state) {
                    self.begins
                        .truncate(self.begins.partition_point(|begin| *begin <= place));
                    self.begins.extend(self.others.drain(..).rev());
                    self.high = below;
                    return Ok((&self.begins, at - place));
                }
                self.set(place, state);
            }
        }
        state = dfa
            .next_eoi_state(cache, state)
            .map_err(|_| MatchError::gave_up(0))?;
        if state.is_match() {
            self.others.push(0);
        }
        Ok((self.went_back(kept, 0, below), at))
    }

    /// Keeps the longer of two reads, and answers where matches of the last one begin.
    fn went_back(&mut self, kept: bool, end: usize, below: usize) -> &[usize] {
        self.others.reverse();
        let left = self.high.min(end).saturating_sub(self.low);
        if !kept || left > below.saturating_sub(end) {
            self.high = self.high.min(end);
            self.begins
                .truncate(self.begins.partition_point(|begin| *begin < self.high));
            return &self.others;
        }
        std::mem::swap(&mut self.begins, &mut self.others);
        (self.low, self.high) = (end, below);
        &self.begins
    }

    /// Gives back what many beginnings took.
    pub(crate) fn shrink(&mut self) {
        if self.begins.len() > BEGINS_MAX {
            self.begins = Vec::new();
            self.forget();
        }
        if self.others.capacity() > BEGINS_MAX {
            self.others = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use oktsec_rules::Expression;
    use proptest::prelude::*;
    use regex_automata::Input;
    use regex_automata::meta::Regex;
    use regex_syntax::hir::Hir;

    use super::*;
    use crate::anchor::read_behind;
    use crate::lazy::{Way, automaton};

    const EXPRESSIONS: &[&str] = &[
        "a[ab ]*c",
        "(?:ab)+",
        "a.{0,30}b\\b",
        "(?-u:\\b)a{3,9}(?:b|c d)",
        "(?s)b.*c",
        "ab?(?:a|b){5}",
        "[abc]+d",
        "a(?:b|$)",
    ];

    fn parse(expression: &str) -> Hir {
        Expression::Regex(expression.to_owned()).to_hir().unwrap()
    }

    /// Text with long stretches of one letter and some of others.
    fn texts() -> impl Strategy<Value = String> {
        let piece =
            prop::sample::select(vec!["a", "b", "c", "d", " ", "ab", "aaaa", "abab ", "\n"]);
        let pieces = prop::collection::vec((piece, 1_usize..30), 1..40);
        pieces.prop_map(|pieces| {
            pieces
                .iter()
                .map(|(piece, times)| piece.repeat(*times))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn matches_end_where_each_would_by_itself(
            text in texts(),
            expression in prop::sample::select(EXPRESSIONS),
            behind in 0_usize..9,
            distance in 0_u32..4,
        ) {
            let hir = parse(expression);
            let regex = Regex::builder().build_from_hir(&hir).unwrap();
            let dfa = automaton(&hir, Way::Ahead).unwrap();
            let (mut cache, mut retrace) = (dfa.create_cache(), Retrace::default());
            retrace.start(text.len());
            retrace.distance = distance;
            let bytes = text.as_bytes();
            let end = bytes.len().saturating_sub(behind);
            let (mut at, mut searched) = (0, 0);
            while at < end {
                let input = Input::new(bytes).range(at..end).anchored(Anchored::Yes);
                let alone = regex.search(&input).map(|found| found.end());
                let found = retrace.end_of_match(&dfa, &mut cache, bytes, at..end, &mut searched);
                prop_assert_eq!(found.unwrap(), alone, "{} at {}", expression, at);
                at = alone.filter(|end| *end > at).unwrap_or(at + 1);
            }
        }

        #[test]
        fn matches_begin_where_each_read_by_itself_says(
            text in texts(),
            expression in prop::sample::select(EXPRESSIONS),
            step in 1_usize..9,
            distance in 0_u32..4,
        ) {
            let dfa = automaton(&parse(expression), Way::Back).unwrap();
            let (mut cache, mut plain) = (dfa.create_cache(), dfa.create_cache());
            let mut retrace = Retrace::default();
            retrace.start(text.len());
            retrace.distance = distance;
            for at in (0..=text.len()).step_by(step) {
                let mut alone = Vec::new();
                read_behind(&dfa, &mut plain, text.as_bytes(), at, |at| alone.push(at)).unwrap();
                alone.reverse();
                let (begins, _) = retrace.beginnings(&dfa, &mut cache, text.as_bytes(), at).unwrap();
                prop_assert_eq!(begins, &alone[..], "{} at {}", expression, at);
            }
        }
    }

    #[test]
    fn beginnings_that_lead_nowhere_are_read_about_once() {
        let dfa = automaton(&parse("a[ab]*c"), Way::Ahead).unwrap();
        for pairs in [1500, 100_000] {
            let (mut cache, mut retrace) = (dfa.create_cache(), Retrace::default());
            let text = "ab".repeat(pairs);
            retrace.start(text.len());
            let mut searched = 0;
            for at in (0..text.len()).step_by(2) {
                let part = at..text.len();
                let found =
                    retrace.end_of_match(&dfa, &mut cache, text.as_bytes(), part, &mut searched);
                assert_eq!(found.unwrap(), None);
            }
            let (alone, each) = (READS_MIN as usize + 1, 1 << retrace.distance);
            assert!(searched < (alone + each) * text.len(), "{searched}");
        }
    }
}
