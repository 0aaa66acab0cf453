//! What the writer finds when it opens a log, and whether it may go on from there.

use super::{OpenError, Store, store_error};
use crate::Checkpoint;
use crate::chain::{Chain, NO_HASH};
use crate::chunk::Records;
use crate::layout::Head;
use crate::store::ReadError;
use oktsec_contract::keys::PublicKey;
use std::path::Path;

/// No log gets here by appending; a forged key could be anything.
const SEQUENCE_MAX: u64 = u64::MAX / 2;

/// An opened log that can be appended to.
pub(crate) struct Recovered {
    pub(crate) store: Store,
    pub(crate) head: Head,
    /// The newest checkpoint, for what it is worth.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Why the chain cannot be continued, if so. `head` then begins a new segment.
    pub(crate) broken: Option<String>,
}

impl Recovered {
    /// Opens the log and checks its end: the last record, all since the last checkpoint, the checkpoint itself
    /// and the anchor beside the store. What lies before is for `verify_chain`.
    pub(crate) fn open(
        dir: &Path,
        node: &str,
        key: &PublicKey,
        anchor: Option<Checkpoint>,
    ) -> Result<Self, OpenError> {
        let store = Store::open_primary(dir, node)?;
        let head = match store.head() {
            Ok(head) => head.unwrap_or_default(),
            Err(ReadError::Damaged(_)) => Head::default(),
            Err(error) => return Err(store_error(dir, error)),
        };
        let checkpoint = match store.checkpoint() {
            Ok(checkpoint) => checkpoint,
            Err(ReadError::Damaged(_)) => None,
            Err(error) => return Err(store_error(dir, error)),
        };
        let last = Records::new(&store)
            .last()
            .map_err(|error| store_error(dir, error))?;
        // A key that changed leaves an anchor of another key behind: the checkpoint tells.
        let anchor = anchor.filter(|anchor| anchor.verify(&store.node, key));
        let broken = find_break(
            &store,
            &head,
            checkpoint.as_ref(),
            anchor.as_ref(),
            last,
            key,
        )
        .map_err(|error| store_error(dir, error))?;
        let mut recovered = Self {
            store,
            head,
            checkpoint,
            broken,
        };
        if recovered.broken.is_some() {
            recovered.begin_segment(last, anchor, key);
        }
        if recovered.head.sequence > SEQUENCE_MAX {
            return Err(store_error(dir, "a record number is not one we gave"));
        }
        Ok(recovered)
    }

    /// A new segment is numbered after everything that was ever signed or is still there, so no number is
    /// given twice.
    fn begin_segment(&mut self, last: u64, anchor: Option<Checkpoint>, key: &PublicKey) {
        let checkpoint = self.checkpoint.filter(|c| c.verify(&self.store.node, key));
        let signed = [checkpoint, anchor]
            .into_iter()
            .flatten()
            .map(|c| c.sequence)
            .max();
        if self.head == Head::default() {
            // Its head is lost: what lay in no lookup run stays unindexed rather than fill the memory.
            self.head.sealed = last;
        }
        self.head.sequence = last.max(signed.unwrap_or(0));
        self.head.hash = NO_HASH;
    }
}

fn find_break(
    store: &Store,
    head: &Head,
    checkpoint: Option<&Checkpoint>,
    anchor: Option<&Checkpoint>,
    last: u64,
    key: &PublicKey,
) -> Result<Option<String>, ReadError> {
    if last != head.sequence {
        return Ok(Some(format!(
            "the log ends at {last}, its head says {}",
            head.sequence
        )));
    }
    for signed in [checkpoint, anchor].into_iter().flatten() {
        if signed.sequence > head.sequence {
            let (signed, found) = (signed.sequence, head.sequence);
            return Ok(Some(format!(
                "records up to {signed} were signed, {found} are there"
            )));
        }
        if !signed.verify(&store.node, key) {
            let sequence = signed.sequence;
            return Ok(Some(format!(
                "the checkpoint at {sequence} is not signed by this key"
            )));
        }
        if store
            .record(signed.sequence)?
            .is_none_or(|record| record.hash != signed.hash)
        {
            let sequence = signed.sequence;
            return Ok(Some(format!(
                "record {sequence} is not the one that was signed"
            )));
        }
    }
    let chain = Chain::new(&store.node);
    let mut expected = checkpoint.map_or(1, |c| c.sequence);
    let mut prev_hash = None;
    let from = expected;
    let mut chunks = Records::scan(store).chunks_from(from)?;
    while let Some((_, entries)) = chunks.next()? {
        for entry in entries {
            let Ok(entry) = entry else {
                return Ok(Some(format!("record {expected} is damaged")));
            };
            if entry.sequence < from {
                continue;
            }
            if entry.sequence != expected {
                return Ok(Some(format!("record {expected} is missing")));
            }
            let follows = prev_hash.is_none_or(|hash| hash == entry.prev_hash);
            if !follows || chain.hash(expected, &entry.prev_hash, entry.bytes) != entry.hash {
                return Ok(Some(format!("record {expected} is not what was written")));
            }
            prev_hash = Some(entry.hash);
            expected += 1;
        }
    }
    if expected != head.sequence + 1 && head.sequence != 0 {
        return Ok(Some(format!("record {expected} is missing")));
    }
    if prev_hash.unwrap_or(NO_HASH) != head.hash {
        return Ok(Some(format!(
            "record {} is not the one the head names",
            head.sequence
        )));
    }
    Ok(None)
}
