//! The scanner of one core.

use std::ops::Range;
use std::sync::Arc;

use oktsec_rules::Surface;

use crate::again::{Again, Known};
use crate::anchor::{GoesOn, Memory, Start};
use crate::compile::Lookup;
use crate::database::Database;
use crate::engine::{EngineError, RawMatch, Session};
use crate::finding::{ScanError, Scanned};
use crate::gate::{Gate, Open};
use crate::last::Last;
use crate::secrets::{KnownValues, SecretIndex, SecretKey};
use crate::stream::Islands;
use crate::sweep::{Joined, Prefilter, Suspect, Sweep};
use crate::view::{New, Origin};

/// Longest content one scan takes; longer ones are cut into pieces by the caller or refused.
pub const CONTENT_BYTES_MAX: usize = 64 << 20;

/// From so many suspects on, and so many of one pattern, those of one stretch are made one: ordinary texts have fewer.
const SUSPECTS_MANY: usize = 64;
const ROW_MIN: u32 = 32;

/// The same of suspects that are read back from their windows: one search for them begins as far before the first as a
/// match may, with the text if need be.
const ROW_OF_WINDOWS_MIN: u32 = 256;

/// Bytes between two of them that are searched as well: so many, and more in a long text.
const GAP_BYTES_MIN: usize = 64;
const GAP_SHIFT: u32 = 10;

/// Owns scratch space and buffers; reused from content to content.
pub struct Scanner {
    database: Arc<Database>,
    prefilter: Fast,
    sweep: Sweep,
    watch: Option<Arc<SecretKey>>,
    border: Origin,
    last: Last,
    /// What is left of windows that are hardly text.
    islands: Islands,
    /// What is remembered of heads, names and windows of streams.
    pub(crate) again: Again,
}

impl Scanner {
    /// A scanner of this database.
    pub fn new(database: Arc<Database>) -> Result<Self, EngineError> {
        let mut sweep = Sweep::default();
        sweep.reset(&database);
        Ok(Self {
            prefilter: Fast::new(&database)?,
            sweep,
            watch: None,
            border: Origin::default(),
            last: Last::default(),
            islands: Islands::default(),
            again: Again::default(),
            database,
        })
    }

    /// Changes over to another database; on failure the old one stays.
    pub fn set_database(&mut self, database: Arc<Database>) -> Result<(), EngineError> {
        let mut prefilter = Fast::new(&database)?;
        prefilter.known = std::mem::take(&mut self.prefilter.known);
        self.prefilter = prefilter;
        self.sweep.reset(&database);
        self.last.forget();
        self.again.clear();
        self.database = database;
        Ok(())
    }

    /// The database in use.
    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Looks for the values of the operator's store as well from now on; for none with `None`.
    pub fn set_secrets(&mut self, index: Option<&Arc<SecretIndex>>) {
        self.prefilter.known.set_store(index);
    }

    /// Looks as well for what the sender of the next contents was given before, but for what came from `home`, where
    /// they go to.
    pub fn set_seen(&mut self, index: Option<&Arc<SecretIndex>>, home: &str) {
        self.prefilter.known.set_seen(index, home);
    }

    /// The next contents go to this host or come from it, a name in one spelling: known values that belong to it may.
    /// Empty for contents that no host has to do with.
    pub fn set_host(&mut self, host: &str) {
        self.prefilter.known.set_host(host);
    }

    /// From now on findings of sensitive rules in streams tell what is needed to know the secret again.
    pub fn set_watch(&mut self, key: &Arc<SecretKey>) {
        if self.watch.is_none() {
            self.watch = Some(Arc::clone(key));
        }
    }

    /// Bytes of the longest known value, however it may be written; none without any.
    pub(crate) fn known_bytes(&self) -> usize {
        self.prefilter.known.overlap_bytes()
    }

    pub(crate) fn watch(&self) -> Option<&Arc<SecretKey>> {
        self.watch.as_ref()
    }

    /// Lends the memory for what is left of windows that are hardly text.
    pub(crate) fn take_islands(&mut self) -> Islands {
        std::mem::take(&mut self.islands)
    }

    /// Takes it back.
    pub(crate) fn keep_islands(&mut self, islands: Islands) {
        self.islands = islands;
    }

    /// Memory of the engine's scratch space.
    pub fn scratch_bytes(&self) -> usize {
        self.prefilter
            .sessions
            .iter()
            .map(|(_, session)| session.scratch_bytes())
            .sum()
    }

    /// What the last content, of so many bytes, took of its budget, and the budget: what a bench weighs.
    #[doc(hidden)]
    pub fn spent(&self, len: usize) -> (u64, u64) {
        let budget = self.prefilter.work(len);
        (self.sweep.spent(budget), budget)
    }

    /// Rules the engine alone suspects in the content as sent: what a bench compares a scan with.
    #[doc(hidden)]
    pub fn suspects(&mut self, content: &[u8]) -> Result<Vec<u32>, ScanError> {
        self.suspected(content, 0..content.len())
    }

    /// The same in a part of the content: what has an anchor there, whatever stands around it or
    /// comes behind the content.
    pub(crate) fn suspects_in(
        &mut self,
        content: &[u8],
        part: Range<usize>,
    ) -> Result<Vec<u32>, ScanError> {
        self.goes_on(0);
        let suspects = self.suspected(content, part);
        self.prefilter.memory.set_goes_on(None);
        suspects
    }

    fn suspected(&mut self, content: &[u8], part: Range<usize>) -> Result<Vec<u32>, ScanError> {
        let (mut suspects, mut work) = (Vec::new(), u64::MAX);
        self.last.forget();
        self.prefilter.suspects(
            &self.database,
            content,
            part,
            None,
            &mut work,
            &mut suspects,
        )?;
        let patterns = self.database.patterns();
        Ok(suspects
            .iter()
            .filter_map(|suspect| patterns.get(suspect.pattern as usize))
            .map(|pattern| pattern.rule)
            .collect())
    }

    /// The next scan says as well whether a rule that matches much may begin: [`Scanned::opens_wide`]. What cannot reach
    /// `new_from` may be left out: it was decided before.
    pub(crate) fn ask_wide(&mut self, new_from: usize) {
        self.sweep.ask_wide();
        self.goes_on(new_from);
    }

    fn goes_on(&mut self, new_from: usize) {
        let open = self.database.wide_patterns();
        let goes_on = GoesOn { open, new_from };
        self.prefilter.memory.set_goes_on(Some(goes_on));
    }

    /// Looks for known values only, in `content` and their own writings, not in views of it. `None` without a store.
    pub fn scan_known(&mut self, content: &[u8], surface: Surface) -> Option<Scanned<'_>> {
        let known = Some(&mut self.prefilter.known).filter(|known| !known.is_empty())?;
        let scanned = self
            .sweep
            .run_known(&self.database, known, content, surface);
        Some(Scanned {
            known: Some(known),
            ..scanned
        })
    }

    /// Scans every view of `content` with every rule of this surface. Any bytes are welcome.
    ///
    /// # Errors
    /// [`ScanError`] means that the content was *not* scanned.
    pub fn scan(&mut self, content: &[u8], surface: Surface) -> Result<Scanned<'_>, ScanError> {
        self.run(content, None, Known::New, surface)
    }

    /// The same for a content that may come again: one in which nothing was found twice is not scanned a third time.
    /// While there are known values, which differ from sender to sender, every content is scanned.
    ///
    /// # Errors
    /// [`ScanError`] means that the content was *not* scanned.
    pub fn scan_recurring(
        &mut self,
        content: &[u8],
        surface: Surface,
    ) -> Result<Scanned<'_>, ScanError> {
        let known = self.ask_again(content, surface);
        self.scan_asked(content, known, surface)
    }

    /// What is known of a content that may come again.
    pub(crate) fn ask_again(&mut self, content: &[u8], surface: Surface) -> Known {
        match self.prefilter.known.is_empty() {
            true => self.again.ask(content, surface),
            false => Known::New,
        }
    }

    /// As [`Self::scan`] of all that counts in a content of which this is known.
    pub(crate) fn scan_asked(
        &mut self,
        content: &[u8],
        known: Known,
        surface: Surface,
    ) -> Result<Scanned<'_>, ScanError> {
        match known {
            Known::Clean => Ok(Scanned::nothing()),
            Known::Back { .. } | Known::New => self.run(content, None, known, surface),
        }
    }

    /// As [`Self::scan`] for a content made of two that were scanned before: findings that do not span the `border`
    /// between them may be left out. It costs less when the second of the two, or its beginning, was the last content
    /// scanned, and still less when the two were scanned joined without a border.
    ///
    /// # Errors
    /// [`ScanError`] means that the content was *not* scanned.
    pub fn scan_across(
        &mut self,
        content: &[u8],
        border: Range<usize>,
        surface: Surface,
    ) -> Result<Scanned<'_>, ScanError> {
        self.run(content, Some(border), Known::New, surface)
    }

    fn run(
        &mut self,
        content: &[u8],
        border: Option<Range<usize>>,
        known: Known,
        surface: Surface,
    ) -> Result<Scanned<'_>, ScanError> {
        let Self {
            database,
            prefilter,
            sweep,
            border: origin,
            last,
            again,
            ..
        } = self;
        let joined = match border {
            None => {
                last.scans(content);
                None
            }
            Some(border) => {
                let common = last.joined(content, border.clone());
                origin.set_border(border);
                Some(Joined {
                    border: origin,
                    common,
                })
            }
        };
        let scanned = sweep.run(database, prefilter, content, joined, surface);
        prefilter.memory.set_goes_on(None);
        if scanned.is_err() {
            // It may not have been looked at.
            last.forget();
        }
        let scanned = scanned?;
        if scanned.findings.is_empty() && scanned.limits.is_empty() {
            again.keep(known, surface);
        }
        Ok(Scanned {
            known: Some(&prefilter.known),
            ..scanned
        })
    }
}

/// The suspects of one pattern.
#[derive(Clone, Copy, Default)]
struct Row {
    /// Its last one. Invariant: only if that is of this pattern; it may be left from another text.
    last: u32,
    /// Where that is, or the last of those it stands for.
    at: usize,
    count: u32,
}

impl Row {
    /// Whether the last suspect stands for this one as well. From [`ROW_MIN`] on, close ones are one search from the
    /// first of them: that finds what begins at each.
    ///
    /// PERF: a text that is suspected of the same at every byte had as many suspects, of which each was sorted and read
    /// from; 16 MiB of dots took 1.7 GB.
    #[cold]
    #[inline(never)]
    fn takes(
        &mut self,
        suspects: &mut [Suspect],
        pattern: u32,
        start: Start,
        gap_max: usize,
    ) -> bool {
        let len = suspects.len() as u32;
        let last = suspects.get_mut(self.last as usize);
        let Some(last) = last.filter(|last| last.pattern == pattern) else {
            *self = Self {
                last: len,
                at: start.place(),
                count: 1,
            };
            return false;
        };
        let place = start.place();
        let taken = last.start.take(start, |last| {
            let windows = last.window.is_some() || start.window.is_some();
            let row_min = if windows { ROW_OF_WINDOWS_MIN } else { ROW_MIN };
            self.count >= row_min && place.abs_diff(self.at) <= gap_max
        });
        self.at = place;
        if !taken {
            self.last = len;
            self.count += 1;
        }
        taken
    }
}

/// Asks the anchors, and Vectorscan for patterns that have none.
struct Fast {
    sessions: Vec<(Gate, Session)>,
    /// Invariant: room for every pattern, so that the callback never allocates.
    hits: Vec<RawMatch>,
    memory: Memory,
    known: KnownValues,
    /// For each pattern its last suspects, where there are many.
    rows: Vec<Row>,
}

impl Fast {
    fn new(database: &Database) -> Result<Self, EngineError> {
        let sessions = database
            .groups()
            .iter()
            .map(|group| Ok((group.gate, Session::new(Arc::clone(&group.engine))?)));
        Ok(Self {
            sessions: sessions.collect::<Result<_, EngineError>>()?,
            hits: Vec::with_capacity(database.patterns().len()),
            memory: Memory::default(),
            known: KnownValues::default(),
            rows: vec![Row::default(); database.patterns().len()],
        })
    }
}

impl Prefilter for Fast {
    fn known(&mut self) -> Option<&mut KnownValues> {
        Some(&mut self.known).filter(|known| !known.is_empty())
    }

    fn begin(&mut self, database: &Database, text: &[u8], common: Option<&Origin>) {
        database.anchors().begin(text, common, &mut self.memory);
    }

    fn begin_view(&mut self, database: &Database, text: &[u8], view: usize, origin: &Origin) {
        database
            .anchors()
            .derive(text, view, origin, &mut self.memory);
    }

    fn suspects(
        &mut self,
        database: &Database,
        text: &[u8],
        part: Range<usize>,
        new: Option<New<'_>>,
        work: &mut u64,
        suspects: &mut Vec<Suspect>,
    ) -> Result<(), EngineError> {
        let (anchors, memory) = (database.anchors(), &mut self.memory);
        let rows = &mut self.rows;
        let gap_max = GAP_BYTES_MIN + (text.len() >> GAP_SHIFT);
        let report = |pattern: u32, start: Start| {
            if suspects.len() >= SUSPECTS_MANY
                && let Some(row) = rows.get_mut(pattern as usize)
                && row.takes(suspects, pattern, start, gap_max)
            {
                return;
            }
            suspects.push(Suspect { pattern, start });
        };
        match new {
            None => anchors.scan(text, part.clone(), memory, work, report),
            Some(new) => anchors.scan_new(text, part.clone(), new, memory, work, report),
        }
        self.hits.clear();
        // One byte more on either side: what a border of words needs to see.
        let borders = part.start.saturating_sub(1)..(part.end + 1).min(text.len());
        if !self.sessions.is_empty() {
            let open = Open::of(&text[part]);
            for (gate, session) in &mut self.sessions {
                if open.passes(*gate) {
                    session.scan(&text[borders.clone()], &mut self.hits)?;
                }
            }
        }
        for hit in &self.hits {
            let Some(pattern) = database.patterns().get(hit.pattern as usize) else {
                continue;
            };
            let start = match pattern.lookup {
                Lookup::Exact => database
                    .matcher(pattern.matcher)
                    .search_start(borders.start as u64 + hit.end),
                Lookup::Prefilter | Lookup::Unindexed | Lookup::Anchored => 0,
            };
            suspects.push(Suspect {
                pattern: hit.pattern,
                start: Start::from(start),
            });
        }
        for pattern in database.unindexed() {
            suspects.push(Suspect {
                pattern: *pattern,
                start: Start::from(0),
            });
        }
        Ok(())
    }
}
