//! Large messages are parsed, verified and decided on threads of their own, which give way to cores: looking at ten
//! megabytes takes seconds, and nobody else on that core would be answered meanwhile.
//!
//! They wait in two lanes by their size, each with its threads, so that a message of 100 KB does not wait for those of
//! 10 MB. A thread is started when it is needed, and ends, with the memory of its scanner, when it is not.

use super::appends::{append_now, held_of};
use super::decider::Decider;
use super::{Decided, Recording, Rendered};
use crate::metrics::{BATCH_BOUNDS, Counters};
use crate::plane::{Live, Plane};
use crate::tidy;
use bytes::Bytes;
use oktsec_audit::Log;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::reason::Reason;
use oktsec_pipeline::{Decision, Headers, Opened, Proof, Received};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Bytes of a body from which its message is decided here.
pub(super) const ASIDE_BYTES_MIN: usize = 32 << 10;
/// Bytes from which it waits in the second lane.
const LARGE_BYTES_MIN: usize = 1 << 20;
/// Messages that wait in one lane; above it they are refused.
const WAITING_MAX: usize = 1_024;
/// How much these threads give way: a tenth of a CPU that cores want, too, and all of one they do not want.
const NICE: i32 = 10;
/// How long a thread waits for the next message before it ends.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce(&mut Decider) + Send>;

/// Both lanes.
pub(crate) struct Aside {
    lanes: [Arc<Lane>; 2],
}

struct Lane {
    queue: Mutex<Queue>,
    /// A message waits, or the end has come.
    changed: Condvar,
    /// One for each thread that may run: a counter has one writer.
    counters: Vec<Arc<Counters>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Which of the counters a thread uses.
    taken: Vec<bool>,
    /// Threads that wait.
    idle: usize,
    over: bool,
}

impl Aside {
    /// Lanes with so many threads each.
    pub(crate) fn new(threads_max: usize) -> Self {
        let lane = |_| {
            Arc::new(Lane {
                queue: Mutex::new(Queue {
                    taken: vec![false; threads_max],
                    ..Queue::default()
                }),
                changed: Condvar::new(),
                counters: (0..threads_max).map(|_| Arc::default()).collect(),
            })
        };
        Self {
            lanes: std::array::from_fn(lane),
        }
    }

    /// What was counted here.
    pub(crate) fn counters(&self) -> impl Iterator<Item = &Arc<Counters>> {
        self.lanes.iter().flat_map(|lane| &lane.counters)
    }

    /// Messages that wait.
    pub(crate) fn waiting(&self) -> usize {
        let waiting = |lane: &Arc<Lane>| lane.queue.lock().jobs.len();
        self.lanes.iter().map(waiting).sum()
    }

    /// Ends the threads. What waits is not decided any more.
    pub(crate) fn end(&self) {
        for lane in &self.lanes {
            let mut queue = lane.queue.lock();
            queue.over = true;
            queue.jobs.clear();
            lane.changed.notify_all();
        }
    }

    fn submit(&self, plane: &Arc<Plane>, body_bytes: usize, job: Job) -> Result<(), Reason> {
        let lane = &self.lanes[usize::from(body_bytes >= LARGE_BYTES_MIN)];
        let mut queue = lane.queue.lock();
        if queue.over || queue.jobs.len() >= WAITING_MAX {
            return Err(Reason::Overloaded);
        }
        queue.jobs.push_back(job);
        if queue.jobs.len() > queue.idle
            && let Some(free) = queue.taken.iter().position(|taken| !taken)
        {
            let (lane, plane) = (Arc::clone(lane), Arc::clone(plane));
            let counters = Arc::clone(&lane.counters[free]);
            let thread = std::thread::Builder::new().name(String::from("aside"));
            let spawned = thread.spawn(move || lane.run(free, plane, counters));
            match spawned {
                Ok(_) => queue.taken[free] = true,
                Err(error) if queue.taken.contains(&true) => {
                    tracing::debug!(%error, "fewer threads decide large messages");
                }
                Err(error) => {
                    tracing::error!(%error, "no thread decides large messages");
                    queue.jobs.pop_back();
                    return Err(Reason::Overloaded);
                }
            }
        }
        drop(queue);
        lane.changed.notify_one();
        Ok(())
    }
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aside")
            .field("waiting", &self.waiting())
            .finish()
    }
}

impl Lane {
    fn run(&self, place: usize, plane: Arc<Plane>, counters: Arc<Counters>) {
        give_way();
        let mut decider = Decider::new(Arc::clone(&plane), Arc::clone(&counters));
        while let Some(job) = self.next(place) {
            decider.refresh();
            counters.decided_aside.add(1);
            // Said by the hook of panics. Whoever waits for it hears that nobody answers.
            if catch_unwind(AssertUnwindSafe(|| job(&mut decider))).is_err() {
                decider = Decider::new(Arc::clone(&plane), Arc::clone(&counters));
            }
        }
        drop(decider);
        tidy::later();
    }

    /// The next message; `None` when this thread is to end, which it has then said.
    fn next(&self, place: usize) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.over {
                queue.taken[place] = false;
                return None;
            }
            queue.idle += 1;
            let waited = self.changed.wait_for(&mut queue, IDLE);
            queue.idle -= 1;
            if waited.timed_out() && queue.jobs.is_empty() {
                queue.taken[place] = false;
                return None;
            }
        }
    }
}

/// Lowers the priority of this thread, on Linux of this one only.
fn give_way() {
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::nice(NICE)
    {
        tracing::debug!(%error, "large messages are decided with the priority of everybody");
    }
}

/// A large message as it came.
pub(crate) struct Large {
    received: Received,
    body: Bytes,
    session: Option<Vec<u8>>,
    key_version: Option<Vec<u8>>,
    delegation: Option<Vec<u8>>,
    now: Timestamp,
}

impl Large {
    /// A body that was whole at `now`.
    pub(crate) fn new(
        received: Received,
        body: Bytes,
        headers: Headers<'_>,
        now: Timestamp,
    ) -> Self {
        Self {
            received,
            body,
            session: headers.session.map(<[u8]>::to_vec),
            key_version: headers.key_version.map(<[u8]>::to_vec),
            delegation: headers.delegation.map(<[u8]>::to_vec),
            now,
        }
    }

    /// Parses it and verifies its signature.
    fn open(self, decider: &mut Decider) -> Result<(Opened, Proof), Reason> {
        let headers = Headers {
            session: self.session.as_deref(),
            key_version: self.key_version.as_deref(),
            delegation: self.delegation.as_deref(),
        };
        let mut opened = decider.open(self.received, self.body, headers, self.now)?;
        let proof = match opened.take_check() {
            None => Proof::none(),
            Some(check) => {
                let counters = decider.counters();
                counters.signature_batch.observe(&BATCH_BOUNDS, 1);
                Proof::single(check)
            }
        };
        Ok((opened, proof))
    }
}

/// Decides a large message and waits until it is recorded.
pub(super) async fn decide<R: Send + 'static>(
    plane: &Arc<Plane>,
    large: Large,
    render: fn(&Decision<'_>, &Arc<Live>) -> Rendered<R>,
) -> Result<Decided<R>, Reason> {
    let (answer, answered) = oneshot::channel();
    let (log, queue_max) = (plane.log.clone(), plane.audit_queue_max);
    let body_bytes = large.body.len();
    let job = Box::new(move |decider: &mut Decider| {
        let decided = large
            .open(decider)
            .and_then(|(opened, proof)| record(decider, &log, queue_max, opened, proof, render));
        // Whoever asked may have gone; the decision is recorded.
        let _ = answer.send(decided);
    });
    plane.aside.submit(plane, body_bytes, job)?;
    answered.await.map_err(|_| Reason::Overloaded)?
}

/// Decides, and appends the record.
fn record<R>(
    decider: &mut Decider,
    log: &Log,
    queue_max: (usize, usize),
    opened: Opened,
    proof: Proof,
    render: fn(&Decision<'_>, &Arc<Live>) -> Rendered<R>,
) -> Result<Decided<R>, Reason> {
    let mut batch = None;
    let decided = decider.decide(opened, proof, render, |decision, _| {
        let mut record = log.batch();
        match record.push(&decision.record(), held_of(decision)) {
            Ok(()) => batch = Some(record),
            Err(_) => return Recording::Failed(Reason::AuditUnavailable),
        }
        Recording::Nothing
    });
    let mut decided = decided.ok_or(Reason::SnapshotMissing)?;
    if let Some(batch) = batch
        && let Err(reason) = append_now(log, queue_max, batch, decider.counters())
    {
        decided.record = Recording::Failed(reason);
    }
    Ok(decided)
}

#[cfg(test)]
mod tests {
    use super::{Aside, LARGE_BYTES_MIN, WAITING_MAX};
    use crate::DataplaneOptions;
    use crate::bootstrap::Bootstrap;
    use oktsec_contract::config::Config;
    use oktsec_contract::paths::StatePaths;
    use oktsec_contract::reason::Reason;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn those_of_one_lane_wait_in_bounded_number_and_the_other_lane_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let paths = StatePaths::beside(&folder.path().join("db"), folder.path());
        let options = DataplaneOptions::from_config(&Config::default(), paths);
        let bootstrap = Bootstrap::load(&options, 1).unwrap();
        let plane = &bootstrap.plane;
        let aside = Aside::new(1);
        let (go_on, stalled) = mpsc::channel::<()>();
        let (done, finished) = mpsc::channel();
        let stall = Box::new(move |_: &mut _| {
            let _ = stalled.recv();
        });
        aside.submit(plane, LARGE_BYTES_MIN, stall).unwrap();
        let mut taken = 0;
        let refused = loop {
            let done = done.clone();
            let job = Box::new(move |_: &mut _| done.send("large").unwrap());
            match aside.submit(plane, LARGE_BYTES_MIN, job) {
                Ok(()) => taken += 1,
                Err(reason) => break reason,
            }
        };
        assert_eq!(refused, Reason::Overloaded);
        assert!((WAITING_MAX - 1..=WAITING_MAX).contains(&taken), "{taken}");
        let medium = done.clone();
        let job = Box::new(move |_: &mut _| medium.send("medium").unwrap());
        aside.submit(plane, LARGE_BYTES_MIN - 1, job).unwrap();
        let wait = Duration::from_secs(60);
        assert_eq!(finished.recv_timeout(wait), Ok("medium"));
        // One that panics takes no other with it.
        drop(go_on);
        for _ in 0..taken {
            assert_eq!(finished.recv_timeout(wait), Ok("large"));
        }
        let job = Box::new(|_: &mut _| panic!("on purpose"));
        aside.submit(plane, LARGE_BYTES_MIN, job).unwrap();
        let job = Box::new(move |_: &mut _| done.send("after").unwrap());
        aside.submit(plane, LARGE_BYTES_MIN, job).unwrap();
        assert_eq!(finished.recv_timeout(wait), Ok("after"));
        aside.end();
        let job = Box::new(|_: &mut _| ());
        assert_eq!(
            aside.submit(plane, LARGE_BYTES_MIN, job),
            Err(Reason::Overloaded)
        );
    }
}
