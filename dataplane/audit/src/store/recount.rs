//! Counts again what a lost head counted: records by their status, held messages by theirs.

use crate::layout::{HELD, Head, HeldStatus, POSTINGS, Tag, held_status_key, sequence_of};
use crate::postings;
use crate::store::{ReadError, Store};
use oktsec_contract::verdict::Status;
use rocksdb::DBRawIterator;

/// A head without a place in the chain. What cannot be read is not counted.
pub(super) fn head(store: &Store) -> Result<Head, ReadError> {
    let mut head = Head::default();
    for status in Status::ALL {
        if let Some(count) = head.statuses.get_mut(usize::from(status.code())) {
            *count = records(store, status)?;
        }
    }
    for status in HeldStatus::ALL {
        let first = held_status_key(status, 0);
        let mut keys = store.db.raw_iterator_cf(store.cf(HELD));
        keys.seek(first);
        while keys.key().is_some_and(|key| key.starts_with(&first[..2])) {
            head.held[status as usize] += 1;
            keys.next();
        }
        done(&keys)?;
    }
    Ok(head)
}

fn records(store: &Store, status: Status) -> Result<u64, ReadError> {
    let mut prefix = Vec::new();
    postings::term_key(&mut prefix, Tag::Status, status.as_str().as_bytes());
    let mut keys = store.db.raw_iterator_cf(store.cf(POSTINGS));
    keys.seek(&prefix);
    let (mut count, mut block) = (0, Vec::new());
    while let Some((key, gaps)) = keys.item().filter(|(key, _)| key.starts_with(&prefix)) {
        if let Some(first) = sequence_of(key)
            && postings::read(first, gaps, &mut block).is_some()
        {
            count += block.len() as u64;
        }
        keys.next();
    }
    done(&keys)?;
    Ok(count)
}

fn done(keys: &DBRawIterator<'_>) -> Result<(), ReadError> {
    match keys.status().map_err(ReadError::from) {
        Err(error) if !error.is_damage() => Err(error),
        _ => Ok(()),
    }
}
