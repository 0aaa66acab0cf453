//! Which CPUs a thread, and the processes it starts, may use. Server and load generator must not take each
//! other's time, or a bench measures the scheduler.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;

/// CPUs this thread may run on.
///
/// # Errors
/// What the system says.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect())
}

/// Keeps this thread, and what it starts from now on, on these CPUs.
///
/// # Errors
/// If one of them is not there or not allowed.
pub fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// Runs `then` on these CPUs and goes back to where it was; processes that it starts stay there. No CPUs
/// means no change.
///
/// # Errors
/// If one of them is not there or not allowed.
pub fn within<T>(cpus: &[usize], then: impl FnOnce() -> T) -> io::Result<T> {
    if cpus.is_empty() {
        return Ok(then());
    }
    let before = sched_getaffinity(None)?;
    pin(cpus)?;
    let value = then();
    sched_setaffinity(None, &before)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::{allowed, within};

    #[test]
    fn a_thread_is_pinned_for_a_while_only() {
        let before = allowed().unwrap();
        let first = before[0];
        assert_eq!(within(&[first], allowed).unwrap().unwrap(), [first]);
        assert_eq!(allowed().unwrap(), before);
    }
}
