//! Where a pattern matches, and whether the match holds: checks, surroundings, exclusions.
//!
//! Linear time by construction: automata only, no backtracking, and a count of attempts.

use std::ops::Range;

use oktsec_rules::{EXCLUDE_WINDOW_BYTES, Expression, NEAR_WINDOW_BYTES};
use regex_automata::Input;
use regex_automata::meta::{Cache, Regex};

use crate::database::{Database, PatternInfo};

/// Search caches kept before all are given back: bounds memory per core.
const CACHES_MAX: usize = 96;

/// Bytes one search cache may grow to.
const CACHE_BYTES_MAX: usize = 256 << 10;

/// One expression, ready to be searched.
pub(crate) struct Matcher {
    regex: Regex,
    /// Longest possible match, if there is one.
    width_max: Option<usize>,
}

impl Matcher {
    pub(crate) fn new(expression: &Expression) -> Self {
        let hir = expression
            .to_hir()
            .expect("compiling the database has read every expression");
        let config = Regex::config()
            .utf8_empty(false)
            .nfa_size_limit(None)
            .dfa(false)
            .hybrid_cache_capacity(CACHE_BYTES_MAX);
        let regex = Regex::builder()
            .configure(config)
            .build_from_hir(&hir)
            .expect("the only limit is the number of states, and the expression stays below it");
        Self {
            regex,
            width_max: hir.properties().maximum_len(),
        }
    }

    /// Where a search may begin when the first match to end is known to end at `end`: every
    /// match ends there or later, so none starts before `end - width_max`.
    pub(crate) fn search_start(&self, end: u64) -> usize {
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        self.width_max.map_or(0, |width| end.saturating_sub(width))
    }
}

/// The search caches of one scanner: regexes are shared, their caches are not.
#[derive(Default)]
pub(crate) struct Caches {
    slots: Vec<Option<Box<Cache>>>,
    live: usize,
}

impl Caches {
    pub(crate) fn reset(&mut self, matchers: usize) {
        self.slots.clear();
        self.slots.resize_with(matchers, || None);
        self.live = 0;
    }

    fn find(
        &mut self,
        database: &Database,
        matcher: u32,
        text: &[u8],
        range: Range<usize>,
    ) -> Option<Range<usize>> {
        let regex = &database.matcher(matcher).regex;
        if self.slots[matcher as usize].is_none() {
            if self.live == CACHES_MAX {
                self.slots.iter_mut().for_each(|slot| *slot = None);
                self.live = 0;
            }
            self.live += 1;
        }
        let cache =
            self.slots[matcher as usize].get_or_insert_with(|| Box::new(regex.create_cache()));
        regex
            .search_with(cache, &Input::new(text).range(range))
            .map(|found| found.range())
    }
}

/// What a caller of [`matches`] wants next.
pub(crate) enum Next {
    More,
    Enough,
}

/// Calls `accept` for every match of the pattern in `text` from `start` on that holds, in order,
/// without overlaps. Takes one of `attempts` for each match looked at; `false` if they ran out.
pub(crate) fn matches(
    database: &Database,
    caches: &mut Caches,
    pattern: &PatternInfo,
    text: &[u8],
    start: usize,
    attempts: &mut u32,
    mut accept: impl FnMut(Range<usize>) -> Next,
) -> bool {
    let mut at = start;
    while let Some(found) = caches.find(database, pattern.matcher, text, at..text.len()) {
        if *attempts == 0 {
            return false;
        }
        *attempts -= 1;
        at = found.end;
        if holds(database, caches, pattern, text, &found) && matches!(accept(found), Next::Enough) {
            break;
        }
    }
    true
}

fn holds(
    database: &Database,
    caches: &mut Caches,
    pattern: &PatternInfo,
    text: &[u8],
    found: &Range<usize>,
) -> bool {
    let around = |window: usize| {
        found.start.saturating_sub(window)..found.end.saturating_add(window).min(text.len())
    };
    if !pattern
        .checks
        .iter()
        .all(|check| check.passes(&text[found.clone()]))
    {
        return false;
    }
    if let Some(near) = pattern.near {
        let window = around(NEAR_WINDOW_BYTES);
        let before = window.start..found.start;
        let after = found.end..window.end;
        if caches.find(database, near, text, before).is_none()
            && caches.find(database, near, text, after).is_none()
        {
            return false;
        }
    }
    let excludes = database.infos()[pattern.rule as usize].excludes.clone();
    for exclude in excludes {
        if caches
            .find(database, exclude, text, around(EXCLUDE_WINDOW_BYTES))
            .is_some()
        {
            return false;
        }
    }
    true
}
