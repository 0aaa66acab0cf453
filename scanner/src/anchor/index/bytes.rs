//! An index as bytes: in its order, so that reading it neither sorts nor looks anything up.

use super::{COMPARED, Index, Near, Surroundings};

impl<const WIDTH: usize> Index<WIDTH> {
    /// What [`Self::from_bytes`] reads: how many windows there are and how many surroundings, then these, then what is
    /// near them.
    pub(in crate::anchor) fn to_bytes(&self) -> Vec<u8> {
        let windows = self
            .windows
            .windows(2)
            .map(|two| [two[0].bytes, two[1].first - two[0].first]);
        // Behind the last one nothing comes that has any.
        let windows = windows.filter(|[_, count]| *count > 0);
        let surroundings = self.surroundings.iter().map(|one| [one.near, one.anchor]);
        let nears = self.nears.iter().map(|near| [near.before, near.after]);
        let words = |two: [u32; 2]| two.into_iter().flat_map(u32::to_le_bytes);
        let count = self.windows.len() - (COMPARED + 1);
        let head = [count as u32, self.surroundings.len() as u32];
        let all = std::iter::once(head).chain(windows).chain(surroundings);
        let nears = nears.flatten().flat_map(u64::to_le_bytes);
        all.flat_map(words).chain(nears).collect()
    }

    /// `None` if these are not bytes of [`Self::to_bytes`], as far as anybody could be harmed.
    pub(in crate::anchor) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let words = |bytes: &[u8; 8]| {
            let [low, high] = [0, 4].map(|at| std::array::from_fn(|byte| bytes[at + byte]));
            [low, high].map(u32::from_le_bytes)
        };
        let (rows, rest) = bytes.as_chunks::<8>();
        let (head, rows) = rows.split_first()?;
        let [windows, surroundings] = words(head).map(|count| count as usize);
        let (windows, rows) = rows.split_at_checked(windows)?;
        let (surroundings, nears) = rows.split_at_checked(surroundings)?;
        let (nears, odd) = nears.as_chunks::<2>();
        if !rest.is_empty() || !odd.is_empty() {
            return None;
        }
        let windows: Vec<_> = windows.iter().map(words).collect();
        let surroundings = surroundings.iter().map(|one| {
            let [near, anchor] = words(one);
            Surroundings { near, anchor }
        });
        let nears = nears.iter().map(|near| {
            let [before, after] = near.map(u64::from_le_bytes);
            Near { before, after }
        });
        Self::of(&windows, surroundings.collect(), nears.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all, spelling};
    use super::super::{Spelling, WINDOW_BYTES};
    use super::*;

    #[test]
    fn an_index_comes_back_from_its_bytes_and_nothing_else_does() {
        let near = |after| Near {
            after,
            ..Near::ANYTHING
        };
        let spelt = |text, anchor, after| Spelling {
            near: near(after),
            ..spelling(text, anchor)
        };
        let index = Index::<WINDOW_BYTES>::new(vec![
            spelt(b"abcd", 7, u64::MAX),
            spelt(b"abcd", 9, 0x7F),
            spelt(b"wxyz", 9, 0x7F),
        ]);
        let bytes = index.to_bytes();
        let again = Index::<WINDOW_BYTES>::from_bytes(&bytes).unwrap();
        let text = b"-abcd-wxyz-ABCD";
        assert_eq!(all(&again, text), all(&index, text));
        assert_eq!(again.to_bytes(), bytes);
        for len in 0..bytes.len() {
            assert!(
                Index::<WINDOW_BYTES>::from_bytes(&bytes[..len]).is_none(),
                "{len}"
            );
        }
        // Two windows of eight bytes behind the head, three surroundings, two nears.
        assert_eq!(bytes.len(), 8 + 2 * 8 + 3 * 8 + 2 * 16);
        let changed = |at: usize, to: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = to;
            Index::<WINDOW_BYTES>::from_bytes(&bytes)
        };
        for (at, to, what) in [
            (0, 9, "more windows than there are"),
            (8 + 4, 0, "a window without surroundings"),
            (8 + 4, 9, "more surroundings than there are"),
            (8 + 16, 2, "nothing is known of what is near"),
        ] {
            assert!(changed(at, to).is_none(), "{what}");
        }
        let mut swapped = bytes.clone();
        let (first, second) = swapped[8..24].split_at_mut(8);
        first.swap_with_slice(second);
        assert!(Index::<WINDOW_BYTES>::from_bytes(&swapped).is_none());
    }
}
