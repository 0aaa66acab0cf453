//! What cores share besides the policy: replay cache, senders, peers. Sharded, bounded, locked for tens of
//! nanoseconds and never across a scan or a verification.
//!
//! Why not owned by a core: connections land on any core, so a limit, a replay or a split attack would be seen
//! by halves. The architecture's rule is "no lock between accept and deliver"; this is its one exception.

pub(crate) mod egress;
pub(crate) mod gcra;
pub(crate) mod peers;
pub(crate) mod replay;
pub(crate) mod seen;
pub(crate) mod senders;

use oktsec_contract::clock::Timestamp;
use oktsec_contract::held_room::HeldRoom;
use oktsec_contract::record::{RecordRef, SignatureState};
use oktsec_contract::verdict::Verdict;
use std::sync::Arc;

/// State shared by all cores of a data plane.
#[derive(Debug)]
pub struct Shared {
    pub(crate) replay: replay::ReplayCache,
    pub(crate) senders: senders::Senders,
    pub(crate) peers: peers::Peers,
    held_room: Arc<HeldRoom>,
    egress: Arc<egress::EgressUsage>,
    seen: seen::SeenSecrets,
}

impl Shared {
    /// Empty state. `replay_signatures_max` bounds the replay cache.
    pub fn new(replay_signatures_max: usize) -> Self {
        Self {
            replay: replay::ReplayCache::new(replay_signatures_max),
            senders: senders::Senders::new(),
            peers: peers::Peers::new(),
            held_room: Arc::default(),
            egress: Arc::new(egress::EgressUsage::new()),
            seen: seen::SeenSecrets::new(),
        }
    }

    /// The same, with the room that held messages have.
    #[must_use]
    pub fn with_held_room(mut self, held_room: Arc<HeldRoom>) -> Self {
        self.held_room = held_room;
        self
    }

    /// The room that held messages have.
    pub const fn held_room(&self) -> &Arc<HeldRoom> {
        &self.held_room
    }

    /// What outbound requests have used.
    pub const fn egress(&self) -> &Arc<egress::EgressUsage> {
        &self.egress
    }

    /// Secrets that agents were given.
    pub const fn seen(&self) -> &seen::SeenSecrets {
        &self.seen
    }

    /// Forgets that a signature was seen: its message was refused only because it could not be recorded, so the
    /// sender may send it again.
    pub fn forget(&self, signature: &[u8; 64]) {
        self.replay.forget(signature);
    }

    /// Not every signature seen before `now` could be told: what may be one of them is refused, not guessed.
    pub fn lose_signatures(&self, now: Timestamp) {
        self.replay.lose(now);
    }

    /// Learns from a record of before the restart: its signature must not come again, and what was held or
    /// blocked still counts against the sender.
    pub fn restore(&self, record: &RecordRef<'_>, now: Timestamp) {
        if let Some(signature) = &record.signature_bytes {
            self.replay.restore(signature, record.received_at, now);
        }
        if record.signature == SignatureState::Verified && record.verdict >= Verdict::Quarantine {
            self.senders
                .restore_refusal(record.from, record.received_at);
        }
    }
}
