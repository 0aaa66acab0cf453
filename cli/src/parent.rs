//! A supervised process ends with its supervisor, however that one died: its standard input is a pipe from
//! the supervisor, and the end of that pipe is the end of the supervisor. Works on every Unix, needs no
//! signal of the kernel and cannot be missed.

use rustix::process::{Signal, getpid, kill_process};
use std::io::Read as _;
use std::time::Duration;

/// How long draining may take once the supervisor is gone.
const DRAIN_SECS_MAX: u64 = 30;

/// Watches the pipe on a thread of its own; its end asks this process to drain and stop.
pub(crate) fn follow() {
    let watch = || {
        let mut byte = [0u8; 64];
        loop {
            match std::io::stdin().lock().read(&mut byte) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        tracing::warn!("the supervisor is gone: draining and stopping");
        let _ = kill_process(getpid(), Signal::TERM);
        std::thread::sleep(Duration::from_secs(DRAIN_SECS_MAX));
        std::process::exit(1);
    };
    let spawned = std::thread::Builder::new()
        .name("parent".into())
        .spawn(watch);
    if let Err(error) = spawned {
        tracing::warn!(%error, "cannot watch the supervisor; this process will outlive it");
    }
}
