//! The compiled database on disk, so that starting costs milliseconds.
//!
//! A file is used only if everything agrees: our format, the hash of the rules, the engine's
//! version, this CPU, and a SHA-256 over the file. Whatever else is there is compiled anew and
//! replaced. Written next to its name, synced and renamed: a reader sees all of it or nothing.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oktsec_rules::RuleSet;
use sha2::{Digest, Sha256};

use crate::anchor::Anchors;
use crate::compile::{Compiled, Group, Lookup};
use crate::engine::{self, Engine, EngineError};
use crate::gate::Gate;
use crate::signs;

const MAGIC: &[u8; 8] = b"OKTSECDB";

/// Changes with this file's layout, with `anchor` and with `dialect`.
const FORMAT: u32 = 13;

/// Largest cache file read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What became of the cache file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    /// The database came from it.
    Loaded,
    /// There was none; it is there now.
    Written,
    /// It was damaged or made by something else; a good one is there now.
    Replaced,
    /// The database was compiled, but could not be kept: why.
    NotWritten(String),
}

/// What a cached database depends on.
pub(crate) struct Key([u8; 32]);

impl Key {
    pub(crate) fn new(rules: &RuleSet) -> Result<Self, EngineError> {
        let mut hash = Sha256::new();
        hash.update(FORMAT.to_le_bytes());
        hash.update(rules.hash());
        for (number, sign) in signs::all() {
            hash.update(number.to_le_bytes());
            for word in &sign.words {
                hash.update((word.len() as u32).to_le_bytes());
                hash.update(word);
            }
        }
        hash.update(engine::version());
        for word in engine::platform()? {
            hash.update(word.to_le_bytes());
        }
        Ok(Self(hash.finalize().into()))
    }

    fn path(&self, dir: &Path) -> PathBuf {
        let name: String = self.0[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        dir.join(format!("rules-{name}.db"))
    }
}

/// Layout: magic, format, key, number of patterns, one lookup byte each, length and bytes of the
/// anchors, then for each group its gate, length and the engine's bytes, and SHA-256 of all before
/// it.
pub(crate) fn read(dir: &Path, key: &Key) -> Result<Compiled, CacheOutcome> {
    match fs::File::open(key.path(dir)) {
        Ok(mut file) => parse(&mut file, key).ok_or(CacheOutcome::Replaced),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CacheOutcome::Written),
        Err(_) => Err(CacheOutcome::Replaced),
    }
}

/// Reads the file twice, once for its sum and once piece by piece, so that a start needs the memory of one
/// group and not of all.
fn parse(file: &mut (impl Read + Seek), key: &Key) -> Option<Compiled> {
    let length = file.seek(SeekFrom::End(0)).ok()?;
    let body = length
        .checked_sub(32)
        .filter(|_| length <= FILE_BYTES_MAX)?;
    file.rewind().ok()?;
    let mut hash = Sha256::new();
    io::copy(
        &mut BufReader::with_capacity(64 << 10, file.by_ref().take(body)),
        &mut hash,
    )
    .ok()?;
    let mut sum = [0; 32];
    file.read_exact(&mut sum).ok()?;
    if hash.finalize()[..] != sum {
        return None;
    }
    file.rewind().ok()?;
    let mut rest = BufReader::new(file.by_ref().take(body));
    let mut head = [0; MAGIC.len() + 4 + 32];
    rest.read_exact(&mut head).ok()?;
    let key = head
        .strip_prefix(MAGIC)?
        .strip_prefix(&FORMAT.to_le_bytes())?
        .strip_prefix(&key.0)?;
    debug_assert!(key.is_empty(), "the head ends with the key");
    let lookups = piece(&mut rest, body)?
        .into_iter()
        .map(Lookup::from_byte)
        .collect::<Option<Vec<_>>>()?;
    let anchors = Arc::new(Anchors::from_bytes(&piece(&mut rest, body)?)?);
    let mut groups = Vec::new();
    while !rest.fill_buf().ok()?.is_empty() {
        let mut gate = [0];
        rest.read_exact(&mut gate).ok()?;
        let gate = Gate::from_byte(gate[0])?;
        let engine = Arc::new(Engine::deserialize(&piece(&mut rest, body)?).ok()?);
        groups.push(Group { gate, engine });
    }
    Some(Compiled {
        lookups,
        groups,
        anchors,
    })
}

/// A length and that many bytes, which are no more than the whole file's.
fn piece(rest: &mut impl Read, bytes_max: u64) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    rest.read_exact(&mut length).ok()?;
    let length = u32::from_le_bytes(length);
    if u64::from(length) > bytes_max {
        return None;
    }
    let mut bytes = vec![0; length as usize];
    rest.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

pub(crate) fn write(dir: &Path, key: &Key, compiled: &Compiled) -> io::Result<()> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&key.0);
    bytes.extend_from_slice(&(compiled.lookups.len() as u32).to_le_bytes());
    bytes.extend(compiled.lookups.iter().map(|lookup| *lookup as u8));
    let anchors = compiled.anchors.to_bytes();
    let length = u32::try_from(anchors.len()).map_err(io::Error::other)?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&anchors);
    for group in &compiled.groups {
        let engine = group.engine.serialize().map_err(io::Error::other)?;
        let length = u32::try_from(engine.len()).map_err(io::Error::other)?;
        bytes.push(group.gate as u8);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&engine);
    }
    let sum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sum);
    fs::create_dir_all(dir)?;
    let path = key.path(dir);
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let result = write_synced(&temporary, &bytes).and_then(|()| fs::rename(&temporary, &path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result?;
    fs::File::open(dir)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
