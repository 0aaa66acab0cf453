//! What a data plane holds in memory while nobody sends.

use super::{Bench, BenchError, Outcome};
use crate::process::{self, Memory};
use std::time::Duration;

const MEGABYTES_MAX: f64 = 40.0;
/// Everything a start does on the side has ended by then.
const SETTLE: Duration = Duration::from_secs(2);

pub(super) fn memory(bench: &Bench) -> Result<Vec<Outcome>, BenchError> {
    // First with an empty cache, then from it: that is what operators run.
    let stand = bench.fresh_oktsec(1)?;
    std::thread::sleep(SETTLE);
    let first = process::memory(stand.server.pid)?;
    let stand = stand.restart(bench, "serve")?;
    std::thread::sleep(SETTLE);
    let cached = process::memory(stand.server.pid)?;
    let megabytes = |memory: Memory| memory.resident_kib as f64 * 1_024.0 / 1e6;
    Ok(vec![Outcome {
        claim: "idle_memory",
        measured: format!("{:.1} MB resident", megabytes(cached)),
        target: format!("<= {MEGABYTES_MAX:.0} MB"),
        holds: megabytes(cached) <= MEGABYTES_MAX,
        undisturbed: true,
        details: vec![
            format!(
                "anonymous {:.1} MB",
                cached.anonymous_kib as f64 * 1_024.0 / 1e6
            ),
            format!(
                "after a first start without a cached database: {:.1} MB resident",
                megabytes(first)
            ),
        ],
    }])
}
