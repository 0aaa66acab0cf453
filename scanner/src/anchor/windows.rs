//! Windows found in a text, kept for the views made of it: most of a view is its parent's text.
//!
//! ```text
//! parent ── found windows ──► moved along ─┐
//! view ─── around changes: the tables ─────┴► the view's windows ─► those that reach a change
//! ```

use std::ops::Range;

use super::index::Found;
use super::near::NEAR_BYTES;
use super::{Extent, WINDOW_BYTES};
use crate::signs::{self, Seen};
use crate::view::Origin;

/// Windows kept of one text, and of all texts of one content.
const WINDOWS_MAX: usize = 1 << 17;
const WINDOWS_OF_ALL_MAX: usize = 1 << 19;

/// Windows whose memory is kept for the next content.
const WINDOWS_KEPT_MAX: usize = 16 << 10;

/// Texts whose memory is kept.
const TEXTS_KEPT_MAX: usize = 8;

/// Windows looked at together.
pub(super) const CHUNK: usize = 128;

/// Bytes in a row whose windows are worth moving.
const MOVED_BYTES_MIN: usize = 64;

/// Bytes beside a match that a border may look at: a character.
const BORDER_BYTES: usize = 4;

/// How far a match may go from its window, with what decides about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Reach {
    before: u16,
    after: u16,
}

impl Reach {
    /// Farther than is said.
    const FAR: u16 = u16::MAX;

    /// Lengths of what lies on either side, if they are bounded, and bytes around a match that
    /// count as well.
    pub(super) fn of(before: Option<usize>, after: Option<usize>, around: usize) -> Self {
        let bytes = |len: Option<usize>| {
            let len = len.map(|len| len.saturating_add(around + BORDER_BYTES));
            len.map_or(Self::FAR, |len| u16::try_from(len).unwrap_or(Self::FAR))
        };
        Self {
            before: bytes(before),
            after: bytes(after),
        }
    }

    pub(super) fn before(self) -> usize {
        Self::bytes(self.before)
    }

    pub(super) fn after(self) -> usize {
        Self::bytes(self.after)
    }

    /// No text is as long as what is far.
    fn bytes(bytes: u16) -> usize {
        match bytes {
            Self::FAR => u32::MAX as usize,
            bytes => usize::from(bytes),
        }
    }
}

/// Windows of one table, in order of their places.
#[derive(Default)]
pub(super) struct List {
    pub(super) found: Vec<Found>,
    /// For each of them what is known of its surroundings. Invariant: as many.
    pub(super) walked: Vec<Walked>,
}

impl List {
    /// Adds windows that nobody looked at.
    pub(super) fn push(&mut self, found: &[Found]) {
        self.found.extend_from_slice(found);
        self.walked.resize(self.found.len(), Walked::UNKNOWN);
    }

    /// Which of them lie in a part of the text.
    fn part(&self, part: &Range<usize>) -> Range<usize> {
        within(&self.found, part.clone())
    }

    /// Those of a range of them around which a match may lie. Where there was no match, and all that was looked at is the
    /// same, there is none.
    fn open(&self, range: &Range<usize>) -> impl Iterator<Item = usize> {
        let walked = &self.walked;
        range.clone().filter(|at| walked[*at] == Walked::UNKNOWN)
    }
}

/// The windows of one text, of four bytes and of two.
pub(super) type Lists = [List; 2];

/// How far one had to look around a window to know that no match lies there: so many bytes from
/// where it begins. In a text that is the same so far there is none either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walked {
    pub(super) before: u8,
    pub(super) after: u8,
}

impl Walked {
    /// There may be a match, or it depends on what lies elsewhere.
    pub(super) const UNKNOWN: Self = Self {
        before: u8::MAX,
        after: u8::MAX,
    };

    /// What is known if the nearest bytes that are not the same are that far.
    fn beside(self, (before, after): (usize, usize)) -> Self {
        if before > usize::from(self.before) && after > usize::from(self.after) {
            self
        } else {
            Self::UNKNOWN
        }
    }
}

#[derive(Default)]
struct Windows {
    lists: Lists,
    /// Whether they are all of the text's.
    complete: bool,
}

impl Windows {
    fn len(&self) -> usize {
        self.lists.iter().map(|list| list.found.len()).sum()
    }

    fn clear(&mut self) {
        for list in &mut self.lists {
            list.found.clear();
            list.found.shrink_to(WINDOWS_KEPT_MAX);
            list.walked.clear();
            list.walked.shrink_to(WINDOWS_KEPT_MAX);
        }
        self.complete = false;
    }

    /// Finds the windows of a text made from `parent` as `origin` says: none, if there are more than `room` for.
    fn derive(
        &mut self,
        parent: &Self,
        len: usize,
        origin: &Origin,
        room: usize,
        mut tables: impl FnMut(Range<usize>, &mut Lists),
    ) {
        self.complete = parent.complete;
        if !parent.complete {
            return;
        }
        let mut seen = 0;
        let mut changes = [Changes::of(&origin.changes), Changes::of(&origin.changes)];
        for copied in &origin.copies {
            // What surrounds a window is the same as well.
            let start = copied.view + NEAR_BYTES;
            let end = (copied.view + copied.len).saturating_sub(WINDOW_BYTES + NEAR_BYTES);
            if end < start + MOVED_BYTES_MIN || self.len() > room {
                continue;
            }
            tables(seen..start, &mut self.lists);
            let from = copied.parent + NEAR_BYTES..copied.parent + NEAR_BYTES + (end - start);
            for (at, (list, made)) in parent.lists.iter().zip(&mut self.lists).enumerate() {
                let moved = within(&list.found, from.clone());
                for (one, walked) in list.found[moved.clone()].iter().zip(&list.walked[moved]) {
                    let place = one.at as usize - from.start + start;
                    made.found.push(Found {
                        anchor: one.anchor,
                        at: place as u32,
                    });
                    made.walked.push(walked.beside(changes[at].around(place)));
                }
            }
            seen = end;
        }
        tables(seen..len, &mut self.lists);
        if self.len() > room {
            self.clear();
        }
    }
}

/// The windows of a content and of its views: the content's are the first.
#[derive(Default)]
pub(super) struct Kept {
    texts: Vec<Windows>,
    /// Memory for those of the next content.
    spare: Windows,
    /// Windows of all texts.
    count: usize,
    /// Patterns that may match where something changed.
    patterns: Patterns,
}

impl Kept {
    /// Begins a content.
    pub(super) fn start(&mut self) {
        self.texts.truncate(TEXTS_KEPT_MAX);
        self.texts.iter_mut().for_each(Windows::clear);
        self.texts
            .resize_with(self.texts.len().max(1), Windows::default);
        self.count = 0;
    }

    /// All windows of the content, if they are known.
    pub(super) fn whole(&mut self) -> Option<&mut Lists> {
        let content = self.texts.first_mut().filter(|content| content.complete);
        content.map(|content| &mut content.lists)
    }

    /// Whether all windows of the content or of a view are known.
    pub(super) fn is_complete(&self, view: Option<usize>) -> bool {
        let own = self.texts.get(view.map_or(0, |view| view + 1));
        own.is_some_and(|own| own.complete)
    }

    /// The lists of the content, to be filled.
    pub(super) fn content(&mut self) -> &mut Lists {
        &mut self.texts[0].lists
    }

    /// Keeps windows of the content, as long as there is room, to be told what is known of them.
    pub(super) fn push(&mut self, list: usize, found: &[Found]) -> &mut [Walked] {
        if self.count > WINDOWS_MAX {
            return &mut [];
        }
        self.count += found.len();
        let list = &mut self.texts[0].lists[list];
        let first = list.walked.len();
        list.push(found);
        &mut list.walked[first..]
    }

    /// All windows of the content have been seen.
    pub(super) fn end(&mut self) {
        let content = &mut self.texts[0];
        content.complete = self.count <= WINDOWS_MAX && content.len() <= WINDOWS_MAX;
    }

    /// Finds the windows of a view; `tables` looks for them in a part of it.
    pub(super) fn derive(
        &mut self,
        view: usize,
        len: usize,
        origin: &Origin,
        tables: impl FnMut(Range<usize>, &mut Lists),
    ) {
        let (own, parent) = (view + 1, origin.parent.map_or(0, |parent| parent + 1));
        if self.texts.len() <= own {
            self.texts.resize_with(own + 1, Windows::default);
        }
        let mut made = std::mem::take(&mut self.texts[own]);
        let room = WINDOWS_MAX.min(WINDOWS_OF_ALL_MAX.saturating_sub(self.count));
        made.clear();
        made.derive(&self.texts[parent], len, origin, room, tables);
        self.count += made.len();
        self.texts[own] = made;
    }

    /// Begins a content that has to do with the one before, as `origin` says, and finds its windows. `false` if those of
    /// the one before are not known.
    pub(super) fn follow(
        &mut self,
        len: usize,
        origin: &Origin,
        tables: impl FnMut(Range<usize>, &mut Lists),
    ) -> bool {
        if !self.is_complete(None) {
            return false;
        }
        let before = std::mem::replace(&mut self.texts[0], std::mem::take(&mut self.spare));
        self.start();
        let made = &mut self.texts[0];
        made.derive(&before, len, origin, WINDOWS_MAX, tables);
        self.count = made.len();
        self.spare = before;
        true
    }

    /// Calls `look` with the windows of a part of the content or of a view whose patterns may match
    /// where something is new, and with all marks. Its windows are known: [`Self::is_complete`].
    ///
    /// All windows of such a pattern, not only those near a change: its matches are taken in order
    /// and without overlaps, so that one decides about the next.
    pub(super) fn touched(
        &mut self,
        view: Option<usize>,
        part: Range<usize>,
        origin: &Origin,
        extents: &[Extent],
        mut look: impl FnMut(&[Found], &mut [Walked]),
    ) {
        let Self {
            texts, patterns, ..
        } = self;
        let Some(windows) = texts
            .get_mut(view.map_or(0, |view| view + 1))
            .filter(|windows| windows.complete)
        else {
            return;
        };
        patterns.start();
        for list in &windows.lists {
            let mut changes = Changes::of(&origin.changes);
            for at in list.open(&list.part(&part)) {
                let one = list.found[at];
                let (before, after) = changes.around(one.at as usize);
                if let Some(Extent { pattern, reach }) = extents.get(one.anchor as usize)
                    && (before <= reach.before() || after <= reach.after())
                {
                    patterns.insert(*pattern);
                }
            }
        }
        for list in &mut windows.lists {
            let mut found = [Found::default(); CHUNK];
            let mut places = [0; CHUNK];
            let mut next = list.part(&part).start;
            loop {
                let mut count = 0;
                for at in list.open(&(next..list.part(&part).end)) {
                    let one = list.found[at];
                    let wanted = extents.get(one.anchor as usize).is_none_or(|extent| {
                        // A sign says something about the whole content.
                        let is_sign = view.is_none() && signs::is_sign(extent.pattern);
                        is_sign || patterns.contains(extent.pattern)
                    });
                    (found[count], places[count]) = (one, at);
                    count += usize::from(wanted);
                    if count == CHUNK {
                        break;
                    }
                }
                if count == 0 {
                    break;
                }
                let mut walked = [Walked::UNKNOWN; CHUNK];
                look(&found[..count], &mut walked[..count]);
                for (at, walked) in places[..count].iter().zip(walked) {
                    list.walked[*at] = walked;
                }
                next = places[count - 1] + 1;
            }
        }
    }
}

/// The changes of a view, asked for places in ascending order.
struct Changes<'a> {
    all: &'a [Range<usize>],
    /// The first that does not end before the last place asked for.
    next: usize,
}

impl<'a> Changes<'a> {
    fn of(all: &'a [Range<usize>]) -> Self {
        Self { all, next: 0 }
    }

    /// Bytes from a place back to the nearest change and on to the nearest.
    fn around(&mut self, at: usize) -> (usize, usize) {
        while self
            .all
            .get(self.next)
            .is_some_and(|change| change.end < at)
        {
            self.next += 1;
        }
        let last = self.next.checked_sub(1);
        let before = last.map_or(usize::MAX, |last| at - self.all[last].end);
        let next = self.all.get(self.next);
        let after = next.map_or(usize::MAX, |next| next.start.saturating_sub(at));
        (before, after)
    }
}

/// A set of patterns that is emptied at no cost.
#[derive(Default)]
struct Patterns {
    /// The round in which each was inserted last.
    rounds: Vec<u32>,
    round: u32,
    /// The signs inserted, which have the highest numbers.
    signs: Seen,
}

impl Patterns {
    fn start(&mut self) {
        self.signs = Seen::default();
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.rounds.clear();
            self.round = 1;
        }
    }

    fn insert(&mut self, pattern: u32) {
        if self.signs.note(pattern) {
            return;
        }
        let at = pattern as usize;
        if at >= self.rounds.len() {
            self.rounds.resize(at + 1, 0);
        }
        self.rounds[at] = self.round;
    }

    fn contains(&self, pattern: u32) -> bool {
        self.rounds.get(pattern as usize) == Some(&self.round) || self.signs.holds(pattern)
    }
}

/// Those of a list that lie in a part of the text.
fn within(list: &[Found], part: Range<usize>) -> Range<usize> {
    let first = |place: usize| list.partition_point(|one| (one.at as usize) < place);
    first(part.start)..first(part.end)
}

#[cfg(test)]
mod tests {
    use regex_syntax::parse;

    use super::super::{Anchors, Builder, Memory};
    use crate::view::{New, Origin};

    fn anchors(patterns: &[&str]) -> Anchors {
        let mut builder = Builder::default();
        for (at, pattern) in patterns.iter().enumerate() {
            assert!(builder.add(at as u32, &parse(pattern).unwrap(), 0));
        }
        builder.finish()
    }

    /// Patterns reported in a text, and those reported in a view of it that has `new` in the place of `old`.
    fn reported(anchors: &Anchors, text: &str, old: &str, new: &str) -> [Vec<u32>; 2] {
        let at = text.find(old).unwrap();
        let view = text.replacen(old, new, 1);
        let origin = Origin::of_change(text.as_bytes(), view.as_bytes(), at..at + old.len());
        let mut memory = Memory::default();
        let (mut work, mut before, mut after) = (u64::MAX, Vec::new(), Vec::new());
        anchors.scan(
            text.as_bytes(),
            0..text.len(),
            &mut memory,
            &mut work,
            |pattern, _| {
                before.push(pattern);
            },
        );
        anchors.derive(view.as_bytes(), 0, &origin, &mut memory);
        let mut fresh = Memory::default();
        anchors.scan(
            view.as_bytes(),
            0..view.len(),
            &mut fresh,
            &mut work,
            |_, _| (),
        );
        let [of_view, of_text] = [(&memory, 1), (&fresh, 0)].map(|(memory, text)| {
            let lists = memory.windows.texts[text].lists.each_ref();
            lists.map(|list| &list.found)
        });
        assert_eq!(of_view, of_text, "{text} -> {view}");
        let part = 0..view.len();
        let new = New {
            view: Some(0),
            origin: &origin,
        };
        anchors.scan_new(
            view.as_bytes(),
            part,
            new,
            &mut memory,
            &mut work,
            |pattern, _| {
                after.push(pattern);
            },
        );
        [before, after]
    }

    #[test]
    fn windows_of_a_view_are_its_parents_but_where_it_changed() {
        let anchors = anchors(&["secret[0-9]{4}", "token"]);
        let text = |gap: usize| {
            format!(
                "token{0}secret1234{0}sec%72et5678{0}token",
                " x".repeat(gap)
            )
        };
        for gap in [0, 3, 20, 60, 400] {
            let [before, after] = reported(&anchors, &text(gap), "%72", "r");
            assert_eq!(before.iter().filter(|pattern| **pattern == 0).count(), 1);
            // The pattern has a new match; its other one is reported too, the other pattern is not.
            assert_eq!(
                after.iter().filter(|pattern| **pattern == 0).count(),
                2,
                "{gap}"
            );
            assert!(!after.contains(&1));
        }
    }

    #[test]
    fn a_window_is_looked_at_again_only_if_its_walk_came_to_a_change() {
        let anchors = anchors(&["secret(?-u:[0-9]{4}[a-z -]{0,150});;"]);
        let looked_at = |digits: &str, gap: usize| {
            let text = format!("{}secret{digits}{}%20;", " -".repeat(20), "-".repeat(gap));
            let view = text.replace("%20", " ");
            let at = text.find('%').unwrap();
            let origin = Origin::of_change(text.as_bytes(), view.as_bytes(), at..at + 3);
            let (mut memory, mut work, mut looked_at) = (Memory::default(), u64::MAX, 0);
            let whole = 0..text.len();
            anchors.scan(text.as_bytes(), whole, &mut memory, &mut work, |_, _| ());
            anchors.derive(view.as_bytes(), 0, &origin, &mut memory);
            let all = anchors.extents.as_slice();
            memory
                .windows
                .touched(Some(0), 0..view.len(), &origin, all, |found, _| {
                    looked_at += found.len();
                });
            looked_at
        };
        assert_eq!(looked_at("none", 100), 0, "the walk ended at once");
        assert_eq!(looked_at("1234", 100), 1, "the walk came to the change");
    }

    #[test]
    fn what_a_change_makes_longer_or_shorter_is_reported_again() {
        let anchors = anchors(&["(?s)begin.{0,300}finish"]);
        for gap in [5, 150, 290] {
            let text = format!(
                "begin{}%20{}finish",
                "-".repeat(gap / 2),
                "-".repeat(gap / 2)
            );
            let [_, after] = reported(&anchors, &text, "%20", "");
            assert_eq!(after, [0], "{gap}");
        }
    }
}
