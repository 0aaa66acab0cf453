//! A delta (gitformat-pack, "Deltified representation"): parts of another object to copy, and bytes to insert between
//! them. Those are what a push says that was not said before.

use super::APART;
use crate::content::{ContentError, Piece, Sink, Stop};

/// Reads one delta.
pub(super) struct Delta {
    of_name: bool,
    at: At,
    /// Nothing was copied between what was inserted last and what comes next.
    joins: bool,
}

#[derive(Clone, Copy)]
enum At {
    /// The length of the object it is made from, then of the one it makes.
    Sizes(u8),
    /// What to do next.
    Order,
    /// Where to copy from and how much: bytes still to come.
    Copy(u32),
    /// Bytes to insert that are still to come.
    Insert(usize),
}

impl Delta {
    /// Of an object that stands before it in the pack.
    pub(super) const fn of_offset() -> Self {
        Self {
            of_name: false,
            at: At::Sizes(2),
            joins: true,
        }
    }

    /// Of an object that the other side may have already.
    pub(super) const fn of_name() -> Self {
        Self {
            of_name: true,
            ..Self::of_offset()
        }
    }

    pub(super) const fn is_of_name(&self) -> bool {
        self.of_name
    }

    pub(super) fn push<E>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut Sink<'_, E>,
    ) -> Result<(), Stop<E>> {
        while let Some((byte, rest)) = bytes.split_first() {
            if let At::Insert(left) = self.at {
                let (now, later) = bytes.split_at(bytes.len().min(left));
                if !std::mem::replace(&mut self.joins, true) {
                    sink(Piece::Text(APART)).map_err(Stop::Sink)?;
                }
                sink(Piece::Text(now)).map_err(Stop::Sink)?;
                self.at = match left - now.len() {
                    0 => At::Order,
                    left => At::Insert(left),
                };
                bytes = later;
                continue;
            }
            self.byte(*byte)?;
            bytes = rest;
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), ContentError> {
        self.at = match self.at {
            At::Sizes(left) if byte & 0x80 != 0 => At::Sizes(left),
            At::Sizes(1) => At::Order,
            At::Sizes(left) => At::Sizes(left - 1),
            At::Order if byte == 0 => return Err(ContentError::Malformed),
            At::Order if byte & 0x80 == 0 => At::Insert(usize::from(byte)),
            At::Order => {
                self.joins = false;
                match (byte & 0x7F).count_ones() {
                    0 => At::Order,
                    bytes => At::Copy(bytes),
                }
            }
            At::Copy(1) => At::Order,
            At::Copy(left) => At::Copy(left - 1),
            same @ At::Insert(_) => same,
        };
        Ok(())
    }

    pub(super) const fn is_whole(&self) -> bool {
        matches!(self.at, At::Order)
    }
}
