//! Signatures seen within their window of validity, so that none counts twice. Exact up to a 64-bit keyed hash:
//! with six million live signatures a fresh one is refused by mistake once in 10¹² times, a replay never passes.

use ahash::RandomState;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::limits::{MESSAGE_AHEAD_SECS_MAX, REPLAY_WINDOW_SECS};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// What was sent up to then may have been seen by somebody who did not tell us, in microseconds.
    untold: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    current: Generation,
    previous: Generation,
    /// What was seen at a time that the clock, set back since, has not reached again: it may come again then.
    stranded: Generation,
    /// When `current` began.
    started: Timestamp,
}

/// Hashes of signatures, and when the last of them was seen.
#[derive(Debug, Default)]
struct Generation {
    hashes: HashSet<u64, RandomState>,
    newest: Timestamp,
}

impl ReplayCache {
    pub(crate) fn new(signatures_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            shard_max: (signatures_max / SHARDS).max(16),
            untold: AtomicU64::new(0),
        }
    }

    /// Marks the signature of a message sent then as seen and tells whether it was.
    pub(crate) fn claim(&self, signature: &[u8; 64], sent: Timestamp, now: Timestamp) -> Seen {
        let hash = self.hasher.hash_one(signature);
        let mut shard = self.shard(hash).lock();
        shard.turn(now, self.shard_max);
        if shard.generations().any(|seen| seen.hashes.contains(&hash)) {
            return Seen::Before;
        }
        let is_untold = sent.0 <= self.untold.load(Ordering::Relaxed);
        if is_untold || shard.current.hashes.len() >= self.shard_max {
            return Seen::Unknown;
        }
        shard.current.insert(hash, now);
        Seen::Never
    }

    /// Marks a signature of before the restart, if it still matters.
    pub(crate) fn restore(&self, signature: &[u8; 64], received: Timestamp, now: Timestamp) {
        if received.plus_secs(REPLAY_WINDOW_SECS) >= now {
            let hash = self.hasher.hash_one(signature);
            let mut shard = self.shard(hash).lock();
            shard.turn(now, self.shard_max);
            shard.current.insert(hash, received.max(now));
        }
    }

    /// Signatures that were seen until `now` are not all known: what can be one of them is none that can be told.
    pub(crate) fn lose(&self, now: Timestamp) {
        let sent_last = now.plus_secs(MESSAGE_AHEAD_SECS_MAX);
        self.untold.fetch_max(sent_last.0, Ordering::Relaxed);
    }

    /// Forgets a signature, so that it may come again.
    pub(crate) fn forget(&self, signature: &[u8; 64]) {
        let hash = self.hasher.hash_one(signature);
        let mut shard = self.shard(hash).lock();
        shard.current.hashes.remove(&hash);
        shard.previous.hashes.remove(&hash);
        shard.stranded.hashes.remove(&hash);
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        // The set inside uses the low bits; the high ones choose the shard.
        &self.shards[usize::try_from(hash >> 58).unwrap_or(0) % SHARDS]
    }
}

impl Shard {
    fn generations(&self) -> impl Iterator<Item = &Generation> {
        [&self.current, &self.previous, &self.stranded].into_iter()
    }

    /// Starts a new generation when the current one is a window old. When the clock is set back the current one
    /// begins anew with it, so that it ends one window later and not when the clock has caught up.
    fn turn(&mut self, now: Timestamp, hashes_max: usize) {
        self.started = self.started.min(now);
        if now.micros_since(self.started) < REPLAY_WINDOW_SECS * 1_000_000 {
            return;
        }
        self.stranded.end(now);
        self.previous.end(now);
        let room = (2 * hashes_max).saturating_sub(self.stranded.hashes.len());
        self.stranded.newest = self.stranded.newest.max(self.previous.newest);
        let left = self.previous.hashes.drain().take(room);
        self.stranded.hashes.extend(left);
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.newest = Timestamp::default();
        self.previous.end(now);
        self.started = now;
    }
}

impl Generation {
    fn insert(&mut self, hash: u64, now: Timestamp) {
        self.hashes.insert(hash);
        self.newest = self.newest.max(now);
    }

    /// Forgets everything once the last of it cannot come again.
    fn end(&mut self, now: Timestamp) {
        if now > self.newest.plus_secs(REPLAY_WINDOW_SECS) {
            self.hashes.clear();
            self.newest = Timestamp::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ReplayCache, Seen};
    use oktsec_contract::clock::Timestamp;
    use oktsec_contract::limits::{MESSAGE_AHEAD_SECS_MAX, REPLAY_WINDOW_SECS};

    #[test]
    fn a_forgotten_signature_may_come_again() {
        let cache = ReplayCache::new(1 << 16);
        let now = Timestamp::from_secs(10_000);
        assert_eq!(cache.claim(&[1; 64], now, now), Seen::Never);
        cache.forget(&[1; 64]);
        assert_eq!(cache.claim(&[1; 64], now, now), Seen::Never);
        assert_eq!(cache.claim(&[1; 64], now, now), Seen::Before);
    }

    #[test]
    fn a_signature_counts_once_within_its_window() {
        let cache = ReplayCache::new(1 << 16);
        let start = Timestamp::from_secs(10_000);
        assert_eq!(cache.claim(&[1; 64], start, start), Seen::Never);
        assert_eq!(cache.claim(&[2; 64], start, start), Seen::Never);
        for later in [0, 1, REPLAY_WINDOW_SECS / 2, REPLAY_WINDOW_SECS] {
            assert_eq!(
                cache.claim(&[1; 64], start.plus_secs(later), start.plus_secs(later)),
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
            cache.claim(&[9; 64], start, start);
            let seen = start.plus_secs(first);
            cache.claim(&[1; 64], seen, seen);
            let again = seen.plus_secs(REPLAY_WINDOW_SECS);
            assert_eq!(
                cache.claim(&[1; 64], again, again),
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
        assert_eq!(cache.claim(&signature(0), late, late), Seen::Never);
        for n in 1..u16::MAX {
            let _ = cache.claim(&signature(n), late, late);
        }
        let early = Timestamp::from_secs(10_000);
        assert_eq!(cache.claim(&signature(0), early, early), Seen::Before);
        assert_eq!(
            cache.claim(&signature(u16::MAX), early, early),
            Seen::Unknown
        );
        let later = early.plus_secs(REPLAY_WINDOW_SECS);
        assert_eq!(cache.claim(&signature(0), later, later), Seen::Before);
        assert_eq!(cache.claim(&signature(u16::MAX), later, later), Seen::Never);
    }

    #[test]
    fn a_full_cache_says_so_instead_of_forgetting() {
        let cache = ReplayCache::new(64 * 16);
        let now = Timestamp::from_secs(10_000);
        let outcomes: Vec<_> = (0..=u16::MAX)
            .map(|n| {
                let mut signature = [0; 64];
                signature[..2].copy_from_slice(&n.to_le_bytes());
                cache.claim(&signature, now, now)
            })
            .collect();
        assert!(outcomes.contains(&Seen::Unknown));
        assert!(!outcomes.contains(&Seen::Before));
    }

    #[test]
    fn a_signature_of_before_the_clock_was_set_back_is_known_when_its_time_comes_again() {
        let cache = ReplayCache::new(1 << 16);
        let late = Timestamp::from_secs(100_000);
        assert_eq!(cache.claim(&[1; 64], late, late), Seen::Never);
        // As much traffic as reaches every shard.
        let hear = |from: Timestamp, secs: u64| {
            for passed in (0..=secs).step_by(60) {
                for shard in &cache.shards {
                    shard.lock().turn(from.plus_secs(passed), cache.shard_max);
                }
            }
        };
        hear(late.minus_secs(3_600), 3_600);
        let again = late.plus_secs(REPLAY_WINDOW_SECS);
        hear(late, REPLAY_WINDOW_SECS);
        assert_eq!(cache.claim(&[1; 64], late, again), Seen::Before);
        hear(again, 3 * REPLAY_WINDOW_SECS);
        for shard in &cache.shards {
            let kept = shard.lock();
            let mut seen = kept.generations();
            assert!(seen.all(|seen| seen.hashes.is_empty()), "not for ever");
        }
    }

    #[test]
    fn what_was_lost_is_not_guessed() {
        let cache = ReplayCache::new(1 << 16);
        let start = Timestamp::from_secs(10_000);
        cache.restore(&[1; 64], start, start);
        cache.lose(start);
        // A sender whose clock runs ahead may have been heard before the start.
        let latest = start.plus_secs(MESSAGE_AHEAD_SECS_MAX);
        assert_eq!(cache.claim(&[1; 64], start, start), Seen::Before);
        assert_eq!(cache.claim(&[2; 64], start, start), Seen::Unknown);
        assert_eq!(cache.claim(&[2; 64], latest, latest), Seen::Unknown);
        let later = latest.plus_secs(1);
        assert_eq!(cache.claim(&[3; 64], later, later), Seen::Never);
        assert_eq!(cache.claim(&[2; 64], latest, later), Seen::Unknown);
    }

    #[test]
    fn a_restart_does_not_forget() {
        let cache = ReplayCache::new(1 << 16);
        let now = Timestamp::from_secs(10_000);
        cache.restore(&[1; 64], now.minus_secs(100), now);
        cache.restore(&[2; 64], now.minus_secs(1_000), now);
        assert_eq!(cache.claim(&[1; 64], now, now), Seen::Before);
        assert_eq!(cache.claim(&[2; 64], now, now), Seen::Never);
    }
}
