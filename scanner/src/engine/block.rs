//! Plain numbers in one piece: our own while they are collected, later a part of a region.
//!
//! Reading them costs the same either way: where they lie is known, nobody asks whose they are.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use super::region::Region;

/// Numbers, or rows of them.
///
/// # Safety
/// Any bytes are a value of the type, it has no padding, and it needs no finer alignment than 16
/// bytes.
pub(crate) unsafe trait Plain: Copy + Send + Sync + 'static {}

// SAFETY: unsigned numbers are as asked for.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for u128 {}
// SAFETY: a row has no padding and is aligned like what it is made of.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// The bytes of plain numbers, as the processor has them.
pub(super) fn bytes_of<T: Plain>(all: &[T]) -> &[u8] {
    // SAFETY: the slice is one piece of initialised memory, without padding.
    unsafe { std::slice::from_raw_parts(all.as_ptr().cast(), size_of_val(all)) }
}

/// Numbers that are read far more often than written.
pub(crate) struct Block<T: Plain> {
    /// Invariant: `len` values that live and do not change as long as `owner` is not touched.
    first: NonNull<T>,
    len: usize,
    owner: Owner<T>,
}

/// Whose the numbers are.
enum Owner<T> {
    /// Ours. Changed by [`Block::append`] only, which finds anew where they lie.
    Own(Vec<T>),
    /// Kept so that it lives.
    Region(#[expect(dead_code, reason = "only its life matters")] Arc<Region>),
}

// SAFETY: a block is a shared view of numbers that its owner keeps alive; it gives no way to change
// them but `append`, which needs `&mut`.
unsafe impl<T: Plain> Send for Block<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for Block<T> {}

impl<T: Plain> Default for Block<T> {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl<T: Plain> From<Vec<T>> for Block<T> {
    fn from(all: Vec<T>) -> Self {
        Self {
            first: NonNull::from(&all[..]).cast(),
            len: all.len(),
            owner: Owner::Own(all),
        }
    }
}

impl<T: Plain> Block<T> {
    /// A part of a region.
    ///
    /// # Safety
    /// `len` values lie from `first` on in memory of the region, aligned, and never change.
    pub(super) unsafe fn lent(first: NonNull<T>, len: usize, region: Arc<Region>) -> Self {
        Self {
            first,
            len,
            owner: Owner::Region(region),
        }
    }

    /// Adds a row and says where it begins.
    pub(crate) fn append(&mut self, row: &[T]) -> u32 {
        let mut all = match std::mem::take(self).owner {
            Owner::Own(all) => all,
            Owner::Region(_) => unreachable!("what was read is not added to"),
        };
        let at = all.len() as u32;
        all.extend_from_slice(row);
        *self = Self::from(all);
        at
    }

    pub(crate) fn get(&self, at: u32, len: usize) -> Option<&[T]> {
        self.all().get(at as usize..)?.get(..len)
    }

    /// A row that is known to be there.
    pub(crate) fn row(&self, at: u32, len: usize) -> &[T] {
        &self.all()[at as usize..at as usize + len]
    }

    /// What begins at a place that is known to be there.
    pub(crate) fn rest(&self, at: u32) -> &[T] {
        &self.all()[at as usize..]
    }

    #[inline]
    pub(crate) fn all(&self) -> &[T] {
        // SAFETY: the field's invariant; the owner is not touched while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        size_of_val(self.all())
    }
}

impl<T: Plain> fmt::Debug for Block<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_they_were_added_however_many_follow() {
        let mut block = Block::<u16>::default();
        assert_eq!(block.all(), [0; 0]);
        for row in 0..1000 {
            assert_eq!(block.append(&[row; 3]), 3 * u32::from(row));
        }
        let moved = block;
        for row in 0..1000 {
            assert_eq!(moved.row(3 * u32::from(row), 3), [row; 3]);
        }
        assert_eq!(moved.get(2999, 1), Some(&[999][..]));
        assert_eq!(moved.get(2999, 2), None);
        assert_eq!(moved.rest(2998), [999, 999]);
    }
}
