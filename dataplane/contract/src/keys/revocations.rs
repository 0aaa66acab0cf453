//! Keys that must not be believed any more: `revoked/revocations.jsonl`, one line each, only ever appended to.
//!
//! A file or a line that can't be read is an error, never an empty list: otherwise damaging one byte would
//! bring every revoked key back.

use super::types::Fingerprint;
use crate::clock::Timestamp;
use crate::files::{self, FileError};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of the file: about a hundred thousand revocations.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// Characters of a reason.
const REASON_CHARS_MAX: usize = 200;

/// A key that must not be believed any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RevokedKey {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Whose it was.
    pub agent_name: String,
    /// Since when, RFC 3339.
    pub revoked_at: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

impl RevokedKey {
    /// A revocation that takes effect now.
    pub fn new(fingerprint: Fingerprint, agent: &str, now: Timestamp, reason: &str) -> Self {
        Self {
            fingerprint,
            agent_name: agent.to_owned(),
            revoked_at: now.to_rfc3339(),
            reason: reason.chars().take(REASON_CHARS_MAX).collect(),
        }
    }
}

/// Why revocations are not known.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The file can't be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FileError,
    },
    /// A line is none of ours.
    #[error("{path}:{line}: not a revocation: {source}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A line can't be added.
    #[error("{path}: can't be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The file of a folder of keys.
pub fn path(keys_dir: &Path) -> PathBuf {
    keys_dir.join("revoked").join("revocations.jsonl")
}

/// Every revocation, oldest first, each key once. No file means none.
///
/// # Errors
/// See [`RevocationError`]; whoever gets one must not believe any signature.
pub fn load(keys_dir: &Path) -> Result<Vec<RevokedKey>, RevocationError> {
    let path = path(keys_dir);
    let text = match files::read_text(&path, FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(FileError::Missing) => return Ok(Vec::new()),
        Err(source) => return Err(RevocationError::File { path, source }),
    };
    let mut seen = HashSet::new();
    let mut revoked = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        match serde_json::from_str::<RevokedKey>(line) {
            Ok(key) if seen.insert(key.fingerprint) => revoked.push(key),
            Ok(_) => {}
            Err(source) => {
                return Err(RevocationError::Line {
                    path,
                    line: index + 1,
                    source,
                });
            }
        }
    }
    Ok(revoked)
}

/// Adds one; on the disk when this returns.
///
/// # Errors
/// [`RevocationError::Write`].
pub fn append(keys_dir: &Path, key: &RevokedKey) -> Result<(), RevocationError> {
    let path = path(keys_dir);
    append_line(&path, key).map_err(|source| RevocationError::Write { path, source })
}

fn append_line(path: &Path, key: &RevokedKey) -> io::Result<()> {
    let folder = path.parent().expect("the file lies in revoked/");
    files::create_folder(folder)?;
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "is not a regular file",
        ));
    }
    let mut line = serde_json::to_vec(key).map_err(io::Error::other)?;
    line.push(b'\n');
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    // One write, so that two processes appending at once don't mix their lines.
    file.write_all(&line)?;
    file.sync_all()?;
    files::sync_folder(folder)
}
