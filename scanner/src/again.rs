//! Contents that come again byte for byte: those in which nothing was found are not scanned a third time. Agents ask the
//! same thing again and again with the same headers, and a fleet is given the same pages, indexes and packages.
//!
//! ```text
//! first time     scanned; marked by a quick hash that proves nothing
//! second time    scanned; if nothing was found its digest is kept
//! from then on   the digest is the same: not scanned
//! ```
//! So what never comes again costs the quick hash, and no content is kept. A digest is 128 bits of SHA-256 behind
//! a key that nobody outside of this process knows: whoever makes contents cannot make one that passes for another.
//!
//! Fixed memory: [`PLACES`] of [`Place`]; one content drops another that has the same place.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use oktsec_rules::Surface;
use rustc_hash::FxHasher;
use sha2::{Digest as _, Sha256};

/// Contents that are remembered: 32 bytes for each.
const PLACES: usize = 2_048;

/// What is remembered of contents.
pub(crate) struct Again {
    /// Invariant: empty, or [`PLACES`] long.
    places: Vec<Place>,
    /// Has taken the key in.
    keyed: Sha256,
    #[cfg(test)]
    known: usize,
}

#[derive(Clone, Copy)]
struct Place {
    /// The quick hash of the content that was here last.
    mark: u64,
    digest: Digest,
    /// Whether nothing was found in the content of this digest, where it went. Without it the digest says nothing.
    clean: Option<Surface>,
}

type Digest = [u8; 16];

/// What is known of a content before it is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing is found in it.
    Clean,
    /// It seems to have come before.
    Back { place: usize, digest: Digest },
    /// It has not come before, or was forgotten.
    New,
}

impl Default for Again {
    fn default() -> Self {
        // The only source of chance that the standard library has.
        let chance = RandomState::new();
        let mut keyed = Sha256::new();
        for part in 0..8_u64 {
            keyed.update(chance.hash_one(part).to_le_bytes());
        }
        Self {
            places: Vec::new(),
            keyed,
            #[cfg(test)]
            known: 0,
        }
    }
}

impl Again {
    /// Forgets everything: other rules may find something.
    pub(crate) fn clear(&mut self) {
        self.places = Vec::new();
    }

    /// What is known of a content that goes to `surface`; from now on it has come before. If nothing is found in it,
    /// [`Again::keep`] what this says.
    pub(crate) fn ask(&mut self, content: &[u8], surface: Surface) -> Known {
        if self.places.is_empty() {
            let nothing = Place {
                mark: 0,
                digest: Digest::default(),
                clean: None,
            };
            self.places = vec![nothing; PLACES];
        }
        let mark = mark(content);
        let at = mark as usize % PLACES;
        if self.places[at].mark != mark {
            self.places[at].mark = mark;
            self.places[at].clean = None;
            return Known::New;
        }
        let digest = self.digest(content);
        let place = &self.places[at];
        if place.clean != Some(surface) || place.digest != digest {
            return Known::Back { place: at, digest };
        }
        #[cfg(test)]
        {
            self.known += 1;
        }
        Known::Clean
    }

    /// Nothing was found in a content of which this was known.
    pub(crate) fn keep(&mut self, known: Known, surface: Surface) {
        match known {
            Known::Back { place, digest } => {
                let place = &mut self.places[place];
                place.digest = digest;
                place.clean = Some(surface);
            }
            Known::Clean | Known::New => {}
        }
    }

    /// Contents so far that were known to be clean.
    #[cfg(test)]
    pub(crate) fn known(&self) -> usize {
        self.known
    }

    fn digest(&self, content: &[u8]) -> Digest {
        let whole = self.keyed.clone().chain_update(content).finalize();
        let mut digest = Digest::default();
        digest.copy_from_slice(&whole[..size_of::<Digest>()]);
        digest
    }
}

/// Differs for different contents, unless somebody wants it not to: then they take each other's place.
fn mark(content: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(content);
    // Zero is nobody's.
    hasher.finish() | 1 << 63
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use oktsec_rules::{RuleSet, load_text};

    use super::*;
    use crate::{Database, Scanner};

    #[test]
    fn a_content_is_known_when_it_comes_a_third_time_and_nothing_was_found_in_it() {
        let mut again = Again::default();
        let of = Surface::Egress;
        assert_eq!(again.ask(b"one", of), Known::New);
        let back = again.ask(b"one", of);
        assert!(matches!(back, Known::Back { .. }));
        assert_eq!(again.ask(b"one", of), back, "something was found");
        again.keep(back, of);
        assert_eq!(again.ask(b"one", of), Known::Clean);
        assert_eq!(again.ask(b"one", Surface::Message), back);
        assert_eq!(again.ask(b"two", of), Known::New);
        again.keep(Known::New, of);
        assert!(matches!(again.ask(b"two", of), Known::Back { .. }));
        again.clear();
        assert_eq!(again.ask(b"one", of), Known::New);
    }

    #[test]
    fn a_content_that_takes_the_place_of_another_is_not_taken_for_it() {
        let mut again = Again::default();
        let of = Surface::Egress;
        again.ask(b"one", of);
        let back = again.ask(b"one", of);
        again.keep(back, of);
        // As if the quick hash of both were the same.
        let (from, to) = (mark(b"one") as usize, mark(b"two") as usize);
        again.places[to % PLACES] = again.places[from % PLACES];
        again.places[to % PLACES].mark = mark(b"two");
        assert!(matches!(again.ask(b"two", of), Known::Back { .. }));
    }

    #[test]
    fn nobody_else_can_know_a_digest() {
        let (one, other) = (Again::default(), Again::default());
        assert_eq!(one.digest(b"content"), one.digest(b"content"));
        assert_ne!(one.digest(b"content"), other.digest(b"content"));
        assert_ne!(one.digest(b"content"), one.digest(b"contend"));
    }

    #[test]
    fn memory_does_not_grow_with_what_comes() {
        let mut again = Again::default();
        assert_eq!(again.places.capacity(), 0);
        for number in 0..4 * PLACES {
            again.ask(&number.to_le_bytes(), Surface::Egress);
        }
        assert_eq!(again.places.len(), PLACES);
        assert!(size_of::<Place>() <= 32);
    }

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
    fn a_scan_is_left_out_only_of_what_is_the_same_and_had_nothing() {
        let mut scanner = Scanner::new(database("swordfish")).unwrap();
        for time in 0..5_usize {
            assert_eq!(found(&mut scanner, "accept: text/plain"), 0);
            assert_eq!(found(&mut scanner, "accept: swordfish"), 1);
            assert_eq!(scanner.again.known(), time.saturating_sub(1));
        }
    }

    #[test]
    fn other_rules_look_at_everything_again() {
        let mut scanner = Scanner::new(database("swordfish")).unwrap();
        for _ in 0..3 {
            assert_eq!(found(&mut scanner, "accept: herring"), 0);
        }
        assert_eq!(scanner.again.known(), 1);
        scanner.set_database(database("herring")).unwrap();
        assert_eq!(found(&mut scanner, "accept: herring"), 1);
    }
}
