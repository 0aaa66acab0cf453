//! Signatures of one loop turn, verified by one [`Equation`]; a lone one by itself. Measured on one core over
//! 1 KiB (`oktsec-micro signatures`): 31 µs alone, 11 to 16 in batches.
//!
//! Batch and single verification agree on everything a key holder's honest code produces, on every corruption
//! of it, and on `R` of small order or in a second encoding. They can differ only where the *key holder itself*
//! crafts an `R` of mixed order: single verification refuses it always, a batch may accept it. Keys are checked
//! for torsion when loaded, so nobody but the key holder can make such a signature, and it still covers exactly
//! these bytes.

use super::equation::{Equation, is_small_order};
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use oktsec_contract::id::MessageId;
use oktsec_contract::limits::SIGNATURE_BATCH_MAX;

/// Everything needed to verify one signature.
pub struct SignatureCheck {
    /// The message it belongs to; the proof is good for this one only.
    pub(crate) id: MessageId,
    pub(crate) key: VerifyingKey,
    pub(crate) signature: [u8; 64],
    pub(crate) payload: Vec<u8>,
    /// Bytes of the payload without the key version, if that may be tried too.
    pub(crate) v1_bytes: Option<usize>,
}

impl std::fmt::Debug for SignatureCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignatureCheck({} bytes)", self.payload.len())
    }
}

/// The outcome for one message. Only this module makes one, so no stage can claim a signature held.
#[derive(Debug)]
pub struct Proof {
    /// The message whose signature held.
    held: Option<MessageId>,
    /// The memory of the check, on its way back to the pool.
    pub(crate) payload: Vec<u8>,
}

impl Proof {
    /// For messages that bring nothing to verify.
    pub const fn none() -> Self {
        Self {
            held: None,
            payload: Vec::new(),
        }
    }

    /// Verifies one check by itself.
    pub fn single(check: SignatureCheck) -> Self {
        let held = verify_single(&check);
        Self::new(check, held)
    }

    fn new(check: SignatureCheck, held: bool) -> Self {
        Self {
            held: held.then_some(check.id),
            payload: check.payload,
        }
    }

    /// Whether a signature was verified and held.
    pub const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    pub(crate) fn holds_for(&self, id: MessageId) -> bool {
        self.held == Some(id)
    }
}

/// What arrived during one turn of the loop. Owned by a core and reused.
#[derive(Debug, Default)]
pub struct SignatureBatch {
    checks: Vec<SignatureCheck>,
    holds: Vec<bool>,
    equation: Equation,
}

impl SignatureBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check; [`Self::verify`] must run before [`Self::finish`].
    pub fn push(&mut self, check: SignatureCheck) {
        self.checks.push(check);
    }

    /// Checks that wait.
    pub fn len(&self) -> usize {
        self.checks.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    /// Whether one more would make the batch too long.
    pub fn is_full(&self) -> bool {
        self.checks.len() >= SIGNATURE_BATCH_MAX
    }

    /// Verifies all, together if there are several; a batch that fails is verified one by one.
    pub fn verify(&mut self) {
        self.holds.clear();
        if self.checks.len() > 1 && self.equation.holds(&self.checks) {
            self.holds.resize(self.checks.len(), true);
        } else {
            self.holds.extend(self.checks.iter().map(verify_single));
        }
    }

    /// The proofs, in the order their checks were pushed; the batch is empty afterwards.
    pub fn finish(&mut self) -> impl Iterator<Item = Proof> + '_ {
        let Self { checks, holds, .. } = self;
        checks
            .drain(..)
            .zip(holds.drain(..))
            .map(|(check, held)| Proof::new(check, held))
    }
}

/// As ed25519-dalek's `verify_strict`, without its detour: where the bytes of `R` are those that key and payload
/// ask for, they are a point's only encoding, and whether it is of small order can be read off them. Weak keys are
/// refused when loaded.
fn verify_single(check: &SignatureCheck) -> bool {
    let signature = Signature::from_bytes(&check.signature);
    if is_small_order(signature.r_bytes()) {
        return false;
    }
    let holds = |bytes: &[u8]| check.key.verify(bytes, &signature).is_ok();
    holds(&check.payload)
        || check
            .v1_bytes
            .and_then(|end| check.payload.get(..end))
            .is_some_and(holds)
}

#[cfg(test)]
mod tests;
