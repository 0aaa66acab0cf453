//! Looks at windows that were found: whether a match may lie around each, and where it begins.
//!
//! ```text
//! windows ─► border, mark ─► first walks ─► second walks ─► where it begins
//! ```
//! All windows of a piece take each step together: what a step reads is seldom in the cache, and
//! that way the reads overlap.

use std::ops::Range;

use super::head::{self, Head};
use super::index::Found;
use super::marks::Marks;
use super::needs::Present;
use super::trace::Traces;
use super::walk::{Back, Begun, Walk};
use super::windows::Walked;
use super::{Anchors, Before, Extent, GoesOn, MARK, Start, WINDOW_BYTES, WindowAt, automaton};
use crate::engine::prefetch;
use crate::signs;

/// Places reported for one window. Where a match may begin at more, one search from the first of
/// them costs less: searches that overlap are joined. The larger number counts where that would read far.
const NEAR_STARTS_MAX: usize = 4;
pub(super) const EXACT_STARTS_MAX: usize = 16;

/// Bytes that walks may read before they are remembered: so many for each byte of the text up to there, and so many in
/// any case. Of ordinary texts hardly one takes as many.
const WALKED_PER_BYTE: u64 = 6;
const WALKED_MIN: u64 = 4 << 10;

/// Windows being looked at, between the steps.
#[derive(Default)]
pub(super) struct Looks {
    marks: Marks,
    heads: Vec<Found>,
    all: Vec<Look>,
    walks: Vec<Walk>,
    traces: Traces,
}

/// A window that is looked at.
#[derive(Clone, Copy)]
struct Look {
    anchor: u32,
    /// Where its anchor lies: behind the `lead`.
    at: u32,
    /// How many windows were found before it.
    number: u32,
    /// How far its walks came.
    first: u32,
    last: u32,
    /// The last walk said that a match is possible.
    passed: bool,
}

/// Which of an anchor's automata walks.
#[derive(Clone, Copy)]
enum Step {
    First,
    Second,
}

/// One text being looked at.
pub(super) struct Looking<'a, R> {
    anchors: &'a Anchors,
    text: &'a [u8],
    looks: &'a mut Looks,
    /// The windows of the whole text, if they are known.
    present: Option<&'a Present>,
    goes_on: Option<&'a GoesOn>,
    work: &'a mut u64,
    /// Where the part begins, and what walks have read of it.
    start: usize,
    walked: u64,
    /// Walks are remembered. Once they are, to the end of the part.
    traced: bool,
    report: R,
}

impl<'a, R: FnMut(u32, Start)> Looking<'a, R> {
    /// Begins a part of a text.
    pub(super) fn begin(
        anchors: &'a Anchors,
        text: &'a [u8],
        looks: &'a mut Looks,
        (present, goes_on): (Option<&'a Present>, Option<&'a GoesOn>),
        work: &'a mut u64,
        report: R,
    ) -> Self {
        looks.marks.start(anchors.marks, text.len());
        looks.traces.start();
        Self {
            anchors,
            text,
            looks,
            present,
            goes_on,
            work,
            start: 0,
            walked: 0,
            traced: false,
            report,
        }
    }

    /// Looks at the beginning of the text, if the part has it and a match from there may come to `new_from`, before which
    /// nothing is new.
    pub(super) fn head(&mut self, part: &Range<usize>, new_from: usize) {
        self.start = part.start;
        if part.start == 0 {
            let Self { anchors, text, .. } = *self;
            let heads = head::possible(&anchors.heads, text, self.goes_on.is_some());
            let reach = |head: &Head| anchors.extents[head.anchor as usize].reach.after();
            let mut found = std::mem::take(&mut self.looks.heads);
            found.clear();
            let reaching = heads.filter(|head| new_from <= reach(head));
            found.extend(reaching.map(|head| Found {
                anchor: head.anchor,
                at: 0,
            }));
            self.look(&found, &mut []);
            self.looks.heads = found;
        }
    }

    /// Ends the text.
    pub(super) fn finish(self) {
        self.looks.marks.finish(self.text.len());
    }

    /// Looks at windows, in the order of their places, and notes what is known of them: of all,
    /// or of none.
    pub(super) fn look(&mut self, found: &[Found], walked: &mut [Walked]) {
        self.looks.all.clear();
        if *self.work == 0 {
            return;
        }
        for one in found {
            prefetch(&self.anchors.anchors, one.anchor as usize);
        }
        for (number, one) in found.iter().enumerate() {
            if one.anchor & MARK != 0 {
                self.looks.marks.set(one.anchor & !MARK, one.at as usize);
                continue;
            }
            let anchor = &self.anchors.anchors[one.anchor as usize];
            let at = one.at as usize + usize::from(anchor.lead);
            let near = |(mark, reach)| self.looks.marks.is_near(mark, at, reach);
            let extent = || self.anchors.extents[one.anchor as usize];
            let has_needs = || {
                let met = |present| self.anchors.needs.are_met(anchor.needs, present);
                let may_come = |it: &GoesOn| it.open.get(extent().pattern as usize) == Some(&true);
                self.present.is_none_or(met) || self.goes_on.is_some_and(may_come)
            };
            // A sign says something about the whole text.
            let reaches = |it: &GoesOn| {
                let Extent { pattern, reach } = extent();
                one.at as usize + reach.after() >= it.new_from || signs::is_sign(pattern)
            };
            if at < self.text.len()
                && self.goes_on.is_none_or(reaches)
                && anchor.border.holds(self.text, at)
                && anchor.after.is_none_or(near)
                && has_needs()
            {
                self.looks.all.push(Look {
                    anchor: one.anchor,
                    at: at as u32,
                    number: number as u32,
                    first: at as u32,
                    last: at as u32,
                    passed: false,
                });
            }
        }
        let looked_at = found.len() + self.looks.all.len();
        *self.work = self.work.saturating_sub(looked_at as u64);
        if self.traced || self.is_dense() {
            return self.look_traced(walked);
        }
        let before = *self.work;
        self.walk(Step::First);
        self.walk(Step::Second);
        if *self.work == 0 {
            return;
        }
        for at in 0..self.looks.all.len() {
            let look = self.looks.all[at];
            if look.passed {
                self.starts::<false>(look.anchor as usize, look.at as usize);
            } else if let Some(walked) = walked.get_mut(look.number as usize) {
                *walked = look.walked();
            }
        }
        self.walked += before - *self.work;
    }

    /// The same, one window after the other, with walks that are remembered.
    #[cold]
    #[inline(never)]
    fn look_traced(&mut self, walked: &mut [Walked]) {
        self.traced = true;
        for at in 0..self.looks.all.len() {
            self.trace(at);
            if *self.work == 0 {
                return;
            }
            let look = self.looks.all[at];
            if look.passed {
                self.starts::<true>(look.anchor as usize, look.at as usize);
            } else if let Some(walked) = walked.get_mut(look.number as usize) {
                *walked = look.walked();
            }
        }
    }

    /// Whether walks have read so much of the text up to here that they are remembered: windows that many patterns
    /// share are everywhere.
    #[inline]
    fn is_dense(&self) -> bool {
        let Some(walked) = self.walked.checked_sub(WALKED_MIN) else {
            return false;
        };
        let last = self.looks.all.last().map_or(0, |look| look.at as usize);
        walked > WALKED_PER_BYTE * last.saturating_sub(self.start) as u64
    }

    /// Lets the automata of one window walk, one after the other.
    fn trace(&mut self, at: usize) {
        let Self {
            anchors,
            text,
            looks,
            work,
            ..
        } = self;
        let Looks { all, traces, .. } = &mut **looks;
        let (look, automata) = (&mut all[at], &anchors.automata);
        let anchor = &anchors.anchors[look.anchor as usize];
        let at = look.at as usize;
        if anchor.back_first {
            let back = anchor.walks_first();
            let (passed, place) = automata.trace_back(traces, back, text, at, work);
            look.came_to(place as u32);
            if !passed {
                look.passed = false;
                return;
            }
        }
        let (forward, known) = (anchor.forward, anchor.known);
        let (passed, place) = automata.trace_forward(traces, forward, text, at, known, work);
        look.came_to(place as u32);
        look.passed = passed;
    }

    /// Lets the automata walk that are next.
    fn walk(&mut self, step: Step) {
        let Self {
            anchors,
            text,
            looks,
            work,
            ..
        } = self;
        let Looks { all, walks, .. } = &mut **looks;
        let automata = &anchors.automata;
        for (number, look) in all.iter_mut().enumerate() {
            let anchor = &anchors.anchors[look.anchor as usize];
            let (number, at) = (number as u32, look.at as usize);
            let begun = match (step, anchor.back_first) {
                (Step::First, true) => automata.back(&anchor.first, number, text, at, work),
                (Step::First, false) => {
                    automata.forward(&anchor.first, number, text, at, anchor.known, work)
                }
                (Step::Second, true) if look.passed => {
                    let forward = automata.packed(anchor.forward);
                    automata.forward(forward, number, text, at, anchor.known, work)
                }
                (Step::Second, _) => continue,
            };
            look.passed = false;
            match begun {
                Begun::Known(passed) => {
                    look.passed = passed;
                    // How far is not said.
                    look.came_to(at.saturating_sub(automaton::BYTES_MAX) as u32);
                    look.came_to((at + automaton::BYTES_MAX) as u32);
                }
                Begun::Walk(walk) => walks.push(walk),
            }
        }
        automata.run(walks, text, work, |number, at, passed| {
            let look = &mut all[number as usize];
            look.passed = passed;
            look.came_to(at);
        });
    }

    /// Reports where matches with this window may begin.
    fn starts<const TRACED: bool>(&mut self, anchor: usize, at: usize) {
        let Self {
            anchors,
            text,
            looks,
            work,
            report,
            ..
        } = self;
        let Extent { pattern, reach } = anchors.extents[anchor];
        let end = at + reach.after();
        let mut start = |at: usize, exact: bool, window: Option<WindowAt>| {
            report(
                pattern,
                Start {
                    at,
                    exact,
                    end,
                    window,
                },
            );
        };
        let far = |bytes: Option<u32>| bytes.map_or(0, |bytes| at.saturating_sub(bytes as usize));
        let window = || {
            let number = anchor as u32;
            let which = anchors
                .behind
                .binary_search_by_key(&number, |behind| behind.anchor);
            which.ok().map(|which| WindowAt {
                which: which as u32,
                at,
            })
        };
        match anchors.anchors[anchor].before {
            Before::Here => start(at, true, None),
            Before::Far { bytes_max } => start(far(bytes_max), false, window()),
            Before::Automaton { index, bytes_max } => {
                let is_far = Start {
                    end,
                    ..Start::from(at)
                }
                .is_far();
                let starts_max = if is_far {
                    EXACT_STARTS_MAX
                } else {
                    NEAR_STARTS_MAX
                };
                let (mut starts, mut count, mut first) = ([at; EXACT_STARTS_MAX], 0, at);
                let exact = |at| {
                    if let Some(start) = starts.get_mut(count) {
                        *start = at;
                    }
                    count += 1;
                    first = first.min(at);
                };
                let automata = &anchors.automata;
                let back = if TRACED {
                    automata.trace_starts(&mut looks.traces, index, text, at, work, exact)
                } else {
                    automata.starts_before(index, text, at, work, exact)
                };
                match (back, starts[..starts_max].get(..count)) {
                    (Back::Farther, _) => start(far(bytes_max), false, window()),
                    (Back::Known, Some(starts)) => {
                        starts.iter().for_each(|at| start(*at, true, None))
                    }
                    (Back::Known, None) => start(first, false, None),
                }
            }
        }
    }
}

impl Look {
    fn came_to(&mut self, at: u32) {
        self.first = self.first.min(at);
        self.last = self.last.max(at);
    }

    /// What is known if its walks say that there is no match.
    fn walked(&self) -> Walked {
        // The window itself and the bytes beside it count as well: a border may lie there.
        let before = self.at - self.first + 1;
        let after = (self.last - self.at).max(WINDOW_BYTES as u32) + 1;
        // No walk reads as many bytes.
        let bytes = |len: u32| u8::try_from(len).unwrap_or(u8::MAX);
        Walked {
            before: bytes(before),
            after: bytes(after),
        }
    }
}
