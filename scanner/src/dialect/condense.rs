//! Cuts a large expression down to the part of it that says most.
//!
//! Whatever matches `A B C` contains a match of `B C`, so the engine may be asked for `B C` alone.
//! Compile time and memory of the engine grow faster than the size of an expression; above
//! [`STATES_MAX`] the run of neighbouring parts is kept that is rarest in texts and still fits.
//! What is kept ends where the whole ends or before, and the confirm searches the whole.

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// States above which an expression is cut.
static STATES_MAX: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
    std::env::var("SM")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(120)
});

/// Bytes kept of each branch of an alternation at the edge of what is kept.
const EDGE_BYTES: usize = 8;

/// Edge parts that may be empty say nothing; above this size they are left out.
const OPTIONAL_STATES_MAX: usize = 6;

pub(super) fn condense(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Alternation(branches) => Hir::alternation(branches.iter().map(condense).collect()),
        HirKind::Concat(parts) => {
            let parts = trim(parts);
            if parts.iter().map(states).sum::<usize>() <= *STATES_MAX {
                return Hir::concat(parts.to_vec());
            }
            window(parts)
        }
        HirKind::Empty
        | HirKind::Literal(_)
        | HirKind::Class(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Capture(_) => hir.clone(),
    }
}

/// Leaves out large optional parts at both ends, and the assertions outside of them.
fn trim(parts: &[Hir]) -> &[Hir] {
    let says_nothing = |part: &Hir| {
        part.properties().minimum_len() == Some(0) && states(part) > OPTIONAL_STATES_MAX
    };
    let needed = |part: &Hir| part.properties().minimum_len() != Some(0);
    let Some(first) = parts.iter().position(needed) else {
        return parts;
    };
    let Some(last) = parts.iter().rposition(needed) else {
        return parts;
    };
    let start = parts[..first]
        .iter()
        .rposition(says_nothing)
        .map_or(0, |at| at + 1);
    let end = parts[last..]
        .iter()
        .position(says_nothing)
        .map_or(parts.len(), |at| last + at);
    &parts[start..end]
}

/// The rarest run of neighbours that fits.
fn window(parts: &[Hir]) -> Hir {
    let mut best: Option<(f64, usize, Hir)> = None;
    for start in 0..parts.len() {
        let mut inner = Vec::new();
        let mut inner_states = 0;
        for end in start..parts.len() {
            let kept: Vec<Hir> = if start == end {
                vec![edge(&parts[start], Edge::Last)]
            } else {
                let first = edge(&parts[start], Edge::First);
                let last = edge(&parts[end], Edge::Last);
                std::iter::once(first)
                    .chain(inner.iter().cloned())
                    .chain([last])
                    .collect()
            };
            let total: usize = kept.iter().map(states).sum();
            let rarity: f64 = kept.iter().map(bits).sum();
            let fits = total <= *STATES_MAX || start == end;
            let kept = Hir::concat(kept);
            let matches_something = kept.properties().minimum_len().is_some_and(|len| len > 0);
            let better = best.as_ref().is_none_or(|(most, size, _)| {
                rarity > *most + 0.5 || (rarity > *most - 0.5 && total < *size)
            });
            if fits && matches_something && better {
                best = Some((rarity, total, kept));
            }
            if end > start {
                inner_states += states(&parts[end]);
                inner.push(parts[end].clone());
            }
            if inner_states > *STATES_MAX {
                break;
            }
        }
    }
    best.map_or_else(|| Hir::concat(parts.to_vec()), |(_, _, kept)| kept)
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

/// How rare a match is, roughly, in bits: letters count five, wide classes little.
fn bits(hir: &Hir) -> f64 {
    match hir.kind() {
        HirKind::Empty => 0.0,
        HirKind::Literal(literal) => literal.0.len() as f64 * 5.0,
        HirKind::Class(Class::Unicode(_)) => 0.0,
        HirKind::Class(Class::Bytes(class)) => {
            let size: usize = class.ranges().iter().map(|range| range.len()).sum();
            let space = class
                .ranges()
                .iter()
                .any(|range| range.start() <= b' ' && b' ' <= range.end());
            if space {
                1.0_f64.min((256.0 / size as f64).log2())
            } else {
                (256.0 / size as f64).log2().clamp(0.0, 5.0)
            }
        }
        HirKind::Look(look) => match look {
            Look::WordAscii => 1.0,
            _ => 3.0,
        },
        HirKind::Repetition(Repetition { min, max, sub, .. }) => {
            let spread = max.map_or(64, |max| max - min + 1).clamp(1, 256);
            f64::from(*min).min(20.0) * bits(sub) - f64::from(spread).log2() / 2.0
        }
        HirKind::Capture(capture) => bits(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(bits).sum(),
        HirKind::Alternation(parts) => -parts
            .iter()
            .map(|part| (-bits(part).min(60.0)).exp2())
            .sum::<f64>()
            .log2(),
    }
}
