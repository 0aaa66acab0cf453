//! The room that contents of held messages have on disk: taken when a message is to be held, before its record is made,
//! and given back when nobody can release it any more. So a message is never promised to an operator who cannot get it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes counted for each held message besides its content, for what is kept with it: small ones are bounded, too.
pub const HELD_ENTRY_BYTES: u64 = 512;

/// Bytes that a content takes in the room.
pub const fn held_bytes(content_bytes: u64) -> u64 {
    content_bytes.saturating_add(HELD_ENTRY_BYTES)
}

/// How much room there is, and how much of it is taken by messages that wait for an operator. All cores share one.
#[derive(Debug)]
pub struct HeldRoom {
    taken: AtomicU64,
    bytes_max: AtomicU64,
}

impl Default for HeldRoom {
    /// Without a bound, until one is known.
    fn default() -> Self {
        Self {
            taken: AtomicU64::new(0),
            bytes_max: AtomicU64::new(u64::MAX),
        }
    }
}

impl HeldRoom {
    /// Takes room for one content; `None` if there is not enough.
    pub fn take(self: &Arc<Self>, content_bytes: usize) -> Option<HeldPlace> {
        let bytes = held_bytes(content_bytes as u64);
        let bytes_max = self.bytes_max();
        let more = |taken: u64| taken.checked_add(bytes).filter(|&sum| sum <= bytes_max);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(HeldPlace {
            room: Arc::clone(self),
            bytes,
        })
    }

    /// Bytes taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Bytes there are.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Ordering::Relaxed)
    }

    /// Changes how many bytes there are. What is taken stays taken.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// What the log holds is `now` where it was `before`: who keeps it counts for itself what nobody took room for.
    pub fn recount(&self, before: u64, now: u64) {
        let change = |taken: u64| Some(taken.saturating_add(now).saturating_sub(before));
        let _ = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

/// Room taken for one message; given back when this is dropped.
#[derive(Debug)]
pub struct HeldPlace {
    room: Arc<HeldRoom>,
    bytes: u64,
}

impl HeldPlace {
    /// The content is in the log: from now on the log says when it goes.
    pub fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        self.room.recount(self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{HELD_ENTRY_BYTES, HeldRoom};
    use std::sync::Arc;

    #[test]
    fn room_is_taken_up_to_the_last_byte_and_comes_back() {
        let room: Arc<HeldRoom> = Arc::default();
        room.set_bytes_max(2 * HELD_ENTRY_BYTES + 100);
        let first = room.take(60).expect("it is empty");
        let second = room.take(40).expect("exactly what is left");
        assert!(room.take(0).is_none());
        drop(first);
        assert!(room.take(61).is_none());
        second.keep();
        assert_eq!(room.taken(), HELD_ENTRY_BYTES + 40, "the log has it");
        room.recount(HELD_ENTRY_BYTES + 40, 0);
        assert_eq!(room.taken(), 0);
    }

    #[test]
    fn many_who_take_at_once_never_take_more_than_there_is() {
        let room: Arc<HeldRoom> = Arc::default();
        room.set_bytes_max(100 * (HELD_ENTRY_BYTES + 1));
        let kept: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1_000)
                            .filter_map(|_| room.take(1))
                            .map(super::HeldPlace::keep)
                            .count()
                    })
                })
                .collect();
            takers
                .into_iter()
                .map(|taker| taker.join().unwrap_or(0))
                .sum()
        });
        assert_eq!((kept, room.taken()), (100, 100 * (HELD_ENTRY_BYTES + 1)));
    }
}
