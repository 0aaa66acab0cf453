//! What tells a file from another one in its place, without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    file: (u64, u64),
    bytes: u64,
    mode: u32,
    changed: (i64, i64),
}

impl Stamp {
    /// Of the name itself, where links are refused when it is read. `None` if there is none.
    pub(crate) fn of_name(file: &Path) -> Option<Self> {
        std::fs::symlink_metadata(file)
            .ok()
            .map(|meta| Self::from(&meta))
    }

    /// Of what the name leads to: a mounted folder changes by moving links. `None` if that is nothing.
    pub(crate) fn of_target(file: &Path) -> Option<Self> {
        std::fs::metadata(file).ok().map(|meta| Self::from(&meta))
    }
}

impl From<&Metadata> for Stamp {
    fn from(meta: &Metadata) -> Self {
        Self {
            file: (meta.dev(), meta.ino()),
            bytes: meta.len(),
            mode: meta.mode(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}
