//! Which bytes of a text are of a set: 64 of them at a time, as the bits of a word.
//!
//! A byte has two halves. A set of ASCII says for each lower half which of the eight upper halves go with it: a table of
//! sixteen bytes, in which one instruction looks up sixteen halves, or thirty-two (SSSE3 `pshufb`).
//!
//! PERF: 64 bytes of one set take three to six cycles, one byte after the other in a table of 256 about a hundred.

/// Bytes compared together.
pub(crate) const BLOCK_BYTES: usize = 64;

/// Some of the characters of ASCII, or every byte but those.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByteSet {
    /// For each lower half the upper halves, a bit for each of the eight.
    uppers: [u8; 16],
    /// All ones: the set has every byte but those.
    inverted: u64,
}

impl ByteSet {
    /// Bytes outside ASCII are skipped.
    pub(crate) const fn of(list: &[u8]) -> Self {
        let mut uppers = [0; 16];
        let mut at = 0;
        while at < list.len() {
            assert!(list[at].is_ascii());
            uppers[(list[at] & 0xF) as usize] |= 1 << (list[at] >> 4);
            at += 1;
        }
        Self {
            uppers,
            inverted: 0,
        }
    }

    /// Every byte but those of `list`.
    pub(crate) const fn without(list: &[u8]) -> Self {
        Self::of(list).others()
    }

    /// Every byte that is not in it.
    pub(crate) const fn others(self) -> Self {
        Self {
            uppers: self.uppers,
            inverted: !self.inverted,
        }
    }

    #[inline]
    pub(crate) const fn contains(&self, byte: u8) -> bool {
        let listed = byte.is_ascii() && self.uppers[(byte & 0xF) as usize] >> (byte >> 4) & 1 == 1;
        listed != (self.inverted != 0)
    }
}

/// Writes for each block and each set which of its bytes are in it: the first byte is the lowest bit.
#[inline]
pub(crate) fn bits<const SETS: usize>(
    sets: &[ByteSet; SETS],
    blocks: &[[u8; BLOCK_BYTES]],
    out: &mut [[u64; SETS]],
) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions.
            return unsafe { x86::bits_avx2(sets, blocks, out) };
        }
        if is_x86_feature_detected!("ssse3") {
            // SAFETY: the processor has the instructions.
            return unsafe { x86::bits_ssse3(sets, blocks, out) };
        }
    }
    one_by_one(sets, blocks, out);
}

/// The same without special instructions.
fn one_by_one<const SETS: usize>(
    sets: &[ByteSet; SETS],
    blocks: &[[u8; BLOCK_BYTES]],
    out: &mut [[u64; SETS]],
) {
    for (block, out) in blocks.iter().zip(out) {
        for (set, out) in sets.iter().zip(out) {
            let bits = block.iter().rev();
            *out = bits.fold(0, |bits, byte| bits << 1 | u64::from(set.contains(*byte)));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_and_si128, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8,
        _mm_set1_epi8, _mm_setzero_si128, _mm_shuffle_epi8, _mm_srli_epi16, _mm256_and_si256,
        _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8,
        _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    };

    use super::{BLOCK_BYTES, ByteSet};

    /// The bit of each upper half; those outside of ASCII have none.
    const UPPER_BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0];

    #[target_feature(enable = "ssse3")]
    fn table(bytes: &[u8; 16]) -> __m128i {
        // SAFETY: sixteen bytes may be read, from any address.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[target_feature(enable = "ssse3")]
    pub(super) fn bits_ssse3<const SETS: usize>(
        sets: &[ByteSet; SETS],
        blocks: &[[u8; BLOCK_BYTES]],
        out: &mut [[u64; SETS]],
    ) {
        let upper_bits = table(&UPPER_BITS);
        let tables = sets.each_ref().map(|set| table(&set.uppers));
        let half = _mm_set1_epi8(0xF);
        for (block, out) in blocks.iter().zip(out) {
            let (rows, _) = block.as_chunks::<16>();
            *out = [0; SETS];
            for row in rows.iter().rev() {
                let row = table(row);
                let uppers = _mm_and_si128(_mm_srli_epi16::<4>(row), half);
                let upper_bits = _mm_shuffle_epi8(upper_bits, uppers);
                for (table, out) in tables.iter().zip(out.iter_mut()) {
                    // Bytes outside of ASCII look up nothing.
                    let found = _mm_and_si128(_mm_shuffle_epi8(*table, row), upper_bits);
                    let none = _mm_movemask_epi8(_mm_cmpeq_epi8(found, _mm_setzero_si128()));
                    *out = *out << 16 | u64::from(!none as u16);
                }
            }
            invert(sets, out);
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn bits_avx2<const SETS: usize>(
        sets: &[ByteSet; SETS],
        blocks: &[[u8; BLOCK_BYTES]],
        out: &mut [[u64; SETS]],
    ) {
        let upper_bits = _mm256_broadcastsi128_si256(table(&UPPER_BITS));
        let tables = sets
            .each_ref()
            .map(|set| _mm256_broadcastsi128_si256(table(&set.uppers)));
        let half = _mm256_set1_epi8(0xF);
        for (block, out) in blocks.iter().zip(out) {
            let (rows, _) = block.as_chunks::<32>();
            *out = [0; SETS];
            for row in rows.iter().rev() {
                // SAFETY: thirty-two bytes may be read, from any address.
                let row: __m256i = unsafe { _mm256_loadu_si256(row.as_ptr().cast()) };
                let uppers = _mm256_and_si256(_mm256_srli_epi16::<4>(row), half);
                let upper_bits = _mm256_shuffle_epi8(upper_bits, uppers);
                for (table, out) in tables.iter().zip(out.iter_mut()) {
                    // Bytes outside of ASCII look up nothing.
                    let found = _mm256_and_si256(_mm256_shuffle_epi8(*table, row), upper_bits);
                    let none =
                        _mm256_movemask_epi8(_mm256_cmpeq_epi8(found, _mm256_setzero_si256()));
                    *out = *out << 32 | u64::from(!none as u32);
                }
            }
            invert(sets, out);
        }
    }

    #[inline]
    fn invert<const SETS: usize>(sets: &[ByteSet; SETS], out: &mut [u64; SETS]) {
        for (set, out) in sets.iter().zip(out) {
            *out ^= set.inverted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_found_in_the_sets_that_have_it_on_every_processor() {
        let sets = [
            ByteSet::of(b""),
            ByteSet::of(b"\0\x0F\x10 aAzZ09_\x7F"),
            ByteSet::without(b" \t\r\n"),
        ];
        assert!(sets[1].contains(b'_') && !sets[1].contains(0xDF) && sets[2].contains(0xA0));
        let all: Vec<u8> = (0..=u8::MAX).chain((0..=u8::MAX).rev()).collect();
        let (blocks, _) = all.as_chunks();
        let expected: Vec<[u64; 3]> = blocks
            .iter()
            .map(|block: &[u8; BLOCK_BYTES]| {
                sets.map(|set| {
                    let bit = |(at, byte): (usize, &u8)| u64::from(set.contains(*byte)) << at;
                    block.iter().enumerate().map(bit).sum()
                })
            })
            .collect();
        let mut found = vec![[0; 3]; blocks.len()];
        bits(&sets, blocks, &mut found);
        assert_eq!(found, expected);
        found.fill([7; 3]);
        one_by_one(&sets, blocks, &mut found);
        assert_eq!(found, expected);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("ssse3") {
            found.fill([7; 3]);
            // SAFETY: the processor has the instructions.
            unsafe { x86::bits_ssse3(&sets, blocks, &mut found) };
            assert_eq!(found, expected);
        }
    }
}
