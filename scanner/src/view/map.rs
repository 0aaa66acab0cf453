//! Which bytes of a text became which bytes of a view made from it.

use std::ops::Range;

/// A stretch of the view and the stretch of its parent it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// First byte in the view; the piece ends where the next one begins.
    view: u32,
    parent: Range32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range32 {
    start: u32,
    end: u32,
}

/// A part of a view, seen from its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// The parent's bytes from there on.
    Same { view: Range<usize>, parent: usize },
    /// Other bytes; an empty one is a place where something was taken out.
    Changed(Range<usize>),
}

/// Bytes in a row that are the same before a stretch counts as a copy.
const SAME_BYTES_MIN: usize = 8;

/// Calls `each` with what is the same and what is not in two texts of one length.
fn compare(one: &[u8], other: &[u8], mut each: impl FnMut(Range<usize>, bool)) {
    if one == other {
        return each(0..one.len(), true);
    }
    let (mut start, mut same) = (0, 0);
    for at in 0..one.len() {
        if one[at] == other[at] {
            same += 1;
            continue;
        }
        if same >= SAME_BYTES_MIN {
            if start < at - same {
                each(start..at - same, false);
            }
            each(at - same..at, true);
            start = at;
        }
        same = 0;
    }
    let end = one.len() - same;
    if start < end {
        each(start..end, false);
    }
    if same > 0 {
        each(end..one.len(), true);
    }
}

/// A view under construction, or done: its bytes and the way back.
#[derive(Clone, Debug, Default)]
pub(crate) struct MappedText {
    pub(crate) bytes: Vec<u8>,
    /// Invariant: ascending in `view`; the first begins at zero if `bytes` is not empty.
    pieces: Vec<Piece>,
}

impl MappedText {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
    }

    /// Gives memory back that only a large content needed.
    pub(crate) fn shrink(&mut self, bytes_max: usize) {
        if self.bytes.capacity() > bytes_max || self.pieces.capacity() > bytes_max / 12 {
            *self = Self::default();
        }
    }

    /// Appends `parent[range]` as it is.
    pub(crate) fn copy(&mut self, parent: &[u8], range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let view = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&parent[range.clone()]);
        let range = Range32 {
            start: range.start as u32,
            end: range.end as u32,
        };
        if let Some(last) = self.pieces.last_mut() {
            // A copy right behind a copy is one copy.
            let same = last.parent.end == range.start
                && last.parent.end - last.parent.start == view - last.view;
            if same {
                last.parent.end = range.end;
                return;
            }
        }
        self.pieces.push(Piece {
            view,
            parent: range,
        });
    }

    /// Appends `bytes`, which stand for `range` of the parent as a whole.
    pub(crate) fn replace(&mut self, bytes: &[u8], range: Range<usize>) {
        if bytes.is_empty() {
            return;
        }
        let view = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        let parent = Range32 {
            start: range.start as u32,
            end: range.end as u32,
        };
        self.pieces.push(Piece { view, parent });
    }

    /// Takes back the last byte.
    pub(crate) fn pop(&mut self) {
        self.bytes.pop();
        let len = self.bytes.len() as u32;
        if let Some(last) = self.pieces.last_mut() {
            if last.view == len {
                self.pieces.pop();
            } else if last.parent.end - last.parent.start == len + 1 - last.view {
                last.parent.end -= 1;
            }
        }
    }

    /// The bytes of the parent that `range` of the view stands for.
    pub(crate) fn parent(&self, range: Range<u32>) -> Range<u32> {
        let last = range.end.saturating_sub(1).max(range.start);
        let (Some(first), Some(last)) = (self.byte(range.start), self.byte(last)) else {
            return 0..0;
        };
        // A text read from its end has its last byte first.
        first.start.min(last.start)..first.end.max(last.end)
    }

    /// Calls `each` with the stretches of this view, in order, without gaps between them.
    pub(crate) fn stretches(&self, parent: &[u8], mut each: impl FnMut(Stretch)) {
        let mut expected = 0;
        for (index, piece) in self.pieces.iter().enumerate() {
            let next = self.pieces.get(index + 1);
            let start = piece.view as usize;
            let end = next.map_or(self.bytes.len(), |next| next.view as usize);
            let from = piece.parent.start as usize..piece.parent.end as usize;
            if from.start != expected {
                each(Stretch::Changed(start..start));
            }
            expected = from.end;
            if from.len() == end - start {
                compare(
                    &self.bytes[start..end],
                    &parent[from.clone()],
                    |range, same| {
                        let view = start + range.start..start + range.end;
                        each(if same {
                            let parent = from.start + range.start;
                            Stretch::Same { view, parent }
                        } else {
                            Stretch::Changed(view)
                        });
                    },
                );
            } else {
                each(Stretch::Changed(start..end));
            }
        }
        if expected != parent.len() {
            each(Stretch::Changed(self.bytes.len()..self.bytes.len()));
        }
    }

    /// The bytes of the parent that one byte stands for: itself in a copy, or a whole stretch.
    fn byte(&self, at: u32) -> Option<Range32> {
        let index = self
            .pieces
            .partition_point(|piece| piece.view <= at)
            .checked_sub(1)?;
        let Piece { view, parent } = self.pieces[index];
        let end = self
            .pieces
            .get(index + 1)
            .map_or(self.bytes.len() as u32, |next| next.view);
        if end - view == parent.end - parent.start {
            let start = parent.start + (at - view);
            return Some(Range32 {
                start,
                end: start + 1,
            });
        }
        Some(parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_come_back_through_copies_and_replacements() {
        let parent = b"abc&amp;def";
        let mut text = MappedText::default();
        text.copy(parent, 0..3);
        text.replace(b"&", 3..8);
        text.copy(parent, 8..11);
        assert_eq!(text.bytes, b"abc&def");
        assert_eq!(text.parent(0..3), 0..3);
        assert_eq!(text.parent(2..4), 2..8);
        assert_eq!(text.parent(3..5), 3..9);
        assert_eq!(text.parent(5..7), 9..11);
        text.pop();
        assert_eq!(text.bytes, b"abc&de");
        assert_eq!(text.parent(4..6), 8..10);
    }

    #[test]
    fn stretches_say_what_the_parent_says_and_what_it_does_not() {
        let parent = b"abc&amp;def--ghi;";
        let mut text = MappedText::default();
        text.copy(parent, 0..3);
        text.replace(b"&", 3..8);
        text.copy(parent, 8..11);
        text.copy(parent, 13..16);
        let mut all = Vec::new();
        text.stretches(parent, |stretch| all.push(stretch));
        let same = |view, parent| Stretch::Same { view, parent };
        assert_eq!(text.bytes, b"abc&defghi");
        assert_eq!(
            all,
            [
                same(0..3, 0),
                Stretch::Changed(3..4),
                same(4..7, 8),
                Stretch::Changed(7..7),
                same(7..10, 13),
                Stretch::Changed(10..10),
            ]
        );
    }

    #[test]
    fn other_letters_in_the_same_place_are_the_only_change() {
        let parent = b"a text with pr3v1ous words and one m0re of them";
        let mut text = MappedText::default();
        text.copy(parent, 0..12);
        text.replace(b"previous", 12..20);
        text.copy(parent, 20..35);
        text.replace(b"more", 35..39);
        text.copy(parent, 39..parent.len());
        let mut changed = Vec::new();
        text.stretches(parent, |stretch| {
            if let Stretch::Changed(range) = stretch {
                changed.push(range);
            }
        });
        // A letter or two that stayed beside others count with them.
        assert_eq!(changed, [12..17, 35..37]);
    }

    #[test]
    fn an_expansion_stands_for_the_whole_it_came_from() {
        let mut text = MappedText::default();
        text.copy(b"x", 0..1);
        text.replace(b"...", 1..2);
        assert_eq!(text.parent(2..3), 1..2);
        assert_eq!(text.parent(0..4), 0..2);
    }
}
