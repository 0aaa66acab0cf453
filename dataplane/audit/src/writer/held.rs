//! Reviews of held messages and their expiry: the status and the record about it are one write.

use super::{State, Writer, random_id};
use crate::HeldItem;
use crate::layout::{HELD, HeldMeta, HeldStatus};
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
        let mut item = HeldItem::load(&opened.store, id, meta.clone(), true).map_err(unreadable)?;
        if meta.expires_at <= now {
            // Its minute had not come yet, but nobody may release it any more.
            self.stage(&item, meta, HeldStatus::Expired, "", now);
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
        self.stage(&item, meta, status, reviewer, now);
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
            let due = due(&opened.store, now).map_err(|e| unreadable_append(&e))?;
            let mut staged = 0;
            for id in due {
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
                self.stage(&item, meta, HeldStatus::Expired, "", now);
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
        self.turn.review(item.id, before, after);
    }

    fn commit_review(&mut self) -> Result<u64, ReviewError> {
        Ok(self.commit_turn()?)
    }

    /// Writes the turn that was staged; answers the number of its last record.
    fn commit_turn(&mut self) -> Result<u64, AppendError> {
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

/// The pending messages whose time is over, as many as one turn takes.
fn due(store: &Store, now: Timestamp) -> Result<Vec<MessageId>, ReadError> {
    let mut due = Vec::new();
    let mut keys = store.db.raw_iterator_cf(store.cf(HELD));
    keys.seek(b"e");
    while let Some(key) = keys.key().filter(|key| key[0] == b'e' && key.len() == 25) {
        let expires_at = crate::layout::sequence_of(&key[..9]).map_or(u64::MAX, |t| t);
        if expires_at > now.0 || due.len() == EXPIRE_TURN_MAX {
            break;
        }
        let id = key[9..]
            .try_into()
            .map_err(|_| ReadError::Damaged("held key"))?;
        due.push(MessageId(id));
        keys.next();
    }
    keys.status()?;
    Ok(due)
}

fn unreadable(error: ReadError) -> ReviewError {
    ReviewError::Damaged(error.to_string())
}

fn unreadable_append(error: &ReadError) -> AppendError {
    AppendError::Unavailable(error.to_string().into())
}
