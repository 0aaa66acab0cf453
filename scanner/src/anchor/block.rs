//! Plain numbers in one piece, written and read as one string of bytes.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block<T>(Vec<T>);

impl<T> Default for Block<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> From<Vec<T>> for Block<T> {
    fn from(all: Vec<T>) -> Self {
        Self(all)
    }
}

impl<T: Copy> Block<T> {
    /// Adds a row and says where it begins.
    pub(super) fn append(&mut self, row: &[T]) -> u32 {
        let at = self.0.len() as u32;
        self.0.extend_from_slice(row);
        at
    }

    pub(super) fn get(&self, at: u32, len: usize) -> Option<&[T]> {
        self.0.get(at as usize..)?.get(..len)
    }

    /// A row that is known to be there.
    pub(super) fn row(&self, at: u32, len: usize) -> &[T] {
        &self.0[at as usize..at as usize + len]
    }

    /// What begins at a place that is known to be there.
    pub(super) fn rest(&self, at: u32) -> &[T] {
        &self.0[at as usize..]
    }

    pub(super) fn all(&self) -> &[T] {
        &self.0
    }

    pub(super) fn size_bytes(&self) -> usize {
        size_of_val(&self.0[..])
    }
}

impl Serialize for Block<u8> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Block<u8> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_bytes(Bytes)
            .map(|bytes| Self(bytes.to_vec()))
    }
}

impl Serialize for Block<u128> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        out.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Block<u128> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (words, rest) = from.deserialize_bytes(Bytes)?.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(D::Error::custom("not whole words"));
        }
        Ok(Self(
            words
                .iter()
                .map(|word| u128::from_le_bytes(*word))
                .collect(),
        ))
    }
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = &'de [u8];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes that stay where they are")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<&'de [u8], E> {
        Ok(bytes)
    }
}
