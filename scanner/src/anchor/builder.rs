//! Collects the anchors of patterns, and says what those of one would cost.

use regex_syntax::hir::{Hir, Look};

use super::arena::{Arena, Packed};
use super::automaton::{self, Automaton};
use super::behind::Behind;
use super::border::Border;
use super::head::{Head, Heads};
use super::index::{Index, Spelling};
use super::item::{self, Item, len_max};
use super::near::Near;
use super::needs::Needs;
use super::plan;
use super::set::Set;
use super::walk::Known;
use super::windows::Reach;
use super::{Anchor, Anchors, Before, CASE, Extent, MARK, PAIR_BYTES, WINDOW_BYTES};

/// Nanoseconds to look at the beginning of a text: cheaper than a window dearer than this.
const HEAD_NS: f64 = 10.0;

/// Anchors being collected.
#[derive(Default)]
pub(crate) struct Builder {
    anchors: Vec<Anchor>,
    extents: Vec<Extent>,
    automata: Arena,
    spellings: Vec<Spelling>,
    pairs: Vec<Spelling>,
    marks: u32,
    heads: Heads,
    behind: Vec<Behind>,
    rates: plan::Rates,
    needs: Needs,
}

/// What an expression's anchors cost.
pub(crate) struct Price {
    pub(crate) nanos_per_kib: f64,
    /// The windows, for people.
    pub(crate) windows: Vec<String>,
}

/// `None` if some match of the expression contains no bytes worth looking for.
pub(crate) fn price(hir: &Hir) -> Option<Price> {
    let choice = choose(hir, &plan::Rates::default());
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

fn choose<'a>(hir: &'a Hir, rates: &plan::Rates) -> Option<plan::Choice<'a>> {
    plan::choose(hir, rates).or_else(|| plan::choose_pairs(hir))
}

impl Builder {
    /// Finds anchors for a pattern; `false` if it has none. A `margin` of so many bytes beside a
    /// match decides as well whether it holds.
    pub(crate) fn add(&mut self, pattern: u32, hir: &Hir, margin: usize) -> bool {
        let choice = choose(hir, &self.rates);
        let starts = hir.properties().look_set_prefix().contains(Look::Start);
        if starts && choice.as_ref().is_none_or(|choice| choice.price > HEAD_NS) {
            self.add_head(pattern, hir, margin);
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
        let needs = plan::needs(&choice, &self.rates);
        for (at, (place, (ahead, behind, mut before))) in
            choice.places.iter().zip(around).enumerate()
        {
            let needs = self.needs.add(&needs[at]);
            if let Before::Automaton { index, .. } = &mut before {
                *index = back.next().expect("one was added for each of these");
            }
            let (items_before, items_from) = place.items.split_at(place.at);
            let border = Border::behind(items_before);
            let anchor = self.anchors.len() as u32;
            let mut known = Beginning::default();
            let automata = &self.automata;
            let mut add = |spellings: &mut Vec<Spelling>, bytes: u32, width: usize| {
                let window = &bytes.to_le_bytes()[..width];
                let near = Near::of(window, place.lead, border, &ahead, &behind);
                if let Some(near) = near {
                    known.add(automata, forward[at], &window[place.lead..], width);
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
            if self.may_begin_farther(before) {
                self.behind.push(Behind::new(anchor, place));
            }
            self.extents.push(Extent {
                pattern,
                reach: Reach::of(len_max(items_before), len_max(items_from), margin),
            });
            self.anchors.push(Anchor {
                first: Packed::default(),
                lead: place.lead as u8,
                border,
                before,
                forward: forward[at],
                known: known.all(self.automata.start(forward[at])),
                needs,
                back_first: place.back_first && matches!(before, Before::Automaton { .. }),
                after: place.after.map(|after| {
                    // From the mark's first byte to ours is no more than what lies before us.
                    let reach = len_max(items_before).and_then(|len| u32::try_from(len).ok());
                    (first_mark + after as u32, reach.unwrap_or(u32::MAX))
                }),
            });
        }
        true
    }

    /// Whether what lies before a window is perhaps not read to its beginning.
    fn may_begin_farther(&self, before: Before) -> bool {
        match before {
            Before::Here => false,
            Before::Far { .. } => true,
            Before::Automaton { index, .. } => self.automata.is_endless(index),
        }
    }

    /// A pattern that can only begin with the text: looked at once, without a window.
    fn add_head(&mut self, pattern: u32, hir: &Hir, margin: usize) {
        let mut items = Vec::new();
        item::flatten(hir, &mut items);
        let ahead = Automaton::forward(&items);
        let forward = self.automata.add(&[&ahead])[0];
        let number = self.anchors.len() as u32;
        self.heads.push(Head::of(hir, &items, &ahead, number));
        self.extents.push(Extent {
            pattern,
            reach: Reach::of(Some(0), len_max(&items), margin),
        });
        self.anchors.push(Anchor {
            first: Packed::default(),
            lead: 0,
            border: Border::TextStart,
            before: Before::Here,
            forward,
            known: Known {
                bytes: 0,
                state: self.automata.start(forward),
            },
            needs: self.needs.add(&plan::needs_of_head(&items, &self.rates)),
            back_first: false,
            after: None,
        });
    }

    pub(crate) fn finish(mut self) -> Anchors {
        self.automata.finish();
        self.heads
            .sort_by_key(|head| std::cmp::Reverse(head.text_bytes_max));
        let mut anchors = Anchors {
            anchors: self.anchors,
            extents: self.extents,
            automata: self.automata,
            index: Index::new(self.spellings),
            pairs: Index::new(self.pairs),
            marks: self.marks,
            heads: self.heads,
            needs: self.needs.finish(),
            behind: self.behind,
        };
        anchors.set_first();
        anchors
    }
}

/// What all spellings of a window lead an automaton to.
#[derive(Default)]
struct Beginning {
    /// The states, one for each byte. `None` without a spelling.
    states: Option<Vec<u8>>,
}

impl Beginning {
    /// Adds a spelling: what it has in common with those before is left.
    fn add(&mut self, automata: &Arena, one: u32, window: &[u8], width: usize) {
        let mut ways = Vec::new();
        if width == WINDOW_BYTES {
            // Which letters are capitals is not known. A control character in place of a sign is
            // taken for the sign: there are few, and nothing but a search in vain comes of it.
            let letters = window.iter().map(|byte| byte.is_ascii_alphabetic());
            let upper =
                window.iter().zip(letters).map(
                    |(byte, is_letter)| {
                        if is_letter { byte & !CASE } else { *byte }
                    },
                );
            ways.push(upper.collect());
        }
        ways.push(window.to_vec());
        for way in ways {
            let states = automata.known(one, way.into_iter());
            match &mut self.states {
                None => self.states = Some(states),
                Some(known) => {
                    let same = known
                        .iter()
                        .zip(&states)
                        .take_while(|(one, two)| one == two);
                    let same = same.count();
                    known.truncate(same);
                }
            }
        }
    }

    fn all(self, start: u8) -> Known {
        let states = self.states.unwrap_or_default();
        Known {
            // No more than a window.
            bytes: states.len() as u8,
            state: states.last().copied().unwrap_or(start),
        }
    }
}

/// Without building it: whether an automaton is needed for what comes before, and its reach.
pub(super) fn before(items: &[Item<'_>]) -> Before {
    if items.iter().all(|item| matches!(item, Item::Look(_))) {
        return Before::Here;
    }
    let bytes_max = len_max(items).and_then(|len| u32::try_from(len).ok());
    if automaton::is_too_long(items) {
        return Before::Far { bytes_max };
    }
    Before::Automaton {
        index: 0,
        bytes_max,
    }
}

/// Every spelling of a window, letters without case.
pub(super) fn spell(window: &[Set; WINDOW_BYTES], mut each: impl FnMut(u32)) {
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
