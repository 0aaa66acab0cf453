//! Memory for bodies. A peer may take minutes to send one, and it is kept until it is whole: so all that a core keeps
//! together has a bound, or some hundred slow peers would take the machine's memory.
//!
//! The first [`BODY_BYTES_FREE`] bytes of a body are not counted: whoever fills the bound with large bodies keeps no
//! usual message out.

use crate::limits::{BODIES_BYTES_MAX, BODY_BYTES_FREE};
use std::cell::Cell;

thread_local! {
    /// Bytes that bodies on this core have taken. Invariant: the sum of every [`Room`]'s.
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that one body has taken; given back when dropped, which is on the same core, as tasks never leave theirs.
#[derive(Debug, Default)]
pub(crate) struct Room(usize);

impl Room {
    /// Makes it room for so many bytes of the body in all; `false` if there is none.
    #[must_use]
    pub(crate) fn fit(&mut self, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(BODY_BYTES_FREE);
        let taken = TAKEN.get() - self.0 + wanted;
        if wanted > self.0 && taken > BODIES_BYTES_MAX {
            return false;
        }
        TAKEN.set(taken);
        self.0 = wanted;
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        TAKEN.set(TAKEN.get().saturating_sub(self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::{BODIES_BYTES_MAX, BODY_BYTES_FREE, Room};

    #[test]
    fn large_bodies_share_a_bound_that_keeps_no_small_one_out() {
        let mut large = Room::default();
        assert!(large.fit(BODY_BYTES_FREE + BODIES_BYTES_MAX - 1));
        let mut other = Room::default();
        assert!(other.fit(BODY_BYTES_FREE + 1));
        assert!(!other.fit(BODY_BYTES_FREE + 2));
        assert!(other.fit(BODY_BYTES_FREE + 1), "what it has it keeps");
        assert!(Room::default().fit(BODY_BYTES_FREE));
        drop(large);
        assert!(other.fit(BODY_BYTES_FREE + BODIES_BYTES_MAX));
        assert!(other.fit(0));
        assert!(Room::default().fit(BODY_BYTES_FREE + BODIES_BYTES_MAX));
    }
}
