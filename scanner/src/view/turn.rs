//! Text read from its end, and text shifted by thirteen letters.

use super::map::MappedText;

/// Fills `out` with the text read from the end.
pub(super) fn reverse(text: &[u8], out: &mut MappedText) -> bool {
    for at in (0..text.len()).rev() {
        out.replace(&text[at..=at], at..at + 1);
    }
    true
}

/// Fills `out` with every letter moved by thirteen.
pub(super) fn rot13(text: &[u8], out: &mut MappedText) -> bool {
    out.copy(text, 0..text.len());
    for byte in &mut out.bytes {
        let first = match byte {
            b'a'..=b'z' => b'a',
            b'A'..=b'Z' => b'A',
            _ => continue,
        };
        *byte = (*byte - first + 13) % 26 + first;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_twice_changes_nothing_and_spans_follow() {
        let mut out = MappedText::default();
        rot13(b"Vtaber nyy", &mut out);
        assert_eq!(out.bytes, b"Ignore all");
        assert_eq!(out.parent(0..6), 0..6);
        let mut out = MappedText::default();
        reverse(b"lla erongI", &mut out);
        assert_eq!(out.bytes, b"Ignore all");
        assert_eq!(out.parent(0..6), 4..10);
    }
}
