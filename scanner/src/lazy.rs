//! Automata whose states are made when a text asks for them.

use regex_automata::MatchKind;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::{NFA, WhichCaptures};
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
