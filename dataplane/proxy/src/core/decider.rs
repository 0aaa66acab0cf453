//! Decides messages by what is in force: one for each core, and one for each thread that decides large ones aside.

use super::{Decided, Recording, Rendered};
use crate::chance;
use crate::metrics::{Counters, DECISION_BOUNDS};
use crate::plane::{Live, Plane};
use crate::throttle::throttled;
use bytes::Bytes;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::reason::Reason;
use oktsec_pipeline::{Decision, Headers, Moment, Opened, Pipeline, Proof, Received};
use std::sync::Arc;

pub(crate) struct Decider {
    plane: Arc<Plane>,
    counters: Arc<Counters>,
    /// Number of the swap that `live` and `pipeline` come from.
    generation: u64,
    live: Option<Arc<Live>>,
    pipeline: Option<Pipeline>,
}

impl Decider {
    pub(super) fn new(plane: Arc<Plane>, counters: Arc<Counters>) -> Self {
        Self {
            plane,
            counters,
            generation: 0,
            live: None,
            pipeline: None,
        }
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// What is in force, as far as it was taken over.
    pub(super) fn live(&self) -> Option<&Arc<Live>> {
        self.live.as_ref()
    }

    pub(super) fn pipeline(&mut self) -> Option<&mut Pipeline> {
        self.pipeline.as_mut()
    }

    /// Takes over what was published since the last message, and says whether something was. Runs between two messages:
    /// nobody is in the middle of a decision.
    pub(super) fn refresh(&mut self) -> bool {
        let generation = self.plane.generation();
        if generation == self.generation {
            return false;
        }
        let Some(live) = self.plane.live() else {
            return false;
        };
        let policy = Arc::clone(&live.policy);
        let taken = match &mut self.pipeline {
            Some(pipeline) => pipeline.set_policy(policy),
            None => Pipeline::new(policy, Arc::clone(&self.plane.shared))
                .map(|pipeline| self.pipeline = Some(pipeline)),
        };
        match taken {
            Ok(()) => {
                self.generation = generation;
                self.live = Some(live);
                true
            }
            // The old policy stays in force here; the next message tries again.
            Err(error) => {
                throttled!(error, %error, "a core could not take over a snapshot");
                false
            }
        }
    }

    /// Parses a body.
    ///
    /// # Errors
    /// What is no message, and that nothing is in force yet.
    pub(super) fn open(
        &mut self,
        received: Received,
        body: Bytes,
        headers: Headers<'_>,
        now: Timestamp,
    ) -> Result<Opened, Reason> {
        let pipeline = self.pipeline.as_mut().ok_or(Reason::SnapshotMissing)?;
        let moment = Moment {
            now,
            random: chance::bytes(),
        };
        pipeline
            .open(received, body, headers, moment)
            .map_err(|refused| refused.reason)
    }

    /// Decides, counts, and lets `render` see the decision and `record` keep it. `None` if nothing is in force.
    pub(super) fn decide<R>(
        &mut self,
        opened: Opened,
        proof: Proof,
        render: impl FnOnce(&Decision<'_>, &Arc<Live>) -> Rendered<R>,
        record: impl FnOnce(&Decision<'_>, &Counters) -> Recording,
    ) -> Option<Decided<R>> {
        let (pipeline, live) = (self.pipeline.as_mut()?, self.live.as_ref()?);
        let counters = &self.counters;
        let decided = pipeline.decide(opened, proof, Timestamp::now, |decision| {
            count(counters, decision, live);
            let rendered = render(decision, live);
            Decided {
                reason: decision.reason,
                record: match rendered.record {
                    true => record(decision, counters),
                    false => Recording::Nothing,
                },
                value: rendered.value,
                signature: decision.signature_bytes().copied(),
            }
        });
        Some(decided)
    }
}

fn count(counters: &Counters, decision: &Decision<'_>, live: &Live) {
    counters
        .decision
        .observe(&DECISION_BOUNDS, u64::from(decision.latency_us) * 1_000);
    counters.identified(decision.signature());
    for finding in decision.findings {
        counters.found(finding.rule_id, finding.severity);
    }
    let policy = &live.policy;
    for &hit in decision.hits {
        let rule = usize::try_from(hit).ok();
        let rule = rule.and_then(|at| policy.database().rules().get(at));
        if let Some(lane) = policy.lane_word(hit) {
            counters.counted(rule.map_or("other", |rule| &rule.id), lane);
        }
    }
}
