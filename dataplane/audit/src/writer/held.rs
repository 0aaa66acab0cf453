//! Reviews of held messages and their expiry: the status and the record about it are one write.

use super::{State, Writer, random_id};
use crate::HeldItem;
use crate::layout::{HELD, HeldMeta, HeldStatus, sequence_of};
use crate::limits::EXPIRE_TURN_MAX;
use crate::log::{AppendError, Resolved, Review, ReviewError, ReviewJob};
use crate::store::{ReadError, Store};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::id::MessageId;
use oktsec_contract::reason::Reason;
use oktsec_contract::record::RecordRef;

impl Writer {
    pub(super) fn resolve(&mut self, job: ReviewJob) {
        let ReviewJob {
            id,
            action,
            reviewer,
            now,
            promise,
        } = job;
        promise.keep(self.review(id, action, &reviewer, now));
    }

    fn review(
        &mut self,
        id: MessageId,
        action: Review,
        reviewer: &str,
        now: Timestamp,
    ) -> Result<Resolved, ReviewError> {
        let State::Open(opened) = &self.state else {
            return Err(self.unavailable().into());
        };
        let meta = opened
            .store
            .held_meta(id)
            .map_err(unreadable)?
            .ok_or(ReviewError::NotFound)?;
        if meta.status != HeldStatus::Pending {
            return Err(ReviewError::NotPending {
                status: meta.status,
            });
        }
        let store = &opened.store;
        let mut item = HeldItem::load(store, id, meta.clone(), true).map_err(unreadable)?;
        let bytes = item.content.as_ref().map_or(0, Vec::len) as u64;
        if meta.expires_at <= now {
            // Its minute had not come yet, but nobody may release it any more.
            self.stage(&item, meta, HeldStatus::Expired, "", now, bytes);
            self.commit_review()?;
            return Err(ReviewError::NotPending {
                status: HeldStatus::Expired,
            });
        }
        if matches!(action, Review::Release) {
            item.check().map_err(ReviewError::Damaged)?;
        }
        let status = match action {
            Review::Release => HeldStatus::Approved,
            Review::Discard => HeldStatus::Rejected,
        };
        self.stage(&item, meta, status, reviewer, now, bytes);
        let sequence = self.commit_review()?;
        item.status = status;
        item.reviewed_by = String::from(reviewer);
        item.reviewed_at = Some(now);
        Ok(Resolved { item, sequence })
    }

    /// Expires what is due, oldest first; answers how many.
    pub(super) fn expire(&mut self, now: Timestamp) -> Result<u64, AppendError> {
        let mut expired = 0;
        loop {
            let State::Open(opened) = &self.state else {
                return Err(self.unavailable());
            };
            let due = due(&opened.store, b'e', now).map_err(|e| unreadable_append(&e))?;
            let mut staged = 0;
            for Due { id, bytes, .. } in due {
                let State::Open(opened) = &self.state else {
                    return Err(self.unavailable());
                };
                let store = &opened.store;
                let Some(meta) = store.held_meta(id).map_err(|e| unreadable_append(&e))? else {
                    continue;
                };
                if meta.status != HeldStatus::Pending {
                    continue;
                }
                let item = HeldItem::load(store, id, meta.clone(), false)
                    .map_err(|e| unreadable_append(&e))?;
                self.stage(&item, meta, HeldStatus::Expired, "", now, bytes);
                staged += 1;
            }
            if staged == 0 {
                return Ok(expired);
            }
            self.commit_turn()?;
            expired += staged;
        }
    }

    /// Puts the new status and the record about it into the turn.
    fn stage(
        &mut self,
        item: &HeldItem,
        before: HeldMeta,
        status: HeldStatus,
        reviewer: &str,
        now: Timestamp,
        content_bytes: u64,
    ) {
        let reason = match status {
            HeldStatus::Approved => Reason::QuarantineApproved,
            HeldStatus::Rejected => Reason::QuarantineRejected,
            HeldStatus::Expired | HeldStatus::Pending => Reason::QuarantineExpired,
        };
        let mut findings = Vec::new();
        let original = item
            .record
            .as_ref()
            .and_then(|r| r.record(&mut findings).ok());
        let mut record = RecordRef::empty(random_id(), now, reason);
        record.about = Some(item.id);
        record.detail = cut(reviewer);
        if let Some(original) = &original {
            record.surface = original.surface;
            record.from = original.from;
            record.to = original.to;
            record.session = original.session;
            record.content_hash = original.content_hash;
            record.content_bytes = original.content_bytes;
        }
        self.turn.system(&record);
        let after = HeldMeta {
            status,
            reviewed_at: Some(now),
            reviewed_by: String::from(cut(reviewer)),
            ..before
        };
        self.turn.review(item.id, before, after, content_bytes);
    }

    fn commit_review(&mut self) -> Result<u64, ReviewError> {
        Ok(self.commit_turn()?)
    }

    /// Writes the turn that was staged; answers the number of its last record.
    pub(super) fn commit_turn(&mut self) -> Result<u64, AppendError> {
        let State::Open(opened) = &mut self.state else {
            return Err(self.unavailable());
        };
        let result = self.turn.commit(opened, &self.shared, &self.options, false);
        let sequence = opened.head.sequence;
        self.turn.clear();
        match result {
            Ok(_) => {
                self.after_commit();
                Ok(sequence)
            }
            Err(error) => {
                self.fail(error);
                Err(self.unavailable())
            }
        }
    }
}

/// Bytes of a reviewer's name that are kept.
const REVIEWER_BYTES_MAX: usize = 256;

fn cut(reviewer: &str) -> &str {
    let mut end = reviewer.len().min(REVIEWER_BYTES_MAX);
    while !reviewer.is_char_boundary(end) {
        end -= 1;
    }
    &reviewer[..end]
}

/// A held message that is due.
pub(super) struct Due {
    pub(super) key: [u8; 25],
    pub(super) id: MessageId,
    /// Bytes of its content.
    pub(super) bytes: u64,
}

/// The messages with a key of this tag and a time up to `until`, oldest first, as many as one turn takes.
pub(super) fn due(store: &Store, tag: u8, until: Timestamp) -> Result<Vec<Due>, ReadError> {
    let mut found = Vec::new();
    let mut keys = store.db.raw_iterator_cf(store.cf(HELD));
    keys.seek([tag]);
    while let Some((key, value)) = keys.item().filter(|(key, _)| key.starts_with(&[tag])) {
        let Ok(key) = <[u8; 25]>::try_from(key) else {
            break;
        };
        let time = sequence_of(&key[..9]).unwrap_or(u64::MAX);
        if time > until.0 || found.len() == EXPIRE_TURN_MAX {
            break;
        }
        let id = key[9..]
            .try_into()
            .map(MessageId)
            .map_err(|_| ReadError::Damaged("held key"))?;
        let bytes = store.content_bytes(id, value)?;
        found.push(Due { key, id, bytes });
        keys.next();
    }
    keys.status()?;
    Ok(found)
}

fn unreadable(error: ReadError) -> ReviewError {
    ReviewError::Damaged(error.to_string())
}

pub(super) fn unreadable_append(error: &ReadError) -> AppendError {
    AppendError::Unavailable(error.to_string().into())
}
