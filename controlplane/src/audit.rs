//! One reader of the audit store for all requests: a RocksDB secondary, so that no query touches the way of a
//! message. Opened when first needed, because the data plane makes the store.

use oktsec_audit::{OpenError, ReadError, Reader};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// The shared reader.
pub(crate) struct AuditReader {
    store: PathBuf,
    secondary: PathBuf,
    reader: Mutex<Option<Arc<Reader>>>,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// There are no records yet: the data plane has never run here.
    #[error("there is no audit log yet")]
    Absent,
    /// It cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The store says no.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Our bug.
    #[error("reading the audit log failed")]
    Panicked,
}

impl AuditReader {
    /// Of the store in `store`; `secondary` is a folder of our own for the reader's files.
    pub(crate) fn new(store: PathBuf, secondary: PathBuf) -> Self {
        Self {
            store,
            secondary,
            reader: Mutex::new(None),
        }
    }

    /// Reads what is there now, off the threads that serve requests.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, AuditError> {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let reader = this.reader()?;
            let done = reader.refresh().and_then(|()| work(&reader));
            if done.is_err() {
                // The store may have been replaced; the next request opens it anew.
                *this.reader.lock() = None;
            }
            Ok(done?)
        })
        .await
        .unwrap_or(Err(AuditError::Panicked))
    }

    fn reader(&self) -> Result<Arc<Reader>, AuditError> {
        let mut reader = self.reader.lock();
        if let Some(reader) = &*reader {
            return Ok(Arc::clone(reader));
        }
        let opened = match Reader::open(&self.store, &self.secondary) {
            Ok(opened) => Arc::new(opened),
            Err(OpenError::Missing { .. }) => return Err(AuditError::Absent),
            Err(error) => return Err(AuditError::Open(error)),
        };
        *reader = Some(Arc::clone(&opened));
        Ok(opened)
    }
}
