//! What is new in a view: the rest was scanned in the text it was made from.

use std::ops::Range;

use super::map::{MappedText, Stretch};

/// Bytes around a change that are scanned again: longer than what rules match.
const NEAR_BYTES: usize = 640;

/// Bytes around a change that may say together with it what a text asks for: longer than the runs
/// that are evidence.
const EVIDENCE_BYTES: usize = 32;

/// Bytes in a row that are worth taking over from the parent.
const COPIED_BYTES_MIN: usize = 64;

/// A stretch of a view that is its parent's text, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copied {
    /// First byte in the view.
    pub(crate) view: usize,
    /// First byte in the parent.
    pub(crate) parent: usize,
    pub(crate) len: usize,
}

/// How a view differs from the text it was made from.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    /// The view it was made from; `None` is the content.
    pub(crate) parent: Option<usize>,
    /// In order, apart from each other.
    pub(crate) changes: Vec<Range<usize>>,
    /// In order; short ones are left out.
    pub(crate) copies: Vec<Copied>,
}

/// What is new in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct New<'a> {
    /// The view; `None` is the content.
    pub(crate) view: Option<usize>,
    pub(crate) origin: &'a Origin,
}

impl Origin {
    /// Of a content put together from two, of which this lies between them.
    pub(crate) fn set_border(&mut self, border: Range<usize>) {
        self.parent = None;
        self.changes.clear();
        self.changes.push(border);
        self.copies.clear();
    }

    pub(super) fn fill(&mut self, text: &MappedText, parent_text: &[u8], parent: Option<usize>) {
        self.parent = parent;
        self.changes.clear();
        self.copies.clear();
        text.stretches(parent_text, |stretch| match stretch {
            Stretch::Same { view, .. } if view.len() < COPIED_BYTES_MIN => {}
            Stretch::Same { view, parent } => self.copies.push(Copied {
                view: view.start,
                parent,
                len: view.len(),
            }),
            Stretch::Changed(range) => match self.changes.last_mut() {
                Some(last) if range.start < last.end + COPIED_BYTES_MIN => last.end = range.end,
                _ => self.changes.push(range),
            },
        });
    }

    /// Of a view of the content in which one stretch is another.
    #[cfg(test)]
    pub(crate) fn of_change(content: &[u8], view: &[u8], changed: Range<usize>) -> Self {
        let new = changed.start..view.len() - (content.len() - changed.end);
        let mut text = MappedText::default();
        text.copy(content, 0..changed.start);
        text.replace(&view[new], changed.clone());
        text.copy(content, changed.end..content.len());
        let mut origin = Self::default();
        origin.fill(&text, content, None);
        origin
    }

    /// Gives memory back that only a large content needed.
    pub(super) fn shrink(&mut self, bytes_max: usize) {
        let bytes = size_of::<Range<usize>>() * self.changes.capacity()
            + size_of::<Copied>() * self.copies.capacity();
        if bytes > bytes_max {
            *self = Self::default();
        }
    }

    /// The parts of a view of this length in which new evidence may be.
    pub(super) fn evidence(&self, len: usize) -> impl Iterator<Item = Range<usize>> {
        self.changes.iter().map(move |change| {
            change.start.saturating_sub(EVIDENCE_BYTES)..len.min(change.end + EVIDENCE_BYTES)
        })
    }

    /// The parts of a view of this length in which something new may match.
    pub(crate) fn parts(&self, len: usize, parts: &mut Vec<Range<usize>>) {
        for change in &self.changes {
            let start = change.start.saturating_sub(NEAR_BYTES);
            let end = (change.end + NEAR_BYTES).min(len);
            match parts.last_mut() {
                Some(last) if start <= last.end + NEAR_BYTES => last.end = last.end.max(end),
                _ => parts.push(start..end),
            }
        }
    }
}
