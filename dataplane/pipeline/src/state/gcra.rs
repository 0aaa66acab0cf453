//! Generic cell rate algorithm (ITU-T I.371): one number per bucket. `limit` calls at once, then one more each
//! `window / limit`.

use oktsec_contract::clock::Timestamp;

/// The time at which the bucket is empty again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket(u64);

/// A rate; `None` where it is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    interval_us: u64,
    window_us: u64,
}

impl Rate {
    /// `limit` calls in `window_secs`; zero or less switches it off (compat §4.1).
    pub(crate) fn new(limit: i64, window_secs: u64) -> Option<Self> {
        let limit = u64::try_from(limit).ok().filter(|&limit| limit > 0)?;
        let window_us = if window_secs == 0 { 60 } else { window_secs }.saturating_mul(1_000_000);
        Some(Self {
            interval_us: (window_us / limit).max(1),
            window_us,
        })
    }
}

impl Bucket {
    /// Takes one; `false` if the bucket is full. Refused calls are not counted.
    ///
    /// A bucket that is empty only after more than a window was filled by a clock that has been set back since, or at a
    /// rate that is no longer in force: it counts as full, and not as full until then.
    pub(crate) fn take(&mut self, rate: Rate, now: Timestamp) -> bool {
        let fits = self.fits(rate, now);
        if fits {
            self.0 = self.next(rate, now);
        }
        fits
    }

    /// Whether one could be taken. What was clamped stays so: the window begins to pass.
    pub(crate) fn fits(&mut self, rate: Rate, now: Timestamp) -> bool {
        self.0 = self.0.min(now.0.saturating_add(rate.window_us));
        self.next(rate, now) - now.0 <= rate.window_us
    }

    /// What it is after one is taken.
    fn next(self, rate: Rate, now: Timestamp) -> u64 {
        self.0.max(now.0).saturating_add(rate.interval_us)
    }

    /// Whether forgetting the bucket would change nothing.
    pub(crate) const fn is_idle(self, now: Timestamp) -> bool {
        self.0 <= now.0
    }

    /// Whether only a clock that was set back since, or another rate, explains what is in it.
    pub(crate) const fn is_unexplained(self, rate: Rate, now: Timestamp) -> bool {
        self.0 > now.0.saturating_add(rate.window_us)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Rate};
    use oktsec_contract::clock::Timestamp;

    #[test]
    fn the_limit_passes_at_once_and_one_more_does_not() {
        let rate = Rate::new(100, 60).expect("positive");
        let mut bucket = Bucket::default();
        let now = Timestamp::from_secs(1_000);
        assert!((0..100).all(|_| bucket.take(rate, now)));
        assert!(!bucket.take(rate, now));
        assert!(!bucket.take(rate, Timestamp(now.0 + 599_999)));
        assert!(bucket.take(rate, Timestamp(now.0 + 600_000)));
        assert!(!bucket.take(rate, Timestamp(now.0 + 600_000)));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let rate = Rate::new(100, 60).expect("positive");
        let mut bucket = Bucket::default();
        let before = Timestamp::from_secs(100_000);
        assert!((0..100).all(|_| bucket.take(rate, before)));
        let after = Timestamp::from_secs(10_000);
        assert!(!bucket.take(rate, after), "it is full all the same");
        assert!(bucket.take(rate, Timestamp(after.0 + 600_000)));
        assert!(!bucket.take(rate, Timestamp(after.0 + 600_000)));
        assert!(!bucket.is_idle(after));
        assert!(bucket.is_idle(after.plus_secs(61)));
    }

    #[test]
    fn a_shorter_window_counts_at_once() {
        let slow = Rate::new(1, 86_400).expect("positive");
        let quick = Rate::new(1, 1).expect("positive");
        let mut bucket = Bucket::default();
        let now = Timestamp::from_secs(1_000);
        assert!(bucket.take(slow, now));
        assert!(!bucket.take(quick, now));
        assert!(bucket.take(quick, now.plus_secs(1)));
    }

    #[test]
    fn zero_and_negative_switch_a_rate_off() {
        assert_eq!(Rate::new(0, 60), None);
        assert_eq!(Rate::new(-1, 60), None);
    }
}
