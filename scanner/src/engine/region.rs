//! Tables of plain numbers that lie one behind the other in one region of memory.
//!
//! ```text
//! tables ─► Packer ─► bytes in a file ─► Filling ─► Region: a map, or the heap ─► blocks
//! ```
//! A region that was read is not on the heap: it is a file of its own, mapped read-only. An idle
//! process holds none of it, and the system may take back what nobody uses.
//!
//! Whoever maps a file is ended by the system (SIGBUS) when somebody makes the file shorter, and
//! reads nonsense when somebody writes to it. So this file has no name and never gets one: we write
//! it once, while its bytes are checked, close it, and nobody can open it. What remains is a disk
//! that cannot be read, as with the program itself. Where there are no such files, or no room for
//! one, the region is on the heap.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::block::{Block, Plain, bytes_of};

/// Each table begins at a multiple of this many bytes: a line of the processor's cache.
const ALIGN_BYTES: usize = 64;

/// Collects tables in the order in which an [`Unpacker`] will give them back.
#[derive(Default)]
pub(crate) struct Packer(Vec<u8>);

impl Packer {
    pub(crate) fn add<T: Plain>(&mut self, table: &[T]) {
        self.0
            .extend_from_slice(&(table.len() as u64).to_ne_bytes());
        self.align();
        self.0.extend_from_slice(bytes_of(table));
        self.align();
    }

    fn align(&mut self) {
        let len = self.0.len().next_multiple_of(ALIGN_BYTES);
        self.0.resize(len, 0);
    }

    /// What a [`Filling`] must get.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A region that gets its bytes.
pub(crate) struct Filling {
    to: Memory,
    len: usize,
    filled: usize,
}

/// Where a region lies.
enum Memory {
    /// A file that has no name.
    File(File),
    /// Aligned for every table.
    Heap(Vec<u128>),
}

impl Filling {
    /// Room for so many bytes: a file on the file system of this folder, or else on the heap.
    pub(crate) fn new(folder: &Path, len: usize) -> Self {
        match nameless(folder, len) {
            Ok(file) => Self {
                to: Memory::File(file),
                len,
                filled: 0,
            },
            Err(_) => Self::heap(len),
        }
    }

    fn heap(len: usize) -> Self {
        Self {
            to: Memory::Heap(vec![0; len.div_ceil(size_of::<u128>())]),
            len,
            filled: 0,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.filled + bytes.len();
        if end > self.len {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match &mut self.to {
            Memory::File(file) => file.write_all(bytes)?,
            Memory::Heap(words) => {
                // SAFETY: the words are initialised, exclusively borrowed, and any bytes are words.
                let all = unsafe {
                    std::slice::from_raw_parts_mut(
                        words.as_mut_ptr().cast::<u8>(),
                        size_of_val(&words[..]),
                    )
                };
                all[self.filled..end].copy_from_slice(bytes);
            }
        }
        self.filled = end;
        Ok(())
    }

    /// The region, if it got all its bytes.
    pub(crate) fn finish(self) -> io::Result<Arc<Region>> {
        if self.filled != self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let region = match self.to {
            Memory::File(file) => Region {
                start: map(&file, self.len)?,
                len: self.len,
                heap: None,
            },
            Memory::Heap(words) => Region {
                start: NonNull::from(&words[..]).cast(),
                len: self.len,
                heap: Some(words),
            },
        };
        Ok(Arc::new(region))
    }
}

/// A file without a name, with room for so many bytes. `O_EXCL`: it cannot be given a name later.
#[cfg(target_os = "linux")]
fn nameless(folder: &Path, len: usize) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    let file = File::options()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE | libc::O_EXCL)
        .open(folder)?;
    let bytes = libc::off_t::try_from(len).map_err(io::Error::other)?;
    // Blocks are taken now: a full disk is noticed here and not when a page is written.
    // SAFETY: the descriptor is open while `file` lives; there are no pointers.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) } {
        0 => Ok(file),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn nameless(_folder: &Path, _len: usize) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Maps a file of [`nameless`], all of which was written.
fn map(file: &File, len: usize) -> io::Result<NonNull<u8>> {
    use std::os::fd::AsRawFd;

    // SAFETY: the system chooses the address, so nothing of ours is mapped over; the descriptor is
    // open, and the map outlives it.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Memory that never changes, shared by the blocks that lie in it.
pub(crate) struct Region {
    /// `len` initialised bytes that live as long as this does: of the heap, or a map.
    start: NonNull<u8>,
    len: usize,
    heap: Option<Vec<u128>>,
}

// SAFETY: nobody writes to the bytes: the heap's are ours alone and not touched again, the map is
// read-only and of a file that nobody else can open. It is freed once, by whoever drops it last.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        if self.heap.is_none() {
            // SAFETY: it was mapped with this length, every block in it is gone, and it is not
            // used afterwards.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

impl Region {
    /// Gives back what of a map has come into memory: what is used comes again, from the
    /// system's cache.
    pub(crate) fn give_back(&self) {
        if self.heap.is_none() {
            // SAFETY: the range is our map, which nobody wrote to: dropped pages are read again
            // from the file, so no block sees a change. A refusal changes nothing either.
            unsafe {
                libc::madvise(self.start.as_ptr().cast(), self.len, libc::MADV_DONTNEED);
            }
        }
    }

    /// Whether it takes no memory of the heap.
    #[cfg(test)]
    pub(crate) fn is_mapped(&self) -> bool {
        self.heap.is_none()
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the field's invariant.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

/// Gives back the tables of a [`Packer`], which must be asked for in the same order.
pub(crate) struct Unpacker {
    region: Arc<Region>,
    at: usize,
}

impl Unpacker {
    pub(crate) fn new(region: Arc<Region>) -> Self {
        Self { region, at: 0 }
    }

    /// The next table. `None` if it does not lie in the region.
    pub(crate) fn block<T: Plain>(&mut self) -> Option<Block<T>> {
        let head = self.region.bytes().get(self.at..)?.first_chunk()?;
        let len = usize::try_from(u64::from_ne_bytes(*head)).ok()?;
        let start = self.at.checked_add(ALIGN_BYTES)?;
        let end = start.checked_add(len.checked_mul(size_of::<T>())?)?;
        let bytes = self.region.bytes().get(start..end)?;
        let first = NonNull::from(bytes).cast::<T>();
        if !first.is_aligned() {
            return None;
        }
        self.at = end.checked_next_multiple_of(ALIGN_BYTES)?;
        // SAFETY: `len` values lie in the region, as was checked, aligned; any bytes are values;
        // nobody changes them while the region lives.
        Some(unsafe { Block::lent(first, len, Arc::clone(&self.region)) })
    }

    /// Whether nothing is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.region.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed() -> Vec<u8> {
        let mut packer = Packer::default();
        packer.add(&[1_u8, 2, 3]);
        packer.add::<u128>(&[u128::MAX, 7]);
        packer.add::<u32>(&[]);
        packer.add(&[[5_u64, 6], [7, 8]]);
        packer.into_bytes()
    }

    fn fill(mut filling: Filling) -> Arc<Region> {
        for piece in packed().chunks(50) {
            filling.push(piece).unwrap();
        }
        filling.finish().unwrap()
    }

    fn check(region: Arc<Region>) {
        let mut unpacker = Unpacker::new(Arc::clone(&region));
        let bytes = unpacker.block::<u8>().unwrap();
        let words = unpacker.block::<u128>().unwrap();
        let none = unpacker.block::<u32>().unwrap();
        let pairs = unpacker.block::<[u64; 2]>().unwrap();
        assert!(unpacker.is_at_end());
        assert!(unpacker.block::<u8>().is_none());
        drop(unpacker);
        region.give_back();
        drop(region);
        assert_eq!(bytes.all(), [1, 2, 3]);
        assert_eq!(words.all(), [u128::MAX, 7]);
        assert_eq!(none.all(), [0_u32; 0]);
        drop(bytes);
        assert_eq!(pairs.all(), [[5, 6], [7, 8]]);
    }

    #[test]
    fn tables_come_back_from_a_map_and_outlive_whoever_made_them() {
        let folder = tempfile::tempdir().unwrap();
        let region = fill(Filling::new(folder.path(), packed().len()));
        let is_empty = std::fs::read_dir(folder.path()).unwrap().next().is_none();
        assert!(is_empty, "the mapped file has no name");
        check(region);
    }

    #[test]
    fn tables_come_back_from_the_heap_where_no_file_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let region = fill(Filling::new(&folder.path().join("none"), packed().len()));
        assert!(!region.is_mapped());
        check(region);
    }

    #[test]
    fn a_region_gets_exactly_its_bytes() {
        for mut filling in [Filling::heap(4), Filling::new(&std::env::temp_dir(), 4)] {
            filling.push(b"abc").unwrap();
            assert!(filling.push(b"de").is_err());
            assert!(filling.finish().is_err());
        }
    }

    #[test]
    fn a_table_that_claims_more_than_there_is_is_none() {
        for len in [4_u64, 1 << 40, u64::MAX] {
            let mut bytes = packed();
            bytes[..8].copy_from_slice(&len.to_ne_bytes());
            bytes.truncate(ALIGN_BYTES + 3);
            let mut filling = Filling::heap(bytes.len());
            filling.push(&bytes).unwrap();
            let mut unpacker = Unpacker::new(filling.finish().unwrap());
            assert!(unpacker.block::<u8>().is_none());
            assert!(unpacker.block::<u128>().is_none());
        }
    }
}
