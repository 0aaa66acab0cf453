//! Reads a text backwards from a window, to where matches with that window begin.
//!
//! Anchors read a little before their windows. What may begin farther away would be searched for
//! from the beginning of the text, for each window again; these automata read what an expression
//! has before the window, and mostly say "nowhere" within a word. Built at their first use.

use std::sync::OnceLock;

use regex_automata::hybrid::dfa;
#[cfg(test)]
use regex_automata::{Anchored, Input, MatchError};
use regex_syntax::hir::Hir;
use serde::{Deserialize, Serialize};

use super::item;
use super::plan::{self, Step};
use crate::lazy::{self, Way};

/// What an anchor's expression has before its window.
#[derive(Serialize, Deserialize)]
pub(super) struct Behind {
    pub(super) anchor: u32,
    /// How the items it is the beginning of come from the expression, and how many it is.
    steps: Box<[Step]>,
    items: u32,
    /// `None` if it cannot be built.
    #[serde(skip)]
    automaton: OnceLock<Option<Box<dfa::DFA>>>,
}

impl Behind {
    pub(super) fn new(anchor: u32, place: &plan::Place<'_>) -> Self {
        Self {
            anchor,
            steps: place.steps[..].into(),
            items: place.at as u32,
            automaton: OnceLock::new(),
        }
    }

    /// Without the automaton.
    pub(super) fn size_bytes(&self) -> usize {
        size_of_val(self) + size_of_val(&*self.steps)
    }

    /// The automaton for it, given the expression.
    pub(super) fn automaton(&self, hir: impl FnOnce() -> Hir) -> Option<&dfa::DFA> {
        let automaton = self.automaton.get_or_init(|| {
            let hir = hir();
            let items = plan::items_after(&hir, &self.steps)?;
            lazy::automaton(&item::to_hir(items.get(..self.items as usize)?)?, Way::Back)
                .map(Box::new)
        });
        automaton.as_deref()
    }
}

/// Calls `begins` with each place from which the text up to `at` matches, the nearest first.
/// Answers how many bytes were read. [`crate::retrace`] does the same for many places; this one judges it.
#[cfg(test)]
pub(crate) fn read(
    automaton: &dfa::DFA,
    cache: &mut dfa::Cache,
    text: &[u8],
    at: usize,
    mut begins: impl FnMut(usize),
) -> Result<usize, MatchError> {
    let input = Input::new(text).range(..at).anchored(Anchored::Yes);
    let mut state = automaton.start_state_reverse(cache, &input)?;
    for place in (0..at).rev() {
        state = automaton
            .next_state(cache, state, text[place])
            .map_err(|_| MatchError::gave_up(place))?;
        if state.is_tagged() {
            // The automaton says so one byte late: this byte is not part of the match.
            if state.is_match() {
                begins(place + 1);
            } else if state.is_dead() {
                return Ok(at - place);
            } else if state.is_quit() {
                return Err(MatchError::quit(text[place], place));
            }
        }
    }
    state = automaton
        .next_eoi_state(cache, state)
        .map_err(|_| MatchError::gave_up(0))?;
    if state.is_match() {
        begins(0);
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use regex_syntax::parse;

    use super::*;

    fn beginnings(before: &str, text: &str) -> Vec<usize> {
        let automaton = lazy::automaton(&parse(before).unwrap(), Way::Back).unwrap();
        let mut found = Vec::new();
        let mut cache = automaton.create_cache();
        let at = text.find('|').unwrap();
        read(&automaton, &mut cache, text.as_bytes(), at, |at| {
            found.push(at)
        })
        .unwrap();
        found
    }

    #[test]
    fn every_beginning_is_reported_the_nearest_first() {
        assert_eq!(beginnings("(?:ab)+", "ababab|ab"), [4, 2, 0]);
        assert_eq!(beginnings("x(?:ab)*", "xabab xab|"), [6]);
        assert_eq!(beginnings("(?:)", "ab|"), [2]);
        assert_eq!(beginnings("a", "b|"), [0; 0]);
    }

    #[test]
    fn borders_are_those_of_the_text() {
        assert_eq!(beginnings(r"(?-u:\b)ab\s", "cab |"), [0; 0]);
        assert_eq!(beginnings(r"(?-u:\b)ab\s", "ab |"), [0]);
        assert_eq!(beginnings(r"\Aab", "ab|"), [0]);
        assert_eq!(beginnings(r"\Aab", " ab|"), [0; 0]);
        assert_eq!(beginnings(r"ab(?-u:\b)", "ab|c"), [0]);
    }
}
