//! The way of one content: views, raw matches of each, confirm, findings.
//!
//! Bounded on every axis, and each bound that is reached is reported: attempts to confirm,
//! findings kept, views and their bytes (see [`crate::view`]).

use std::ops::Range;

use oktsec_rules::{Severity, Surface};

use crate::anchor::Start;
use crate::confirm::{Accept, Budget, Caches, Confirm, Next};
use crate::database::{Database, PatternInfo, RuleInfo};
use crate::engine::EngineError;
use crate::finding::{Finding, Limit, LimitsReached, ScanError, Scanned};
use crate::last::Common;
use crate::scanner::CONTENT_BYTES_MAX;
use crate::secrets::KnownValues;
use crate::signs::Seen;
use crate::view::{New, Origin, View, Viewed, Views};

/// Findings kept of one rule: enough to redact and to show, and the verdict needs one.
const FINDINGS_PER_RULE_MAX: usize = 8;

/// Suspects whose memory is kept for the next content.
const SUSPECTS_KEPT_MAX: usize = 16 << 10;

/// Findings kept of one content, and one more of each rule that has none.
const FINDINGS_MAX: usize = 512;

/// Suspects confirmed in one view, whatever its length.
const ATTEMPTS_MIN: u32 = 1024;

/// One more suspect is confirmed for each so many bytes of the view.
const BYTES_PER_ATTEMPT: usize = 16;

/// Bytes that may be searched for one content, all its views together: a fixed part, and a part for each of its bytes.
/// Two of 55,089 honest files reached the limit at 24 for each byte; one of them, of 64 KB, takes four fifths of this.
const WORK_MIN: u64 = 256 << 10;
const WORK_PER_BYTE: u64 = 28;

/// Once for so many bytes of that, the states of an automaton may be thrown away and made again: a megabyte of them takes a
/// millisecond. Of 3,490 texts, the most expensive of 100,000 among them, the one with the most takes five in 55 KB,
/// which may take thirteen.
const WORK_PER_CLEAR: u64 = 128 << 10;

/// A pattern that may match, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) pattern: u32,
    pub(crate) start: Start,
}

/// Says which patterns may occur in a text, and where. It may name too many, never too few.
pub(crate) trait Prefilter {
    /// The next content is only partly new; `_common` says what it shares with the one scanned before.
    fn begin(&mut self, _database: &Database, _text: &[u8], _common: Option<&Origin>) {}

    /// A view comes next, part by part.
    fn begin_view(&mut self, _database: &Database, _text: &[u8], _view: usize, _origin: &Origin) {}

    /// Appends the suspects of this part of the text, and perhaps others; where only some of it is `new`, those that
    /// involve what is new. Bytes it reads are taken from `work`, and it may stop when that is spent.
    fn suspects(
        &mut self,
        database: &Database,
        text: &[u8],
        part: Range<usize>,
        new: Option<New<'_>>,
        work: &mut u64,
        suspects: &mut Vec<Suspect>,
    ) -> Result<(), EngineError>;

    /// Values looked for besides patterns.
    fn known(&mut self) -> Option<&mut KnownValues> {
        None
    }

    /// Bytes that may be searched for a content of this length.
    fn work(&self, len: usize) -> u64 {
        WORK_MIN + WORK_PER_BYTE * len as u64
    }
}

/// How a content was put together from two.
#[derive(Clone, Copy)]
pub(crate) struct Joined<'a> {
    /// What lies between them.
    pub(crate) border: &'a Origin,
    /// What it has in common with the content scanned before.
    pub(crate) common: Option<Common<'a>>,
}

/// A text that is scanned, and with what.
#[derive(Clone, Copy)]
struct Text<'a> {
    database: &'a Database,
    surface: Surface,
    bytes: &'a [u8],
    /// The view it is; `None` is the content itself.
    view: Option<Viewed<'a>>,
    /// What is new in it; `None` is all of it.
    new: Option<New<'a>>,
}

impl Text<'_> {
    fn kind(&self) -> View {
        self.view.map_or(View::Raw, Viewed::kind)
    }
}

/// The buffers of one scanner.
#[derive(Default)]
pub(crate) struct Sweep {
    views: Views,
    caches: Caches,
    suspects: Vec<Suspect>,
    parts: Vec<Range<usize>>,
    /// Bytes that may still be searched.
    work: u64,
    /// How often the states of automata may still be thrown away and made again.
    clears: u32,
    findings: Vec<Finding>,
    /// Where the rule at hand was found already, and how bad whatever else is found there must be to count.
    known: Vec<(Range<u32>, Severity)>,
    limits: LimitsReached,
    /// Whether the beginnings of rules with long matches are asked for as well. Invariant: only while the raw content is
    /// scanned, not while its views are.
    asks_wide: bool,
    /// What that came to.
    opens_wide: bool,
}

impl Sweep {
    /// Forgets everything tied to the database before.
    pub(crate) fn reset(&mut self, database: &Database) {
        self.caches.reset(database.matcher_count());
        self.suspects = Vec::new();
        self.findings.clear();
    }

    /// Asks as well whether a rule that matches much may begin in the next content as it is.
    pub(crate) fn ask_wide(&mut self) {
        self.asks_wide = true;
    }

    /// Scans a content; only what involves the border, if it was joined.
    pub(crate) fn run(
        &mut self,
        database: &Database,
        prefilter: &mut impl Prefilter,
        content: &[u8],
        joined: Option<Joined<'_>>,
        surface: Surface,
    ) -> Result<Scanned<'_>, ScanError> {
        self.findings.clear();
        self.limits = LimitsReached::default();
        self.opens_wide = false;
        if content.len() > CONTENT_BYTES_MAX {
            return Err(ScanError::ContentTooLarge {
                bytes: content.len(),
            });
        }
        self.work = prefilter.work(content.len());
        self.clears = u32::try_from(self.work / WORK_PER_CLEAR).unwrap_or(u32::MAX);
        if let Some(known) = prefilter.known() {
            known.begin();
        }
        if let Some(joined) = joined {
            let common = joined.common.map(Common::origin);
            prefilter.begin(database, content, common);
        }
        let border = joined.map(|joined| joined.border);
        let raw = Text {
            database,
            surface,
            bytes: content,
            view: None,
            new: border.map(|origin| New { view: None, origin }),
        };
        self.caches.next_content();
        let signs = self.text(prefilter, &raw);
        self.asks_wide = false;
        let signs = signs?;
        let mut views = std::mem::take(&mut self.views);
        views.start(content, joined, &mut self.limits);
        for turn in signs.turns() {
            views.turn(content, None, turn, &mut self.limits);
        }
        let mut result = Ok(());
        while let Some(at) = views.next(content, &mut self.limits) {
            let view = Viewed {
                content,
                views: &views,
                at,
            };
            let text = Text {
                bytes: view.bytes(),
                view: Some(view),
                new: Some(New {
                    view: Some(at),
                    origin: view.origin(),
                }),
                ..raw
            };
            match self.text(prefilter, &text) {
                Ok(signs) if views.kind(at).may_be_turned() => {
                    for turn in signs.turns() {
                        views.turn(content, Some(at), turn, &mut self.limits);
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.views = views;
        result?;
        let rules = database.rules();
        self.findings.sort_unstable_by(|a, b| {
            let severity = |finding: &Finding| rules[finding.rule as usize].severity;
            let place = |finding: &Finding| {
                (
                    finding.span.start,
                    finding.span.end,
                    finding.rule,
                    finding.view,
                )
            };
            severity(b)
                .cmp(&severity(a))
                .then_with(|| place(a).cmp(&place(b)))
        });
        Ok(Scanned {
            findings: &self.findings,
            limits: self.limits,
            known: None,
            opens_wide: self.opens_wide,
        })
    }

    /// What the last content took of its budget.
    pub(crate) fn spent(&self, budget: u64) -> u64 {
        budget.saturating_sub(self.work)
    }

    /// Looks for known values only, in the content as it is.
    pub(crate) fn run_known(
        &mut self,
        database: &Database,
        known: &mut KnownValues,
        content: &[u8],
        surface: Surface,
    ) -> Scanned<'_> {
        self.findings.clear();
        self.limits = LimitsReached::default();
        known.begin();
        let text = Text {
            database,
            surface,
            bytes: content,
            view: None,
            new: None,
        };
        self.known(known, &text, 0..content.len());
        Scanned {
            findings: &self.findings,
            limits: self.limits,
            known: None,
            opens_wide: false,
        }
    }

    /// Scans one text: the content itself, or what is new in a view of it.
    fn text(&mut self, prefilter: &mut impl Prefilter, text: &Text<'_>) -> Result<Seen, ScanError> {
        let len = text.bytes.len();
        let mut parts = std::mem::take(&mut self.parts);
        parts.clear();
        match text.view {
            None => parts.push(0..len),
            Some(view) => {
                view.origin().parts(len, &mut parts);
                prefilter.begin_view(text.database, text.bytes, view.at, view.origin());
            }
        }
        let mut attempts = ATTEMPTS_MIN.saturating_add((len / BYTES_PER_ATTEMPT) as u32);
        let mut signs = Seen::default();
        let mut result = Ok(());
        for part in parts.drain(..) {
            match self.part(prefilter, text, part, &mut attempts) {
                Ok(seen) => signs.add(seen),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.parts = parts;
        result.map(|()| signs)
    }

    /// Scans a part of a text: known values, then what patterns are suspected of in it.
    fn part(
        &mut self,
        prefilter: &mut impl Prefilter,
        text: &Text<'_>,
        part: Range<usize>,
        attempts: &mut u32,
    ) -> Result<Seen, ScanError> {
        let database = text.database;
        if let Some(known) = prefilter.known() {
            self.known(known, text, part.clone());
        }
        self.suspects.clear();
        prefilter.suspects(
            database,
            text.bytes,
            part.clone(),
            text.new,
            &mut self.work,
            &mut self.suspects,
        )?;
        if self.work == 0 {
            self.limits.insert(Limit::Confirms);
        }
        let mut signs = Seen::default();
        self.suspects.retain(|suspect| {
            !signs.note(suspect.pattern) && (suspect.pattern as usize) < database.patterns().len()
        });
        if self.suspects.is_empty() {
            return Ok(signs);
        }
        self.suspects.sort_unstable_by_key(|suspect| {
            let Suspect { pattern, start } = suspect;
            (u64::from(*pattern) << 32 | start.at as u64, start.place())
        });
        let suspects = std::mem::take(&mut self.suspects);
        let kind = text.kind();
        let rule_of = |suspect: &Suspect| database.patterns()[suspect.pattern as usize].rule;
        for group in suspects.chunk_by(|a, b| rule_of(a) == rule_of(b)) {
            let rule = rule_of(&group[0]);
            let info = &database.infos()[rule as usize];
            if info.applies_to(text.surface) && info.reads(kind) {
                self.rule(text, part.clone(), rule, group, attempts);
            }
        }
        if self.asks_wide {
            self.opens_wide |= suspects
                .iter()
                .map(rule_of)
                .any(|rule| database.is_wide(rule));
        }
        self.suspects = suspects;
        if self.suspects.capacity() > SUSPECTS_KEPT_MAX {
            self.suspects = Vec::new();
        }
        Ok(signs)
    }

    /// Looks for known values in a part of one text.
    fn known(&mut self, known: &mut KnownValues, text: &Text<'_>, part: Range<usize>) {
        let original = |span| {
            text.view.map_or_else(
                || Range::clone(&span),
                |view| view.original(Range::clone(&span)),
            )
        };
        let (database, surface) = (text.database, text.surface);
        let findings = &mut self.findings;
        let all = known.look(text.bytes, part, text.kind(), original, |place| {
            let rules = database.known(place.known);
            let rules = rules.filter(|rule| database.infos()[*rule as usize].applies_to(surface));
            findings.extend(rules.map(|rule| Finding {
                rule,
                span: place.span.clone(),
                view: place.view,
            }));
        });
        if !all {
            self.limits.insert(Limit::Findings);
        }
    }

    /// Confirms what one rule is suspected of in a part of one text.
    fn rule(
        &mut self,
        text: &Text<'_>,
        part: Range<usize>,
        rule: u32,
        group: &[Suspect],
        attempts: &mut u32,
    ) {
        let database = text.database;
        let info = &database.infos()[rule as usize];
        let Self {
            caches,
            findings,
            limits,
            work,
            clears,
            known,
            ..
        } = self;
        known.clear();
        let mut kept = [0; Severity::ALL.len()];
        for finding in &*findings {
            if finding.rule == rule || info.lower.contains(&finding.rule) {
                let severity = database.infos()[finding.rule as usize].severity;
                known.push((finding.span.clone(), info.known_as(severity)));
                kept[severity as usize] += 1;
            }
        }
        let mut taken = Taken {
            database,
            info,
            worst: info.severity,
            kept,
            view: text.view,
            known,
            findings,
            limits,
        };
        if taken.is_full() {
            return;
        }
        let mut confirm = Confirm {
            database,
            caches,
            text: text.bytes,
            view: text.view,
            part,
            budget: Budget {
                attempts,
                work,
                clears,
            },
        };
        let mut places = group;
        let everywhere: Vec<Suspect>;
        if info.all {
            // What is not among the suspects of a whole new text does not occur in it.
            let is_whole = text.new.is_none() && confirm.part == (0..text.bytes.len());
            let patterns = group.chunk_by(|a, b| a.pattern == b.pattern);
            if is_whole && patterns.count() < info.patterns.len() {
                return;
            }
            everywhere = info
                .patterns
                .clone()
                .map(|pattern| Suspect {
                    pattern,
                    start: Start::from(0),
                })
                .collect();
            if !holds_whole(&mut confirm, group, &everywhere, taken.limits) {
                return;
            }
            places = &everywhere[..1];
        }
        // Worst first: where two patterns of a rule match the same, one finding is kept.
        for found_as in std::iter::once(rule).chain(info.lower.clone().rev()) {
            taken.worst = database.infos()[found_as as usize].severity;
            for of in places.chunk_by(|a, b| a.pattern == b.pattern) {
                let pattern = pattern_of(database, of);
                if pattern.found_as == found_as && !confirm.matches(pattern, starts(of), &mut taken)
                {
                    taken.limits.insert(Limit::Confirms);
                }
            }
        }
    }
}

/// Whether a rule that asks for all its patterns holds: one of them where it is suspected in the part, which is new;
/// then each of them somewhere in the text. Afterwards the part is the whole text, where the first pattern says the place.
fn holds_whole(
    confirm: &mut Confirm<'_>,
    suspected: &[Suspect],
    everywhere: &[Suspect],
    limits: &mut LimitsReached,
) -> bool {
    let mut holds = |confirm: &mut Confirm<'_>, of: &[Suspect]| {
        let mut found = false;
        let accept = |_| {
            found = true;
            Next::Enough
        };
        if !confirm.matches(pattern_of(confirm.database, of), starts(of), accept) {
            limits.insert(Limit::Confirms);
        }
        found
    };
    let mut patterns = suspected.chunk_by(|a, b| a.pattern == b.pattern);
    if !patterns.any(|of| holds(confirm, of)) {
        return false;
    }
    confirm.part = 0..confirm.text.len();
    everywhere[1..].chunks(1).all(|of| holds(confirm, of))
}

/// The pattern that these suspects share.
fn pattern_of<'a>(database: &'a Database, of: &[Suspect]) -> &'a PatternInfo {
    &database.patterns()[of[0].pattern as usize]
}

fn starts(of: &[Suspect]) -> impl Iterator<Item = Start> + Clone {
    of.iter().map(|suspect| suspect.start)
}

/// Keeps the findings of one rule in one text.
struct Taken<'a> {
    database: &'a Database,
    info: &'a RuleInfo,
    /// The worst that a finding may be: of the rule, then of the pattern that is looked for.
    worst: Severity,
    /// Findings of each severity.
    kept: [usize; Severity::ALL.len()],
    view: Option<Viewed<'a>>,
    /// As [`Sweep::known`].
    known: &'a mut Vec<(Range<u32>, Severity)>,
    findings: &'a mut Vec<Finding>,
    limits: &'a mut LimitsReached,
}

impl Taken<'_> {
    /// No more of this severity is kept. One is kept of each, so that the worst decides however many there are.
    fn is_enough(&self, severity: Severity) -> bool {
        let kept = self.kept[severity as usize];
        kept >= FINDINGS_PER_RULE_MAX || (kept > 0 && self.findings.len() >= FINDINGS_MAX)
    }

    /// The same of the worst, and that was said: whatever else matches changes nothing.
    fn is_full(&self) -> bool {
        self.is_enough(self.worst) && self.limits.contains(Limit::Findings)
    }

    /// Whether nothing this bad adds to what was found there.
    fn is_known(&self, span: &Range<u32>, severity: Severity) -> bool {
        self.known.iter().any(|(known, known_as)| {
            known.start < span.end && span.start < known.end && *known_as >= severity
        })
    }

    /// The bytes of the content a match stands for.
    fn span(&self, found: &Range<usize>) -> Range<u32> {
        let found = found.start as u32..found.end as u32;
        match self.view {
            None => found,
            Some(view) => view.original(found),
        }
    }
}

impl Accept for &mut Taken<'_> {
    fn asks(&mut self, found: &Range<usize>) -> bool {
        // PERF: what was found in the text is found in most of its views again, and whether it holds is the dear question.
        !self.is_known(&self.span(found), self.worst)
    }

    fn take(&mut self, found: Range<usize>, found_as: u32) -> Next {
        let severity = self.database.infos()[found_as as usize].severity;
        let span = self.span(&found);
        if severity < self.worst && self.is_known(&span, severity) {
            return Next::More;
        }
        if self.is_enough(severity) {
            self.limits.insert(Limit::Findings);
            // A worse one may follow.
            return match severity < self.worst {
                true => Next::More,
                false => Next::Enough,
            };
        }
        self.kept[severity as usize] += 1;
        self.known
            .push((span.clone(), self.info.known_as(severity)));
        self.findings.push(Finding {
            rule: found_as,
            span,
            view: self.view.map_or(View::Raw, Viewed::kind),
        });
        Next::More
    }
}
