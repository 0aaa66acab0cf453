//! An expression as a row of items: what the choice of anchors and the automata are made from.

use std::ops::Range;

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, HirKind, Look, Repetition};

use super::set::Set;

/// Copies of a repeated byte that become items of their own.
const COPIES_MAX: u32 = 8;

/// Branches of an alternation that may be read as one row of sets, and their length.
const MERGED_BRANCHES_MAX: usize = 4;
const MERGED_BYTES_MAX: usize = 8;

/// One part of an expression, or a little more than that part.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a> {
    /// One byte of a set.
    Byte(Set),
    /// A border, no byte.
    Look(Look),
    /// An alternation.
    Branches(&'a [Hir]),
    /// A part some number of times in a row.
    Repeat {
        sub: &'a Hir,
        min: u32,
        max: Option<u32>,
    },
    /// What we have no words for: anything.
    Anything,
}

/// Appends the items of `hir`. Short branches of one length become sets: `(?:all|any)` is asked
/// for as `a[ln][ly]`.
pub(super) fn flatten<'a>(hir: &'a Hir, out: &mut Vec<Item<'a>>) {
    match hir.kind() {
        HirKind::Empty => {}
        HirKind::Literal(literal) => {
            out.extend(literal.0.iter().map(|byte| Item::Byte(Set::byte(*byte))));
        }
        HirKind::Class(Class::Bytes(class)) => out.push(Item::Byte(Set::of(class))),
        HirKind::Class(Class::Unicode(_)) => out.push(Item::Anything),
        HirKind::Look(look) => out.push(Item::Look(*look)),
        HirKind::Capture(capture) => flatten(&capture.sub, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| flatten(part, out)),
        HirKind::Alternation(branches) => match merged(branches) {
            Some(sets) => out.extend(sets.into_iter().map(Item::Byte)),
            None => out.push(Item::Branches(branches)),
        },
        HirKind::Repetition(repetition) => {
            let (sub, mut min, mut max) = (&*repetition.sub, repetition.min, repetition.max);
            if let Some(set) = single(sub) {
                let copies = min.min(COPIES_MAX);
                out.extend((0..copies).map(|_| Item::Byte(set)));
                min -= copies;
                max = max.map(|max| max - copies);
            }
            if max != Some(0) {
                out.push(Item::Repeat { sub, min, max });
            }
        }
    }
}

/// The expression that items stand for. `None` if one stands for more than can be said.
pub(super) fn to_hir(items: &[Item<'_>]) -> Option<Hir> {
    let one = |item: &Item<'_>| {
        Some(match *item {
            Item::Byte(set) => {
                let bytes = set.iter().map(|byte| ClassBytesRange::new(byte, byte));
                Hir::class(Class::Bytes(ClassBytes::new(bytes)))
            }
            Item::Look(look) => Hir::look(look),
            Item::Branches(branches) => Hir::alternation(branches.to_vec()),
            Item::Repeat { sub, min, max } => Hir::repetition(Repetition {
                min,
                max,
                greedy: true,
                sub: Box::new(sub.clone()),
            }),
            Item::Anything => return None,
        })
    };
    let parts: Option<Vec<Hir>> = items.iter().map(one).collect();
    parts.map(Hir::concat)
}

/// The set of an expression that is always one byte.
pub(super) fn single(hir: &Hir) -> Option<Set> {
    match hir.kind() {
        HirKind::Literal(literal) => match literal.0[..] {
            [byte] => Some(Set::byte(byte)),
            _ => None,
        },
        HirKind::Class(Class::Bytes(class)) => Some(Set::of(class)),
        HirKind::Capture(capture) => single(&capture.sub),
        _ => None,
    }
}

fn merged(branches: &[Hir]) -> Option<Vec<Set>> {
    if branches.len() > MERGED_BRANCHES_MAX {
        return None;
    }
    let mut sets: Option<Vec<Set>> = None;
    for branch in branches {
        let mut row = Vec::new();
        bytes_of(branch, &mut row)?;
        match &mut sets {
            None => sets = Some(row),
            Some(sets) if sets.len() == row.len() => {
                for (set, other) in sets.iter_mut().zip(row) {
                    *set = set.union(other);
                }
            }
            Some(_) => return None,
        }
    }
    sets.filter(|sets| sets.len() <= MERGED_BYTES_MAX)
}

/// The sets of an expression that is a row of bytes.
fn bytes_of(hir: &Hir, out: &mut Vec<Set>) -> Option<()> {
    match hir.kind() {
        HirKind::Literal(literal) => out.extend(literal.0.iter().map(|byte| Set::byte(*byte))),
        HirKind::Concat(parts) => {
            for part in parts {
                bytes_of(part, out)?;
            }
        }
        HirKind::Alternation(branches) => out.extend(merged(branches)?),
        _ => out.push(single(hir)?),
    }
    Some(())
}

/// Longest text the items match.
pub(super) fn len_max(items: &[Item<'_>]) -> Option<usize> {
    items.iter().try_fold(0_usize, |sum, item| {
        let len = match item {
            Item::Byte(_) => 1,
            Item::Look(_) => 0,
            Item::Branches(branches) => branches.iter().try_fold(0, |most, branch| {
                branch.properties().maximum_len().map(|len| len.max(most))
            })?,
            Item::Repeat { sub, max, .. } => sub
                .properties()
                .maximum_len()?
                .checked_mul((*max)? as usize)?,
            Item::Anything => return None,
        };
        sum.checked_add(len)
    })
}

/// The bytes a text may begin with to match the items, and whether the items match nothing at
/// all, so that any byte may follow.
pub(super) fn first(items: &[Item<'_>]) -> (Set, bool) {
    edge(items.iter(), Side::First)
}

/// The same of the last byte.
pub(super) fn last(items: &[Item<'_>]) -> (Set, bool) {
    edge(items.iter().rev(), Side::Last)
}

#[derive(Clone, Copy)]
enum Side {
    First,
    Last,
}

fn edge<'i, 'a: 'i>(items: impl Iterator<Item = &'i Item<'a>>, side: Side) -> (Set, bool) {
    let mut set = Set::default();
    for item in items {
        let (more, empty) = match item {
            Item::Byte(set) => (*set, false),
            Item::Look(_) => (Set::default(), true),
            Item::Anything => (Set::ALL, true),
            Item::Branches(branches) => of_branches(branches, side),
            Item::Repeat { sub, min, .. } => {
                let (set, empty) = of_hir(sub, side);
                (set, empty || *min == 0)
            }
        };
        set = set.union(more);
        if !empty {
            return (set, false);
        }
    }
    (set, true)
}

fn of_branches(branches: &[Hir], side: Side) -> (Set, bool) {
    branches
        .iter()
        .map(|branch| of_hir(branch, side))
        .fold((Set::default(), false), |(set, empty), (more, also)| {
            (set.union(more), empty || also)
        })
}

fn of_hir(hir: &Hir, side: Side) -> (Set, bool) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => (Set::default(), true),
        HirKind::Literal(literal) => {
            let byte = match side {
                Side::First => literal.0.first(),
                Side::Last => literal.0.last(),
            };
            byte.map_or((Set::default(), true), |byte| (Set::byte(*byte), false))
        }
        HirKind::Class(Class::Bytes(class)) => (Set::of(class), false),
        HirKind::Class(Class::Unicode(_)) => (Set::ALL, true),
        HirKind::Capture(capture) => of_hir(&capture.sub, side),
        HirKind::Alternation(branches) => of_branches(branches, side),
        HirKind::Repetition(repetition) => {
            let (set, empty) = of_hir(&repetition.sub, side);
            (set, empty || repetition.min == 0)
        }
        HirKind::Concat(parts) => {
            let mut set = Set::default();
            for at in 0..parts.len() {
                let part = match side {
                    Side::First => &parts[at],
                    Side::Last => &parts[parts.len() - 1 - at],
                };
                let (more, empty) = of_hir(part, side);
                set = set.union(more);
                if !empty {
                    return (set, false);
                }
            }
            (set, true)
        }
    }
}

/// `items` with the one at `at` replaced, and where the replacement lies.
pub(super) fn splice<'a>(
    items: &[Item<'a>],
    at: usize,
    with: &[Item<'a>],
) -> (Vec<Item<'a>>, Range<usize>) {
    let mut out = Vec::with_capacity(items.len() + with.len());
    out.extend_from_slice(&items[..at]);
    out.extend_from_slice(with);
    out.extend_from_slice(&items[at + 1..]);
    (out, at..at + with.len())
}
