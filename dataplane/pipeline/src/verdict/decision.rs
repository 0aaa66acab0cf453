//! A decision, borrowed from the core that made it: everything an answer and a record need.

use crate::identity::Identity;
use crate::parse::Message;
use oktsec_contract::Surface;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::held_room::HeldPlace;
use oktsec_contract::id::MessageId;
use oktsec_contract::reason::Reason;
use oktsec_contract::record::{FindingRef, RecordRef, SignatureState};
use oktsec_contract::verdict::{Mode, Status, Verdict};
use std::cell::RefCell;
use std::net::IpAddr;

/// What was decided about one message, and why.
#[derive(Debug)]
pub struct Decision<'a> {
    /// Id of the message.
    pub id: MessageId,
    /// The way it came.
    pub surface: Surface,
    /// Why.
    pub reason: Reason,
    /// The verdict, before the mode.
    pub verdict: Verdict,
    /// Whether the surface acts.
    pub mode: Mode,
    /// What is done, after the mode.
    pub status: Status,
    /// The HTTP status of the answer.
    pub http_status: u16,
    /// The message.
    pub message: Message<'a>,
    /// The session: the caller's, or ours.
    pub session: &'a str,
    /// Findings that act or are reported, worst first, excerpts redacted.
    pub findings: &'a [FindingRef<'a>],
    /// Rule indexes of every finding, also ignored and shadow ones: for counters.
    pub hits: &'a [u32],
    /// Remediation of the worst finding; empty if none.
    pub remediation: &'a str,
    /// What may be sent instead, if secrets alone refuse it and the operator wants it offered.
    pub redacted_content: Option<&'a str>,
    /// Until when it is held, if it is.
    pub held_until: Option<Timestamp>,
    /// The room of its content, until somebody asks for it.
    pub(crate) place: RefCell<Option<HeldPlace>>,
    /// When it was received.
    pub received_at: Timestamp,
    /// Microseconds from receiving to deciding.
    pub latency_us: u32,
    /// Who connected.
    pub peer: Option<IpAddr>,
    /// Revision of the policy.
    pub revision: u64,
    pub(crate) identity: Identity,
    pub(crate) content_hash: [u8; 32],
}

impl<'a> Decision<'a> {
    /// `verified_sender` of the wire: identity refusals never count as verified (compat §2.2).
    pub const fn is_verified(&self) -> bool {
        self.identity.is_verified() && !matches!(self.reason, Reason::ReplayRejected)
    }

    /// Whether a signature was there and held.
    pub const fn signature(&self) -> SignatureState {
        self.identity.state
    }

    /// The signature, if it held: where an earlier record of the same one is found.
    pub const fn signature_bytes(&self) -> Option<&[u8; 64]> {
        self.identity.signature.as_ref()
    }

    /// Whether the signature must not come again because of this decision. A replay is recorded without it, for the
    /// first record keeps it; so is what the sender may send again as it is.
    fn is_first_use(&self) -> bool {
        self.reason != Reason::ReplayRejected && !super::may_come_again(self.reason, self.status)
    }

    /// Whether it leaves a record.
    pub const fn is_recorded(&self) -> bool {
        self.reason.is_recorded()
    }

    /// One line for the sender; empty where nothing was refused.
    pub const fn suggestion(&self) -> &'static str {
        match self.status {
            Status::Delivered => "",
            _ => super::suggestion(self.reason),
        }
    }

    /// The content to hold, until when, and the room taken for it, which is given only once.
    pub fn held(&self) -> Option<(&'a str, Timestamp, Option<HeldPlace>)> {
        self.held_until
            .map(|until| (self.message.content, until, self.place.take()))
    }

    /// The record of this decision.
    pub fn record(&self) -> RecordRef<'_> {
        RecordRef {
            surface: self.surface,
            status: self.status,
            verdict: self.verdict,
            mode: self.mode,
            signature: self.identity.state,
            latency_us: self.latency_us,
            revision: self.revision,
            content_bytes: u32::try_from(self.message.content.len()).unwrap_or(u32::MAX),
            content_hash: self.content_hash,
            fingerprint: self.identity.fingerprint,
            signature_bytes: self.identity.signature.filter(|_| self.is_first_use()),
            peer: self.peer,
            from: self.message.from,
            to: self.message.to,
            timestamp: self.message.timestamp,
            intent: self.message.intent,
            session: self.session,
            auth_method: if self.identity.is_verified() {
                "signature"
            } else {
                ""
            },
            findings: self.findings,
            ..RecordRef::empty(self.id, self.received_at, self.reason)
        }
    }
}
