//! Windows that only count for what comes behind them: where each was last seen.

/// Where each mark was last seen.
#[derive(Default)]
pub(super) struct Marks {
    /// Counts the bytes of all texts, so that nothing need be cleared between them.
    last: Vec<u32>,
    /// Where the present text begins. Invariant: above all marks of texts before.
    base: u32,
}

impl Marks {
    /// Begins a text.
    pub(super) fn start(&mut self, marks: u32, len: usize) {
        let end = u32::try_from(len)
            .ok()
            .and_then(|len| self.base.checked_add(len));
        if self.last.len() != marks as usize || end.is_none_or(|end| end > u32::MAX / 2) {
            self.last.clear();
            self.last.resize(marks as usize, 0);
            self.base = 1;
        }
    }

    pub(super) fn set(&mut self, mark: u32, at: usize) {
        self.last[mark as usize] = self.base + at as u32;
    }

    /// Whether the mark lies before `at`, no farther than `reach`.
    pub(super) fn is_near(&self, mark: u32, at: usize, reach: u32) -> bool {
        let last = self.last[mark as usize];
        last >= self.base && (self.base + at as u32).saturating_sub(last) <= reach
    }

    pub(super) fn finish(&mut self, len: usize) {
        self.base += len as u32 + 1;
    }
}
