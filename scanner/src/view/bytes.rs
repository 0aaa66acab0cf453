//! Sets of bytes that a text is skipped through to.

/// Some of all bytes.
pub(super) struct Bytes([bool; 256]);

/// Bytes looked at together: most texts have none for a long way.
const STRIDE: usize = 8;

impl Bytes {
    pub(super) const fn of(list: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut at = 0;
        while at < list.len() {
            set[list[at] as usize] = true;
            at += 1;
        }
        Self(set)
    }

    /// Without those of `list`.
    pub(super) const fn without(list: &[u8]) -> Self {
        let Self(mut set) = Self::of(list);
        let mut at = 0;
        while at < set.len() {
            set[at] = !set[at];
            at += 1;
        }
        Self(set)
    }

    #[inline]
    pub(super) const fn contains(&self, byte: u8) -> bool {
        self.0[byte as usize]
    }

    /// The place of the next of them, at `at` or behind it.
    #[inline]
    pub(super) fn next(&self, text: &[u8], mut at: usize) -> Option<usize> {
        while let Some(stride) = text.get(at..).and_then(|rest| rest.first_chunk::<STRIDE>()) {
            if stride
                .iter()
                .fold(false, |any, byte| any | self.contains(*byte))
            {
                break;
            }
            at += STRIDE;
        }
        let rest = text.get(at..)?;
        let found = rest.iter().position(|byte| self.contains(*byte))?;
        Some(at + found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_is_found_wherever_it_is() {
        const SIGNS: Bytes = Bytes::of(b"%&");
        const OTHERS: Bytes = Bytes::without(b"abc");
        for before in 0..40 {
            let text = format!("{}&{}%", "a".repeat(before), "b".repeat(before));
            let text = text.as_bytes();
            assert_eq!(SIGNS.next(text, 0), Some(before));
            assert_eq!(SIGNS.next(text, before + 1), Some(2 * before + 1));
            assert_eq!(OTHERS.next(text, 0), Some(before));
            assert_eq!(SIGNS.next(text, text.len()), None);
            assert_eq!(SIGNS.next(text, text.len() + 1), None);
        }
    }
}
