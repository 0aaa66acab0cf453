//! Where in a body what place of its text was complete.

use std::collections::VecDeque;

/// Ascending marks, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Marks {
    waiting: VecDeque<Mark>,
    /// Place in the body before which all text is clear.
    clear: u64,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    body: u64,
    text: u64,
}

impl Marks {
    /// The first text came of what stands behind this place.
    pub(super) fn begin(&mut self, body: u64) {
        if self.waiting.is_empty() && self.clear == 0 {
            self.clear = body;
        }
    }

    /// All text up to here came of the body up to there.
    pub(super) fn add(&mut self, body: u64, text: u64) {
        match self.waiting.back_mut() {
            Some(last) if last.text == text => last.body = body,
            _ => self.waiting.push_back(Mark { body, text }),
        }
    }

    /// Place in the body before which all text is clear, if it is before this place of the text.
    pub(super) fn clear(&mut self, text: u64) -> u64 {
        while let Some(mark) = self.waiting.front().filter(|mark| mark.text <= text) {
            self.clear = mark.body;
            self.waiting.pop_front();
        }
        self.clear
    }
}
