//! The obvious engine: every pattern, one after the other, with a regular expression library.
//!
//! It shares views and confirm with [`Scanner`](crate::Scanner) and replaces the one part that is
//! hard to trust by reading: which patterns occur at all. Thousands of times slower; it judges.

use std::sync::Arc;

use oktsec_rules::Surface;

use crate::database::Database;
use crate::engine::{EngineError, RawMatch};
use crate::finding::{ScanError, Scanned};
use crate::sweep::{Prefilter, REVERSED_SIGN, REVERSED_WORDS, ROT13_SIGN, ROT13_WORDS, Sweep};

/// The oracle of the tests, and of `oktsec rules test`.
pub struct NaiveScanner {
    database: Arc<Database>,
    everything: Everything,
    sweep: Sweep,
}

impl NaiveScanner {
    /// An oracle for this database.
    pub fn new(database: Arc<Database>) -> Self {
        let mut sweep = Sweep::default();
        sweep.reset(&database);
        let all = (0..database.patterns().len() as u32).map(|pattern| RawMatch { pattern, end: 0 });
        Self {
            everything: Everything(all.collect()),
            sweep,
            database,
        }
    }

    /// As [`Scanner::scan`](crate::Scanner::scan), with the same result.
    pub fn scan(&mut self, content: &[u8], surface: Surface) -> Result<Scanned<'_>, ScanError> {
        self.sweep
            .run(&self.database, &mut self.everything, content, surface)
    }
}

/// Claims that every pattern occurs.
struct Everything(Vec<RawMatch>);

impl Prefilter for Everything {
    fn hits(&mut self, database: &Database, text: &[u8]) -> Result<&[RawMatch], EngineError> {
        self.0.clear();
        let all = 0..database.patterns().len() as u32;
        self.0
            .extend(all.map(|pattern| RawMatch { pattern, end: 0 }));
        let lower = text.to_ascii_lowercase();
        let holds = |words: &[&str]| {
            words.iter().any(|word| {
                lower
                    .windows(word.len())
                    .any(|part| part == word.as_bytes())
            })
        };
        for (words, pattern) in [(REVERSED_WORDS, REVERSED_SIGN), (ROT13_WORDS, ROT13_SIGN)] {
            if holds(words) {
                self.0.push(RawMatch { pattern, end: 0 });
            }
        }
        Ok(&self.0)
    }
}
