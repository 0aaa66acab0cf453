//! A record as the log gives it back, with its place in the chain.

use crate::chain::NO_HASH;
use crate::chunk::Entry;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::id::MessageId;
use oktsec_contract::record::{DecodeError, FindingRef, RecordRef};
use serde_json::{Value, json};
use std::sync::Arc;

/// A record with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its number on its node, from 1.
    pub sequence: u64,
    /// Hash of the record before; zeros at the start of a segment.
    pub prev_hash: [u8; 32],
    /// Hash of this one.
    pub hash: [u8; 32],
    node: Arc<str>,
    bytes: Box<[u8]>,
}

impl StoredRecord {
    pub(crate) fn new(node: Arc<str>, entry: &Entry<'_>) -> Self {
        let Entry {
            sequence,
            prev_hash,
            hash,
            bytes,
        } = *entry;
        Self {
            sequence,
            prev_hash,
            hash,
            node,
            bytes: bytes.into(),
        }
    }

    /// The node that wrote it.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Its canonical bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The record itself; `findings` is a fresh buffer for its list.
    ///
    /// # Errors
    /// [`DecodeError`] if the stored bytes were damaged.
    pub fn record<'a>(
        &'a self,
        findings: &'a mut Vec<FindingRef<'a>>,
    ) -> Result<RecordRef<'a>, DecodeError> {
        RecordRef::decode(&self.bytes, findings)
    }

    /// Id of the message, unless the bytes are damaged.
    #[must_use]
    pub fn id(&self) -> Option<MessageId> {
        self.record(&mut Vec::new()).ok().map(|record| record.id)
    }

    /// When it was received, unless the bytes are damaged.
    #[must_use]
    pub fn received_at(&self) -> Option<Timestamp> {
        self.record(&mut Vec::new())
            .ok()
            .map(|record| record.received_at)
    }

    /// The columns of the Go version (compat §6.1), and ours behind them.
    ///
    /// # Errors
    /// [`DecodeError`] if the stored bytes were damaged.
    pub fn to_json(&self) -> Result<Value, DecodeError> {
        let mut findings = Vec::new();
        let record = self.record(&mut findings)?;
        let received_at = record.received_at.to_rfc3339_micros();
        let timestamp = match record.timestamp {
            "" => record.received_at.to_rfc3339(),
            claimed => String::from(claimed),
        };
        let prev_hash = if self.prev_hash == NO_HASH {
            String::new()
        } else {
            hex::encode(self.prev_hash)
        };
        let mut value = json!({
            "id": record.id,
            "timestamp": timestamp,
            "from_agent": record.from,
            "to_agent": record.to,
            "content_hash": hex::encode(record.content_hash),
            "signature_verified": record.signature.as_i8(),
            "pubkey_fingerprint": record.fingerprint.map(hex::encode).unwrap_or_default(),
            "status": record.status.as_str(),
            "rules_triggered": record.findings,
            "policy_decision": record.reason.decision(),
            "latency_ms": record.latency_us / 1_000,
            "intent": record.intent,
            "session_id": record.session,
            "tool_name": record.tool,
            "auth_method": record.auth_method,
            "prev_hash": prev_hash,
            "entry_hash": hex::encode(self.hash),
            "node": *self.node,
            "sequence": self.sequence,
            "reason": record.reason.as_str(),
            "verdict": record.verdict.as_str(),
            "mode": record.mode.as_str(),
            "surface": record.surface.as_str(),
            "latency_us": record.latency_us,
            "received_at": received_at,
            "revision": record.revision,
            "content_bytes": record.content_bytes,
            "about": record.about,
            "peer": record.peer,
            "detail": record.detail,
        });
        if let Some(egress) = &record.egress {
            value["egress"] = json!(egress);
        }
        Ok(value)
    }
}
