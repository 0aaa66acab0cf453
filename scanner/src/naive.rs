//! The obvious engine: every pattern, one after the other, with a regular expression library.
//!
//! It shares views and confirm with [`Scanner`](crate::Scanner) and replaces the one part that is
//! hard to trust by reading: which patterns occur at all. Thousands of times slower; it judges.

use std::ops::Range;
use std::sync::Arc;

use oktsec_rules::Surface;

use crate::anchor::Start;
use crate::database::Database;
use crate::engine::EngineError;
use crate::finding::{ScanError, Scanned};
use crate::signs;
use crate::sweep::{Prefilter, Suspect, Sweep};
use crate::view::New;

/// The oracle of the tests, and of `oktsec rules test`.
pub struct NaiveScanner {
    database: Arc<Database>,
    sweep: Sweep,
}

impl NaiveScanner {
    /// An oracle for this database.
    pub fn new(database: Arc<Database>) -> Self {
        let mut sweep = Sweep::default();
        sweep.reset(&database);
        Self { database, sweep }
    }

    /// As [`Scanner::scan`](crate::Scanner::scan), with the same result.
    pub fn scan(&mut self, content: &[u8], surface: Surface) -> Result<Scanned<'_>, ScanError> {
        self.sweep
            .run(&self.database, &mut Everything, content, None, surface)
    }
}

/// Claims that every pattern occurs, anywhere.
struct Everything;

impl Prefilter for Everything {
    fn suspects(
        &mut self,
        database: &Database,
        text: &[u8],
        part: Range<usize>,
        _: Option<New<'_>>,
        _: &mut u64,
        suspects: &mut Vec<Suspect>,
    ) -> Result<(), EngineError> {
        let anywhere = |pattern| Suspect {
            pattern,
            start: Start::from(part.start),
        };
        suspects.extend((0..database.patterns().len() as u32).map(anywhere));
        let lower = text.to_ascii_lowercase();
        let holds = |word: &String| {
            lower
                .windows(word.len())
                .any(|part| part == word.as_bytes())
        };
        for (number, sign) in signs::all() {
            if sign.words.iter().any(holds) {
                suspects.push(anywhere(number));
            }
        }
        Ok(())
    }

    fn work(&self, _: usize) -> u64 {
        u64::MAX
    }
}
