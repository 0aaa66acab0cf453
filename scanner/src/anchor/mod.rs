//! Finds patterns without the pattern engine: by four bytes that every match contains, or two.
//!
//! ```text
//! text ─► bytes in a table? ─► kinds of bytes around? ─► automata ─► place of a match, maybe
//! ```
//! Each of these costs little and lets little through; what comes out is searched exactly
//! ([`crate::confirm`]). A pattern has one or more [`Anchor`]s, such that every match contains the
//! window of one of them. Patterns without such bytes (`None` from [`Anchors::add`]) are left to
//! Vectorscan.
//!
//! Vectorscan alone took 400 us for 1 KiB with the whole catalog and 20 s to compile it: hundreds
//! of literals of three bytes, and automata for what follows them, fill all its buckets.

mod arena;
mod automaton;
mod block;
mod index;
mod item;
mod marks;
mod minimal;
mod near;
mod plan;
mod set;
#[cfg(test)]
mod versus;
mod windows;

use std::ops::Range;

use regex_syntax::hir::{Hir, Look};
use serde::{Deserialize, Serialize};

use crate::view::{New, Origin};
use arena::{Arena, Back};
use automaton::Automaton;
use block::Block;
use index::{Batch, Index, Spelling};
use item::{Item, len_max};
use marks::Marks;
use near::Near;
pub(crate) use set::Set;
use windows::{Kept as KeptWindows, Lists, Reach};

/// Bytes of a window.
const WINDOW_BYTES: usize = 4;

/// Bytes of the windows of patterns that have no others: what surrounds them must be rare.
const PAIR_BYTES: usize = 2;

/// Nanoseconds to look at the beginning of a text: cheaper than a window dearer than this.
const HEAD_NS: f64 = 10.0;

/// The bit in which upper and lower case differ.
const CASE: u8 = 0x20;

/// Where a match may begin, as far as anchors say, and how far it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) at: usize,
    /// At this very byte; otherwise at this byte or any after it.
    pub(crate) exact: bool,
    /// Such a match ends here at the latest.
    pub(crate) end: usize,
}

impl Start {
    /// At this byte or any after it, to the end of the text.
    pub(crate) const fn from(at: usize) -> Self {
        Self {
            at,
            exact: false,
            end: usize::MAX,
        }
    }
}

/// A window of a pattern and what the pattern has around it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Anchor {
    pattern: u32,
    /// Bytes of the window that `before` covers and `forward` does not: none or one.
    lead: u8,
    border: Border,
    before: Before,
    /// Index of the automaton for the window and all behind it.
    forward: u32,
    /// What comes before is looked at first.
    back_first: bool,
    /// The mark that must lie so many bytes before the window, at most.
    after: Option<(u32, u32)>,
    reach: Reach,
}

/// What must hold between the bytes before and the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Border {
    None,
    Word,
    NoWord,
    TextStart,
    LineStart,
}

/// Where a match may begin, seen from the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Before {
    /// With the window.
    Here,
    /// Where this automaton says, or farther than it looks: so many bytes at most.
    Automaton { index: u32, bytes_max: Option<u32> },
    /// Anywhere before: so many bytes at most.
    Far { bytes_max: Option<u32> },
}

/// The anchors of all patterns: immutable, shared.
pub(crate) struct Anchors {
    anchors: Vec<Anchor>,
    automata: Arena,
    index: Index<WINDOW_BYTES>,
    pairs: Index<PAIR_BYTES>,
    /// Number of marks.
    marks: u32,
    heads: Heads,
}

/// A pattern that can only begin with the text.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    /// Longest text it matches: what must also end with the text is seldom long.
    text_bytes_max: u64,
    near: Near,
    anchor: Anchor,
}

/// Invariant: those that match the longest texts come first.
type Heads = Vec<Head>;

/// A spelling whose `anchor` has this bit marks a place; the other bits say which mark.
const MARK: u32 = 1 << 31;

/// What is remembered of a text while it is looked at. One per scanner; it may be used for one
/// [`Anchors`] only.
#[derive(Default)]
pub(crate) struct Memory {
    marks: Marks,
    batch: Batch,
    windows: KeptWindows,
}

/// The form in which they are kept on disk.
#[derive(Deserialize)]
struct Kept {
    anchors: Vec<Anchor>,
    automata: Arena,
    spellings: Block<u8>,
    pairs: Block<u8>,
    marks: u32,
    heads: Heads,
}

/// Anchors being collected.
#[derive(Default)]
pub(crate) struct Builder {
    anchors: Vec<Anchor>,
    automata: Arena,
    spellings: Vec<Spelling>,
    pairs: Vec<Spelling>,
    marks: u32,
    heads: Heads,
    rates: plan::Rates,
}

/// What an expression's anchors cost.
pub(crate) struct Price {
    pub(crate) nanos_per_kib: f64,
    /// The windows, for people.
    pub(crate) windows: Vec<String>,
}

/// `None` if some match of the expression contains no bytes worth looking for.
pub(crate) fn price(hir: &Hir) -> Option<Price> {
    let choice = plan::choose(hir, &plan::Rates::default()).or_else(|| plan::choose_pairs(hir));
    if hir.properties().look_set_prefix().contains(Look::Start)
        && choice.as_ref().is_none_or(|choice| choice.price > HEAD_NS)
    {
        return Some(Price {
            nanos_per_kib: HEAD_NS,
            windows: vec![String::from("the beginning of the text")],
        });
    }
    let choice = choice?;
    Some(Price {
        nanos_per_kib: choice.price,
        windows: {
            let marks = choice
                .marks
                .iter()
                .flatten()
                .map(|window| format!("{}...", show(window)));
            marks
                .chain(choice.places.iter().map(|place| show(&place.window)))
                .collect()
        },
    })
}

impl Builder {
    /// Finds anchors for a pattern; `false` if it has none. A `margin` of so many bytes beside a
    /// match decides as well whether it holds.
    pub(crate) fn add(&mut self, pattern: u32, hir: &Hir, margin: usize) -> bool {
        let choice = plan::choose(hir, &self.rates).or_else(|| plan::choose_pairs(hir));
        let starts = hir.properties().look_set_prefix().contains(Look::Start);
        if starts && choice.as_ref().is_none_or(|choice| choice.price > HEAD_NS) {
            self.add_head(pattern, hir);
            return true;
        }
        let Some(choice) = choice else { return false };
        let first_mark = self.marks;
        for windows in &choice.marks {
            for window in windows {
                let anchor = MARK | self.marks;
                spell(window, |bytes| {
                    self.spellings.push(Spelling {
                        bytes,
                        anchor,
                        near: Near::ANYTHING,
                    });
                });
            }
            self.marks += 1;
        }
        let around = |place: &plan::Place<'_>| {
            let (items_before, items_from) = place.items.split_at(place.at);
            let behind = Automaton::backward(items_before);
            let before = match before(items_before) {
                Before::Automaton { bytes_max, .. } if behind.cut => Before::Far { bytes_max },
                other => other,
            };
            (Automaton::forward(items_from), behind, before)
        };
        let around: Vec<_> = choice.places.iter().map(around).collect();
        let ahead: Vec<&Automaton> = around.iter().map(|(ahead, ..)| ahead).collect();
        let behind = around.iter().filter_map(|(_, behind, before)| {
            matches!(before, Before::Automaton { .. }).then_some(behind)
        });
        let forward = self.automata.add(&ahead);
        let mut back = self.automata.add(&behind.collect::<Vec<_>>()).into_iter();
        for (at, (place, (ahead, behind, mut before))) in
            choice.places.iter().zip(around).enumerate()
        {
            if let Before::Automaton { index, .. } = &mut before {
                *index = back.next().expect("one was added for each of these");
            }
            let (items_before, items_from) = place.items.split_at(place.at);
            let border = border(items_before);
            let anchor = self.anchors.len() as u32;
            self.anchors.push(Anchor {
                pattern,
                lead: place.lead as u8,
                border,
                before,
                forward: forward[at],
                back_first: place.back_first,
                after: place.after.map(|after| {
                    // From the mark's first byte to ours is no more than what lies before us.
                    let reach = len_max(items_before).and_then(|len| u32::try_from(len).ok());
                    (first_mark + after as u32, reach.unwrap_or(u32::MAX))
                }),
                reach: Reach::of(len_max(items_before), len_max(items_from), margin),
            });
            let add = |spellings: &mut Vec<Spelling>, bytes: u32, width: usize| {
                let window = &bytes.to_le_bytes()[..width];
                let near = Near::of(window, place.lead, border, &ahead, &behind);
                if let Some(near) = near {
                    spellings.push(Spelling {
                        bytes,
                        anchor,
                        near,
                    });
                }
            };
            match place.width {
                PAIR_BYTES => spell_pair(&place.window, |bytes| {
                    add(&mut self.pairs, bytes, PAIR_BYTES);
                }),
                _ => spell(&place.window, |bytes| {
                    add(&mut self.spellings, bytes, WINDOW_BYTES);
                }),
            }
        }
        true
    }

    /// A pattern that can only begin with the text: looked at once, without a window.
    fn add_head(&mut self, pattern: u32, hir: &Hir) {
        let mut items = Vec::new();
        item::flatten(hir, &mut items);
        let ahead = Automaton::forward(&items);
        let ends = hir.properties().look_set_suffix().contains(Look::End);
        let longest = hir.properties().maximum_len().filter(|_| ends);
        self.heads.push(Head {
            text_bytes_max: longest.map_or(u64::MAX, |len| len as u64),
            near: Near::of_head(&ahead),
            anchor: Anchor {
                pattern,
                lead: 0,
                border: Border::TextStart,
                before: Before::Here,
                forward: self.automata.add(&[&ahead])[0],
                back_first: false,
                after: None,
                reach: Reach::of(None, None, 0),
            },
        });
    }

    pub(crate) fn finish(mut self) -> Anchors {
        self.automata.finish();
        self.heads
            .sort_by_key(|head| std::cmp::Reverse(head.text_bytes_max));
        Anchors {
            anchors: self.anchors,
            automata: self.automata,
            index: Index::new(self.spellings),
            pairs: Index::new(self.pairs),
            marks: self.marks,
            heads: self.heads,
        }
    }
}

impl Anchors {
    /// Reports each place where a pattern may match in this part of the text; the same one perhaps
    /// more than once, and perhaps some outside. Takes
    /// bytes looked at from `work`, and reports no more when it is used up. Keeps what the views
    /// of the text need, if it is the whole.
    pub(crate) fn scan(
        &self,
        text: &[u8],
        part: Range<usize>,
        memory: &mut Memory,
        work: &mut u64,
        mut report: impl FnMut(u32, Start),
    ) {
        let whole = part == (0..text.len());
        self.look_at_head(text, &part, work, &mut report);
        let Memory {
            marks,
            batch,
            windows,
        } = memory;
        windows.start();
        marks.start(self.marks, text.len());
        batch.pieces(text, part, |piece, batch| {
            self.index.scan(text, piece.clone(), batch, &mut |found| {
                windows.push(0, found);
                self.look(found, text, marks, work, &mut report);
            });
            self.pairs.scan(text, piece, batch, &mut |found| {
                windows.push(1, found);
                self.look(found, text, marks, work, &mut report);
            });
        });
        marks.finish(text.len());
        if whole {
            windows.end();
        }
    }

    /// Finds the windows of a view, once before its parts are looked at.
    pub(crate) fn derive(&self, text: &[u8], view: usize, origin: &Origin, memory: &mut Memory) {
        let Memory { batch, windows, .. } = memory;
        windows.derive(view, text.len(), origin, |part, lists| {
            self.list(text, part, batch, lists);
        });
    }

    /// Finds the windows of a content of which only what is new will be looked at.
    pub(crate) fn begin(&self, text: &[u8], memory: &mut Memory) {
        let Memory { batch, windows, .. } = memory;
        windows.start();
        self.list(text, 0..text.len(), batch, windows.content());
        windows.end();
    }

    /// Appends the windows of a part of a text.
    fn list(&self, text: &[u8], part: Range<usize>, batch: &mut Batch, lists: &mut Lists) {
        let [quads, pairs] = lists;
        batch.pieces(text, part, |piece, batch| {
            let mut quad = |found: &[index::Found]| quads.extend_from_slice(found);
            self.index.scan(text, piece.clone(), batch, &mut quad);
            let mut pair = |found: &[index::Found]| pairs.extend_from_slice(found);
            self.pairs.scan(text, piece, batch, &mut pair);
        });
    }

    /// The same as [`Self::scan`] for a part of a content or view of which only some is new: what
    /// lies apart from that need not be reported. Its windows have been found.
    pub(crate) fn scan_new(
        &self,
        text: &[u8],
        part: Range<usize>,
        new: New<'_>,
        memory: &mut Memory,
        work: &mut u64,
        mut report: impl FnMut(u32, Start),
    ) {
        self.look_at_head(text, &part, work, &mut report);
        let Memory {
            marks,
            batch,
            windows,
        } = memory;
        marks.start(self.marks, text.len());
        let New { view, origin } = new;
        let mut look = |found: &[index::Found]| self.look(found, text, marks, work, &mut report);
        if !windows.touched(view, part.clone(), origin, &self.anchors, &mut look) {
            batch.pieces(text, part, |piece, batch| {
                self.index.scan(text, piece.clone(), batch, &mut look);
                self.pairs.scan(text, piece, batch, &mut look);
            });
        }
        marks.finish(text.len());
    }

    fn look_at_head(
        &self,
        text: &[u8],
        part: &Range<usize>,
        work: &mut u64,
        report: &mut impl FnMut(u32, Start),
    ) {
        if part.start > 0 {
            return;
        }
        let begins = Near::head(text);
        for head in &self.heads {
            if head.text_bytes_max < text.len() as u64 {
                break;
            }
            if head.near.allows(begins) {
                self.look_at(&head.anchor, text, 0, work, report);
            }
        }
    }

    /// Looks at windows that were found.
    fn look(
        &self,
        found: &[index::Found],
        text: &[u8],
        marks: &mut Marks,
        work: &mut u64,
        report: &mut impl FnMut(u32, Start),
    ) {
        // PERF: brings what the loop below reads into the cache, all of it at once.
        let touch = |sum: u8, one: &index::Found| {
            let anchor = self.anchors.get(one.anchor as usize);
            anchor.map_or(sum, |anchor| {
                let first = match anchor.before {
                    Before::Automaton { index, .. } if anchor.back_first => index,
                    _ => anchor.forward,
                };
                sum ^ self.automata.touch(first, text[one.at as usize])
            })
        };
        std::hint::black_box(found.iter().fold(0, touch));
        for one in found {
            let at = one.at as usize;
            if one.anchor & MARK != 0 {
                marks.set(one.anchor & !MARK, at);
                continue;
            }
            let anchor = &self.anchors[one.anchor as usize];
            let at = at + usize::from(anchor.lead);
            let near = |(mark, reach)| marks.is_near(mark, at, reach);
            if anchor.after.is_none_or(near) {
                self.look_at(anchor, text, at, work, report);
            }
        }
    }

    fn look_at(
        &self,
        anchor: &Anchor,
        text: &[u8],
        at: usize,
        work: &mut u64,
        report: &mut impl FnMut(u32, Start),
    ) {
        if *work == 0 || at >= text.len() || !anchor.border.holds(text, at) {
            return;
        }
        *work -= 1;
        let back = match anchor.before {
            Before::Automaton { index, .. } => Some(index),
            Before::Here | Before::Far { .. } => None,
        };
        if anchor.back_first
            && back.is_some_and(|back| !self.automata.may_end_at(back, text, at, work))
        {
            return;
        }
        if !self.automata.matches_from(anchor.forward, text, at, work) {
            return;
        }
        let mut start = |at: usize, exact: bool, end: usize| {
            report(anchor.pattern, Start { at, exact, end });
        };
        let end = at.saturating_add(anchor.reach.after as usize);
        let far = |bytes: Option<u32>| bytes.map_or(0, |bytes| at.saturating_sub(bytes as usize));
        match (anchor.before, back) {
            (Before::Automaton { bytes_max, .. }, Some(back)) => {
                let exact = |at| start(at, true, end);
                if self.automata.starts_before(back, text, at, work, exact) == Back::Farther {
                    start(far(bytes_max), false, end);
                }
            }
            (Before::Far { bytes_max }, _) => start(far(bytes_max), false, end),
            (Before::Here | Before::Automaton { .. }, _) => start(at, true, end),
        }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.index.size_bytes()
            + self.pairs.size_bytes()
            + size_of_val(&self.anchors[..])
            + self.automata.size_bytes()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let kept = (
            &self.anchors,
            &self.automata,
            Block::from(self.index.to_bytes()),
            Block::from(self.pairs.to_bytes()),
            self.marks,
            &self.heads,
        );
        postcard::to_allocvec(&kept).expect("plain data, and memory is not limited here")
    }

    /// Reads bytes of [`Self::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let kept: Kept = postcard::from_bytes(bytes).ok()?;
        let spellings = Spelling::all_from_bytes(kept.spellings.all())?;
        let pairs = Spelling::all_from_bytes(kept.pairs.all())?;
        let automata = kept.automata.len();
        let good = kept.automata.is_whole()
            && spellings.iter().chain(&pairs).all(|one| {
                if one.anchor & MARK != 0 {
                    one.anchor & !MARK < kept.marks
                } else {
                    (one.anchor as usize) < kept.anchors.len()
                }
            })
            && kept
                .heads
                .is_sorted_by_key(|head| std::cmp::Reverse(head.text_bytes_max))
            && (kept
                .anchors
                .iter()
                .chain(kept.heads.iter().map(|head| &head.anchor)))
            .all(|anchor| {
                let index = match anchor.before {
                    Before::Automaton { index, .. } => index,
                    Before::Here | Before::Far { .. } => 0,
                };
                (anchor.forward as usize) < automata
                    && (index as usize) < automata
                    && anchor.after.is_none_or(|(mark, _)| mark < kept.marks)
            });
        good.then(|| Self {
            anchors: kept.anchors,
            automata: kept.automata,
            index: Index::new(spellings),
            pairs: Index::new(pairs),
            marks: kept.marks,
            heads: kept.heads,
        })
    }
}

impl Border {
    fn holds(self, text: &[u8], at: usize) -> bool {
        let word = |at: Option<usize>| {
            at.and_then(|at| text.get(at))
                .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        };
        match self {
            Self::None => true,
            Self::Word => word(at.checked_sub(1)) != word(Some(at)),
            Self::NoWord => word(at.checked_sub(1)) == word(Some(at)),
            Self::TextStart => at == 0,
            Self::LineStart => at.checked_sub(1).is_none_or(|at| text[at] == b'\n'),
        }
    }
}

fn border(before: &[Item<'_>]) -> Border {
    let Some(Item::Look(look)) = before.last() else {
        return Border::None;
    };
    match look {
        Look::WordAscii => Border::Word,
        Look::WordAsciiNegate => Border::NoWord,
        Look::Start => Border::TextStart,
        Look::StartLF => Border::LineStart,
        _ => Border::None,
    }
}

/// Without building it: whether an automaton is needed for what comes before, and its reach.
fn before(items: &[Item<'_>]) -> Before {
    if items.iter().all(|item| matches!(item, Item::Look(_))) {
        return Before::Here;
    }
    let bytes_max = len_max(items).and_then(|len| u32::try_from(len).ok());
    if automaton::positions(items) > automaton::POSITIONS_MAX {
        return Before::Far { bytes_max };
    }
    Before::Automaton {
        index: 0,
        bytes_max,
    }
}

/// Every spelling of a window, letters without case.
fn spell(window: &[Set; WINDOW_BYTES], mut each: impl FnMut(u32)) {
    let folded = window.map(|set| {
        let mut bytes: Vec<u8> = set.iter().map(|byte| byte | CASE).collect();
        bytes.sort_unstable();
        bytes.dedup();
        bytes
    });
    for a in &folded[0] {
        for b in &folded[1] {
            for c in &folded[2] {
                for d in &folded[3] {
                    each(u32::from_le_bytes([*a, *b, *c, *d]));
                }
            }
        }
    }
}

/// Every spelling of the first two bytes of a window, as they are.
fn spell_pair(window: &[Set; WINDOW_BYTES], mut each: impl FnMut(u32)) {
    for a in window[0].iter() {
        for b in window[1].iter() {
            each(u32::from_le_bytes([a, b, 0, 0]));
        }
    }
}

fn show(window: &[Set; WINDOW_BYTES]) -> String {
    let mut out = String::new();
    for set in window {
        let mut bytes: Vec<u8> = set.iter().map(|byte| byte.to_ascii_lowercase()).collect();
        bytes.sort_unstable();
        bytes.dedup();
        match bytes[..] {
            [byte] => out.extend(std::ascii::escape_default(byte).map(char::from)),
            _ if bytes.len() > 12 => out.push('?'),
            _ => {
                out.push('[');
                let bytes = bytes
                    .iter()
                    .flat_map(|byte| std::ascii::escape_default(*byte));
                out.extend(bytes.map(char::from));
                out.push(']');
            }
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use oktsec_rules::RuleSet;
    use regex_automata::meta::Regex;

    use super::*;

    /// Whether a search as reported finds this match.
    fn covers(reported: &[(u32, Start)], pattern: u32, found: &Range<usize>) -> bool {
        reported.iter().any(|(of, place)| {
            let begins = place.at == found.start || place.at < found.start && !place.exact;
            *of == pattern && begins && found.end <= place.end
        })
    }

    #[test]
    fn wherever_an_example_of_the_catalog_matches_the_place_is_reported() {
        let rules = RuleSet::builtin();
        let mut builder = Builder::default();
        let mut searches = Vec::new();
        for (of, rule) in rules.rules.iter().enumerate() {
            for pattern in &rule.patterns {
                let hir = pattern.expression.to_hir().unwrap();
                if builder.add(searches.len() as u32, &hir, 0) {
                    searches.push((of, hir));
                }
            }
        }
        let anchors = builder.finish();
        let kept = Anchors::from_bytes(&anchors.to_bytes()).unwrap();
        let mut memory = [Memory::default(), Memory::default()];
        let mut matches = 0;
        for (number, (of, hir)) in searches.iter().enumerate() {
            let config = Regex::config().utf8_empty(false).nfa_size_limit(None);
            let regex = Regex::builder()
                .configure(config)
                .build_from_hir(hir)
                .unwrap();
            let examples = &rules.rules[*of].examples;
            for text in examples.matching.iter().chain(&examples.clean) {
                let (mut fresh, mut read) = (Vec::new(), Vec::new());
                anchors.scan(
                    text.as_bytes(),
                    0..text.len(),
                    &mut memory[0],
                    &mut { u64::MAX },
                    |of, start| {
                        fresh.push((of, start));
                    },
                );
                kept.scan(
                    text.as_bytes(),
                    0..text.len(),
                    &mut memory[1],
                    &mut { u64::MAX },
                    |of, start| {
                        read.push((of, start));
                    },
                );
                assert_eq!(fresh, read);
                for found in regex.find_iter(text.as_bytes()) {
                    matches += 1;
                    let id = &rules.rules[*of].id;
                    assert!(
                        covers(&fresh, number as u32, &found.range()),
                        "{id} in {text:?}: {found:?} is not among {fresh:?}"
                    );
                }
            }
        }
        assert!(matches > rules.rules.len());
    }

    #[test]
    fn what_is_looked_at_is_taken_from_the_work() {
        let hir = oktsec_rules::Expression::Regex("abcd[^x]*y".to_owned())
            .to_hir()
            .unwrap();
        let mut builder = Builder::default();
        assert!(builder.add(0, &hir, 0));
        let anchors = builder.finish();
        let text = "abcd".repeat(1000);
        let (mut work, mut reports) = (500, 0);
        anchors.scan(
            text.as_bytes(),
            0..text.len(),
            &mut Memory::default(),
            &mut work,
            |_, _| reports += 1,
        );
        assert_eq!(work, 0);
        assert!(reports < 10);
    }
}
