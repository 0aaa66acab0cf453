//! Reading small files safely and replacing them without ever leaving half of one.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("there is no such file")]
    Missing,
    /// The last step of its path is a link.
    #[error("is a symbolic link (rejected for security)")]
    Symlink,
    /// A folder, a socket, a device.
    #[error("is not a regular file")]
    NotRegular,
    /// Larger than anything we would write.
    #[error("is too large ({size} bytes, max {max})")]
    TooLarge {
        /// Bytes it has.
        size: u64,
        /// Bytes it may have.
        max: u64,
    },
    /// Others were put in its place again and again.
    #[error("is replaced faster than it can be opened")]
    Replaced,
    /// Not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// The system says no.
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
}

/// How often a file that was replaced between looking at it and opening it is looked at again.
const OPENINGS_MAX: usize = 100;

/// Reads a regular file of bounded size that is no link.
///
/// # Errors
/// See [`FileError`].
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let tries = std::iter::repeat_with(|| open(path)).take(OPENINGS_MAX);
    let (file, opened) = tries
        .filter_map(Result::transpose)
        .next()
        .unwrap_or(Err(FileError::Replaced))?;
    if opened.len() > bytes_max {
        return Err(FileError::TooLarge {
            size: opened.len(),
            max: bytes_max,
        });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(opened.len()).unwrap_or(0));
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(FileError::TooLarge {
            size: bytes.len() as u64,
            max: bytes_max,
        });
    }
    Ok(bytes)
}

/// Opens a regular file that is no link. `None` if it is not the one that was looked at, as when [`replace`] puts a new
/// one there just then.
fn open(path: &Path) -> Result<Option<(File, Metadata)>, FileError> {
    let missing = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => FileError::Missing,
        _ => FileError::Io(e),
    };
    let found = std::fs::symlink_metadata(path).map_err(missing)?;
    if found.file_type().is_symlink() {
        return Err(FileError::Symlink);
    }
    if !found.is_file() {
        return Err(FileError::NotRegular);
    }
    let file = File::open(path).map_err(missing)?;
    let opened = file.metadata()?;
    let same = (opened.dev(), opened.ino()) == (found.dev(), found.ino());
    Ok(same.then_some((file, opened)))
}

/// [`read`] for UTF-8 text; a byte order mark is dropped.
///
/// # Errors
/// See [`FileError`].
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String, FileError> {
    let text = String::from_utf8(read(path, bytes_max)?).map_err(|_| FileError::NotText)?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or_else(|| text.clone(), str::to_owned))
}

/// Replaces a file whole: a temporary one beside it, synced, renamed, folder synced.
///
/// # Errors
/// What the system says; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = folder_of(path);
    let temporary = temporary_beside(path)?;
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // Best effort: what matters is the error above.
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    sync_folder(&folder)
}

/// Writes a file that must not exist yet, and syncs it.
///
/// # Errors
/// `AlreadyExists`, or what the system says; there is no file then.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.set_permissions(std::fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // An empty file would be in the way of whoever tries again.
        let _ = std::fs::remove_file(path);
    }
    written?;
    sync_folder(&folder_of(path))
}

/// Makes a folder and those above it; new ones are for the owner alone.
///
/// # Errors
/// What the system says.
pub fn create_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Makes renames and new names in a folder survive a loss of power.
///
/// # Errors
/// What the system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", hex::encode(random)));
    Ok(folder_of(path).join(name))
}

#[cfg(test)]
mod tests {
    use super::{FileError, read, replace};
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_file_that_is_replaced_meanwhile_is_read_old_or_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        replace(&path, b"text", 0o600).unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let other = folder.path().join("other");
                    std::fs::write(&other, "text").unwrap();
                    std::fs::rename(other, &path).unwrap();
                }
            });
            let reads: Vec<_> = (0..20_000).map(|_| read(&path, 64)).collect();
            ended.store(true, Ordering::Relaxed);
            for bytes in reads {
                assert_eq!(bytes.unwrap(), b"text");
            }
        });
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(matches!(read(&link, 64), Err(FileError::Symlink)));
        assert!(matches!(
            read(folder.path(), 64),
            Err(FileError::NotRegular)
        ));
    }
}
