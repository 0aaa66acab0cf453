//! A set of bytes, small enough to copy.

use regex_syntax::hir::ClassBytes;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Set([u64; 4]);

impl Set {
    pub(super) const ALL: Self = Self([u64::MAX; 4]);

    pub(super) fn byte(byte: u8) -> Self {
        let mut set = Self::default();
        set.insert(byte);
        set
    }

    pub(super) fn of(class: &ClassBytes) -> Self {
        let mut set = Self::default();
        for range in class.ranges() {
            set.insert_all(range.start(), range.end());
        }
        set
    }

    pub(super) fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    /// From one byte to another, word by word: sets are made hundreds of times for each pattern.
    fn insert_all(&mut self, from: u8, to: u8) {
        for (at, word) in self.0.iter_mut().enumerate() {
            let first = usize::from(from).saturating_sub(64 * at);
            let end = (usize::from(to) + 1).saturating_sub(64 * at).min(64);
            if first < end {
                *word |= u64::MAX >> (64 - (end - first)) << first;
            }
        }
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// How many of its bytes differ when letters are read without case.
    pub(super) fn spellings(&self) -> usize {
        // The case is bit 5 of a byte: the lower and the upper half of each word.
        let both = |word: &u64| ((word | word << 32) >> 32).count_ones() as usize;
        self.0.iter().map(both).sum()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        self.0.into_iter().enumerate().flat_map(|(at, mut rest)| {
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as u8)?;
                rest &= rest - 1;
                Some((at as u8) << 6 | bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use regex_syntax::hir::ClassBytesRange;

    use super::*;

    #[test]
    fn a_class_is_the_set_of_its_bytes() {
        for (from, to) in [
            (0, 255),
            (0, 0),
            (255, 255),
            (63, 64),
            (60, 200),
            (64, 127),
            (97, 122),
        ] {
            let set = Set::of(&ClassBytes::new([ClassBytesRange::new(from, to)]));
            assert_eq!(
                set.iter().collect::<Vec<_>>(),
                (from..=to).collect::<Vec<_>>()
            );
        }
    }
}
