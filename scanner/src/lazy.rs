//! Automata whose states are made when a text asks for them.

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::{NFA, WhichCaptures};
use regex_automata::{MatchError, MatchKind};
use regex_syntax::hir::Hir;

/// Bytes the states of one may take before it starts over. Below what a long expression's states
/// take it would start over at every byte: at 64 KiB one text of 31 KiB took 140 ms.
pub(crate) const CACHE_BYTES_MAX: usize = 1 << 20;

/// How often one read may throw away all states: by then each byte has led to a new one for tens of thousands of bytes.
pub(crate) const READ_CLEARS_MAX: usize = 16;

/// Bytes between two looks at how often that was.
const CLEARS_ASKED_BYTES: usize = 4 << 10;

/// Whether a read that began when states had been thrown away so many times should end here.
pub(crate) fn gives_up(at: usize, cache: &Cache, clears: usize) -> bool {
    at.is_multiple_of(CLEARS_ASKED_BYTES) && cache.clear_count() - clears >= READ_CLEARS_MAX
}

/// What a byte leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is known yet.
    On,
    /// A match ended before this byte.
    Match,
    /// No match ends here or later.
    Dead,
}

/// Reads the byte at a place of a text.
#[inline]
pub(crate) fn step(
    dfa: &DFA,
    cache: &mut Cache,
    state: &mut LazyStateID,
    text: &[u8],
    at: usize,
) -> Result<Step, MatchError> {
    *state = dfa
        .next_state(cache, *state, text[at])
        .map_err(|_| MatchError::gave_up(at))?;
    if !state.is_tagged() {
        Ok(Step::On)
    } else if state.is_match() {
        Ok(Step::Match)
    } else if state.is_dead() {
        Ok(Step::Dead)
    } else if state.is_quit() {
        Err(MatchError::quit(text[at], at))
    } else {
        Ok(Step::On)
    }
}

/// Whether a match ends with a part of a text that ends here and was read: that may depend on the byte behind it.
pub(crate) fn ends(
    dfa: &DFA,
    cache: &mut Cache,
    state: LazyStateID,
    text: &[u8],
    end: usize,
) -> Result<bool, MatchError> {
    let next = match text.get(end) {
        Some(byte) => dfa.next_state(cache, state, *byte),
        None => dfa.next_eoi_state(cache, state),
    };
    let state = next.map_err(|_| MatchError::gave_up(end))?;
    Ok(state.is_match())
}

/// Which way an automaton reads, and what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Ahead, to where the match that the expression prefers ends.
    Ahead,
    /// Back, to every place where a match begins.
    Back,
}

/// `None` if it cannot be built.
pub(crate) fn automaton(hir: &Hir, way: Way) -> Option<DFA> {
    let config = NFA::config()
        .reverse(way == Way::Back)
        .utf8(false)
        .nfa_size_limit(None)
        .which_captures(WhichCaptures::None);
    let nfa = NFA::compiler().configure(config).build_from_hir(hir).ok()?;
    let config = DFA::config()
        .match_kind(match way {
            Way::Ahead => MatchKind::LeftmostFirst,
            Way::Back => MatchKind::All,
        })
        .cache_capacity(CACHE_BYTES_MAX)
        .skip_cache_capacity_check(true);
    DFA::builder().configure(config).build_from_nfa(nfa).ok()
}
