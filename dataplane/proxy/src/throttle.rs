//! Keeps peers from writing our log: a place in the code that they can trigger speaks once in a while, and then
//! says how often it kept silent.

use std::sync::atomic::{AtomicU64, Ordering};

/// Milliseconds between two lines of one place.
const SILENCE_MS: u64 = 10_000;

/// One place in the code.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// When it spoke last, in milliseconds since the epoch.
    spoke: AtomicU64,
    kept: AtomicU64,
}

impl Throttle {
    pub(crate) const fn new() -> Self {
        Self {
            spoke: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        }
    }

    /// `Some(times it kept silent since)` if it may speak.
    pub(crate) fn admit(&self, now_ms: u64) -> Option<u64> {
        let spoke = self.spoke.load(Ordering::Relaxed);
        let due = now_ms.saturating_sub(spoke) >= SILENCE_MS || spoke > now_ms;
        let won = due
            && self
                .spoke
                .compare_exchange(spoke, now_ms.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if won {
            return Some(self.kept.swap(0, Ordering::Relaxed));
        }
        self.kept.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// A `tracing` event that a peer can trigger: at most one in ten seconds from this place.
macro_rules! throttled {
    ($level:ident, $($event:tt)*) => {{
        static PLACE: $crate::throttle::Throttle = $crate::throttle::Throttle::new();
        let now_ms = oktsec_contract::clock::Timestamp::now().0 / 1_000;
        if let Some(suppressed) = PLACE.admit(now_ms) {
            tracing::$level!(suppressed, $($event)*);
        }
    }};
}
pub(crate) use throttled;

#[cfg(test)]
mod tests {
    use super::Throttle;

    #[test]
    fn a_place_speaks_once_in_ten_seconds_and_counts_its_silence() {
        let place = Throttle::new();
        assert_eq!(place.admit(50_000), Some(0));
        assert_eq!(place.admit(50_001), None);
        assert_eq!(place.admit(59_999), None);
        assert_eq!(place.admit(60_000), Some(2));
    }
}
