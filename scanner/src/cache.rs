//! The compiled database on disk, so that starting costs milliseconds.
//!
//! A file is used only if everything agrees: our format, the hash of the rules, the engine's
//! version, this CPU, and a SHA-256 over the file. Whatever else is there is compiled anew and
//! replaced. Written next to its name, synced and renamed: a reader sees all of it or nothing.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oktsec_rules::RuleSet;
use sha2::{Digest, Sha256};

use crate::anchor::Anchors;
use crate::compile::{Compiled, Group, Lookup};
use crate::engine::{self, Engine, EngineError};
use crate::gate::Gate;

const MAGIC: &[u8; 8] = b"OKTSECDB";

/// Changes with this file's layout, with `anchor` and with `dialect`.
const FORMAT: u32 = 3;

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
    let file = match fs::File::open(key.path(dir)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CacheOutcome::Written),
        Err(_) => return Err(CacheOutcome::Replaced),
    };
    let mut bytes = Vec::new();
    if file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).is_err() {
        return Err(CacheOutcome::Replaced);
    }
    parse(&bytes, key).ok_or(CacheOutcome::Replaced)
}

fn parse(bytes: &[u8], key: &Key) -> Option<Compiled> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if Sha256::digest(body)[..] != *sum {
        return None;
    }
    let rest = body
        .strip_prefix(MAGIC)?
        .strip_prefix(&FORMAT.to_le_bytes())?
        .strip_prefix(&key.0)?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (lookups, rest) = rest.split_at_checked(u32::from_le_bytes(*count) as usize)?;
    let lookups = lookups
        .iter()
        .map(|byte| Lookup::from_byte(*byte))
        .collect::<Option<Vec<_>>>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (anchors, mut rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let anchors = Arc::new(Anchors::from_bytes(anchors)?);
    let mut groups = Vec::new();
    while let Some((gate, tail)) = rest.split_first() {
        let (length, tail) = tail.split_first_chunk::<4>()?;
        let (engine, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let engine = Arc::new(Engine::deserialize(engine).ok()?);
        groups.push(Group {
            gate: Gate::from_byte(*gate)?,
            engine,
        });
        rest = tail;
    }
    Some(Compiled {
        lookups,
        groups,
        anchors,
    })
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
