//! The forms in which one content is looked at.
//!
//! Each view is made from the content or from another view, only when that text shows evidence
//! for it, and keeps a map back, so that every finding has its place in the original bytes.

mod fold;
mod map;

use std::ops::Range;

use crate::finding::LimitsReached;
use map::MappedText;

/// A form of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// As sent.
    Raw,
    /// Escapes of JSON, HTML, URLs, mail and source code undone in place.
    Unescaped,
    /// Compatibility forms, look-alikes, invisible and control characters made plain ASCII.
    Folded,
    /// Markup inside the text taken out.
    Stripped,
    /// Letters written apart put together.
    Collapsed,
    /// Digits and signs that stand for letters read as letters.
    Leet,
    /// Read from the end.
    Reversed,
    /// Shifted by thirteen letters.
    Rot13,
    /// Base64, base32, base85 or hex opened.
    Decoded,
}

impl View {
    /// The word of records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Unescaped => "unescaped",
            Self::Folded => "folded",
            Self::Stripped => "stripped",
            Self::Collapsed => "collapsed",
            Self::Leet => "leet",
            Self::Reversed => "reversed",
            Self::Rot13 => "rot13",
            Self::Decoded => "decoded",
        }
    }
}

struct Slot {
    kind: View,
    text: MappedText,
    /// The view it was made from; `None` is the content.
    parent: Option<usize>,
}

/// The views of one content, made one after the other in reused buffers.
#[derive(Default)]
pub(crate) struct Views {
    slots: Vec<Slot>,
    /// Slots in use. Invariant: `used <= slots.len()`.
    used: usize,
    next: usize,
}

impl Views {
    /// Begins a new content.
    pub(crate) fn start(&mut self, content: &[u8]) {
        self.used = 0;
        self.next = 0;
        if fold::is_needed(content) {
            self.make(View::Folded, None, |text| fold::fold(content, text));
        }
    }

    /// Makes the next view and returns its number.
    pub(crate) fn next(&mut self, _content: &[u8], _limits: &mut LimitsReached) -> Option<usize> {
        if self.next == self.used {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    pub(crate) fn bytes(&self, at: usize) -> &[u8] {
        &self.slots[at].text.bytes
    }

    pub(crate) fn kind(&self, at: usize) -> View {
        self.slots[at].kind
    }

    /// The bytes of the content that these bytes of the view stand for.
    pub(crate) fn original(&self, at: usize, range: Range<u32>) -> Range<u32> {
        let mut range = range;
        let mut at = Some(at);
        while let Some(slot) = at {
            range = self.slots[slot].text.parent(range);
            at = self.slots[slot].parent;
        }
        range
    }

    /// Fills a free slot; `fill` answers whether the view is worth looking at.
    fn make(&mut self, kind: View, parent: Option<usize>, fill: impl FnOnce(&mut MappedText) -> bool) {
        if self.used == self.slots.len() {
            self.slots.push(Slot { kind, text: MappedText::default(), parent });
        }
        let slot = &mut self.slots[self.used];
        slot.kind = kind;
        slot.parent = parent;
        slot.text.clear();
        if fill(&mut slot.text) {
            self.used += 1;
        }
    }
}
