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

    /// Calls `each` with every stretch that differs from the parent, in order; an empty one is a
    /// place where something was taken out.
    pub(crate) fn changes(&self, parent: &[u8], mut each: impl FnMut(Range<usize>)) {
        let mut expected = 0;
        for (index, piece) in self.pieces.iter().enumerate() {
            let next = self.pieces.get(index + 1);
            let view = piece.view as usize;
            let end = next.map_or(self.bytes.len(), |next| next.view as usize);
            let from = piece.parent.start as usize..piece.parent.end as usize;
            if self.bytes[view..end] != parent[from.clone()] {
                each(view..end);
            } else if from.start != expected {
                each(view..view);
            }
            expected = from.end;
        }
        if expected != parent.len() {
            each(self.bytes.len()..self.bytes.len());
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
    fn changes_are_what_the_parent_does_not_say() {
        let parent = b"abc&amp;def--ghi;";
        let mut text = MappedText::default();
        text.copy(parent, 0..3);
        text.replace(b"&", 3..8);
        text.copy(parent, 8..11);
        text.copy(parent, 13..16);
        let mut changes = Vec::new();
        text.changes(parent, |change| changes.push(change));
        assert_eq!(text.bytes, b"abc&defghi");
        assert_eq!(changes, [3..4, 7..7, 10..10]);
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
