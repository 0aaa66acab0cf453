//! The store on disk: mode 0600, sealed with the key, replaced whole.
//!
//! ```text
//! magic 8 | version u32 | key id 8 | names u32 | values u32
//! name:  kind u8, length u8, bytes, hosts u8, and of each: length u8, bytes      (version 1 had no hosts)
//! value: hash 16, window u32, masked pair u16, offset u16, length u16, name u32      (30 bytes)
//! seal 32: keyed hash of all before it
//! ```
//! Numbers are little-endian.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use super::index::SecretIndex;
use super::key::{self, SecretKey, WINDOW_BYTES};
use super::store::{Entry, Name, SECRET_HOSTS_MAX, SECRETS_MAX, SecretKind};

const MAGIC: &[u8; 8] = b"OKTSECSV";
const VERSION: u32 = 2;
/// The version before values belonged to hosts.
const HOSTLESS: u32 = 1;

/// Largest file read: a million values, each with a name of its own.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Why a store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file system said no, or the file's mode lets others in.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It was written with another key.
    #[error("the store was written with another key")]
    OtherKey,
    /// It was cut, changed, or never was a store of ours.
    #[error("the store is damaged or no store of this version")]
    Damaged,
}

/// What a store holds.
type Kept = (Vec<Name>, Vec<Entry>);

/// `None` if there is no file.
pub(super) fn read(path: &Path, key: &SecretKey) -> Result<Option<Kept>, SecretFileError> {
    let Some(bytes) = sealed(path)? else {
        return Ok(None);
    };
    let (version, rest, _) = open(&bytes, key)?;
    parse(version, rest, key)
        .ok_or(SecretFileError::Damaged)
        .map(Some)
}

/// The seal of a file that is whole; `None` if there is no file.
pub(super) fn verify(path: &Path, key: &SecretKey) -> Result<Option<[u8; 32]>, SecretFileError> {
    let Some(bytes) = sealed(path)? else {
        return Ok(None);
    };
    open(&bytes, key).map(|(.., seal)| Some(seal))
}

/// The bytes of the file.
fn sealed(path: &Path) -> Result<Option<Vec<u8>>, SecretFileError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    key::refuse_shared(&file)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The version of a file with the right seal, what lies behind its head, and the seal.
fn open<'b>(
    bytes: &'b [u8],
    key: &SecretKey,
) -> Result<(u32, &'b [u8], [u8; 32]), SecretFileError> {
    let (body, seal) = bytes
        .split_last_chunk::<32>()
        .ok_or(SecretFileError::Damaged)?;
    let mut rest = body.strip_prefix(MAGIC).ok_or(SecretFileError::Damaged)?;
    let version = take(&mut rest)
        .map(u32::from_le_bytes)
        .filter(|version| matches!(*version, HOSTLESS | VERSION))
        .ok_or(SecretFileError::Damaged)?;
    if take::<8>(&mut rest).ok_or(SecretFileError::Damaged)? != key.id() {
        return Err(SecretFileError::OtherKey);
    }
    if key.seal(body) != *seal {
        return Err(SecretFileError::Damaged);
    }
    Ok((version, rest, *seal))
}

fn parse(version: u32, mut rest: &[u8], key: &SecretKey) -> Option<Kept> {
    let rest = &mut rest;
    let names_count = u32::from_le_bytes(take(rest)?);
    let count = u32::from_le_bytes(take(rest)?);
    if names_count > count || count as usize > SECRETS_MAX {
        return None;
    }
    let mut names = Vec::with_capacity(names_count as usize);
    for _ in 0..names_count {
        let [kind] = take(rest)?;
        let kind = match kind {
            0 => SecretKind::Value,
            1 => SecretKind::Canary,
            _ => return None,
        };
        let text = short_text(rest)?;
        let hosts = match version {
            HOSTLESS => 0,
            _ => usize::from(u8::from_le_bytes(take(rest)?)),
        };
        if hosts > SECRET_HOSTS_MAX {
            return None;
        }
        let hosts = (0..hosts)
            .map(|_| short_text(rest))
            .collect::<Option<Vec<_>>>()?;
        names.push(Name { text, kind, hosts });
    }
    let mut entries = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let value = take(rest)?;
        let entry = Entry {
            value,
            window: u32::from_le_bytes(take(rest)?),
            pair: u16::from_le_bytes(take(rest)?) ^ key.mask(&value),
            offset: u16::from_le_bytes(take(rest)?),
            length: u16::from_le_bytes(take(rest)?),
            name: u32::from_le_bytes(take(rest)?),
        };
        let fits = usize::from(entry.offset) + WINDOW_BYTES <= usize::from(entry.length);
        if !fits || entry.name >= names_count {
            return None;
        }
        entries.push(entry);
    }
    rest.is_empty().then_some((names, entries))
}

/// The index of what lies behind the head of a file, whoever wrote it; for the fuzzer, which knows no seal.
pub(crate) fn index_of(rest: &[u8], key: &SecretKey) -> Option<SecretIndex> {
    let (names, entries) = parse(VERSION, rest, key)?;
    Some(SecretIndex::new(key.clone(), names, &entries))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// A text of up to 255 bytes, its length before it.
fn short_text(rest: &mut &[u8]) -> Option<String> {
    let [length] = take(rest)?;
    let (text, tail) = rest.split_at_checked(usize::from(length))?;
    *rest = tail;
    String::from_utf8(text.to_vec()).ok()
}

fn push_short(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(text.len() as u8);
    bytes.extend_from_slice(text.as_bytes());
}

pub(super) fn write(
    path: &Path,
    key: &SecretKey,
    names: &[Name],
    entries: &[Entry],
) -> Result<(), SecretFileError> {
    let mut bytes = Vec::with_capacity(64 + names.len() * 32 + entries.len() * 30);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&key.id());
    bytes.extend_from_slice(&(names.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for name in names {
        bytes.push(match name.kind {
            SecretKind::Value => 0,
            SecretKind::Canary => 1,
        });
        push_short(&mut bytes, &name.text);
        bytes.push(name.hosts.len() as u8);
        name.hosts
            .iter()
            .for_each(|host| push_short(&mut bytes, host));
    }
    for entry in entries {
        bytes.extend_from_slice(&entry.value);
        bytes.extend_from_slice(&entry.window.to_le_bytes());
        bytes.extend_from_slice(&(entry.pair ^ key.mask(&entry.value)).to_le_bytes());
        bytes.extend_from_slice(&entry.offset.to_le_bytes());
        bytes.extend_from_slice(&entry.length.to_le_bytes());
        bytes.extend_from_slice(&entry.name.to_le_bytes());
    }
    let seal = key.seal(&bytes);
    bytes.extend_from_slice(&seal);
    replace(path, &bytes)?;
    Ok(())
}

/// Written next to its name, synced and renamed: a reader sees all of it or nothing.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let result = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result?;
    match path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => fs::File::open(".")?.sync_all(),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A file a crash left behind may have another mode: never write into it.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{HOSTLESS, MAGIC, SecretKey, VERSION};
    use crate::secrets::{SecretIndex, SecretKind, SecretStore};

    #[test]
    fn a_store_of_before_there_were_hosts_is_read_and_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let key = || SecretKey::from_bytes([3; 32]);
        let mut store = SecretStore::new(key());
        store
            .add("db", SecretKind::Value, b"blue+Harbour9")
            .unwrap();
        store.write(&path).unwrap();
        // What that version wrote: no count of hosts behind the name.
        let new = std::fs::read(&path).unwrap();
        let mut old = MAGIC.to_vec();
        old.extend(HOSTLESS.to_le_bytes());
        old.extend(&new[12..32]);
        assert_eq!((&new[30..32], new[32]), (&b"db"[..], 0));
        old.extend(&new[33..new.len() - 32]);
        let seal = key().seal(&old);
        old.extend(seal);
        std::fs::write(&path, &old).unwrap();

        let mut read = SecretStore::read(&path, key()).unwrap().unwrap();
        assert_eq!(read.list(), store.list());
        assert!(read.bind("db", vec![String::from("db.example")]).unwrap());
        read.write(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[8..12], VERSION.to_le_bytes());
        let again = SecretStore::read(&path, key()).unwrap().unwrap();
        assert_eq!(again.list()[0].hosts, ["db.example"]);
        assert!(SecretIndex::load(&path, key()).unwrap().unwrap().binds());
    }
}
