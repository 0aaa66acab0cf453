//! The records a core hands over at once, already encoded, with what the writer needs to index them.
//!
//! All of them share a few buffers, which the writer gives back, so a steady state allocates nothing.

use crate::limits::SPARE_BYTES_MAX;
use crate::lookup::{id_prefix, signature_prefix};
use crate::postings::Postings;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::held_room::HeldPlace;
use oktsec_contract::id::MessageId;
use oktsec_contract::limits::{FINDINGS_MAX, RECORD_BYTES_MAX};
use oktsec_contract::reason::Reason;
use oktsec_contract::record::{RecordRef, SignatureState};

/// Records on their way to the log.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records' canonical bytes, one behind the other.
    pub(crate) bytes: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) postings: Postings,
    pub(crate) held: Vec<HeldEntry>,
    /// Contents of held messages, one behind the other.
    pub(crate) contents: Vec<u8>,
}

/// A message's content, kept until an operator releases or discards it.
pub struct Held<'a> {
    /// The content as it was sent; its SHA-256 is the record's `content_hash`.
    pub content: &'a [u8],
    /// When it no longer can be released.
    pub expires_at: Timestamp,
    /// The room taken for it; without one it is counted when it is written.
    pub place: Option<HeldPlace>,
}

impl std::fmt::Debug for Held<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("content_bytes", &self.content.len())
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

/// What the writer needs to know about one record. Invariant: `start <= end <= bytes.len()`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) id: MessageId,
    pub(crate) received_at: Timestamp,
    pub(crate) id_prefix: u64,
    pub(crate) signature: Option<u64>,
    pub(crate) status: u8,
}

#[derive(Debug)]
pub(crate) struct HeldEntry {
    pub(crate) record: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) expires_at: Timestamp,
    pub(crate) place: Option<HeldPlace>,
}

/// A record that no log takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Its canonical bytes are more than a reader accepts.
    #[error("a record of {bytes} bytes is more than {RECORD_BYTES_MAX}")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// It has more findings than a reader accepts.
    #[error("{count} findings are more than {FINDINGS_MAX}")]
    TooManyFindings {
        /// How many.
        count: usize,
    },
}

impl Batch {
    /// An empty batch; [`crate::Log::batch`] reuses buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record, and the content of its message if that is held.
    ///
    /// # Errors
    /// [`PushError`] for a record above the limits; the batch stays as it was.
    pub fn push(
        &mut self,
        record: &RecordRef<'_>,
        held: Option<Held<'_>>,
    ) -> Result<(), PushError> {
        if record.findings.len() > FINDINGS_MAX {
            return Err(PushError::TooManyFindings {
                count: record.findings.len(),
            });
        }
        let start = self.bytes.len();
        record.encode(&mut self.bytes);
        let end = self.bytes.len();
        let bytes = end - start;
        if bytes > RECORD_BYTES_MAX {
            self.bytes.truncate(start);
            return Err(PushError::TooLarge { bytes });
        }
        let index = self.entries.len();
        self.entries.push(Entry {
            start,
            end,
            id: record.id,
            received_at: record.received_at,
            id_prefix: id_prefix(record.id),
            signature: first_use(record).map(signature_prefix),
            status: record.status.code(),
        });
        let number = u32::try_from(index).expect("a batch holds far fewer records");
        self.postings.add_record(record, number);
        if let Some(held) = held {
            let start = self.contents.len();
            self.contents.extend_from_slice(held.content);
            let end = self.contents.len();
            self.held.push(HeldEntry {
                record: index,
                start,
                end,
                expires_at: held.expires_at,
                place: held.place,
            });
        }
        Ok(())
    }

    /// How many records it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of records and held contents.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.contents.len()
    }

    /// Empties it and keeps its buffers, unless one large message has blown them up.
    pub(crate) fn recycle(mut self) -> Option<Self> {
        if self.bytes.capacity() + self.contents.capacity() > SPARE_BYTES_MAX {
            return None;
        }
        self.bytes.clear();
        self.entries.clear();
        self.postings.clear();
        self.held.clear();
        self.contents.clear();
        Some(self)
    }
}

/// The signature, if this record is the one that a replay of it should find: it held, and it was new.
/// Without this rule a forger who sends a captured signature with other content first would be found instead.
pub(crate) fn first_use<'r>(record: &'r RecordRef<'_>) -> Option<&'r [u8; 64]> {
    let held = record.signature == SignatureState::Verified;
    let new = record.reason != Reason::ReplayRejected;
    record.signature_bytes.as_ref().filter(|_| held && new)
}
