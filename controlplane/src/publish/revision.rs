//! The growing number of snapshots, kept on disk so that it grows over restarts as well.

use oktsec_contract::files;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file with the last revision given out.
pub(crate) struct Revisions {
    path: PathBuf,
    last: u64,
}

impl Revisions {
    /// Reads the last revision. A file that is missing or unreadable counts as none: a data plane that knows a
    /// higher one says so when it connects, and [`Self::next`] then starts above it.
    pub(crate) fn open(path: PathBuf) -> Self {
        let last = fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        Self {
            path,
            last: last.unwrap_or(0),
        }
    }

    /// The file it stands in.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next revision, above `floor` and everything given out before; on disk before it is used.
    ///
    /// # Errors
    /// When it cannot be written: a number that may be given out twice is worse than no new snapshot.
    pub(crate) fn next(&mut self, floor: u64) -> io::Result<u64> {
        let next = self.last.max(floor) + 1;
        files::replace(&self.path, next.to_string().as_bytes(), 0o600)?;
        self.last = next;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::Revisions;

    #[test]
    fn revisions_grow_over_restarts_and_above_what_a_data_plane_knows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revision");
        let mut revisions = Revisions::open(path.clone());
        assert_eq!(revisions.next(0).unwrap(), 1);
        assert_eq!(revisions.next(0).unwrap(), 2);
        assert_eq!(Revisions::open(path.clone()).next(0).unwrap(), 3);
        assert_eq!(Revisions::open(path.clone()).next(41).unwrap(), 42);
        std::fs::write(&path, "what?").unwrap();
        assert_eq!(Revisions::open(path).next(42).unwrap(), 43);
    }
}
