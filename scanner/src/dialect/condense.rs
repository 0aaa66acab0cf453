//! Cuts an expression down to the part of it that is cheapest to look for.
//!
//! Whatever matches `A B C` contains a match of `B C`, so the engine may be asked for `B C` alone;
//! the confirm searches the whole. What is kept ends where the whole ends, or before.
//!
//! What is cheap follows from how the engine works: it looks for literals, runs an automaton where
//! it finds one, and what it then suspects costs a confirm. So each run of neighbouring units is
//! priced by the rarity of its literals and of itself in ordinary text, and the cheapest is kept.

use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use crate::rarity;

/// States above which an expression is cut even if a part of it costs more.
const STATES_MAX: usize = 120;

/// Bytes kept of each branch of an alternation at the edge of what is kept.
const EDGE_BYTES: usize = 10;

/// Shortest literal the engine finds fast.
const LITERAL_BYTES_MIN: usize = 3;

/// Literals from here on do not slow the search for others down.
const LONG_LITERAL_BYTES_MIN: usize = 4;

/// Occurrences for each byte of text up to which a literal counts as rare.
const LONG_LITERAL_RATE_MAX: f64 = 1.0 / 1024.0;

/// Nanoseconds for a literal found, for each state of the automaton it starts, for a confirm, and
/// for each KiB an automaton without a literal runs over.
const LITERAL_NS: f64 = 20.0;
const STATE_NS: f64 = 1.0;
const CONFIRM_NS: f64 = 1500.0;
const NO_LITERAL_NS: f64 = 1500.0;

const KIB: f64 = 1024.0;

pub(super) fn condense(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Alternation(branches) => Hir::alternation(branches.iter().map(condense).collect()),
        HirKind::Concat(parts) => cheapest(&units(parts)),
        HirKind::Empty
        | HirKind::Literal(_)
        | HirKind::Class(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Capture(_) => hir.clone(),
    }
}

/// What [`condense`] expects of its own result.
pub(super) fn price_of(kept: &Hir) -> f64 {
    match kept.kind() {
        HirKind::Alternation(branches) => branches.iter().map(price_of).sum(),
        HirKind::Concat(parts) => price(&units(parts), states(kept)),
        _ => price(std::slice::from_ref(kept), states(kept)),
    }
}

/// Whether every match contains a literal that is long and rare enough to be found fast.
pub(super) fn has_long_literal(kept: &Hir) -> bool {
    literal_rate(kept, LONG_LITERAL_BYTES_MIN).is_some_and(|rate| rate < LONG_LITERAL_RATE_MAX)
}

/// Neighbouring letters, in whatever case, become one unit.
fn units(parts: &[Hir]) -> Vec<Hir> {
    let mut units = Vec::new();
    for run in parts.chunk_by(|a, b| is_letter(a) && is_letter(b)) {
        if is_letter(&run[0]) {
            units.push(Hir::concat(run.to_vec()));
        } else {
            units.extend_from_slice(run);
        }
    }
    units
}

/// A literal, or one byte in few spellings.
fn is_letter(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(_) => true,
        HirKind::Class(Class::Bytes(class)) => {
            class
                .ranges()
                .iter()
                .map(|range| range.len())
                .sum::<usize>()
                <= 3
        }
        _ => false,
    }
}

fn cheapest(units: &[Hir]) -> Hir {
    let mut best: Option<(f64, Hir)> = None;
    for start in 0..units.len() {
        for end in start..units.len() {
            let mut kept: Vec<Hir> = units[start..=end].to_vec();
            let last = kept.len() - 1;
            if last > 0 {
                kept[0] = edge(&kept[0], Edge::First);
            }
            kept[last] = edge(&kept[last], Edge::Last);
            let states: usize = kept.iter().map(states).sum();
            if states > STATES_MAX && start != end {
                break;
            }
            let price = price(&kept, states);
            let kept = Hir::concat(kept);
            if kept.properties().minimum_len().is_none_or(|len| len == 0) {
                continue;
            }
            if best.as_ref().is_none_or(|(least, _)| price < *least) {
                best = Some((price, kept));
            }
        }
    }
    best.map_or_else(|| Hir::concat(units.to_vec()), |(_, kept)| kept)
}

/// Nanoseconds for each KiB of ordinary text.
fn price(kept: &[Hir], states: usize) -> f64 {
    let suspected = (-rarity::bits_of(kept)).exp2();
    let automaton = if kept.len() == 1 {
        0.0
    } else {
        STATE_NS * states as f64
    };
    let found = match kept
        .iter()
        .filter_map(|unit| literal_rate(unit, LITERAL_BYTES_MIN))
        .min_by(f64::total_cmp)
    {
        Some(rate) => KIB * rate * (LITERAL_NS + automaton),
        None => NO_LITERAL_NS,
    };
    found + KIB * suspected * CONFIRM_NS + states as f64 * 0.05
}

/// How often one of the literals every match must contain occurs; `None` if there are none.
fn literal_rate(hir: &Hir, bytes_min: usize) -> Option<f64> {
    match hir.kind() {
        HirKind::Literal(literal) if literal.0.len() >= bytes_min => {
            Some((-rarity::bits(hir)).exp2())
        }
        HirKind::Concat(parts) => units(parts)
            .iter()
            .filter_map(|unit| match unit.kind() {
                HirKind::Concat(letters) => {
                    let bytes: usize = letters.iter().map(states).sum();
                    (bytes >= bytes_min).then(|| (-rarity::bits(unit)).exp2())
                }
                _ => literal_rate(unit, bytes_min),
            })
            .min_by(f64::total_cmp),
        HirKind::Alternation(branches) => branches
            .iter()
            .map(|branch| literal_rate(branch, bytes_min))
            .sum(),
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            literal_rate(&repetition.sub, bytes_min)
        }
        HirKind::Capture(capture) => literal_rate(&capture.sub, bytes_min),
        HirKind::Empty
        | HirKind::Literal(_)
        | HirKind::Class(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_) => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    First,
    Last,
}

/// An alternation at the edge needs only the near end of each of its branches.
fn edge(hir: &Hir, edge_of: Edge) -> Hir {
    match hir.kind() {
        HirKind::Alternation(branches) => Hir::alternation(
            branches
                .iter()
                .map(|branch| near_end(branch, edge_of))
                .collect(),
        ),
        HirKind::Empty
        | HirKind::Literal(_)
        | HirKind::Class(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Capture(_)
        | HirKind::Concat(_) => hir.clone(),
    }
}

fn near_end(branch: &Hir, edge_of: Edge) -> Hir {
    let HirKind::Concat(parts) = branch.kind() else {
        return branch.clone();
    };
    let mut kept = Vec::new();
    let mut bytes = 0;
    let mut take = |part: &Hir| {
        if bytes < EDGE_BYTES {
            bytes += part.properties().minimum_len().unwrap_or(0);
            kept.push(part.clone());
        }
    };
    match edge_of {
        Edge::Last => parts.iter().for_each(&mut take),
        Edge::First => {
            parts.iter().rev().for_each(&mut take);
            kept.reverse();
        }
    }
    Hir::concat(kept)
}

fn states(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(_) => 1,
        HirKind::Repetition(Repetition { min, max, sub, .. }) => {
            // Counted repetitions of one class have an engine of their own.
            let times = max.unwrap_or((*min).max(1)) as usize;
            match sub.kind() {
                HirKind::Class(_) => times.min(4),
                _ => states(sub).saturating_mul(times),
            }
        }
        HirKind::Capture(capture) => states(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(states).sum(),
    }
}
