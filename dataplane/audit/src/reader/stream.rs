//! Streams of record numbers out of the postings, and their intersection.
//!
//! A stream is asked for the next number at or beyond a bound, in one direction. Streams that must all agree
//! leap over each other: the rarest value sets the pace, so a filter costs what its narrowest part costs.

use crate::layout::{POSTINGS, Tag, sequence_of};
use crate::postings;
use crate::store::{ReadError, Store};
use rocksdb::DBRawIterator;

/// Which way numbers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    NewestFirst,
    OldestFirst,
}

impl Direction {
    /// The bound behind this number; `None` at the end of all numbers.
    pub(super) fn beyond(self, sequence: u64) -> Option<u64> {
        match self {
            Self::NewestFirst => sequence.checked_sub(1),
            Self::OldestFirst => sequence.checked_add(1),
        }
    }

    /// Whether `a` comes before `b`.
    fn precedes(self, a: u64, b: u64) -> bool {
        match self {
            Self::NewestFirst => a > b,
            Self::OldestFirst => a < b,
        }
    }
}

/// Numbers of the records that hold one of some values.
pub(super) struct Union<'s> {
    lists: Vec<List<'s>>,
}

impl<'s> Union<'s> {
    pub(super) fn new<'v>(
        store: &'s Store,
        values: impl IntoIterator<Item = (Tag, &'v str)>,
    ) -> Self {
        let lists = values
            .into_iter()
            .map(|(tag, value)| List::new(store, tag, value))
            .collect();
        Self { lists }
    }

    /// The first number at `bound` or beyond.
    fn seek(&mut self, bound: u64, direction: Direction) -> Result<Option<u64>, ReadError> {
        let mut best: Option<u64> = None;
        for list in &mut self.lists {
            if let Some(found) = list.seek(bound, direction)?
                && best.is_none_or(|best| direction.precedes(found, best))
            {
                best = Some(found);
            }
        }
        Ok(best)
    }
}

/// The first number at `bound` or beyond that is in every stream.
pub(super) fn intersect(
    streams: &mut [Union<'_>],
    bound: u64,
    direction: Direction,
) -> Result<Option<u64>, ReadError> {
    let count = streams.len();
    let mut candidate = bound;
    let mut agreed = 0;
    while agreed < count {
        for stream in streams.iter_mut() {
            let Some(found) = stream.seek(candidate, direction)? else {
                return Ok(None);
            };
            if found == candidate {
                agreed += 1;
            } else {
                candidate = found;
                agreed = 1;
            }
            if agreed == count {
                break;
            }
        }
    }
    Ok(Some(candidate))
}

/// Numbers of the records that hold one value: blocks of postings, one decoded at a time.
struct List<'s> {
    prefix: Vec<u8>,
    keys: DBRawIterator<'s>,
    /// The decoded block, oldest first; empty before the first seek.
    block: Vec<u64>,
}

impl<'s> List<'s> {
    fn new(store: &'s Store, tag: Tag, value: &str) -> Self {
        let mut prefix = Vec::new();
        postings::term_key(&mut prefix, tag, value.as_bytes());
        Self {
            prefix,
            keys: store.db.raw_iterator_cf(store.cf(POSTINGS)),
            block: Vec::new(),
        }
    }

    fn seek(&mut self, bound: u64, direction: Direction) -> Result<Option<u64>, ReadError> {
        if let (Some(&first), Some(&last)) = (self.block.first(), self.block.last())
            && (first..=last).contains(&bound)
        {
            return Ok(self.in_block(bound, direction));
        }
        // The block that begins at the bound or before it can hold it; blocks do not overlap.
        let mut key = self.prefix.clone();
        key.extend_from_slice(&bound.to_be_bytes());
        self.keys.seek_for_prev(&key);
        let before = self.read_block()?;
        match direction {
            Direction::NewestFirst => Ok(if before {
                self.in_block(bound, direction)
            } else {
                None
            }),
            Direction::OldestFirst => {
                if before && self.block.last().is_some_and(|&last| last >= bound) {
                    return Ok(self.in_block(bound, direction));
                }
                self.keys.seek(&key);
                Ok(if self.read_block()? {
                    self.block.first().copied()
                } else {
                    None
                })
            }
        }
    }

    fn in_block(&self, bound: u64, direction: Direction) -> Option<u64> {
        match direction {
            Direction::NewestFirst => {
                let behind = self.block.partition_point(|&sequence| sequence <= bound);
                behind.checked_sub(1).map(|at| self.block[at])
            }
            Direction::OldestFirst => {
                let at = self.block.partition_point(|&sequence| sequence < bound);
                self.block.get(at).copied()
            }
        }
    }

    /// Decodes the block under the iterator; false if that is none of this value.
    fn read_block(&mut self) -> Result<bool, ReadError> {
        let Some((key, gaps)) = self
            .keys
            .item()
            .filter(|(key, _)| key.len() == self.prefix.len() + 8 && key.starts_with(&self.prefix))
        else {
            self.keys.status()?;
            self.block.clear();
            return Ok(false);
        };
        sequence_of(key)
            .and_then(|first| postings::read(first, gaps, &mut self.block))
            .ok_or(ReadError::Damaged("posting"))?;
        Ok(true)
    }
}
