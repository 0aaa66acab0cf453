//! The newest synced checkpoint, in a file beside the store.
//!
//! RocksDB takes a cut-off log file for a crash and opens what is left. This file remembers how far the log
//! had come, so a missing tail is noticed. Two slots are written in turns: one is always whole.

use crate::Checkpoint;
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const NAME: &str = "anchor";
const SLOT_BYTES: usize = 512;

/// The open file.
#[derive(Debug)]
pub(crate) struct Anchor {
    file: File,
    slot: Mutex<bool>,
}

impl Anchor {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(NAME))?;
        let newest_first = newest(dir).is_some_and(|(slot, _)| slot == 0);
        Ok(Self {
            file,
            slot: Mutex::new(newest_first),
        })
    }

    /// The newest checkpoint that is there, whoever signed it.
    pub(crate) fn read(dir: &Path) -> Option<Checkpoint> {
        newest(dir).map(|(_, checkpoint)| checkpoint)
    }

    /// Only called with a checkpoint whose records are synced. The anchor is a witness, not the log: a failed
    /// write is logged, and the one before stays.
    pub(crate) fn write(&self, checkpoint: &Checkpoint) {
        let mut slot = self.slot.lock();
        let at = if *slot { SLOT_BYTES as u64 } else { 0 };
        match self.file.write_all_at(&checkpoint.encode(), at) {
            Ok(()) => *slot = !*slot,
            Err(error) => {
                tracing::warn!(%error, "the anchor of the audit log could not be written")
            }
        }
    }
}

fn newest(dir: &Path) -> Option<(usize, Checkpoint)> {
    let bytes = std::fs::read(dir.join(NAME)).ok()?;
    let slot = |at: usize| {
        let bytes = bytes.get(at * SLOT_BYTES..)?.get(..Checkpoint::BYTES)?;
        Checkpoint::decode(bytes)
            .filter(|c| c.sequence != 0)
            .map(|c| (at, c))
    };
    [slot(0), slot(1)]
        .into_iter()
        .flatten()
        .max_by_key(|(_, c)| c.sequence)
}

#[cfg(test)]
mod tests {
    use super::Anchor;
    use crate::Checkpoint;
    use oktsec_contract::clock::Timestamp;

    #[test]
    fn the_newest_of_two_slots_is_read_also_after_a_torn_write() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Anchor::read(dir.path()), None);
        let checkpoint = |sequence| Checkpoint {
            sequence,
            hash: [sequence as u8; 32],
            signed_at: Timestamp(sequence),
            signature: [1; 64],
        };
        let anchor = Anchor::open(dir.path()).unwrap();
        for sequence in 1..4 {
            anchor.write(&checkpoint(sequence));
            assert_eq!(Anchor::read(dir.path()), Some(checkpoint(sequence)));
        }
        // Opened again, it overwrites the older slot.
        Anchor::open(dir.path()).unwrap().write(&checkpoint(4));
        let file = dir.path().join("anchor");
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(
            Checkpoint::decode(&bytes[..Checkpoint::BYTES]),
            Some(checkpoint(3))
        );
        std::fs::write(&file, &bytes[..600]).unwrap();
        assert_eq!(
            Anchor::read(dir.path()),
            Some(checkpoint(3)),
            "slot 1 is cut off"
        );
    }
}
