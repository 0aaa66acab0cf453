//! How long to wait before a restart: at once the first time, then doubling, forgotten after a healthy while.

use std::time::Duration;

const FIRST_MS: u64 = 50;
const LONGEST_MS: u64 = 10_000;
/// A process that lived so long was healthy: its next death is a first one.
const HEALTHY_SECS: u64 = 30;

/// Counts the deaths of one process.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// The wait after a process that lived for `alive` died.
    pub(crate) fn after(&mut self, alive: Duration) -> Duration {
        if alive >= Duration::from_secs(HEALTHY_SECS) {
            self.deaths = 0;
        }
        let wait = FIRST_MS
            .checked_shl(self.deaths)
            .unwrap_or(LONGEST_MS)
            .min(LONGEST_MS);
        self.deaths = self.deaths.saturating_add(1).min(32);
        Duration::from_millis(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, LONGEST_MS};
    use std::time::Duration;

    #[test]
    fn waits_double_up_to_a_bound_and_start_again_after_a_healthy_while() {
        let mut backoff = Backoff::default();
        let short = Duration::from_millis(5);
        let waits: Vec<_> = (0..4).map(|_| backoff.after(short).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400]);
        for _ in 0..100 {
            assert!(backoff.after(short) <= Duration::from_millis(LONGEST_MS));
        }
        assert_eq!(backoff.after(short), Duration::from_millis(LONGEST_MS));
        assert_eq!(backoff.after(Duration::from_secs(60)).as_millis(), 50);
    }
}
