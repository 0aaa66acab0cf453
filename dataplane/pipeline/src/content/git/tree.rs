//! A tree: modes and names of files, and the name of an object behind each, as bytes that say nothing.

use crate::content::{Piece, Sink, Stop};

/// Bytes of the longest name of an object.
const HASH_BYTES_MAX: usize = 32;

/// Reads one tree: a line for each file.
pub(super) struct Tree {
    hash_bytes: usize,
    hash: [u8; HASH_BYTES_MAX],
    /// Bytes of the object's name that are there; `None` in mode and name of the file.
    have: Option<usize>,
    /// Something of a file was read that its zero byte has not ended.
    open: bool,
}

impl Tree {
    pub(super) fn new(hash_bytes: usize) -> Self {
        debug_assert!(hash_bytes <= HASH_BYTES_MAX);
        Self {
            hash_bytes,
            hash: [0; HASH_BYTES_MAX],
            have: None,
            open: false,
        }
    }

    pub(super) fn push<E>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut Sink<'_, E>,
    ) -> Result<(), Stop<E>> {
        while !bytes.is_empty() {
            let Some(have) = self.have else {
                let zero = memchr::memchr(0, bytes);
                let name = &bytes[..zero.unwrap_or(bytes.len())];
                if !name.is_empty() {
                    sink(Piece::Text(name)).map_err(Stop::Sink)?;
                }
                self.open = zero.is_none();
                self.have = zero.map(|_| 0);
                bytes = &bytes[zero.map_or(bytes.len(), |zero| zero + 1)..];
                continue;
            };
            let take = bytes.len().min(self.hash_bytes - have);
            self.hash[have..have + take].copy_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            self.have = Some(have + take);
            if have + take == self.hash_bytes {
                self.have = None;
                let hash = &self.hash[..self.hash_bytes];
                // No hash reads like this: somebody writes here.
                if hash
                    .iter()
                    .all(|byte| byte.is_ascii_graphic() || *byte == b' ')
                {
                    sink(Piece::Text(hash)).map_err(Stop::Sink)?;
                }
                sink(Piece::Text(b"\n")).map_err(Stop::Sink)?;
            }
        }
        Ok(())
    }

    pub(super) const fn is_whole(&self) -> bool {
        self.have.is_none() && !self.open
    }
}
