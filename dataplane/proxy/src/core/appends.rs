//! Records of one turn, handed to the audit writer together; the answers wait for it.

use super::slots::Slots;
use super::{Core, Recording};
use crate::limits::{APPEND_PATIENCE_MS, APPENDS_IN_FLIGHT_MAX};
use crate::metrics::{APPEND_BOUNDS, BATCH_BOUNDS, Counters};
use crate::throttle::throttled;
use oktsec_audit::{AppendError, Batch, Held, Log, Ticket};
use oktsec_contract::reason::Reason;
use oktsec_contract::record::RecordRef;
use oktsec_pipeline::Decision;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

pub(super) struct Appends {
    log: Log,
    /// Records and bytes that may wait for the writer, those of other cores included.
    queue_max: (usize, usize),
    /// The records of this turn.
    pending: Batch,
    /// Where the records of `pending` are waited for.
    waiting: Vec<usize>,
    flights: VecDeque<Flight>,
    /// Vectors of finished flights.
    spare: Vec<Vec<usize>>,
    /// Since when the writer's queue has been full, and the clock that looks again.
    full: Option<(Instant, Pin<Box<Sleep>>)>,
    pub(super) slots: Slots<Result<(), Reason>>,
    pump: Option<Waker>,
}

/// A batch that the writer has.
struct Flight {
    ticket: Ticket,
    waiting: Vec<usize>,
    begun: Instant,
}

impl Appends {
    pub(super) fn new(log: Log, queue_max: (usize, usize)) -> Self {
        Self {
            pending: log.batch(),
            log,
            queue_max,
            waiting: Vec::new(),
            flights: VecDeque::with_capacity(APPENDS_IN_FLIGHT_MAX),
            spare: Vec::new(),
            full: None,
            slots: Slots::default(),
            pump: None,
        }
    }

    /// Adds the record of a decision to this turn's batch.
    pub(super) fn push(&mut self, decision: &Decision<'_>, counters: &Counters) -> Recording {
        self.push_record(&decision.record(), held_of(decision), counters)
    }

    /// Adds a record to this turn's batch.
    pub(super) fn push_record(
        &mut self,
        record: &RecordRef<'_>,
        held: Option<Held<'_>>,
        counters: &Counters,
    ) -> Recording {
        if let Err(error) = self.pending.push(record, held) {
            counters.records_refused.add(1);
            throttled!(error, %error, id = %record.id, "a record is above the limits of the log");
            return Recording::Failed(Reason::AuditUnavailable);
        }
        if self.waiting.is_empty()
            && let Some(pump) = &self.pump
        {
            pump.wake_by_ref();
        }
        let at = self.slots.take();
        self.waiting.push(at);
        Recording::Waiting(at)
    }

    /// Why a record handed over now would not be written, as far as one can know.
    pub(super) fn obstacle(&self) -> Option<Reason> {
        if self.log.health().last_error.is_some() {
            return Some(Reason::AuditUnavailable);
        }
        (!self.waiting.is_empty() && !self.has_room()).then_some(Reason::AuditOverloaded)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.flights.is_empty()
    }

    fn advance(&mut self, counters: &Counters, cx: &mut Context<'_>) {
        loop {
            self.land(counters, cx);
            if self.waiting.is_empty() || self.flights.len() >= APPENDS_IN_FLIGHT_MAX {
                return;
            }
            if !self.has_room() && self.waits_for_room(counters, cx) {
                return;
            }
            self.full = None;
            self.take_off(counters);
        }
    }

    /// Answers whoever waits for a batch that the writer has finished. Batches finish in their order.
    fn land(&mut self, counters: &Counters, cx: &mut Context<'_>) {
        while let Some(flight) = self.flights.front_mut() {
            let Poll::Ready(outcome) = Pin::new(&mut flight.ticket).poll(cx) else {
                return;
            };
            let flight = self.flights.pop_front().expect("it was there a line above");
            let nanos = u64::try_from(flight.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            counters.append.observe(&APPEND_BOUNDS, nanos);
            self.answer(flight.waiting, outcome.map(|_| ()), counters);
        }
    }

    /// Hands the records of this turn over.
    fn take_off(&mut self, counters: &Counters) {
        let batch = std::mem::replace(&mut self.pending, self.log.batch());
        let next = self.spare.pop().unwrap_or_default();
        let waiting = std::mem::replace(&mut self.waiting, next);
        counters
            .append_batch
            .observe(&BATCH_BOUNDS, waiting.len() as u64);
        match self.log.append(batch) {
            Ok(ticket) => self.flights.push_back(Flight {
                ticket,
                waiting,
                begun: Instant::now(),
            }),
            Err(error) => self.answer(waiting, Err(error), counters),
        }
    }

    fn answer(
        &mut self,
        mut waiting: Vec<usize>,
        outcome: Result<(), AppendError>,
        counters: &Counters,
    ) {
        let outcome = outcome.map_err(|error| not_written(&error, counters));
        for at in waiting.drain(..) {
            self.slots.fill(at, outcome);
        }
        self.spare.push(waiting);
    }

    /// Whether the writer would take the batch. Another core may be faster: then the append itself refuses.
    fn has_room(&self) -> bool {
        has_room(&self.log, self.queue_max, &self.pending)
    }

    /// `true` while it makes sense to wait for the writer; records gather meanwhile.
    fn waits_for_room(&mut self, counters: &Counters, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        let (since, clock) = self.full.get_or_insert_with(|| {
            counters.append_waits.add(1);
            (now, Box::pin(tokio::time::sleep(STEP)))
        });
        if now - *since >= Duration::from_millis(APPEND_PATIENCE_MS) {
            return false;
        }
        while clock.as_mut().poll(cx).is_ready() {
            clock.as_mut().reset(Instant::now() + STEP);
        }
        true
    }
}

/// How often a full queue is looked at again.
const STEP: Duration = Duration::from_millis(1);

fn has_room(log: &Log, (records_max, bytes_max): (usize, usize), batch: &Batch) -> bool {
    let health = log.health();
    health.queue_records == 0
        || (health.queue_records + batch.len() <= records_max
            && health.queue_bytes + batch.bytes() <= bytes_max)
}

fn not_written(error: &AppendError, counters: &Counters) -> Reason {
    counters.append_failures.add(1);
    throttled!(error, %error, "records were not written; their messages are refused");
    match error {
        AppendError::Full => Reason::AuditOverloaded,
        AppendError::Closed | AppendError::Unavailable(_) => Reason::AuditUnavailable,
    }
}

/// The content that a decision holds, with the room taken for it.
pub(super) fn held_of<'a>(decision: &Decision<'a>) -> Option<Held<'a>> {
    decision.held().map(|(content, expires_at, place)| Held {
        content: content.as_bytes(),
        expires_at,
        place,
    })
}

/// Appends records and waits until they are written, on a thread that may wait.
pub(super) fn append_now(
    log: &Log,
    queue_max: (usize, usize),
    batch: Batch,
    counters: &Counters,
) -> Result<(), Reason> {
    let begun = Instant::now();
    let patience = Duration::from_millis(APPEND_PATIENCE_MS);
    while !has_room(log, queue_max, &batch) && begun.elapsed() < patience {
        std::thread::sleep(STEP);
    }
    counters
        .append_batch
        .observe(&BATCH_BOUNDS, batch.len() as u64);
    let written = log.append(batch).and_then(Ticket::wait);
    let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    counters.append.observe(&APPEND_BOUNDS, nanos);
    written
        .map(|_| ())
        .map_err(|error| not_written(&error, counters))
}

pub(super) fn pump(core: &mut Core, cx: &mut Context<'_>) {
    core.appends.pump.get_or_insert_with(|| cx.waker().clone());
    core.appends.advance(&core.counters, cx);
}
