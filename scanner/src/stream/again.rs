//! Windows that come again byte for byte: those in which nothing was found are not looked at twice. Agents ask the same
//! thing again and again, and a fleet of them is given the same pages, indexes and packages.
//!
//! ```text
//! first time     looked at; marked by a quick hash that proves nothing
//! second time    looked at; if nothing was found its digest is kept
//! from then on   the digest is the same: nothing to look for
//! ```
//! So a window that never comes again costs the quick hash, and no content is kept. A digest is 128 bits of SHA-256 behind
//! a key that nobody outside of this process knows: whoever makes contents cannot make one that passes for another.
//!
//! Fixed memory: [`PLACES`] of [`Place`]; one window drops another that has the same place.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use oktsec_rules::Surface;
use rustc_hash::FxHasher;
use sha2::{Digest as _, Sha256};

/// Windows that are remembered: 32 bytes for each, and 16 KiB of content a window or less.
const PLACES: usize = 2_048;

/// What is remembered of windows.
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
    /// The quick hash of the window that was here last.
    mark: u64,
    digest: [u8; DIGEST_BYTES],
    /// Whether nothing was found in the window of this digest, where it went. Without it the digest says nothing.
    clean: Option<Surface>,
}

const DIGEST_BYTES: usize = 16;

/// What is known of a window before it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing is found in it.
    Clean,
    /// It seems to have come before: [`Again::keep`] it if nothing is found.
    Back(Kept),
    /// It has not come before, or was forgotten.
    New,
}

/// A window whose digest is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    place: usize,
    digest: [u8; DIGEST_BYTES],
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

    /// What is known of a window; from now on it has come before.
    pub(super) fn ask(&mut self, window: &[u8], surface: Surface) -> Known {
        let mark = mark(window);
        let at = mark as usize % PLACES;
        if self.places.is_empty() {
            let nothing = Place {
                mark: 0,
                digest: [0; DIGEST_BYTES],
                clean: None,
            };
            self.places = vec![nothing; PLACES];
        }
        let place = &mut self.places[at];
        if place.mark != mark {
            place.mark = mark;
            place.clean = None;
            return Known::New;
        }
        let clean = place.clean;
        let digest = self.digest(window);
        if clean != Some(surface) || self.places[at].digest != digest {
            return Known::Back(Kept { place: at, digest });
        }
        #[cfg(test)]
        {
            self.known += 1;
        }
        Known::Clean
    }

    /// Windows so far that were known to be clean.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.known
    }

    /// Nothing was found in a window.
    pub(super) fn keep(&mut self, kept: Kept, surface: Surface) {
        let place = &mut self.places[kept.place];
        place.digest = kept.digest;
        place.clean = Some(surface);
    }

    fn digest(&self, window: &[u8]) -> [u8; DIGEST_BYTES] {
        let whole = self.keyed.clone().chain_update(window).finalize();
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&whole[..DIGEST_BYTES]);
        digest
    }
}

/// Differs for different windows, unless somebody wants it not to: then they take each other's place.
fn mark(window: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(window);
    // Zero is nobody's.
    hasher.finish() | 1 << 63
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_known_when_it_comes_a_third_time_and_nothing_was_found_in_it() {
        let mut again = Again::default();
        let of = Surface::Egress;
        assert_eq!(again.ask(b"one", of), Known::New);
        let Known::Back(kept) = again.ask(b"one", of) else {
            panic!("it came before");
        };
        assert!(
            matches!(again.ask(b"one", of), Known::Back(_)),
            "something was found"
        );
        again.keep(kept, of);
        assert_eq!(again.ask(b"one", of), Known::Clean);
        assert!(matches!(
            again.ask(b"one", Surface::Message),
            Known::Back(_)
        ));
        assert_eq!(again.ask(b"two", of), Known::New);
        again.clear();
        assert_eq!(again.ask(b"one", of), Known::New);
    }

    #[test]
    fn a_window_that_takes_the_place_of_another_is_not_taken_for_it() {
        let mut again = Again::default();
        let of = Surface::Egress;
        again.ask(b"one", of);
        let Known::Back(kept) = again.ask(b"one", of) else {
            panic!("it came before");
        };
        again.keep(kept, of);
        // As if the quick hash of both were the same.
        again.places[kept.place].mark = mark(b"two");
        let (from, to) = (kept.place, mark(b"two") as usize % PLACES);
        again.places[to] = again.places[from];
        assert!(matches!(again.ask(b"two", of), Known::Back(_)));
    }

    #[test]
    fn nobody_else_can_know_a_digest() {
        let (one, other) = (Again::default(), Again::default());
        assert_eq!(one.digest(b"window"), one.digest(b"window"));
        assert_ne!(one.digest(b"window"), other.digest(b"window"));
        assert_ne!(one.digest(b"window"), one.digest(b"windov"));
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
}
