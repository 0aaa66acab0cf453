//! From files on disk to a snapshot that every data plane has.
//!
//! ```text
//! change (file, signal, API) → read everything → compare → compile patterns → next revision → publish
//! ```
//!
//! What cannot be read changes nothing: the last good snapshot stays, and the status says "stale".

mod compiler;
mod reload;
mod revision;
mod source;
mod watch;

pub(crate) use compiler::Compiler;
pub(crate) use reload::{Outcome, Outlets, Reloader, Trigger};
pub(crate) use source::{Read, Source};

use oktsec_contract::clock::Timestamp;
use oktsec_contract::snapshot::Snapshot;
use std::sync::Arc;

/// A snapshot on its way to the data planes.
pub(crate) struct Published {
    /// What they decide by.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The same as a frame of the link, encoded once for all of them.
    pub(crate) frame: Arc<[u8]>,
    /// When.
    pub(crate) at: Timestamp,
    /// What an operator should mend, though it did not stop us.
    pub(crate) warnings: Vec<String>,
}

/// Whether what is published is what stands on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ConfigState {
    /// It is.
    #[default]
    Current,
    /// What stands on disk cannot be used; the snapshot before is in force.
    Stale {
        /// Everything that is wrong with it.
        problems: Vec<String>,
        /// Since when.
        since: Timestamp,
    },
}

impl ConfigState {
    /// One word for status and readiness.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Stale { .. } => "stale",
        }
    }
}
