//! Short contents that come again and again, like the headers of one client or the name of one host: those in which
//! nothing was found are not looked at twice.
//!
//! A content is known by its bytes, not by their hash. Fixed memory: [`PLACES`] * [`RECURRING_BYTES_MAX`] and what the
//! allocator adds; one content drops another that has the same place.

use std::hash::{BuildHasher as _, RandomState};

use oktsec_rules::Surface;

/// Longest content that is kept: heads of requests are rarely longer.
pub(crate) const RECURRING_BYTES_MAX: usize = 2 << 10;

/// Contents kept at most.
const PLACES: usize = 128;

/// Contents in which nothing was found.
#[derive(Default)]
pub(crate) struct Clean {
    /// Invariant: empty, or [`PLACES`] long.
    places: Vec<Option<(Surface, Box<[u8]>)>>,
    hash: RandomState,
}

impl Clean {
    /// Forgets everything: other rules may find something.
    pub(crate) fn clear(&mut self) {
        self.places.clear();
    }

    /// Whether nothing was found in it.
    pub(crate) fn has(&self, content: &[u8], surface: Surface) -> bool {
        let kept = self.places.get(self.place(content));
        let kept = kept.and_then(Option::as_ref);
        kept.is_some_and(|(of, kept)| *of == surface && **kept == *content)
    }

    /// Keeps a content in which nothing was found.
    pub(crate) fn keep(&mut self, content: &[u8], surface: Surface) {
        let place = self.place(content);
        self.places.resize(PLACES, None);
        self.places[place] = Some((surface, content.into()));
    }

    fn place(&self, content: &[u8]) -> usize {
        self.hash.hash_one(content) as usize % PLACES
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::sync::Arc;

    use oktsec_rules::{RuleSet, load_text};

    use super::*;
    use crate::{Database, Scanner};

    fn database(word: &str) -> Arc<Database> {
        let text = format!(
            "{{id: ACME-001, name: A word, severity: high, category: exfiltration, \
             patterns: [{{contains: {word}}}]}}"
        );
        let rules = RuleSet::new(load_text("mine.yaml", &text).rules);
        Arc::new(Database::compile(&rules).unwrap())
    }

    fn found(scanner: &mut Scanner, content: &str) -> usize {
        let scanned = scanner.scan_recurring(content.as_bytes(), Surface::Egress);
        scanned.unwrap().findings.len()
    }

    #[test]
    fn only_what_is_the_same_and_had_nothing_is_not_looked_at_again() {
        let mut scanner = Scanner::new(database("swordfish")).unwrap();
        for _ in 0..3 {
            assert_eq!(found(&mut scanner, "accept: text/plain"), 0);
            assert_eq!(found(&mut scanner, "accept: swordfish"), 1);
        }
        assert!(scanner.clean.has(b"accept: text/plain", Surface::Egress));
        assert!(!scanner.clean.has(b"accept: text/plain", Surface::Message));
        assert!(!scanner.clean.has(b"accept: swordfish", Surface::Egress));
    }

    #[test]
    fn other_rules_look_at_everything_again() {
        let mut scanner = Scanner::new(database("swordfish")).unwrap();
        assert_eq!(found(&mut scanner, "accept: herring"), 0);
        scanner.set_database(database("herring")).unwrap();
        assert_eq!(found(&mut scanner, "accept: herring"), 1);
    }

    #[test]
    fn many_different_contents_and_long_ones_take_no_more_memory() {
        let mut scanner = Scanner::new(database("swordfish")).unwrap();
        for number in 0..10 * PLACES {
            found(&mut scanner, &format!("accept: {number}"));
        }
        let long = "a ".repeat(RECURRING_BYTES_MAX);
        assert_eq!(found(&mut scanner, &long), 0);
        assert!(!scanner.clean.has(long.as_bytes(), Surface::Egress));
        assert_eq!(scanner.clean.places.len(), PLACES);
    }
}
