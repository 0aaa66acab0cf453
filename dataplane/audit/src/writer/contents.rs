//! Contents of held messages after their review or expiry: how many bytes are kept, and which go. They go when the
//! operator wants them no longer, and those reviewed first when all contents take more room than they may. What stays is
//! who held what, when, and why; a record says that they went.
//!
//! Those that wait for an operator never go: there is room for them, or their message is refused instead
//! ([`oktsec_contract::held_room`]).

use super::held::{Due, due, unreadable_append};
use super::{State, Writer, random_id};
use crate::layout::{HELD, held_key};
use crate::log::AppendError;
use crate::store::{ReadError, Store};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::held_room::held_bytes;
use oktsec_contract::id::MessageId;
use oktsec_contract::reason::Reason;
use oktsec_contract::record::RecordRef;
use rocksdb::WriteBatch;
use std::sync::atomic::Ordering;

/// Bytes that contents take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Of messages that wait for an operator.
    pub(super) pending: u64,
    /// Of those that were reviewed or expired.
    pub(super) reviewed: u64,
}

impl Contents {
    /// Counts those of a log.
    pub(super) fn count(store: &Store) -> Result<Self, ReadError> {
        Ok(Self {
            pending: sum(store, b'e')?,
            reviewed: sum(store, b'r')?,
        })
    }

    /// One of them waits no longer.
    pub(super) fn review(&mut self, bytes: u64) {
        self.pending = self.pending.saturating_sub(bytes);
        self.reviewed += bytes;
    }
}

fn sum(store: &Store, tag: u8) -> Result<u64, ReadError> {
    let mut sum = 0;
    let mut keys = store.db.raw_iterator_cf(store.cf(HELD));
    keys.seek([tag]);
    while let Some((key, value)) = keys.item().filter(|(key, _)| key.starts_with(&[tag])) {
        if let Some(id) = key.get(9..).and_then(|id| id.try_into().ok()) {
            sum += held_bytes(store.content_bytes(MessageId(id), value)?);
        }
        keys.next();
    }
    keys.status()?;
    Ok(sum)
}

impl Writer {
    /// Removes contents of messages that were reviewed, or expired, longer ago than contents are kept.
    pub(super) fn forget(&mut self, now: Timestamp) -> Result<(), AppendError> {
        let kept_secs = self.shared.contents_kept_secs.load(Ordering::Relaxed);
        if kept_secs == 0 {
            return Ok(());
        }
        let until = now.minus_secs(kept_secs);
        self.remove_while(
            until,
            |_| true,
            "kept as long as quarantine.retention_days says",
        )
    }

    /// Removes contents of reviewed messages when all contents take more than they may. An eighth more than needed goes,
    /// so that this is done once in a while and not for each message.
    pub(super) fn make_room(&mut self) -> Result<(), AppendError> {
        let bytes_max = self.shared.held_room.bytes_max();
        let State::Open(opened) = &self.state else {
            return Ok(());
        };
        let Contents { pending, reviewed } = opened.contents;
        if reviewed == 0 || pending + reviewed <= bytes_max {
            return Ok(());
        }
        let goal = bytes_max - bytes_max / 8;
        let too_many = move |contents: Contents| contents.pending + contents.reviewed > goal;
        let why = "room for others, see quarantine.contents_bytes_max";
        self.remove_while(Timestamp(u64::MAX), too_many, why)
    }

    /// Removes contents of messages reviewed until then, those reviewed first, as long as `goes_on`, and records it.
    fn remove_while(
        &mut self,
        until: Timestamp,
        goes_on: impl Fn(Contents) -> bool,
        why: &str,
    ) -> Result<(), AppendError> {
        let (mut removed, mut bytes) = (0, 0);
        loop {
            let State::Open(opened) = &self.state else {
                return Err(self.unavailable());
            };
            let mut left = opened.contents;
            let reviewed =
                due(&opened.store, b'r', until).map_err(|error| unreadable_append(&error))?;
            let goes: Vec<Due> = reviewed
                .into_iter()
                .take_while(|due| {
                    let goes = goes_on(left);
                    left.reviewed = left.reviewed.saturating_sub(held_bytes(due.bytes));
                    goes
                })
                .collect();
            if goes.is_empty() {
                break;
            }
            self.remove(&goes)?;
            removed += goes.len() as u64;
            bytes += goes.iter().map(|due| due.bytes).sum::<u64>();
        }
        if removed == 0 {
            return Ok(());
        }
        tracing::info!(removed, bytes, "contents of held messages were removed");
        self.shared
            .contents_removed
            .fetch_add(removed, Ordering::Relaxed);
        let detail = format!("{removed} contents, {bytes} bytes: {why}");
        let record = RecordRef {
            detail: &detail,
            ..RecordRef::empty(random_id(), Timestamp::now(), Reason::ContentsRemoved)
        };
        self.turn.system(&record);
        self.commit_turn()?;
        Ok(())
    }

    fn remove(&mut self, contents: &[Due]) -> Result<(), AppendError> {
        let State::Open(opened) = &mut self.state else {
            return Err(self.unavailable());
        };
        let held = opened.store.cf(HELD);
        let mut write = WriteBatch::default();
        for due in contents {
            write.delete_cf(held, held_key(b'c', due.id));
            write.delete_cf(held, due.key);
        }
        if let Err(error) = opened.store.db.write(write) {
            self.fail(error.into_string());
            return Err(self.unavailable());
        }
        for due in contents {
            let left = opened
                .contents
                .reviewed
                .saturating_sub(held_bytes(due.bytes));
            opened.contents.reviewed = left;
        }
        Ok(())
    }
}
