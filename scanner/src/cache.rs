//! The compiled database on disk, so that starting costs milliseconds.
//!
//! A file is used only if everything agrees: our format, the hash of the rules, the engine's
//! version, this CPU, and a sum over the file. Whatever else is there is compiled anew and
//! replaced. Written next to its name, synced and renamed: a reader sees all of it or nothing.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blake3::Hasher;
use oktsec_rules::RuleSet;
use sha2::{Digest, Sha256};

use crate::anchor::Anchors;
use crate::compile::{COMPILE_TIME_MAX, Compiled, Group, Lookup};
use crate::engine::{self, Engine, EngineError, Filling, Region};
use crate::gate::Gate;
use crate::signs;

const MAGIC: &[u8; 8] = b"OKTSECDB";

/// Changes with this file's layout, with `anchor` and with `dialect`.
const FORMAT: u32 = 22;

/// Set in the lookup byte of a pattern whose rule is wide for a stream.
const WIDE: u8 = 0x80;

/// Largest cache file read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Files kept: of the rules in force, and of those that an operator or a second gateway in the same
/// folder may come back to.
const FILES_MAX: usize = 4;

/// How long one waits for another to compile, and how often one looks.
const TURN_MAX: Duration = COMPILE_TIME_MAX;
const TURN_LOOK: Duration = Duration::from_millis(20);

/// Read at once.
const READ_BYTES: usize = 256 << 10;

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
pub(crate) struct Key {
    all: [u8; 32],
    /// [`RuleSet::hash`] of the rules, which takes a while to compute.
    pub(crate) rules: [u8; 32],
}

impl Key {
    pub(crate) fn new(rules: &RuleSet) -> Result<Self, EngineError> {
        let rules = rules.hash();
        let mut hash = Sha256::new();
        hash.update(FORMAT.to_le_bytes());
        hash.update(rules);
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
        Ok(Self {
            all: hash.finalize().into(),
            rules,
        })
    }

    fn path(&self, dir: &Path) -> PathBuf {
        let name: String = self.all[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        dir.join(format!("rules-{name}.db"))
    }
}

/// Layout: magic, format, key, then each with its length before it: a lookup byte for each pattern, with [`WIDE`] in it,
/// the anchors, their tables, and for each group its gate and the engine's bytes. BLAKE3 of all before it ends the file.
pub(crate) fn read(dir: &Path, key: &Key) -> Result<Compiled, CacheOutcome> {
    match fs::File::open(key.path(dir)) {
        Ok(file) => parse(file, dir, key).ok_or(CacheOutcome::Replaced),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CacheOutcome::Written),
        Err(_) => Err(CacheOutcome::Replaced),
    }
}

/// Takes nothing for what it seems before the sum is known to be right. What is large is not kept in memory: see
/// [`engine::Region`].
fn parse(file: fs::File, dir: &Path, key: &Key) -> Option<Compiled> {
    let length = file.metadata().ok()?.len();
    let body = length
        .checked_sub(32)
        .filter(|_| length <= FILE_BYTES_MAX)?;
    let mut file = BufReader::with_capacity(READ_BYTES, file);
    let mut rest = Summed {
        from: file.by_ref().take(body),
        // PERF: SHA-256 took a quarter of the time in which a file is read.
        sum: Hasher::new(),
    };
    let head = rest.bytes(MAGIC.len() + 4 + 32)?;
    let key = head
        .strip_prefix(MAGIC)?
        .strip_prefix(&FORMAT.to_ne_bytes())?
        .strip_prefix(&key.all)?;
    debug_assert!(key.is_empty(), "the head ends with the key");
    let lookups = rest.piece()?;
    let head = rest.piece()?;
    let tables = rest.tables(dir)?;
    let mut engines = Vec::new();
    while rest.from.limit() > 0 {
        let gate = rest.bytes(1)?;
        engines.push((gate[0], rest.piece()?));
    }
    let own = rest.sum.finalize();
    let mut sum = [0; 32];
    file.read_exact(&mut sum).ok()?;
    if own != sum {
        return None;
    }
    let wide = lookups.iter().map(|byte| byte & WIDE != 0).collect();
    let lookups = lookups
        .into_iter()
        .map(|byte| Lookup::from_byte(byte & !WIDE));
    let groups = engines.iter().map(|(gate, engine)| {
        Some(Group {
            gate: Gate::from_byte(*gate)?,
            engine: Arc::new(Engine::deserialize(engine).ok()?),
        })
    });
    Some(Compiled {
        lookups: lookups.collect::<Option<_>>()?,
        wide,
        groups: groups.collect::<Option<_>>()?,
        anchors: Arc::new(Anchors::from_parts(&head, &tables)?),
    })
}

/// A file and the sum of what was read of it.
struct Summed<R> {
    from: io::Take<R>,
    sum: Hasher,
}

impl<R: BufRead> Summed<R> {
    fn bytes(&mut self, length: usize) -> Option<Vec<u8>> {
        if length as u64 > self.from.limit() {
            return None;
        }
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes).ok()?;
        self.sum.update(&bytes);
        Some(bytes)
    }

    fn length(&mut self) -> Option<usize> {
        let length = self.bytes(4)?;
        usize::try_from(u32::from_le_bytes(*length.first_chunk()?)).ok()
    }

    /// A length and that many bytes.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let length = self.length()?;
        self.bytes(length)
    }

    /// The same for tables, which come to lie where they will be used.
    fn tables(&mut self, dir: &Path) -> Option<Arc<Region>> {
        let mut left = self.length()?;
        if left as u64 > self.from.limit() {
            return None;
        }
        let mut filling = Filling::new(dir, left);
        while left > 0 {
            let bytes = self.from.fill_buf().ok()?;
            let bytes = &bytes[..left.min(bytes.len())];
            if bytes.is_empty() {
                return None;
            }
            self.sum.update(bytes);
            filling.push(bytes).ok()?;
            let count = bytes.len();
            self.from.consume(count);
            left -= count;
        }
        filling.finish().ok()
    }
}

pub(crate) fn write(dir: &Path, key: &Key, compiled: &Compiled) -> io::Result<()> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_ne_bytes());
    bytes.extend_from_slice(&key.all);
    let lookups = compiled.lookups.iter().zip(&compiled.wide);
    let lookups = lookups.map(|(lookup, wide)| *lookup as u8 | if *wide { WIDE } else { 0 });
    add(&mut bytes, &lookups.collect::<Vec<_>>())?;
    let (head, tables) = compiled.anchors.to_parts();
    add(&mut bytes, &head)?;
    add(&mut bytes, &tables.into_bytes())?;
    for group in &compiled.groups {
        bytes.push(group.gate as u8);
        add(
            &mut bytes,
            &group.engine.serialize().map_err(io::Error::other)?,
        )?;
    }
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(sum.as_bytes());
    fs::create_dir_all(dir)?;
    let path = key.path(dir);
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let result = write_synced(&temporary, &bytes).and_then(|()| fs::rename(&temporary, &path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result?;
    prune(dir, &path);
    fs::File::open(dir)?.sync_all()
}

/// Removes what was written longest ago, but never what was written now. Whoever uses it has it for
/// as long as needed, and whoever looks for it compiles anew.
fn prune(dir: &Path, now: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let mut ours: Vec<_> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("rules-") && (name.ends_with(".db") || name.ends_with(".tmp"))
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .filter(|(_, path)| path != now)
        .collect();
    ours.sort_unstable();
    let many = (ours.len() + 1).saturating_sub(FILES_MAX);
    for (_, path) in &ours[..many] {
        // Somebody else may have done it; a file too many is no reason to fail.
        let _ = fs::remove_file(path);
    }
}

fn add(bytes: &mut Vec<u8>, piece: &[u8]) -> io::Result<()> {
    let length = u32::try_from(piece.len()).map_err(io::Error::other)?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(piece);
    Ok(())
}

/// Waits until no other thread or process compiles for this folder, so that what one compiles the
/// others find. Whoever ends, however it ends, gives up its turn; whoever takes too long loses it.
pub(crate) fn turn(dir: &Path) -> Option<fs::File> {
    fs::create_dir_all(dir).ok()?;
    let folder = fs::File::open(dir).ok()?;
    let begun = Instant::now();
    loop {
        match folder.try_lock() {
            Ok(()) => return Some(folder),
            Err(fs::TryLockError::WouldBlock) if begun.elapsed() < TURN_MAX => {
                std::thread::sleep(TURN_LOOK);
            }
            Err(fs::TryLockError::WouldBlock | fs::TryLockError::Error(_)) => return None,
        }
    }
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
