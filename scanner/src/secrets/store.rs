//! What the operator told us to watch for: names, and values as keyed hashes.

use std::collections::HashMap;
use std::path::Path;

use super::anchor;
use super::canary;
use super::file::{self, SecretFileError};
use super::index::SecretIndex;
use super::key::{SecretKey, WINDOW_BYTES};

/// Shortest value taken: shorter ones turn up by accident.
pub const SECRET_BYTES_MIN: usize = WINDOW_BYTES;

/// Longest value taken: a private key with its whole chain fits.
pub const SECRET_BYTES_MAX: usize = 16 << 10;

/// Of a longer value one stretch of so many bytes is known, and finding that is finding it: so many, in any
/// writing, lie whole in one window of a stream.
pub const KNOWN_BYTES_MAX: usize = 512;

/// Bytes that what is known of a value takes in the longest of its writings (`\u0041`).
pub const WRITTEN_BYTES_MAX: usize = KNOWN_BYTES_MAX * 6;

/// Most values in one store.
pub const SECRETS_MAX: usize = 1_000_000;

/// Longest name.
pub const SECRET_NAME_BYTES_MAX: usize = 128;

/// Most hosts that the values of one name belong to.
pub const SECRET_HOSTS_MAX: usize = 64;

/// Longest name of one of them, with `*.` before it (RFC 1035 §2.3.4).
pub(super) const HOST_BYTES_MAX: usize = 255;

/// Fewest different bytes in a value: `aaaaaaaa` and `--------` are no secrets.
const DISTINCT_BYTES_MIN: usize = 4;

/// Values that may share a window before another window is taken.
const WINDOW_SHARED_MAX: u32 = 4;

/// What finding a value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretKind {
    /// Something that must not leave.
    Value,
    /// A token given to one agent only, whose name the entry bears: it leaked.
    Canary,
}

impl SecretKind {
    /// The word of lists and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Canary => "canary",
        }
    }
}

/// A name, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) kind: SecretKind,
    /// Hosts that its values belong to and may go to: names in one spelling, or `*.` and what stands above them. None for
    /// values that may go nowhere.
    pub(super) hosts: Vec<String>,
}

/// A name and how many values bear it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    /// As the operator gave it; the agent's name for a canary.
    pub name: String,
    /// What finding a value means.
    pub kind: SecretKind,
    /// Values under this name.
    pub values: usize,
    /// Hosts that its values belong to and may go to.
    pub hosts: Vec<String>,
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is watched for from now on.
    New,
    /// It was known already, under this or another name, which it keeps.
    Known,
}

/// Why a value is not taken. Says nothing about the value but its length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Would be found by accident.
    #[error("value is {0} bytes long; below {SECRET_BYTES_MIN} it would be found by accident")]
    TooShort(usize),
    /// Longer than [`SECRET_BYTES_MAX`].
    #[error("value is {0} bytes long, the limit is {SECRET_BYTES_MAX}")]
    TooLong(usize),
    /// Would be found by accident.
    #[error(
        "value repeats fewer than {DISTINCT_BYTES_MIN} different bytes; it would be found by accident"
    )]
    TooPlain,
    /// [`SECRETS_MAX`] values are there.
    #[error("{SECRETS_MAX} values are known, and no more are taken")]
    Full,
    /// Empty, too long, or with control characters.
    #[error("a name is 1 to {SECRET_NAME_BYTES_MAX} bytes without control characters")]
    Name,
    /// Too many, or one is too long for a name of the DNS.
    #[error(
        "values belong to at most {SECRET_HOSTS_MAX} hosts, each with a name of at most {HOST_BYTES_MAX} bytes"
    )]
    Hosts,
}

/// One value. `Copy`: nothing in it is the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: [u8; 16],
    pub(super) window: u32,
    /// The two bytes the window begins with.
    pub(super) pair: u16,
    /// Where in the value the window begins. Invariant: `offset + WINDOW_BYTES <= length`.
    pub(super) offset: u16,
    pub(super) length: u16,
    /// Index into the names. Invariant: in range.
    pub(super) name: u32,
}

/// Values to watch for, as keyed hashes. Owned by whoever edits it; traffic uses its
/// [`SecretStore::index`].
#[derive(Debug)]
pub struct SecretStore {
    key: SecretKey,
    pub(super) names: Vec<Name>,
    pub(super) entries: Vec<Entry>,
    by_name: HashMap<(String, SecretKind), u32>,
    by_value: HashMap<[u8; 16], u32>,
    /// How many values share a window.
    windows: HashMap<u32, u32>,
}

impl SecretStore {
    /// An empty store.
    pub fn new(key: SecretKey) -> Self {
        Self {
            key,
            names: Vec::new(),
            entries: Vec::new(),
            by_name: HashMap::new(),
            by_value: HashMap::new(),
            windows: HashMap::new(),
        }
    }

    /// Reads a store; `None` if there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, others may read it, it is damaged, or of another key.
    pub fn read(path: &Path, key: SecretKey) -> Result<Option<Self>, SecretFileError> {
        let Some((names, entries)) = file::read(path, &key)? else {
            return Ok(None);
        };
        let mut store = Self::new(key);
        for (at, name) in (0..).zip(&names) {
            let key = (name.text.clone(), name.kind);
            store.by_name.insert(key, at);
        }
        for (at, entry) in (0..).zip(&entries) {
            store.by_value.insert(entry.value, at);
            *store.windows.entry(entry.window).or_default() += 1;
        }
        store.names = names;
        store.entries = entries;
        Ok(Some(store))
    }

    /// Checks that a store is whole and of this key; its seal differs from that of any other content. `None` if there
    /// is no such file.
    ///
    /// # Errors
    /// As [`SecretStore::read`].
    pub fn verify(path: &Path, key: &SecretKey) -> Result<Option<[u8; 32]>, SecretFileError> {
        file::verify(path, key)
    }

    /// Writes the store as a file of mode 0600, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), SecretFileError> {
        file::write(path, &self.key, &self.names, &self.entries)
    }

    /// Watches for a value.
    ///
    /// # Errors
    /// The value or the name is not taken; nothing has changed then.
    pub fn add(
        &mut self,
        name: &str,
        kind: SecretKind,
        value: &[u8],
    ) -> Result<Added, SecretError> {
        if name.is_empty() || name.len() > SECRET_NAME_BYTES_MAX || name.contains(char::is_control)
        {
            return Err(SecretError::Name);
        }
        if value.len() < SECRET_BYTES_MIN {
            return Err(SecretError::TooShort(value.len()));
        }
        if value.len() > SECRET_BYTES_MAX {
            return Err(SecretError::TooLong(value.len()));
        }
        if !has_distinct(value, DISTINCT_BYTES_MIN) {
            return Err(SecretError::TooPlain);
        }
        let value = known_part(value);
        let hash = self.key.value(value);
        if self.by_value.contains_key(&hash) {
            return Ok(Added::Known);
        }
        if self.entries.len() >= SECRETS_MAX {
            return Err(SecretError::Full);
        }
        let (window, offset) = self.window(value);
        let at = usize::from(offset);
        let name = self.name(name, kind);
        self.by_value.insert(hash, self.entries.len() as u32);
        *self.windows.entry(window).or_default() += 1;
        self.entries.push(Entry {
            value: hash,
            window,
            pair: u16::from_le_bytes([value[at], value[at + 1]]),
            offset,
            length: value.len() as u16,
            name,
        });
        Ok(Added::New)
    }

    /// Says which hosts the values of a name belong to, instead of what was said before: they may go there and nowhere
    /// else, not even as credentials. With none they belong to nobody. Each is a name in one spelling (lower case, as in
    /// the DNS), or such a one behind `*.` for everything below it. `false` if there is no such name.
    ///
    /// # Errors
    /// [`SecretError::Hosts`]; nothing has changed then.
    pub fn bind(&mut self, name: &str, hosts: Vec<String>) -> Result<bool, SecretError> {
        if hosts.len() > SECRET_HOSTS_MAX || hosts.iter().any(|host| host.len() > HOST_BYTES_MAX) {
            return Err(SecretError::Hosts);
        }
        let key = (name.to_owned(), SecretKind::Value);
        let Some(at) = self.by_name.get(&key) else {
            return Ok(false);
        };
        self.names[*at as usize].hosts = hosts;
        Ok(true)
    }

    /// Makes a canary token for an agent out of 32 bytes of good chance, and watches for it. The
    /// token is returned once and kept nowhere.
    ///
    /// # Errors
    /// The name is not taken, or the store is full.
    pub fn plant(&mut self, agent: &str, chance: &[u8; 32]) -> Result<String, SecretError> {
        let token = canary::token(chance);
        self.add(agent, SecretKind::Canary, token.as_bytes())?;
        Ok(token)
    }

    /// Forgets every value of this name and kind; how many there were.
    pub fn remove(&mut self, name: &str, kind: SecretKind) -> usize {
        let Some(gone) = self.by_name.remove(&(name.to_owned(), kind)) else {
            return 0;
        };
        let before = self.entries.len();
        self.entries.retain(|entry| entry.name != gone);
        // The last name moves into the place of the one that is gone.
        let last = self.names.len() as u32 - 1;
        self.names.swap_remove(gone as usize);
        if gone != last {
            self.entries
                .iter_mut()
                .filter(|entry| entry.name == last)
                .for_each(|entry| entry.name = gone);
            let moved = &self.names[gone as usize];
            self.by_name.insert((moved.text.clone(), moved.kind), gone);
        }
        self.by_value.clear();
        self.windows.clear();
        for (at, entry) in (0..).zip(&self.entries) {
            self.by_value.insert(entry.value, at);
            *self.windows.entry(entry.window).or_default() += 1;
        }
        before - self.entries.len()
    }

    /// Names, in the order they were given, and how many values each has.
    pub fn list(&self) -> Vec<SecretName> {
        let mut list: Vec<SecretName> = self
            .names
            .iter()
            .map(|name| SecretName {
                name: name.text.clone(),
                kind: name.kind,
                values: 0,
                hosts: name.hosts.clone(),
            })
            .collect();
        for entry in &self.entries {
            list[entry.name as usize].values += 1;
        }
        list
    }

    /// Values known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no value is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What traffic is asked about.
    pub fn index(&self) -> SecretIndex {
        SecretIndex::new(self.key.clone(), self.names.clone(), &self.entries)
    }

    fn name(&mut self, name: &str, kind: SecretKind) -> u32 {
        let key = (name.to_owned(), kind);
        if let Some(at) = self.by_name.get(&key) {
            return *at;
        }
        let at = self.names.len() as u32;
        self.names.push(Name {
            text: key.0.clone(),
            kind,
            hosts: Vec::new(),
        });
        self.by_name.insert(key, at);
        at
    }

    /// The best window that not too many values share: a thousand keys with one prefix must not
    /// make every text with that prefix expensive.
    fn window(&self, value: &[u8]) -> (u32, u16) {
        let hash = |offset: u16| {
            let at = usize::from(offset);
            self.key
                .window(std::array::from_fn(|byte| value[at + byte]))
        };
        let candidates = anchor::candidates(value);
        let mut least: Option<(u32, u32, u16)> = None;
        for offset in candidates {
            let window = hash(offset);
            let shared = self.windows.get(&window).copied().unwrap_or(0);
            if shared < WINDOW_SHARED_MAX {
                return (window, offset);
            }
            if least.is_none_or(|(fewest, ..)| shared < fewest) {
                least = Some((shared, window, offset));
            }
        }
        let (_, window, offset) = least.expect("a value is at least one window long");
        (window, offset)
    }
}

/// The stretch of a value around its best window.
pub(super) fn known_part(value: &[u8]) -> &[u8] {
    if value.len() <= KNOWN_BYTES_MAX {
        return value;
    }
    let start = usize::from(anchor::best(value))
        .saturating_sub(KNOWN_BYTES_MAX / 2)
        .min(value.len() - KNOWN_BYTES_MAX);
    &value[start..start + KNOWN_BYTES_MAX]
}

/// Whether so many different bytes are in it.
pub(super) fn has_distinct(value: &[u8], least: usize) -> bool {
    let mut seen = [false; 256];
    value
        .iter()
        .for_each(|byte| seen[usize::from(*byte)] = true);
    seen.iter().filter(|seen| **seen).count() >= least
}

const _: () = assert!(KNOWN_BYTES_MAX <= u16::MAX as usize);
