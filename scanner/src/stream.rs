//! Scanning a body as it passes: constant memory, no limit of length, the borders of chunks do not matter.
//!
//! ```text
//!            clear                  scanned        end
//! ───────────────┼──────────────────────┼───────────┤     absolute offsets in the body
//!  may leave     │  seen, kept back      │ not seen  │
//!        ├───────── kept in memory: overlap and window ──┤
//! ```
//! Bytes gather until they fill a window, which goes through the scanner like any content: every
//! view, every check. The next window begins [`OVERLAP_BYTES`] before the end of this one, so a
//! match no wider than that is whole in one of them. [`crate::guarantee`] says what that
//! promises for a rule.
//!
//! A pause at the end of a unit looks back less far ([`near`]): over what rules that match little can still be in the middle of.
//! It looks back over the whole overlap while a rule that matches more may have begun, and at the end. What rules without a
//! promise match is looked for when so much was paused that the overlap is full of it: behind the unit that filled it
//! ([`Scanner::catch_up`]), so that nobody waits for that.
//!
//! Of a window that is hardly text only what is text is scanned ([`islands`]). One that comes again, and in which nothing
//! was found, is not scanned again ([`crate::again`]).
//!
//! A window is cut out of a text, and a pattern must not take the cut for a border:
//! * at its end, a match within [`SETTLE_BYTES`] is *unsettled*: the next byte may still undo it (`\b`, an
//!   exclusion). It is kept back, and decided when more bytes, or the end, are there;
//! * at its beginning, a match that was already in the last window and did not count there does not count now;
//! * encodings are opened from their beginning: a window starts at a line, or between two words, or
//!   in a long run of base64 at a multiple of [`RUN_ALIGN_BYTES`] from its start.
//!
//! ```
//! # use std::sync::Arc;
//! # use oktsec_rules::{RuleSet, Surface, load_text};
//! # use oktsec_scanner::{Database, Scanner, StreamState};
//! # let rules = load_text("mine.yaml", "
//! # {id: ACME-001, name: Vault host, severity: high, category: exfiltration,
//! #  patterns: [{contains: vault.acme.internal}]}
//! # ").rules;
//! # let database = Arc::new(Database::compile(&RuleSet::new(rules)).expect("one literal compiles"));
//! # let mut scanner = Scanner::new(database).expect("memory for one scratch");
//! let mut body = StreamState::new(Surface::Egress);
//! assert!(scanner.feed(&mut body, b"see http://vault.ac").expect("memory").findings.is_empty());
//! scanner.feed(&mut body, b"me.internal/").expect("memory");
//! let end = scanner.finish(&mut body).expect("memory");
//! assert_eq!(end.findings[0].span, 11..30);
//! assert_eq!(end.clear, 31);
//! ```

mod guarantee;
mod islands;
mod near;
mod surroundings;
#[cfg(test)]
mod tests;

use std::ops::Range;

use oktsec_rules::{EXCLUDE_WINDOW_BYTES, Surface};

use crate::again::Known;
use crate::finding::{Finding, Limit, LimitsReached, ScanError, Scanned};
use crate::scanner::Scanner;
use crate::secrets::{SecretKey, SeenValue};
use crate::view::View;

pub(crate) use guarantee::reach;
pub use guarantee::{Guarantee, guarantee};
pub(crate) use islands::Islands;
pub(crate) use near::wide_patterns;

/// New bytes of one window: gathered before they are scanned.
pub const WINDOW_BYTES: usize = 64 << 10;

/// Bytes that a window shares with the one before.
pub const OVERLAP_BYTES: usize = 4 << 10;

/// Bytes kept back behind what was seen while more may come.
pub const HOLD_BYTES: usize = 1 << 10;

/// A match that ends closer to the end of what is there waits for more: the reach of `exclude`.
pub(crate) const SETTLE_BYTES: usize = EXCLUDE_WINDOW_BYTES;

/// What lies closer to a cut on its left was decided by the window before.
pub(crate) const GUARD_BYTES: usize = EXCLUDE_WINDOW_BYTES + 32;

/// How much earlier than the overlap asks a window may begin, to begin well.
const ALIGN_BYTES_MAX: usize = 512;

/// Base64 groups are 4 bytes long, base32 groups 8, hex pairs 2.
const RUN_ALIGN_BYTES: u64 = 8;

/// Bytes before new ones in which what finds patterns may begin.
const ANCHOR_BYTES: usize = 64;

/// Memory that a body which waits keeps.
const KEPT_BYTES: usize = 3 * OVERLAP_BYTES + ALIGN_BYTES_MAX + HOLD_BYTES;

/// Findings remembered to report each once.
const REPORTED_MAX: usize = 512;

const _: () = assert!(GUARD_BYTES + SETTLE_BYTES < HOLD_BYTES);
const _: () = assert!(HOLD_BYTES + GUARD_BYTES < OVERLAP_BYTES);
const _: () = assert!(OVERLAP_BYTES + ALIGN_BYTES_MAX < WINDOW_BYTES);

/// A confirmed match in a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamFinding {
    /// Index into [`Database::rules`](crate::Database::rules).
    pub rule: u32,
    /// Bytes of the body, counted from its first. Invariant: `start < end <= total`.
    pub span: Range<u64>,
    /// The form of the window it was seen in.
    pub view: View,
    /// What people see of it, redacted; for a sensitive rule the placeholder that can take its place.
    pub excerpt: String,
    /// What is needed to know it again: of a sensitive rule, if the scanner was given a key to watch with.
    pub seen: Option<SeenValue>,
    /// Whether it stands among text. A few bytes that match among others that nobody reads are chance: a body of
    /// compressed bytes has such a match every few hundred thousand bytes.
    pub in_text: bool,
}

/// What a step found, valid until the next one.
#[derive(Debug)]
pub struct StreamScanned<'a> {
    /// New ones, each reported once; worst first within a window.
    pub findings: &'a [StreamFinding],
    /// Every byte before this offset was seen and may leave. Never falls.
    pub clear: u64,
    /// Bounds reached by any window so far.
    pub limits: LimitsReached,
}

/// Where one body is. Owned by whoever moves the body; one scanner serves many.
///
/// Memory: at most [`StreamState::MEMORY_BYTES_MAX`], and only overlap and pending bytes while it waits.
pub struct StreamState {
    surface: Surface,
    /// Bytes `base..base + buffer.len()` of the body. Invariant: what lies before `base` was seen.
    buffer: Vec<u8>,
    base: u64,
    /// Invariant: `base <= scanned <= base + buffer.len()`.
    scanned: u64,
    /// Invariant: `clear <= scanned`.
    clear: u64,
    /// Bytes before this were seen with the whole overlap before them. Invariant: `whole <= scanned`.
    whole: u64,
    /// A rule that matches much may have begun before this.
    open_until: u64,
    /// Where the first match begins that waits to be settled.
    unsettled: Option<u64>,
    /// Reported, and not left behind by the window yet.
    reported: Vec<(u32, Range<u64>)>,
    found: Vec<StreamFinding>,
    limits: LimitsReached,
}

impl StreamState {
    /// Most memory one body takes, its findings not counted.
    pub const MEMORY_BYTES_MAX: usize = WINDOW_BYTES + 3 * OVERLAP_BYTES + ALIGN_BYTES_MAX;

    /// A body that has not begun.
    pub fn new(surface: Surface) -> Self {
        Self {
            surface,
            buffer: Vec::new(),
            base: 0,
            scanned: 0,
            clear: 0,
            whole: 0,
            open_until: 0,
            unsettled: None,
            reported: Vec::new(),
            found: Vec::new(),
            limits: LimitsReached::default(),
        }
    }

    /// Makes it a body that has not begun, and keeps its memory.
    pub fn restart(&mut self, surface: Surface) {
        self.surface = surface;
        self.buffer.clear();
        (self.base, self.scanned, self.clear) = (0, 0, 0);
        (self.whole, self.open_until) = (0, 0);
        self.unsettled = None;
        self.reported.clear();
        self.found.clear();
        self.limits = LimitsReached::default();
    }

    /// Bytes fed.
    pub fn total(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    /// Bytes that were scanned.
    pub fn scanned(&self) -> u64 {
        self.scanned
    }

    /// As [`StreamScanned::clear`].
    pub fn clear(&self) -> u64 {
        self.clear
    }

    /// Memory it takes now.
    pub fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Whether enough was paused for [`Scanner::catch_up`].
    pub fn is_behind(&self) -> bool {
        self.scanned == self.total() && self.total() - self.whole >= OVERLAP_BYTES as u64
    }

    fn answer(&self) -> StreamScanned<'_> {
        StreamScanned {
            findings: &self.found,
            clear: self.clear,
            limits: self.limits,
        }
    }

    /// Whether a finding of this rule in this place was reported.
    fn is_known(&self, rule: u32, span: &Range<u64>) -> bool {
        self.reported
            .iter()
            .any(|(known, at)| *known == rule && at.start < span.end && span.start < at.end)
    }

    /// Where the next window begins if this one ends with the bytes at hand.
    fn next_base(&self) -> u64 {
        match self.buffer.len().checked_sub(OVERLAP_BYTES) {
            Some(wanted) => self.base + self.good_start(wanted) as u64,
            None => self.base,
        }
    }

    /// A place in the buffer, not behind `wanted`, where a window can begin.
    fn good_start(&self, wanted: usize) -> usize {
        let earliest = wanted.saturating_sub(ALIGN_BYTES_MAX);
        let before = &self.buffer[earliest..wanted];
        let line = memchr::memrchr(b'\n', before);
        let word = || before.iter().rposition(|byte| !is_run(*byte));
        match line.or_else(word) {
            Some(at) => earliest + at + 1,
            // Inside of one long run: aligned with the start of it, since `base` is.
            None => {
                let start = self.run_start(earliest);
                wanted - (wanted - start) % RUN_ALIGN_BYTES as usize
            }
        }
    }

    /// Where in the buffer a pause begins to look, at the latest so many bytes before what is new.
    fn near_start(&self, least: usize) -> usize {
        let seen = (self.scanned - self.base) as usize;
        let mut wanted = near::start(&self.buffer, seen).min(seen.saturating_sub(least));
        if let Some(kept) = self.unsettled {
            let kept = kept.saturating_sub(self.base) as usize;
            wanted = wanted.min(kept.saturating_sub(GUARD_BYTES));
        }
        self.good_start(wanted)
    }

    /// What lies before this place of a text that begins at `from` of the buffer was decided by a pause before. Nothing
    /// was if that is where the buffer begins: all of it is new then.
    fn new_from(&self, from: usize) -> usize {
        let seen = self.unsettled.unwrap_or(self.scanned).min(self.scanned);
        match from {
            0 => 0,
            _ => (seen.saturating_sub(self.base) as usize).saturating_sub(from),
        }
    }

    /// Where the run that the byte at `at` belongs to begins.
    fn run_start(&self, at: usize) -> usize {
        self.buffer[..at]
            .iter()
            .rposition(|byte| !is_run(*byte))
            .map_or(0, |before| before + 1)
    }

    /// Forgets what no further window needs.
    fn advance(&mut self, next_base: u64) {
        self.buffer.drain(..(next_base - self.base) as usize);
        self.base = next_base;
        self.reported.retain(|(_, span)| span.end > next_base);
    }

    /// Grows like a vector, but never beyond what a window needs.
    fn append(&mut self, bytes: &[u8]) {
        let needed = self.buffer.len() + bytes.len();
        if needed > self.buffer.capacity() {
            let wanted = needed.max(2 * self.buffer.capacity());
            let wanted = wanted.min(Self::MEMORY_BYTES_MAX).max(needed);
            self.buffer.reserve_exact(wanted - self.buffer.len());
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// A body that waits keeps what it has to, not the window it once filled.
    fn shrink(&mut self) {
        if self.buffer.capacity() > 2 * KEPT_BYTES {
            self.buffer.shrink_to(KEPT_BYTES);
        }
    }
}

impl Scanner {
    /// Takes the next bytes of a body. They are gathered; full windows are scanned.
    ///
    /// # Errors
    /// [`ScanError`] means that bytes were *not* scanned: the body must not pass.
    pub fn feed<'s>(
        &mut self,
        state: &'s mut StreamState,
        mut chunk: &[u8],
    ) -> Result<StreamScanned<'s>, ScanError> {
        state.found.clear();
        while !chunk.is_empty() {
            let pending = (state.total() - state.scanned) as usize;
            let take = chunk.len().min(WINDOW_BYTES - pending);
            let (now, later) = chunk.split_at(take);
            state.append(now);
            chunk = later;
            if pending + take == WINDOW_BYTES {
                self.window(state, None, 0)?;
                // Nobody has asked what began in it.
                state.open_until = state.total() + OVERLAP_BYTES as u64;
            }
        }
        Ok(state.answer())
    }

    /// Scans everything that was fed, because no more is there at the moment. The last
    /// [`HOLD_BYTES`] stay kept back: a match may go on behind them.
    ///
    /// # Errors
    /// As [`Scanner::feed`].
    pub fn pause<'s>(
        &mut self,
        state: &'s mut StreamState,
    ) -> Result<StreamScanned<'s>, ScanError> {
        self.pause_after(state, 0)
    }

    /// As [`Scanner::pause`], and clears everything before `unit_end`: a unit ended there that the
    /// other side waits for, like an event or a message. A match that goes on behind it is still
    /// found, before its last byte leaves.
    ///
    /// # Errors
    /// As [`Scanner::feed`].
    pub fn pause_after<'s>(
        &mut self,
        state: &'s mut StreamState,
        unit_end: u64,
    ) -> Result<StreamScanned<'s>, ScanError> {
        state.found.clear();
        let unit_end = unit_end.min(state.total());
        if state.scanned < state.total() || (state.unsettled.is_some() && state.clear < unit_end) {
            let near = match unit_end == state.total() {
                true => self.looks_back(state)?,
                false => None,
            };
            self.window(state, near, unit_end)?;
        }
        state.clear = state.clear.max(unit_end);
        state.shrink();
        Ok(state.answer())
    }

    /// Scans with the whole overlap what pauses have scanned with less, if that is due. Call it when what was clear has
    /// left; if nobody does, a later pause does it.
    ///
    /// # Errors
    /// As [`Scanner::feed`].
    pub fn catch_up<'s>(
        &mut self,
        state: &'s mut StreamState,
    ) -> Result<StreamScanned<'s>, ScanError> {
        state.found.clear();
        if state.is_behind() {
            self.window(state, None, state.clear)?;
        }
        Ok(state.answer())
    }

    /// As [`Scanner::pause_after`] the last byte fed: nothing is kept back.
    ///
    /// # Errors
    /// As [`Scanner::feed`].
    pub fn boundary<'s>(
        &mut self,
        state: &'s mut StreamState,
    ) -> Result<StreamScanned<'s>, ScanError> {
        self.pause_after(state, state.total())
    }

    /// The body has ended: everything is decided.
    ///
    /// # Errors
    /// As [`Scanner::feed`].
    pub fn finish<'s>(
        &mut self,
        state: &'s mut StreamState,
    ) -> Result<StreamScanned<'s>, ScanError> {
        if state.whole == state.total() {
            return self.boundary(state);
        }
        state.found.clear();
        let end = state.total();
        self.window(state, None, end)?;
        state.clear = end;
        Ok(state.answer())
    }

    /// Where in the buffer a pause begins to look; `None` for all of it.
    fn looks_back(&mut self, state: &mut StreamState) -> Result<Option<usize>, ScanError> {
        let is_overdue = state.total() - state.whole >= 2 * OVERLAP_BYTES as u64;
        if !is_overdue && state.scanned >= state.open_until {
            // The scan itself says whether something wide begins.
            return Ok(Some(state.near_start(self.known_bytes() + GUARD_BYTES)));
        }
        let database = std::sync::Arc::clone(self.database());
        let seen = (state.scanned - state.base) as usize;
        let new = seen.saturating_sub(ANCHOR_BYTES)..state.buffer.len();
        let suspects = self.suspects_in(&state.buffer, new)?;
        if suspects.iter().any(|rule| database.is_wide(*rule)) {
            state.open_until = state.total() + OVERLAP_BYTES as u64;
        }
        Ok(None)
    }

    /// Scans what is at hand, and reports what was not reported yet. What ends before `unit_end` is settled. With
    /// `near`, what stands before that place in the buffer is looked at only if a rule that matches much may begin
    /// behind it.
    fn window(
        &mut self,
        state: &mut StreamState,
        near: Option<usize>,
        unit_end: u64,
    ) -> Result<(), ScanError> {
        let database = std::sync::Arc::clone(self.database());
        let watch = self.watch().cloned();
        let mut from = near.unwrap_or(0);
        if near.is_some() {
            self.ask_wide(state.new_from(from));
        }
        // Known values count wherever they are, and differ from sender to sender.
        let is_alike = near.is_none() && self.known_bytes() == 0;
        let known = match is_alike {
            true => self.ask_again(&state.buffer, state.surface),
            false => Known::New,
        };
        let mut islands = self.take_islands();
        let is_thin = is_alike && known != Known::Clean && islands.fill(&state.buffer);
        let text = match is_thin {
            true => islands.bytes(),
            false => &state.buffer[from..],
        };
        let mut scanned = self.scan_asked(text, known, state.surface)?;
        if near.is_some() && scanned.opens_wide {
            state.open_until = state.total() + OVERLAP_BYTES as u64;
            if from > 0 {
                from = 0;
                scanned = self.scan(&state.buffer, state.surface)?;
            }
        }
        let end = state.total();
        let start = state.base + from as u64;
        let is_whole = from == 0;
        // What ends before this was decided by a window that began earlier.
        let decided = if is_whole { state.whole } else { state.scanned };
        let next_base = if is_whole {
            state.next_base()
        } else {
            state.base
        };
        for limit in scanned.limits.iter() {
            state.limits.insert(limit);
        }
        // What may be kept back is what the next window sees again as a whole.
        let keeps_from = if next_base == 0 {
            0
        } else {
            next_base + GUARD_BYTES as u64
        };
        let mut kept = end;
        for finding in scanned.findings {
            let place = finding.span.start as usize..finding.span.end as usize;
            let place = match is_thin {
                true => islands.in_window(place),
                false => Some(place),
            };
            let Some(place) = place else {
                continue;
            };
            let span = start + place.start as u64..start + place.end as u64;
            let cut = start > 0 && span.start < start + GUARD_BYTES as u64 && span.end <= decided;
            if cut || state.is_known(finding.rule, &span) {
                continue;
            }
            let settled = span.end <= unit_end || end - span.end >= SETTLE_BYTES as u64;
            if !settled && span.start >= keeps_from {
                kept = kept.min(span.start);
                continue;
            }
            if state.found.len() == REPORTED_MAX || state.reported.len() == REPORTED_MAX {
                state.limits.insert(Limit::Findings);
                continue;
            }
            state.found.push(found(
                &database,
                &scanned,
                match is_thin {
                    true => islands.bytes(),
                    false => &state.buffer[from..],
                },
                finding,
                span.clone(),
                watch.as_deref(),
            ));
            state.reported.push((finding.rule, span));
        }
        state.scanned = end;
        state.unsettled = (kept < end).then_some(kept);
        if is_whole {
            state.whole = end;
        }
        let seen = end.saturating_sub(HOLD_BYTES as u64);
        state.clear = state.clear.max(seen.min(kept));
        state.advance(next_base);
        self.keep_islands(islands);
        Ok(())
    }
}

fn found(
    database: &crate::Database,
    scanned: &Scanned<'_>,
    window: &[u8],
    finding: &Finding,
    span: Range<u64>,
    watch: Option<&SecretKey>,
) -> StreamFinding {
    let rule = database.rules().get(finding.rule as usize);
    let matched = finding.span.start as usize..finding.span.end as usize;
    StreamFinding {
        rule: finding.rule,
        span,
        view: finding.view,
        in_text: surroundings::are_text(window, matched.clone()),
        seen: watch
            .filter(|_| rule.is_some_and(|rule| rule.sensitive))
            .and_then(|key| key.see(window.get(matched)?)),
        excerpt: rule
            .map(|rule| scanned.excerpt(window, finding, rule))
            .unwrap_or_default(),
    }
}

/// Whether the byte can be inside an encoded run.
fn is_run(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

impl std::fmt::Debug for StreamState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamState")
            .field("total", &self.total())
            .field("scanned", &self.scanned)
            .field("clear", &self.clear)
            .field("reported", &self.reported.len())
            .finish_non_exhaustive()
    }
}
