//! Since when a connection waits for its peer, and whether it was asked to make room meanwhile.

use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};
use tokio::time::Instant;

/// Of one connection. Only its own core looks at it.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Microseconds since the first connection, and one; 0 while that is not known.
    since: AtomicU64,
    is_asked_to_go: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Waiting {
    /// It waits since then. Gives whether it was asked to go; it is woken when it is.
    pub(crate) fn waits(&self, since: Instant, cx: &Context<'_>) -> bool {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let first = *FIRST.get_or_init(|| since);
        let micros = since.saturating_duration_since(first).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        self.since
            .store(micros.saturating_add(1), Ordering::Relaxed);
        let mut waker = self.waker.lock();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        drop(waker);
        self.is_asked_to_go.load(Ordering::Acquire)
    }

    /// `None` if that is not known.
    pub(crate) fn since(&self) -> Option<u64> {
        let since = self.since.load(Ordering::Relaxed);
        (since > 0).then_some(since)
    }

    /// Nobody can tell any more when it waits.
    pub(crate) fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    pub(crate) fn ask_to_go(&self) {
        self.is_asked_to_go.store(true, Ordering::Release);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}
