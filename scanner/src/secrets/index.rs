//! Values in the order in which traffic asks for them.

use std::fmt;
use std::path::Path;

use super::file::{self, SecretFileError};
use super::key::{SecretKey, WINDOW_BYTES};
use super::store::{Entry, Name, SecretKind};

/// Bits of the filter for each value: one window in about sixteen others passes by accident.
const FILTER_BITS_PER_VALUE_LOG2: u32 = 4;

/// Immutable; shared by the finders of all cores. About 40 bytes a value.
pub struct SecretIndex {
    pub(super) key: SecretKey,
    names: Vec<Name>,
    /// Pairs of bytes a window begins with, as read and as read backwards.
    pub(super) pairs: Pairs,
    pub(super) pairs_reversed: Pairs,
    /// One bit for each window, by its low bits.
    filter: Vec<u64>,
    filter_mask: u32,
    /// Sorted by window.
    entries: Vec<Entry>,
    /// First entry of each bucket, by the high bits of a window; one more than there are buckets.
    starts: Vec<u32>,
    bucket_shift: u32,
    value_bytes_max: usize,
}

impl SecretIndex {
    pub(super) fn new(key: SecretKey, names: Vec<Name>, entries: &[Entry]) -> Self {
        let mut entries = entries.to_vec();
        entries.sort_unstable_by_key(|entry| (entry.window, entry.length, entry.offset));
        let bits = entries.len().max(64).next_power_of_two().trailing_zeros();
        let filter_bits = bits + FILTER_BITS_PER_VALUE_LOG2;
        let mut index = Self {
            key,
            names,
            pairs: Pairs::default(),
            pairs_reversed: Pairs::default(),
            filter: vec![0; 1 << (filter_bits - 6)],
            filter_mask: (1 << filter_bits) - 1,
            starts: vec![0; (1 << bits) + 1],
            bucket_shift: u32::BITS - bits,
            value_bytes_max: entries
                .iter()
                .map(|entry| usize::from(entry.length))
                .max()
                .unwrap_or(0),
            entries,
        };
        for entry in &index.entries {
            let bit = entry.window & index.filter_mask;
            index.filter[(bit >> 6) as usize] |= 1 << (bit & 63);
            index.pairs.insert(entry.pair);
            index.pairs_reversed.insert(entry.pair.swap_bytes());
            index.starts[(entry.window >> index.bucket_shift) as usize + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut index.starts {
            sum += *start;
            *start = sum;
        }
        index
    }

    /// Reads the index of a store without the store's own memory; `None` if there is no such file.
    ///
    /// # Errors
    /// As [`SecretStore::read`](super::SecretStore::read).
    pub fn load(path: &Path, key: SecretKey) -> Result<Option<Self>, SecretFileError> {
        let kept = file::read(path, &key)?;
        Ok(kept.map(|(names, entries)| Self::new(key, names, &entries)))
    }

    /// Values in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The name of a finding's secret.
    pub fn name(&self, secret: u32) -> &str {
        &self.names[secret as usize].text
    }

    /// What a finding of this secret means.
    pub fn kind(&self, secret: u32) -> SecretKind {
        self.names[secret as usize].kind
    }

    /// Whether any value belongs to hosts.
    pub fn binds(&self) -> bool {
        self.names.iter().any(|name| !name.hosts.is_empty())
    }

    /// Whether a value belongs to hosts at all.
    pub(super) fn is_bound(&self, secret: u32) -> bool {
        !self.names[secret as usize].hosts.is_empty()
    }

    /// Whether a value belongs to this host, a name in one spelling.
    pub(super) fn belongs_to(&self, secret: u32, host: &str) -> bool {
        let hosts = &self.names[secret as usize].hosts;
        hosts.iter().any(|own| match own.strip_prefix('*') {
            Some(above) => host.len() > above.len() && host.ends_with(above),
            None => own == host,
        })
    }

    /// Bytes that a caller who cuts a stream into pieces must repeat from the piece before: the
    /// longest value in its longest encoding (`\u0041`).
    pub fn overlap_bytes(&self) -> usize {
        self.value_bytes_max * 6
    }

    /// Memory it takes.
    pub fn memory_bytes(&self) -> usize {
        2 * size_of_val(&*self.pairs.0)
            + size_of_val(self.entries.as_slice())
            + size_of_val(self.starts.as_slice())
            + size_of_val(self.filter.as_slice())
            + self
                .names
                .iter()
                .map(|name| {
                    let hosts: usize = name.hosts.iter().map(|host| host.len() + 24).sum();
                    size_of::<Name>() + name.text.len() + hosts
                })
                .sum::<usize>()
    }

    /// Values whose window these bytes may be.
    pub(super) fn entries_at(&self, window: [u8; WINDOW_BYTES]) -> &[Entry] {
        let window = self.key.window(window);
        let bit = window & self.filter_mask;
        if self.filter[(bit >> 6) as usize] >> (bit & 63) & 1 == 0 {
            return &[];
        }
        let bucket = (window >> self.bucket_shift) as usize;
        let all = &self.entries[self.starts[bucket] as usize..self.starts[bucket + 1] as usize];
        let from = all.partition_point(|entry| entry.window < window);
        let to = all.partition_point(|entry| entry.window <= window);
        &all[from..to]
    }
}

impl fmt::Debug for SecretIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretIndex({} values)", self.entries.len())
    }
}

/// A set of pairs of bytes: eight KiB, so it stays in the first cache.
pub(super) struct Pairs(Box<[u64; 1024]>);

impl Default for Pairs {
    fn default() -> Self {
        Self(Box::new([0; 1024]))
    }
}

impl Pairs {
    fn insert(&mut self, pair: u16) {
        self.0[usize::from(pair >> 6)] |= 1 << (pair & 63);
    }

    pub(super) fn has(&self, pair: u16) -> bool {
        self.0[usize::from(pair >> 6)] >> (pair & 63) & 1 != 0
    }

    /// Pairs in either set.
    pub(super) fn or(&self, other: &Self) -> Self {
        Self(Box::new(std::array::from_fn(|at| self.0[at] | other.0[at])))
    }
}
