//! Where a pattern matches, and whether the match holds: checks, surroundings, exclusions.
//!
//! Linear time by construction: automata only, no backtracking, and a count of attempts.

use std::ops::Range;
use std::sync::OnceLock;

use oktsec_rules::{Check, EXCLUDE_WINDOW_BYTES, Expression, NEAR_WINDOW_BYTES, is_among_code};
use regex_automata::hybrid::dfa;
use regex_automata::meta::{self, Regex};
use regex_automata::{Anchored, Input};
use regex_syntax::hir::Hir;

use crate::anchor::{Start, WindowAt};
use crate::database::{Database, PatternInfo};
use crate::lazy::{self, CACHE_BYTES_MAX, READ_CLEARS_MAX, Way};
use crate::nearby::Nearby;
use crate::places::{Failed, First};
use crate::retrace::Retrace;
use crate::view::{Viewed, Written};

/// Bytes of search caches of each kind kept before some are given back: bounds memory per core.
/// Building the states of an expression again takes longer than most searches.
const CACHES_BYTES_MAX: usize = 16 << 20;

/// Bytes of a search cache that is kept when there is too little room for all.
const CACHE_BYTES_KEPT: usize = 128 << 10;

/// One expression, ready to be searched. Built at its first use: most never match.
pub(crate) struct Matcher {
    expression: Expression,
    anywhere: OnceLock<Regex>,
    /// Answers where a match that begins at a known byte ends. `None` if it cannot be built.
    here: OnceLock<Option<Box<dfa::DFA>>>,
    /// `None` if it is searched as a whole.
    first: OnceLock<Option<Box<First>>>,
    width_max: OnceLock<Option<usize>>,
}

impl Matcher {
    pub(crate) fn new(expression: Expression) -> Self {
        Self {
            expression,
            anywhere: OnceLock::new(),
            here: OnceLock::new(),
            first: OnceLock::new(),
            width_max: OnceLock::new(),
        }
    }

    /// Where a search may begin when the first match to end is known to end at `end`: every
    /// match ends there or later, so none starts before `end - width_max`.
    pub(crate) fn search_start(&self, end: u64) -> usize {
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        let width = self
            .width_max
            .get_or_init(|| self.hir().properties().maximum_len());
        width.map_or(0, |width| end.saturating_sub(width))
    }

    fn hir(&self) -> Hir {
        self.expression
            .to_hir()
            .expect("compiling the database has read every expression")
    }

    fn anywhere(&self) -> &Regex {
        self.anywhere.get_or_init(|| {
            let config = Regex::config()
                .utf8_empty(false)
                .nfa_size_limit(None)
                .dfa(false)
                .hybrid_cache_capacity(CACHE_BYTES_MAX);
            Regex::builder()
                .configure(config)
                .build_from_hir(&self.hir())
                .expect("the only limit is the number of states, and the expression is below it")
        })
    }

    fn here(&self) -> Option<&dfa::DFA> {
        let build = || lazy::automaton(&self.hir(), Way::Ahead).map(Box::new);
        self.here.get_or_init(build).as_deref()
    }

    /// With what a match begins and how it is read from there, if that is how it is searched.
    fn first(&self) -> Option<(&First, &dfa::DFA)> {
        let here = self.here()?;
        let first = self
            .first
            .get_or_init(|| First::of(here.get_nfa()).map(Box::new));
        Some((first.as_deref()?, here))
    }
}

/// Windows of one pattern whose caches are kept.
const BEHIND_CACHES_MAX: usize = 8;

/// Windows of one pattern whose last reads are remembered.
const BEHIND_READS_MAX: usize = 4;

/// Places that one window may become; more are one search from the first of them. The larger number counts where that
/// would read far.
const STARTS_MAX: usize = 4;
const FAR_STARTS_MAX: usize = 32;

/// A search cache, as far as its memory goes.
trait Memory {
    fn bytes(&self) -> usize;
}

impl Memory for meta::Cache {
    fn bytes(&self) -> usize {
        self.memory_usage()
    }
}

impl Memory for dfa::Cache {
    fn bytes(&self) -> usize {
        self.memory_usage()
    }
}

/// Caches of one kind, of at most [`CACHES_BYTES_MAX`] when one is added.
struct Pool<C> {
    slots: Vec<Option<Box<C>>>,
}

impl<C> Default for Pool<C> {
    fn default() -> Self {
        Self { slots: Vec::new() }
    }
}

impl<C: Memory> Pool<C> {
    fn reset(&mut self, matchers: usize) {
        self.slots.clear();
        self.slots.resize_with(matchers, || None);
    }

    fn get(&mut self, matcher: u32, make: impl FnOnce() -> C) -> &mut C {
        if self.slots[matcher as usize].is_none() {
            self.make_room();
        }
        self.slots[matcher as usize].get_or_insert_with(|| Box::new(make()))
    }

    /// Gives back what is too much: first the caches that a long text made large.
    fn make_room(&mut self) {
        for keep in [CACHE_BYTES_KEPT, 0] {
            let bytes: usize = self.slots.iter().flatten().map(|cache| cache.bytes()).sum();
            if bytes <= CACHES_BYTES_MAX {
                return;
            }
            for slot in &mut self.slots {
                if slot.as_ref().is_some_and(|cache| cache.bytes() > keep) {
                    *slot = None;
                }
            }
        }
    }
}

/// The search caches of one scanner: expressions are shared, their caches are not.
#[derive(Default)]
pub(crate) struct Caches {
    anywhere: Pool<meta::Cache>,
    here: Pool<dfa::Cache>,
    behind: Pool<BehindCaches>,
    /// Where matches of one pattern may begin.
    starts: Vec<Start>,
    /// What was read of one pattern in one text.
    ahead: Retrace,
    /// The same of one search.
    places: Failed,
    behind_reads: BehindReads,
    /// By matcher, what is known of what stands near matches.
    nearby: Vec<Option<Box<Nearby>>>,
    /// Number of the content.
    content: u32,
}

/// What was read behind the windows of one pattern in one text.
#[derive(Default)]
struct BehindReads {
    reads: Vec<(u32, Retrace)>,
    /// The one that is replaced next.
    next: usize,
    /// Bytes of the text.
    len: usize,
}

impl BehindReads {
    fn start(&mut self, len: usize) {
        self.len = len;
        for (_, reads) in &mut self.reads {
            reads.start(len);
        }
    }

    fn get(&mut self, window: u32) -> &mut Retrace {
        let known = self.reads.iter().position(|(of, _)| *of == window);
        let at = known.unwrap_or_else(|| {
            if self.reads.len() < BEHIND_READS_MAX {
                let mut reads = Retrace::default();
                reads.start(self.len);
                self.reads.push((window, reads));
                return self.reads.len() - 1;
            }
            self.next = (self.next + 1) % BEHIND_READS_MAX;
            let (of, reads) = &mut self.reads[self.next];
            *of = window;
            reads.start(self.len);
            self.next
        });
        &mut self.reads[at].1
    }
}

/// Caches of what reads behind the windows of one pattern.
#[derive(Default)]
struct BehindCaches(Vec<(u32, dfa::Cache)>);

impl BehindCaches {
    fn get(&mut self, window: u32, make: impl FnOnce() -> dfa::Cache) -> &mut dfa::Cache {
        let known = self.0.iter().position(|(of, _)| *of == window);
        let at = known.unwrap_or_else(|| {
            if self.0.len() == BEHIND_CACHES_MAX {
                self.0.remove(0);
            }
            self.0.push((window, make()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

impl Memory for BehindCaches {
    fn bytes(&self) -> usize {
        self.0.iter().map(|(_, cache)| cache.memory_usage()).sum()
    }
}

impl Caches {
    pub(crate) fn reset(&mut self, matchers: usize) {
        self.anywhere.reset(matchers);
        self.here.reset(matchers);
        self.behind.reset(matchers);
        self.nearby.clear();
        self.nearby.resize_with(matchers, || None);
        self.content = 0;
    }

    /// Begins another content.
    pub(crate) fn next_content(&mut self) {
        self.content = self.content.wrapping_add(1);
    }
}

/// What may still be spent.
pub(crate) struct Budget<'a> {
    /// Suspects confirmed.
    pub(crate) attempts: &'a mut u32,
    /// Bytes searched.
    pub(crate) work: &'a mut u64,
    /// How often the states of an automaton may be thrown away and made again.
    pub(crate) clears: &'a mut u32,
}

impl Budget<'_> {
    fn is_spent(&self) -> bool {
        *self.attempts == 0 || *self.work == 0
    }

    /// Automata threw away all their states so many times. A state takes as long to make as a thousand bytes to read, so
    /// a text in which each byte leads to a new one must not be read to its end.
    fn made_states(&mut self, clears: usize) {
        let left = self.clears.checked_sub(clears as u32);
        match left.filter(|_| clears < READ_CLEARS_MAX) {
            Some(left) => *self.clears = left,
            None => (*self.clears, *self.work) = (0, 0),
        }
    }

    fn searched(&mut self, bytes: usize) {
        *self.work = self.work.saturating_sub(bytes as u64);
    }
}

/// What a caller of [`Confirm::matches`] wants next.
pub(crate) enum Next {
    More,
    Enough,
}

/// Takes matches.
pub(crate) trait Accept {
    /// Whether it needs to be known that this match holds.
    fn asks(&mut self, _found: &Range<usize>) -> bool {
        true
    }

    /// Takes a match that holds, and the rule it is a finding of.
    fn take(&mut self, found: Range<usize>, found_as: u32) -> Next;
}

impl<F: FnMut(Range<usize>) -> Next> Accept for F {
    fn take(&mut self, found: Range<usize>, _found_as: u32) -> Next {
        self(found)
    }
}

/// Searches one text.
pub(crate) struct Confirm<'a> {
    pub(crate) database: &'a Database,
    pub(crate) caches: &'a mut Caches,
    pub(crate) text: &'a [u8],
    /// The text as a view; `None` if it is the content.
    pub(crate) view: Option<Viewed<'a>>,
    /// The part of the text in which matches are looked for.
    pub(crate) part: Range<usize>,
    pub(crate) budget: Budget<'a>,
}

impl Confirm<'_> {
    /// Gives `accept` every match of the pattern that it asks about and that holds, in order, without overlaps, given
    /// where matches may begin: places in ascending order. `false` if the budget ran out before.
    pub(crate) fn matches(
        &mut self,
        pattern: &PatternInfo,
        starts: impl Iterator<Item = Start>,
        accept: impl Accept,
    ) -> bool {
        let mut places = std::mem::take(&mut self.caches.starts);
        places.clear();
        self.caches.ahead.start(self.text.len());
        self.caches.behind_reads.start(self.text.len());
        starts.for_each(|start| self.narrow(pattern.matcher, start, &mut places));
        places.sort_by_key(|start| start.at);
        places.dedup_by(|one, other| {
            let same = one.exact && other.exact && one.at == other.at;
            if same {
                // Found by two windows, of which one lets it go farther.
                other.end = other.end.max(one.end);
            }
            same
        });
        let all = self.matches_at(pattern, &places, accept);
        self.caches.starts = places;
        all
    }

    /// Appends the places where a match may begin. One that may begin far before a window is looked for from the window
    /// backwards.
    fn narrow(&mut self, matcher: u32, start: Start, places: &mut Vec<Start>) {
        let database = self.database;
        let behind = |window: WindowAt| {
            let hir = || database.matcher(matcher).hir();
            let automaton = database.anchors().behind(window.which, hir)?;
            Some((window, automaton))
        };
        let Some((window, automaton)) = start.window.and_then(behind) else {
            places.push(start);
            return;
        };
        if self.budget.is_spent() {
            places.push(start);
            return;
        }
        let Caches {
            behind,
            behind_reads,
            ..
        } = &mut *self.caches;
        let caches = behind.get(matcher, BehindCaches::default);
        let cache = caches.get(window.which, || automaton.create_cache());
        let retrace = behind_reads.get(window.which);
        let clears = cache.clear_count();
        let begins = retrace.beginnings(automaton, cache, self.text, window.at);
        self.budget.made_states(cache.clear_count() - clears);
        let Ok((begins, read)) = begins else {
            places.push(start);
            return;
        };
        let exact = |at: &usize| Start {
            at: *at,
            exact: true,
            window: None,
            ..start
        };
        let starts_max = if start.is_far() {
            FAR_STARTS_MAX
        } else {
            STARTS_MAX
        };
        match begins {
            [] => {}
            few if few.len() <= starts_max => places.extend(few.iter().map(exact)),
            [first, ..] => places.push(Start {
                at: *first,
                window: None,
                ..start
            }),
        }
        retrace.shrink();
        self.budget.searched(read);
    }

    fn matches_at(
        &mut self,
        pattern: &PatternInfo,
        starts: &[Start],
        mut accept: impl Accept,
    ) -> bool {
        let mut starts = starts.iter().copied();
        let mut next = self.part.start;
        let mut pending = starts.next();
        while let Some(start) = pending {
            pending = starts.next();
            if start.exact {
                if start.at < next || start.at >= self.part.end {
                    continue;
                }
                if self.budget.is_spent() {
                    return false;
                }
                let Some(end) = self.end_of_match(pattern.matcher, start.at) else {
                    continue;
                };
                next = end;
                if let Next::Enough = self.look_at(pattern, start.at..end, &mut accept) {
                    return true;
                }
                continue;
            }
            // What overlaps is searched as one: each match that begins in it lies in it as a whole.
            let mut end = start.end;
            while let Some(more) = pending.filter(|more| more.at <= end) {
                end = end.max(more.end);
                pending = starts.next();
            }
            let end = end.min(self.part.end);
            next = next.max(start.at);
            while next < end {
                // However many patterns are left to be searched for.
                if self.budget.is_spent() {
                    return false;
                }
                let Some(found) = self.find(pattern.matcher, next..end) else {
                    break;
                };
                next = found.end;
                if let Next::Enough = self.look_at(pattern, found, &mut accept) {
                    return true;
                }
            }
        }
        // A read that was not finished says nothing.
        !self.budget.is_spent()
    }

    fn look_at(
        &mut self,
        pattern: &PatternInfo,
        found: Range<usize>,
        accept: &mut impl Accept,
    ) -> Next {
        *self.budget.attempts = self.budget.attempts.saturating_sub(1);
        if accept.asks(&found) && self.holds(pattern, &found) {
            let found_as = self.found_as(pattern, &found);
            accept.take(found, found_as)
        } else {
            Next::More
        }
    }

    /// The first match in a part of the text; what surrounds the part is seen by borders only.
    fn find(&mut self, matcher: u32, range: Range<usize>) -> Option<Range<usize>> {
        self.find_in(self.text, matcher, range)
    }

    fn find_in(&mut self, text: &[u8], matcher: u32, range: Range<usize>) -> Option<Range<usize>> {
        let shared = self.database.matcher(matcher);
        if let Some((first, dfa)) = shared.first() {
            let Caches { here, places, .. } = &mut *self.caches;
            let cache = here.get(matcher, || dfa.create_cache());
            let clears = cache.clear_count();
            let found = first.find(dfa, cache, places, text, range.clone());
            self.budget.made_states(cache.clear_count() - clears);
            if let Ok((found, read)) = found {
                self.budget.searched(read);
                return found;
            }
            if self.budget.is_spent() {
                return None;
            }
        }
        let regex = shared.anywhere();
        let cache = self.caches.anywhere.get(matcher, || regex.create_cache());
        let found = regex
            .search_with(cache, &Input::new(text).range(range.clone()))
            .map(|found| found.range());
        let end = found.as_ref().map_or(range.end, |found| found.end);
        self.budget.searched(end - range.start);
        found
    }

    /// Whether a part of a text has a match: of the one that is searched, or of one it was made from.
    fn has(&mut self, of: Of<'_>, matcher: u32, side: usize, part: Range<usize>) -> bool {
        let number = (self.caches.content, of.view);
        let known = self.caches.nearby[matcher as usize].take();
        let mut nearby = known.unwrap_or_default();
        let has = nearby.has(number, of.text.len(), side, part, |part| {
            self.find_in(of.text, matcher, part)
        });
        self.caches.nearby[matcher as usize] = Some(nearby);
        has
    }

    /// The end of the match that begins at `at`.
    fn end_of_match(&mut self, matcher: u32, at: usize) -> Option<usize> {
        let shared = self.database.matcher(matcher);
        if let Some(dfa) = shared.here() {
            let Caches { here, ahead, .. } = &mut *self.caches;
            let cache = here.get(matcher, || dfa.create_cache());
            let (part, mut searched) = (at..self.part.end, 0);
            let clears = cache.clear_count();
            let end = ahead.end_of_match(dfa, cache, self.text, part, &mut searched);
            self.budget.made_states(cache.clear_count() - clears);
            if let Ok(end) = end {
                self.budget.searched(searched);
                return end;
            }
            if self.budget.is_spent() {
                return None;
            }
        }
        let regex = shared.anywhere();
        let cache = self.caches.anywhere.get(matcher, || regex.create_cache());
        let input = Input::new(self.text)
            .range(at..self.part.end)
            .anchored(Anchored::Yes);
        let end = regex.search_with(cache, &input).map(|found| found.end());
        self.budget.searched(end.unwrap_or(self.part.end) - at);
        end
    }

    fn holds(&mut self, pattern: &PatternInfo, found: &Range<usize>) -> bool {
        let text = self.text;
        let passes = |check: &Check| check.passes(text, found.clone());
        if !pattern.checks.iter().all(passes) {
            return false;
        }
        let this = Of {
            view: self.view.map(|view| view.at),
            text,
        };
        if let Some(near) = pattern.near {
            let window = around(text, found, NEAR_WINDOW_BYTES);
            let before = window.start..found.start;
            let after = found.end..window.end;
            if !self.has(this, near, 0, before) && !self.has(this, near, 1, after) {
                return false;
            }
        }
        let excludes = &self.database.infos()[pattern.rule as usize].excludes;
        if self.is_excluded(excludes, this, found) {
            return false;
        }
        // What a view reads differently, a reader sees as it was written: what excludes it there excludes it.
        let view = self.view.filter(|_| !excludes.is_empty());
        let mut written = view
            .into_iter()
            .flat_map(|view| view.written(found.clone()));
        !written.any(|Written { view, text, place }| {
            self.is_excluded(excludes, Of { view, text }, &place)
        })
    }

    /// The rule a match is a finding of: another one where its rule says something else of source code, and this is
    /// some, as it is read or as it was written.
    fn found_as(&self, pattern: &PatternInfo, found: &Range<usize>) -> u32 {
        let Some(in_code_as) = pattern.in_code_as else {
            return pattern.found_as;
        };
        let view = self.view.into_iter();
        let mut written = view.flat_map(|view| view.written(found.clone()));
        match is_among_code(self.text, found) || written.any(|of| is_among_code(of.text, &of.place))
        {
            true => in_code_as,
            false => pattern.found_as,
        }
    }

    fn is_excluded(&mut self, excludes: &[u32], of: Of<'_>, found: &Range<usize>) -> bool {
        let part = around(of.text, found, EXCLUDE_WINDOW_BYTES);
        excludes
            .iter()
            .any(|exclude| self.has(of, *exclude, 0, part.clone()))
    }
}

/// A text that is asked what stands around a match.
#[derive(Clone, Copy)]
struct Of<'a> {
    /// Its view; `None` is the content.
    view: Option<usize>,
    text: &'a [u8],
}

/// What was found, and what stands around it.
fn around(text: &[u8], found: &Range<usize>, window: usize) -> Range<usize> {
    found.start.saturating_sub(window)..found.end.saturating_add(window).min(text.len())
}
