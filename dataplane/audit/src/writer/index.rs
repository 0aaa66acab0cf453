//! The posting lists of the newest records: collected over turns, written together.
//!
//! A list costs a key however short it is, and keys that do not come in order are the dearest thing to give to
//! RocksDB: a turn of twenty messages would write twenty of them. So they are written once for
//! [`INDEX_RECORDS`] records. Readers look at the records behind [`Head::indexed`] one by one; a writer that opens
//! the log reads them back.

use crate::chunk::{Chunk, Records};
use crate::layout::{Head, POSTINGS};
use crate::limits::{DAMAGE_RECORDS, INDEX_RECORDS};
use crate::postings::{Postings, Scratch};
use crate::store::{ReadError, Store};
use oktsec_contract::record::RecordRef;
use rocksdb::WriteBatch;

/// What no list in the store names yet.
#[derive(Default)]
pub(super) struct Index {
    /// Records are counted from the one after `written`.
    postings: Postings,
    /// Number of the last record that lists in the store cover.
    written: u64,
    scratch: Scratch,
}

impl Index {
    /// Reads back what was not written before the log was closed.
    pub(super) fn load(store: &Store, head: &Head) -> Result<Self, ReadError> {
        let mut index = Self {
            written: head.indexed,
            ..Self::default()
        };
        let mut left = DAMAGE_RECORDS;
        let mut chunks = Records::scan(store).chunks_from(head.indexed + 1);
        // More can only be missing where a head was lost; it stays unindexed rather than fill the memory.
        while left > 0
            && let Some(chunk) = chunks.next()?
        {
            // What is damaged is in no list; verify_chain tells of it.
            let Chunk::Read(_, entries) = chunk else {
                continue;
            };
            for entry in entries.map_while(Result::ok) {
                let mut findings = Vec::new();
                let offset = entry.sequence.checked_sub(head.indexed + 1);
                if let Some(offset) = offset.and_then(|offset| u32::try_from(offset).ok())
                    && let Ok(record) = RecordRef::decode(entry.bytes, &mut findings)
                {
                    index.postings.add_record(&record, offset);
                    left = left.saturating_sub(1);
                }
            }
        }
        Ok(index)
    }

    /// Takes over the lists of a batch whose first record has this number.
    pub(super) fn take(&mut self, postings: &Postings, first: u64) {
        let offset = u32::try_from(first - self.written - 1)
            .expect("a turn that begins a segment writes what came before it first");
        self.postings.merge(postings, offset);
    }

    /// Whether so many records are in no list that readers would begin to feel it.
    pub(super) fn is_due(&self, last: u64) -> bool {
        last - self.written >= INDEX_RECORDS
    }

    /// Puts all lists into a write, up to this record, and begins anew behind it. A write that fails makes the
    /// writer open the log again and read back what it needs.
    pub(super) fn write(&mut self, store: &Store, write: &mut WriteBatch, last: u64) {
        let family = store.cf(POSTINGS);
        self.postings
            .write(self.written + 1, &mut self.scratch, |key, gaps| {
                write.put_cf(family, key, gaps);
            });
        self.postings.clear();
        self.written = last;
    }
}
