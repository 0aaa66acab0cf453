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
    pub(crate) fn take(&mut self, rate: Rate, now: Timestamp) -> bool {
        let next = self.0.max(now.0).saturating_add(rate.interval_us);
        let allowed = next - now.0 <= rate.window_us;
        if allowed {
            self.0 = next;
        }
        allowed
    }

    /// Whether forgetting the bucket would change nothing.
    pub(crate) const fn is_idle(self, now: Timestamp) -> bool {
        self.0 <= now.0
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
    fn zero_and_negative_switch_a_rate_off() {
        assert_eq!(Rate::new(0, 60), None);
        assert_eq!(Rate::new(-1, 60), None);
    }
}
