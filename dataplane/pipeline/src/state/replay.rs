//! Signatures seen within their window of validity, so that none counts twice. Exact up to a 64-bit keyed hash:
//! with six million live signatures a fresh one is refused by mistake once in 10¹² times, a replay never passes.

use ahash::RandomState;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::limits::REPLAY_WINDOW_SECS;
use parking_lot::Mutex;
use std::collections::HashSet;

const SHARDS: usize = 64;

/// Whether a signature was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Not before; from now on it was.
    Never,
    /// Within its window.
    Before,
    /// Cannot be told: the cache is full.
    Unknown,
}

/// Two generations of hashes; each lives at least one window.
#[derive(Debug)]
pub(crate) struct ReplayCache {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    shard_max: usize,
}

#[derive(Debug, Default)]
struct Shard {
    current: HashSet<u64, RandomState>,
    previous: HashSet<u64, RandomState>,
    started: Timestamp,
}

impl ReplayCache {
    pub(crate) fn new(signatures_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            shard_max: (signatures_max / SHARDS).max(16),
        }
    }

    /// Marks a signature as seen and tells whether it was.
    pub(crate) fn claim(&self, signature: &[u8; 64], now: Timestamp) -> Seen {
        let hash = self.hasher.hash_one(signature);
        let mut shard = self.shard(hash).lock();
        shard.turn(now);
        if shard.current.contains(&hash) || shard.previous.contains(&hash) {
            return Seen::Before;
        }
        if shard.current.len() >= self.shard_max {
            return Seen::Unknown;
        }
        shard.current.insert(hash);
        Seen::Never
    }

    /// Marks a signature of before the restart, if it still matters.
    pub(crate) fn restore(&self, signature: &[u8; 64], received: Timestamp, now: Timestamp) {
        if received.plus_secs(REPLAY_WINDOW_SECS) >= now {
            let hash = self.hasher.hash_one(signature);
            let mut shard = self.shard(hash).lock();
            shard.turn(now);
            shard.current.insert(hash);
        }
    }

    /// Forgets a signature, so that it may come again.
    pub(crate) fn forget(&self, signature: &[u8; 64]) {
        let hash = self.hasher.hash_one(signature);
        let mut shard = self.shard(hash).lock();
        shard.current.remove(&hash);
        shard.previous.remove(&hash);
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        // The set inside uses the low bits; the high ones choose the shard.
        &self.shards[usize::try_from(hash >> 58).unwrap_or(0) % SHARDS]
    }
}

impl Shard {
    /// Starts a new generation when the current one is a window old. When the clock is set back the current one
    /// begins anew with it, so that it ends one window later and not when the clock has caught up.
    fn turn(&mut self, now: Timestamp) {
        self.started = self.started.min(now);
        if now.micros_since(self.started) < REPLAY_WINDOW_SECS * 1_000_000 {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.clear();
        if now.micros_since(self.started) >= 2 * REPLAY_WINDOW_SECS * 1_000_000 {
            self.previous.clear();
        }
        self.started = now;
    }
}

#[cfg(test)]
mod tests {
    use super::{ReplayCache, Seen};
    use oktsec_contract::clock::Timestamp;
    use oktsec_contract::limits::REPLAY_WINDOW_SECS;

    #[test]
    fn a_forgotten_signature_may_come_again() {
        let cache = ReplayCache::new(1 << 16);
        let now = Timestamp::from_secs(10_000);
        assert_eq!(cache.claim(&[1; 64], now), Seen::Never);
        cache.forget(&[1; 64]);
        assert_eq!(cache.claim(&[1; 64], now), Seen::Never);
        assert_eq!(cache.claim(&[1; 64], now), Seen::Before);
    }

    #[test]
    fn a_signature_counts_once_within_its_window() {
        let cache = ReplayCache::new(1 << 16);
        let start = Timestamp::from_secs(10_000);
        assert_eq!(cache.claim(&[1; 64], start), Seen::Never);
        assert_eq!(cache.claim(&[2; 64], start), Seen::Never);
        for later in [0, 1, REPLAY_WINDOW_SECS / 2, REPLAY_WINDOW_SECS] {
            assert_eq!(
                cache.claim(&[1; 64], start.plus_secs(later)),
                Seen::Before,
                "{later} s"
            );
        }
    }

    #[test]
    fn whenever_it_was_seen_it_is_refused_for_a_whole_window() {
        for first in 0..2 * REPLAY_WINDOW_SECS {
            let cache = ReplayCache::new(1 << 16);
            let start = Timestamp::from_secs(10_000);
            cache.claim(&[9; 64], start);
            let seen = start.plus_secs(first);
            cache.claim(&[1; 64], seen);
            let again = seen.plus_secs(REPLAY_WINDOW_SECS);
            assert_eq!(
                cache.claim(&[1; 64], again),
                Seen::Before,
                "first seen after {first} s"
            );
        }
    }

    #[test]
    fn a_clock_that_is_set_back_neither_forgets_nor_fills_the_cache_for_good() {
        let cache = ReplayCache::new(64 * 16);
        let late = Timestamp::from_secs(100_000);
        let signature = |n: u16| {
            let mut signature = [0; 64];
            signature[..2].copy_from_slice(&n.to_le_bytes());
            signature
        };
        assert_eq!(cache.claim(&signature(0), late), Seen::Never);
        for n in 1..u16::MAX {
            let _ = cache.claim(&signature(n), late);
        }
        let early = Timestamp::from_secs(10_000);
        assert_eq!(cache.claim(&signature(0), early), Seen::Before);
        assert_eq!(cache.claim(&signature(u16::MAX), early), Seen::Unknown);
        let later = early.plus_secs(REPLAY_WINDOW_SECS);
        assert_eq!(cache.claim(&signature(0), later), Seen::Before);
        assert_eq!(cache.claim(&signature(u16::MAX), later), Seen::Never);
    }

    #[test]
    fn a_full_cache_says_so_instead_of_forgetting() {
        let cache = ReplayCache::new(64 * 16);
        let now = Timestamp::from_secs(10_000);
        let outcomes: Vec<_> = (0..=u16::MAX)
            .map(|n| {
                let mut signature = [0; 64];
                signature[..2].copy_from_slice(&n.to_le_bytes());
                cache.claim(&signature, now)
            })
            .collect();
        assert!(outcomes.contains(&Seen::Unknown));
        assert!(!outcomes.contains(&Seen::Before));
    }

    #[test]
    fn a_restart_does_not_forget() {
        let cache = ReplayCache::new(1 << 16);
        let now = Timestamp::from_secs(10_000);
        cache.restore(&[1; 64], now.minus_secs(100), now);
        cache.restore(&[2; 64], now.minus_secs(1_000), now);
        assert_eq!(cache.claim(&[1; 64], now), Seen::Before);
        assert_eq!(cache.claim(&[2; 64], now), Seen::Never);
    }
}
