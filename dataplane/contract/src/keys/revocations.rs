//! Keys that must not be believed any more: `revoked/revocations.jsonl`, one line each, only ever appended to.
//!
//! A file or a line that can't be read is an error, never an empty list: otherwise damaging one byte would
//! bring every revoked key back. The one exception is half a line at the end, which is what a crash in the middle of
//! [`append`] leaves: nobody was told that this key is revoked, and whoever appends next takes it away.

use super::types::Fingerprint;
use crate::clock::Timestamp;
use crate::files::{self, FileError};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
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

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Every revocation, oldest first, each key once.
    pub keys: Vec<RevokedKey>,
    /// Where half a line stands at the end, if one does.
    pub torn: Option<Torn>,
}

/// Half a line at the end of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path}:{line}: half a line, left by a revocation that was broken off and never reported as done; it is ignored, \
     and the next revocation takes it away: revoke the key again"
)]
pub struct Torn {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

/// Reads the file. None means no revocations.
///
/// # Errors
/// See [`RevocationError`]; whoever gets one must not believe any signature.
pub fn load(keys_dir: &Path) -> Result<Revocations, RevocationError> {
    let path = path(keys_dir);
    let bytes = match files::read(&path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(FileError::Missing) => return Ok(Revocations::default()),
        Err(source) => return Err(RevocationError::File { path, source }),
    };
    let mut seen = HashSet::new();
    let mut found = Revocations::default();
    for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        match read_line(line) {
            Line::Empty => {}
            Line::Key(key) => {
                if seen.insert(key.fingerprint) {
                    found.keys.push(key);
                }
            }
            Line::Torn => {
                found.torn = Some(Torn {
                    path: path.clone(),
                    line: index + 1,
                });
            }
            Line::Bad(source) => {
                return Err(RevocationError::Line {
                    path,
                    line: index + 1,
                    source,
                });
            }
        }
    }
    Ok(found)
}

/// What a line is.
enum Line {
    Empty,
    Key(RevokedKey),
    Torn,
    Bad(serde_json::Error),
}

/// Reads a line with the end it has. It is torn only if it has none and breaks off: damage elsewhere, also where a line
/// ends, leaves something that is not the beginning of a line of ours.
fn read_line(line: &[u8]) -> Line {
    let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Line::Empty;
    }
    match serde_json::from_slice(text) {
        Ok(key) => Line::Key(key),
        Err(error) if error.is_eof() && !text.ends_with(b"\n") => Line::Torn,
        Err(error) => Line::Bad(error),
    }
}

/// Adds one; on the disk when this returns. On an error the file is as it was, apart from half a line that is gone.
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
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    // What another process is in the middle of writing is no half line.
    file.lock()?;
    let end = mend_end(&mut file)?;
    if let Err(error) = file.write_all(&line).and_then(|()| file.sync_all()) {
        // Best effort: what stays is half a line, or a revocation more than was reported.
        let _ = file.set_len(end);
        return Err(error);
    }
    files::sync_folder(folder)
}

/// Makes the file end with a whole line, and answers its length. A last line that only lacks its end gets it; half of one
/// is taken away.
fn mend_end(file: &mut File) -> io::Result<u64> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let length = bytes.len() as u64;
    if length > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "is too large"));
    }
    let Some(last) = bytes.split_inclusive(|&byte| byte == b'\n').next_back() else {
        return Ok(0);
    };
    if last.ends_with(b"\n") {
        return Ok(length);
    }
    if matches!(read_line(last), Line::Torn) {
        let whole = length - last.len() as u64;
        file.set_len(whole)?;
        return Ok(whole);
    }
    file.write_all(b"\n")?;
    Ok(length + 1)
}
