//! Secrets that traffic itself shows: what an agent was given is watched for in what it sends.
//!
//! A rule's match is more than the secret (`password = …`), and much of it is ordinary text. What is remembered is its
//! longest part without blanks, quotes and separators, and only if that part is particular: nobody's traffic must
//! stop because `production` once stood behind `password:`.

use std::fmt;

use super::anchor;
use super::index::SecretIndex;
use super::key::SecretKey;
use super::store::{Entry, Name, SecretKind, has_distinct, known_part};

/// Shortest part remembered.
const PART_BYTES_MIN: usize = 12;

/// Fewest different bytes of a part.
const PART_DISTINCT_MIN: usize = 8;

/// A secret that was seen, by its keyed hash alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SeenValue(Entry);

impl SecretKey {
    /// What is remembered of the bytes that a rule for secrets matched; `None` if no part of them is particular.
    pub fn see(&self, matched: &[u8]) -> Option<SeenValue> {
        let part = matched
            .split(|byte| is_between(*byte))
            .max_by_key(|part| part.len())
            .filter(|part| is_particular(part))?;
        let value = known_part(part);
        let offset = anchor::best(value);
        let at = usize::from(offset);
        Some(SeenValue(Entry {
            value: self.value(value),
            window: self.window(std::array::from_fn(|byte| value[at + byte])),
            pair: u16::from_le_bytes([value[at], value[at + 1]]),
            offset,
            length: value.len() as u16,
            name: 0,
        }))
    }
}

impl SecretIndex {
    /// An index of values that were seen, each with the name of where it came from. All must be of this key.
    pub fn of_seen<'s>(
        key: SecretKey,
        seen: impl ExactSizeIterator<Item = (SeenValue, &'s str)>,
    ) -> Self {
        let (mut names, mut entries) = (Vec::new(), Vec::with_capacity(seen.len()));
        for (SeenValue(entry), from) in seen {
            entries.push(Entry {
                name: names.len() as u32,
                ..entry
            });
            names.push(Name {
                text: from.to_owned(),
                kind: SecretKind::Value,
                hosts: Vec::new(),
            });
        }
        Self::new(key, names, &entries)
    }
}

impl fmt::Debug for SeenValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeenValue({} bytes)", self.0.length)
    }
}

/// What stands between a secret and the words around it.
const fn is_between(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || byte.is_ascii_control()
        || matches!(
            byte,
            b'"' | b'\''
                | b'`'
                | b'='
                | b':'
                | b','
                | b';'
                | b'@'
                | b'<'
                | b'>'
                | b'('
                | b')'
                | b'['
                | b']'
                | b'{'
                | b'}'
                | b'\\'
                | b'&'
                | b'|'
        )
}

/// Whether a part would hardly turn up by itself: letters and digits, and many different ones.
fn is_particular(part: &[u8]) -> bool {
    part.len() >= PART_BYTES_MIN
        && part.iter().any(u8::is_ascii_digit)
        && part.iter().any(u8::is_ascii_alphabetic)
        && has_distinct(part, PART_DISTINCT_MIN)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::secrets::SecretFinder;

    fn key() -> SecretKey {
        SecretKey::from_bytes([4; 32])
    }

    #[test]
    fn what_is_remembered_is_the_secret_and_not_the_words_around_it() {
        let seen = key()
            .see(b"\"db_password\": \"blue9Harbour-tide\"")
            .expect("it is particular");
        let index = SecretIndex::of_seen(key(), [(seen, "files.example")].into_iter());
        let mut finder = SecretFinder::new(Arc::new(index));
        let found = finder.find(b"x=blue9Harbour-tide").findings.to_vec();
        assert_eq!(found[0].span, 2..19);
        assert!(
            finder
                .find(b"\"db_password\": \"other\"")
                .findings
                .is_empty()
        );
        assert_eq!(finder.index().name(0), "files.example");
    }

    #[test]
    fn ordinary_words_are_not_remembered() {
        for matched in [
            "password: production-release",
            "token = 123456789012345",
            "api_key=aaaaaaaaaaaa1",
            "secret: short1",
            "",
        ] {
            assert_eq!(key().see(matched.as_bytes()), None, "{matched}");
        }
    }
}
