//! Which eight bytes of a value to look for: those that ordinary text has least of.
//!
//! Texts are asked about at pairs of bytes that begin a window. Every value ranks the pairs in it
//! by one fixed order, rarest in ordinary text first, and takes the first: values that share pairs
//! so tend to take the *same* pair, and a text has few places to ask about.

use super::key::WINDOW_BYTES;

/// Places a window of this value can begin at, best first.
pub(super) fn candidates(value: &[u8]) -> Vec<u16> {
    let last = value.len().saturating_sub(WINDOW_BYTES);
    let mut places: Vec<u16> = (0..=last).filter_map(|at| u16::try_from(at).ok()).collect();
    places.sort_by_key(|at| {
        let at = usize::from(*at);
        (rank(value[at], value[at + 1]), at)
    });
    places
}

/// The best of them.
pub(super) fn best(value: &[u8]) -> u16 {
    candidates(value).first().copied().unwrap_or(0)
}

/// Order of pairs; smaller is rarer in prose, code and logs.
fn rank(first: u8, second: u8) -> u32 {
    use Kind::{Blank, Digit, Lower, Odd, Sign, Upper};
    let class = match (Kind::of(first), Kind::of(second)) {
        (Sign, Lower | Upper | Digit) | (Lower | Upper | Digit, Sign) => 0,
        (Lower | Upper, Digit) | (Digit, Lower | Upper) => 1,
        (Lower, Upper) => 2,
        (Upper, Upper) => 3,
        (Odd, _) | (_, Odd) => 4,
        (Digit, Digit) => 5,
        (Upper, Lower) => 6,
        (Sign, Sign) => 7,
        (Lower, Lower) => 8 + letter(first) + letter(second),
        (Blank, _) | (_, Blank) => 20,
    };
    // Any fixed order will do among equals, as long as it is the same for all values.
    let order = u32::from(first)
        .wrapping_mul(0x9E37_79B1)
        .wrapping_add(u32::from(second).wrapping_mul(0x85EB_CA6B))
        >> 16;
    class << 16 | order
}

/// How common a letter is, 0 to 3.
fn letter(byte: u8) -> u32 {
    match byte {
        b'j' | b'q' | b'x' | b'z' => 0,
        b'k' | b'v' | b'w' | b'y' | b'b' => 1,
        b'f' | b'g' | b'p' | b'm' | b'u' | b'c' => 2,
        _ => 3,
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Lower,
    Upper,
    Digit,
    Blank,
    /// Signs that stand between the words of ordinary text as well.
    Odd,
    /// Signs that do not.
    Sign,
}

impl Kind {
    const fn of(byte: u8) -> Self {
        match byte {
            b'a'..=b'z' => Self::Lower,
            b'A'..=b'Z' => Self::Upper,
            b'0'..=b'9' => Self::Digit,
            b' ' | b'\t' | b'\r' | b'\n' | b',' | b'.' => Self::Blank,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'*' | b'+' | b'?' | b'@' | b'^' | b'~' | b'|' => {
                Self::Sign
            }
            _ => Self::Odd,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_lies_where_the_value_looks_least_like_text() {
        assert_eq!(candidates(b"summer of love 69x and more")[0], 16);
        assert_eq!(candidates(b"correcthorsequietly")[0], 11, "`eq`, not `co`");
    }

    #[test]
    fn every_place_that_leaves_a_whole_window_is_a_candidate() {
        assert_eq!(candidates(b"12345678"), [0]);
        let mut places = candidates(b"a1b2c3d4e5f6");
        places.sort_unstable();
        assert_eq!(places, [0, 1, 2, 3, 4]);
    }
}
