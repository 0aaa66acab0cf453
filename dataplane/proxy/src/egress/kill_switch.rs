//! The switch that ends all outbound traffic at once: a signal, or a file that exists. Whichever of its sources says
//! so, nothing goes out, whatever the mode.

use crate::plane::Plane;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the file is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// A thread that watches the sources of the switch.
#[derive(Debug)]
pub(crate) struct KillSwitch {
    ending: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl KillSwitch {
    /// Begins to watch. `thrown` is the switch that signals turn.
    pub(crate) fn watch(plane: Arc<Plane>, thrown: Arc<AtomicBool>) -> io::Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ending);
        let thread = std::thread::Builder::new()
            .name(String::from("kill-switch"))
            .spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let stopped = thrown.load(Ordering::Relaxed) || file_says_so(&plane);
                    plane.stop_egress(stopped);
                    std::thread::park_timeout(LOOK_EVERY);
                }
            })?;
        Ok(Self { ending, thread })
    }

    pub(crate) fn end(self) {
        self.ending.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

/// Whether the file of the snapshot in force exists. One that cannot be looked for counts as there.
fn file_says_so(plane: &Plane) -> bool {
    let Some(live) = plane.live() else {
        return false;
    };
    let Some(path) = live.policy.egress().kill_switch() else {
        return false;
    };
    Path::try_exists(path).unwrap_or(true)
}
