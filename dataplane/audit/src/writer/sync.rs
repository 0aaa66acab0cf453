//! Syncs the write-ahead log every few milliseconds, beside the writer, so nobody waits for the disk. Where they
//! share a CPU, a message goes first: its answer does not depend on the sync.

use super::Anchor;
use crate::Checkpoint;
use crate::limits::SYNC_NICE;
use crate::store::Store;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The thread; dropping it syncs what is left and joins.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Something was written that is not synced. Set under no lock, so that a turn costs one store.
    dirty: AtomicBool,
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    /// To be written to the anchor after the next sync.
    checkpoint: Option<(Arc<Anchor>, Checkpoint)>,
    asleep: bool,
    stop: bool,
}

impl Syncer {
    pub(super) fn start(store: Arc<Store>, interval: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(String::from("audit-sync"))
            .spawn(move || {
                give_way();
                theirs.run(&store, interval);
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Something was written.
    pub(super) fn note(&self) {
        if !self.shared.dirty.swap(true, Ordering::AcqRel) {
            let wanted = self.shared.wanted.lock();
            if wanted.asleep {
                self.shared.changed.notify_one();
            }
        }
    }

    /// Something was written and signed.
    pub(super) fn offer(&self, anchor: &Arc<Anchor>, checkpoint: Option<Checkpoint>) {
        if let Some(checkpoint) = checkpoint {
            self.shared.wanted.lock().checkpoint = Some((Arc::clone(anchor), checkpoint));
        }
        self.note();
    }
}

/// Lowers the priority of this thread, on Linux of this one only.
fn give_way() {
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::nice(SYNC_NICE)
    {
        tracing::debug!(%error, "the syncer runs with the priority of everybody");
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.wanted.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It only panics on a bug, and then the writer's own last sync still comes.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, store: &Store, interval: Duration) {
        while self.wait(interval) {
            self.sync(store);
        }
        self.sync(store);
    }

    /// Sleeps until something was written, and then for one interval; false when it is time to stop.
    fn wait(&self, interval: Duration) -> bool {
        let mut wanted = self.wanted.lock();
        wanted.asleep = true;
        while !wanted.stop && !self.dirty.load(Ordering::Acquire) {
            self.changed.wait(&mut wanted);
        }
        wanted.asleep = false;
        let until = Instant::now() + interval;
        while !wanted.stop && !self.changed.wait_until(&mut wanted, until).timed_out() {}
        !wanted.stop
    }

    fn sync(&self, store: &Store) {
        self.dirty.store(false, Ordering::Release);
        let checkpoint = self.wanted.lock().checkpoint.take();
        match store.db.flush_wal(true) {
            Ok(()) => {
                if let Some((anchor, checkpoint)) = checkpoint {
                    anchor.write(&checkpoint);
                }
            }
            // RocksDB refuses the next write after this, so the writer learns of it and recovers.
            Err(error) => tracing::error!(%error, "the audit log could not be synced"),
        }
    }
}
