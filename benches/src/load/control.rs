//! When a run measures, and when it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared by the threads of a run and the one that watches them.
#[derive(Debug)]
pub(super) struct Control {
    /// Nothing is sent before.
    pub(super) begin: Instant,
    /// The measured window.
    pub(super) from: Instant,
    pub(super) until: Instant,
    stop: AtomicBool,
    running: Mutex<usize>,
    changed: Condvar,
}

impl Control {
    pub(super) fn new(
        begin: Instant,
        warmup: Duration,
        duration: Duration,
        threads: usize,
    ) -> Self {
        Self {
            begin,
            from: begin + warmup,
            until: begin + warmup + duration,
            stop: AtomicBool::new(false),
            running: Mutex::new(threads),
            changed: Condvar::new(),
        }
    }

    /// Whether nothing more is to be sent.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends the run: time is over, or nothing is left to send.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let _running = self.lock();
        self.changed.notify_all();
    }

    /// Whether what happens now is measured.
    pub(super) fn measures(&self, now: Instant) -> bool {
        self.from <= now && now < self.until && !self.is_stopped()
    }

    /// A thread has ended.
    pub(super) fn ended(&self) {
        *self.lock() -= 1;
        self.changed.notify_all();
    }

    /// Waits until then, or until the run is stopped.
    pub(super) fn wait_until(&self, then: Instant) {
        self.wait(then, |_| self.is_stopped());
    }

    /// Waits for all threads; `false` if some still run then.
    pub(super) fn wait_all_ended(&self, then: Instant) -> bool {
        self.wait(then, |running| running == 0)
    }

    fn wait(&self, then: Instant, done: impl Fn(usize) -> bool) -> bool {
        let mut running = self.lock();
        loop {
            if done(*running) {
                return true;
            }
            let left = then.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            running = self
                .changed
                .wait_timeout(running, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
