//! The RocksDB store, opened for writing or as a secondary, and the reads both sides need.

mod options;
mod recover;

use crate::chunk::{Entry, Records};
use crate::layout::{
    FAMILIES, HELD, Head, HeldMeta, META, META_CHECKPOINT, META_HEAD, META_NODE, POSTINGS,
    TIME_TAG, held_key, sequence_of, time_key,
};
use crate::limits::RECENT_PAGE_RECORDS;
use crate::{Checkpoint, StoredRecord};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::id::MessageId;
use rocksdb::{ColumnFamily, DB};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use recover::Recovered;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no log there.
    #[error("{}: there is no audit log yet", .0.display())]
    Missing(PathBuf),
    /// A symbolic link could lead anywhere.
    #[error("{}: a symbolic link, refused", .0.display())]
    Symlink(PathBuf),
    /// Another process writes to it.
    #[error("{}: another process writes to this log", .0.display())]
    Locked(PathBuf),
    /// The folder cannot be used.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// RocksDB refuses.
    #[error("{}: {message}", path.display())]
    Store {
        /// Which.
        path: PathBuf,
        /// What it says.
        message: String,
    },
    /// A thread could not be started.
    #[error("cannot start the audit writer: {0}")]
    Thread(std::io::Error),
}

/// Why a read failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// RocksDB refuses: a disk error or a checksum that does not fit.
    #[error("cannot read the audit log: {0}")]
    Store(String),
    /// A value is not what a writer writes.
    #[error("the audit log holds a damaged {0}")]
    Damaged(&'static str),
    /// The log is being opened again after an error.
    #[error("the audit log is not open")]
    NotOpen,
}

impl From<rocksdb::Error> for ReadError {
    fn from(error: rocksdb::Error) -> Self {
        Self::Store(error.into_string())
    }
}

/// An open store.
pub(crate) struct Store {
    pub(crate) db: DB,
    /// The node that writes it.
    pub(crate) node: Arc<str>,
}

impl Store {
    pub(crate) fn cf(&self, name: &str) -> &ColumnFamily {
        self.db
            .cf_handle(name)
            .expect("a store is opened with every family")
    }

    pub(crate) fn head(&self) -> Result<Option<Head>, ReadError> {
        let value = self.db.get_pinned_cf(self.cf(META), META_HEAD)?;
        value
            .map(|v| Head::decode(&v).ok_or(ReadError::Damaged("head")))
            .transpose()
    }

    pub(crate) fn checkpoint(&self) -> Result<Option<Checkpoint>, ReadError> {
        let value = self.db.get_pinned_cf(self.cf(META), META_CHECKPOINT)?;
        value
            .map(|v| Checkpoint::decode(&v).ok_or(ReadError::Damaged("checkpoint")))
            .transpose()
    }

    pub(crate) fn record(&self, sequence: u64) -> Result<Option<StoredRecord>, ReadError> {
        Ok(Records::new(self)
            .get(sequence)?
            .map(|entry| self.stored(&entry)))
    }

    pub(crate) fn stored(&self, entry: &Entry<'_>) -> StoredRecord {
        StoredRecord::new(Arc::clone(&self.node), entry)
    }

    pub(crate) fn held_meta(&self, id: MessageId) -> Result<Option<HeldMeta>, ReadError> {
        let value = self.db.get_pinned_cf(self.cf(HELD), held_key(b'm', id))?;
        value
            .map(|v| HeldMeta::decode(&v).ok_or(ReadError::Damaged("held message")))
            .transpose()
    }

    pub(crate) fn held_content(&self, id: MessageId) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.db.get_cf(self.cf(HELD), held_key(b'c', id))?)
    }

    /// The lowest sequence that a record received at or after `since` can have.
    pub(crate) fn first_since(&self, since: Timestamp) -> Result<u64, ReadError> {
        let Some(before) = since.0.checked_sub(1) else {
            return Ok(1);
        };
        let mut marks = self.db.raw_iterator_cf(self.cf(POSTINGS));
        marks.seek_for_prev(time_key(before, u64::MAX));
        let sequence = marks
            .key()
            .filter(|key| key[0] == TIME_TAG)
            .and_then(sequence_of);
        marks.status()?;
        Ok(sequence.unwrap_or(1))
    }

    /// The highest sequence that a record received at or before `until` can have.
    pub(crate) fn last_until(&self, until: Timestamp, head: &Head) -> Result<u64, ReadError> {
        let Some(after) = until.0.checked_add(crate::limits::LATE_MICROS + 1) else {
            return Ok(head.sequence);
        };
        let mut marks = self.db.raw_iterator_cf(self.cf(POSTINGS));
        marks.seek(time_key(after, 0));
        let mark = marks
            .key()
            .filter(|key| key[0] == TIME_TAG)
            .and_then(sequence_of);
        marks.status()?;
        Ok(mark.map_or(head.sequence, |sequence| (sequence - 1).max(head.late)))
    }

    fn read_node(db: &DB) -> Result<Option<Arc<str>>, ReadError> {
        let value = db.get(META_NODE)?;
        value
            .map(|v| {
                String::from_utf8(v)
                    .map(Arc::from)
                    .map_err(|_| ReadError::Damaged("node"))
            })
            .transpose()
    }
}

/// Records in the order they were written, from a point in time to the newest at the time of asking.
pub struct Recent {
    store: Arc<Store>,
    since: Timestamp,
    next: u64,
    last: u64,
    page: VecDeque<StoredRecord>,
}

impl Recent {
    pub(crate) fn new(store: Arc<Store>, since: Timestamp) -> Result<Self, ReadError> {
        let last = store.head()?.unwrap_or_default().sequence;
        let next = store.first_since(since)?;
        Ok(Self {
            store,
            since,
            next,
            last,
            page: VecDeque::new(),
        })
    }

    fn read_page(&mut self) -> Result<(), ReadError> {
        let mut records = Records::scan(&self.store);
        while self.page.len() < RECENT_PAGE_RECORDS {
            let Some(entry) = records.at_or_after(self.next)? else {
                break;
            };
            self.next = entry.sequence + 1;
            self.page.push_back(self.store.stored(&entry));
        }
        if self.page.is_empty() {
            self.next = self.last + 1;
        }
        Ok(())
    }
}

impl Iterator for Recent {
    type Item = Result<StoredRecord, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(record) = self.page.pop_front() {
                if record.sequence > self.last {
                    return None;
                }
                // A damaged record goes on to the caller, who should know.
                if record.received_at().is_none_or(|t| t >= self.since) {
                    return Some(Ok(record));
                }
            }
            if self.next > self.last {
                return None;
            }
            if let Err(error) = self.read_page() {
                self.next = self.last + 1;
                return Some(Err(error));
            }
        }
    }
}

impl std::fmt::Debug for Recent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recent")
            .field("next", &self.next)
            .field("last", &self.last)
            .finish()
    }
}

/// Refuses what could lead the log somewhere else.
fn check_not_symlink(dir: &Path) -> Result<(), OpenError> {
    match std::fs::symlink_metadata(dir) {
        Ok(meta) if meta.file_type().is_symlink() => Err(OpenError::Symlink(dir.to_owned())),
        _ => Ok(()),
    }
}

fn store_error(path: &Path, error: impl std::fmt::Display) -> OpenError {
    let message = error.to_string();
    if message.contains("lock hold by") || message.contains("LOCK: Resource temporarily") {
        return OpenError::Locked(path.to_owned());
    }
    OpenError::Store {
        path: path.to_owned(),
        message,
    }
}

impl Store {
    /// Opens it for writing; creates it if it is not there.
    pub(crate) fn open_primary(dir: &Path, node: &str) -> Result<Self, OpenError> {
        check_not_symlink(dir)?;
        create_private(dir).map_err(|error| OpenError::Io {
            path: dir.to_owned(),
            error,
        })?;
        let db = DB::open_cf_descriptors(&options::database(), dir, options::families())
            .map_err(|error| store_error(dir, error))?;
        let stored = Self::read_node(&db).map_err(|error| store_error(dir, error))?;
        let node = match stored {
            Some(stored) => {
                if *stored != *node {
                    tracing::warn!(log = %stored, configured = node, "the log keeps its node name");
                }
                stored
            }
            None => {
                db.put(META_NODE, node)
                    .map_err(|error| store_error(dir, error))?;
                Arc::from(node)
            }
        };
        Ok(Self { db, node })
    }

    /// Opens it for reading, beside a writer or without one. `secondary` is this reader's own folder.
    pub(crate) fn open_secondary(dir: &Path, secondary: &Path) -> Result<Self, OpenError> {
        check_not_symlink(dir)?;
        if !dir.join("CURRENT").exists() {
            return Err(OpenError::Missing(dir.to_owned()));
        }
        create_private(secondary).map_err(|error| OpenError::Io {
            path: secondary.to_owned(),
            error,
        })?;
        let db = DB::open_cf_descriptors_as_secondary(
            &options::secondary(),
            dir,
            secondary,
            options::families(),
        )
        .map_err(|error| store_error(dir, error))?;
        let node = Self::read_node(&db)
            .map_err(|error| store_error(dir, error))?
            .ok_or_else(|| OpenError::Missing(dir.to_owned()))?;
        Ok(Self { db, node })
    }

    /// Writes what lies in memory to tables, so that the next start has nothing to replay.
    pub(crate) fn settle(&self) {
        for family in FAMILIES {
            // The write-ahead log has it all: a failed flush loses nothing.
            let _ = self.db.flush_cf(self.cf(family));
        }
    }
}

fn create_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}
