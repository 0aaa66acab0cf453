//! Signatures of one turn, verified together.

use super::Core;
use super::slots::Slots;
use crate::metrics::{BATCH_BOUNDS, Counters};
use oktsec_pipeline::{Proof, SignatureBatch, SignatureCheck};
use std::task::{Context, Waker};

#[derive(Default)]
pub(super) struct Signatures {
    batch: SignatureBatch,
    /// Where the checks of `batch` are waited for, in their order.
    waiting: Vec<usize>,
    pub(super) slots: Slots<Proof>,
    pump: Option<Waker>,
}

impl Signatures {
    /// Adds a check to this turn's batch; gives the place to wait at.
    pub(super) fn push(&mut self, check: SignatureCheck, counters: &Counters) -> usize {
        if self.waiting.is_empty()
            && let Some(pump) = &self.pump
        {
            pump.wake_by_ref();
        }
        self.batch.push(check);
        let at = self.slots.take();
        self.waiting.push(at);
        if self.batch.is_full() {
            self.verify(counters);
        }
        at
    }

    fn verify(&mut self, counters: &Counters) {
        if self.waiting.is_empty() {
            return;
        }
        counters
            .signature_batch
            .observe(&BATCH_BOUNDS, self.waiting.len() as u64);
        self.batch.verify();
        for (at, proof) in self.waiting.drain(..).zip(self.batch.finish()) {
            self.slots.fill(at, proof);
        }
    }
}

pub(super) fn pump(core: &mut Core, cx: &mut Context<'_>) {
    core.signatures
        .pump
        .get_or_insert_with(|| cx.waker().clone());
    core.signatures.verify(&core.counters);
}
