//! The way of one content: views, raw matches of each, confirm, findings.
//!
//! Bounded on every axis, and each bound that is reached is reported: attempts to confirm,
//! findings kept, views and their bytes (see [`crate::view`]).

use std::ops::Range;

use oktsec_rules::Surface;

use crate::anchor::Start;
use crate::confirm::{Accept, Budget, Caches, Confirm, Next};
use crate::database::Database;
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

/// Findings kept of one content.
const FINDINGS_MAX: usize = 512;

/// Suspects confirmed in one view, whatever its length.
const ATTEMPTS_MIN: u32 = 1024;

/// One more suspect is confirmed for each so many bytes of the view.
const BYTES_PER_ATTEMPT: usize = 16;

/// Bytes that may be searched for one content, all its views together: a fixed part, and a part for each of its bytes.
/// Of 6,281 texts of all kinds the most expensive one used a third of it: 149,133 for 10 KB, 371,379 for 32 KB.
const WORK_MIN: u64 = 256 << 10;
const WORK_PER_BYTE: u64 = 24;

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

/// The buffers of one scanner.
#[derive(Default)]
pub(crate) struct Sweep {
    views: Views,
    caches: Caches,
    suspects: Vec<Suspect>,
    parts: Vec<Range<usize>>,
    /// Bytes that may still be searched.
    work: u64,
    findings: Vec<Finding>,
    /// Where the rule at hand was found already.
    known: Vec<Range<u32>>,
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

    /// Looks at a content; at what has to do with the border only, if it was joined.
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
        if let Some(known) = prefilter.known() {
            known.begin();
        }
        if let Some(joined) = joined {
            let common = joined.common.map(Common::origin);
            prefilter.begin(database, content, common);
        }
        let border = joined.map(|joined| joined.border);
        self.caches.next_content();
        let signs = self.text(database, prefilter, content, None, border, surface);
        self.asks_wide = false;
        let signs = signs?;
        let mut views = std::mem::take(&mut self.views);
        views.start(content, joined, &mut self.limits);
        for turn in signs.turns() {
            views.turn(content, None, turn, &mut self.limits);
        }
        let mut result = Ok(());
        while let Some(at) = views.next(content, &mut self.limits) {
            let view = Some(Viewed {
                content,
                views: &views,
                at,
            });
            match self.text(database, prefilter, content, view, border, surface) {
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
        self.known(database, known, content, 0..content.len(), None, surface);
        Scanned {
            findings: &self.findings,
            limits: self.limits,
            known: None,
            opens_wide: false,
        }
    }

    /// Looks at one text: the content itself, or what is new in a view of it.
    fn text(
        &mut self,
        database: &Database,
        prefilter: &mut impl Prefilter,
        content: &[u8],
        view: Option<Viewed<'_>>,
        border: Option<&Origin>,
        surface: Surface,
    ) -> Result<Seen, ScanError> {
        let text = view.map_or(content, Viewed::bytes);
        let mut parts = std::mem::take(&mut self.parts);
        parts.clear();
        match view {
            None => parts.push(0..text.len()),
            Some(view) => {
                view.origin().parts(text.len(), &mut parts);
                prefilter.begin_view(database, text, view.at, view.origin());
            }
        }
        let mut attempts = ATTEMPTS_MIN.saturating_add((text.len() / BYTES_PER_ATTEMPT) as u32);
        let mut signs = Seen::default();
        let mut result = Ok(());
        let new = match view {
            None => border.map(|origin| New { view: None, origin }),
            Some(view) => Some(New {
                view: Some(view.at),
                origin: view.origin(),
            }),
        };
        for part in parts.drain(..) {
            let seen = self.part(
                database,
                prefilter,
                text,
                part,
                view,
                new,
                surface,
                &mut attempts,
            );
            match seen {
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

    #[expect(
        clippy::too_many_arguments,
        reason = "the state of one walk over one text"
    )]
    fn part(
        &mut self,
        database: &Database,
        prefilter: &mut impl Prefilter,
        text: &[u8],
        part: Range<usize>,
        view: Option<Viewed<'_>>,
        new: Option<New<'_>>,
        surface: Surface,
        attempts: &mut u32,
    ) -> Result<Seen, ScanError> {
        if let Some(known) = prefilter.known() {
            self.known(database, known, text, part.clone(), view, surface);
        }
        self.suspects.clear();
        prefilter.suspects(
            database,
            text,
            part.clone(),
            new,
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
            u64::from(suspect.pattern) << 32 | suspect.start.at as u64
        });
        let suspects = std::mem::take(&mut self.suspects);
        let kind = view.map_or(View::Raw, Viewed::kind);
        let rule_of = |suspect: &Suspect| database.patterns()[suspect.pattern as usize].rule;
        for group in suspects.chunk_by(|a, b| rule_of(a) == rule_of(b)) {
            let rule = rule_of(&group[0]);
            let info = &database.infos()[rule as usize];
            if info.applies_to(surface) && info.reads(kind) {
                let all = new.is_none();
                self.rule(
                    database,
                    text,
                    part.clone(),
                    view,
                    all,
                    rule,
                    group,
                    attempts,
                );
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
    fn known(
        &mut self,
        database: &Database,
        known: &mut KnownValues,
        text: &[u8],
        part: Range<usize>,
        view: Option<Viewed<'_>>,
        surface: Surface,
    ) {
        let original = |span| {
            view.map_or_else(
                || Range::clone(&span),
                |view| view.original(Range::clone(&span)),
            )
        };
        let kind = view.map_or(View::Raw, Viewed::kind);
        let findings = &mut self.findings;
        let all = known.look(text, part, kind, original, |place| {
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

    /// Confirms what one rule is suspected of in a part of one text. `all`: what is not among the
    /// suspects does not occur in the part.
    #[expect(
        clippy::too_many_arguments,
        reason = "the state of one walk over one text"
    )]
    fn rule(
        &mut self,
        database: &Database,
        text: &[u8],
        part: Range<usize>,
        view: Option<Viewed<'_>>,
        all: bool,
        rule: u32,
        group: &[Suspect],
        attempts: &mut u32,
    ) {
        let info = &database.infos()[rule as usize];
        let Self {
            caches,
            findings,
            limits,
            work,
            known,
            ..
        } = self;
        known.clear();
        let before = findings.iter().filter(|finding| finding.rule == rule);
        known.extend(before.map(|finding| finding.span.clone()));
        let mut taken = Taken {
            rule,
            view,
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
            text,
            view,
            part,
            budget: Budget { attempts, work },
        };
        fn starts(of: &[Suspect]) -> impl Iterator<Item = Start> + Clone {
            of.iter().map(|suspect| suspect.start)
        }
        let pattern = |of: &[Suspect]| &database.patterns()[of[0].pattern as usize];
        let mut places = group;
        let everywhere: Vec<Suspect>;
        if info.all {
            // One is new here; then every pattern must hold somewhere, and the first says where.
            let mut holds = |confirm: &mut Confirm<'_>, of: &[Suspect]| {
                let mut found = false;
                let accept = |_| {
                    found = true;
                    Next::Enough
                };
                if !confirm.matches(pattern(of), starts(of), accept) {
                    taken.limits.insert(Limit::Confirms);
                }
                found
            };
            let mut patterns = group.chunk_by(|a, b| a.pattern == b.pattern);
            if all
                && confirm.part == (0..text.len())
                && patterns.clone().count() < info.patterns.len()
            {
                return;
            }
            if !patterns.any(|of| holds(&mut confirm, of)) {
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
            confirm.part = 0..text.len();
            if !everywhere[1..].chunks(1).all(|of| holds(&mut confirm, of)) {
                return;
            }
            places = &everywhere[..1];
        }
        for of in places.chunk_by(|a, b| a.pattern == b.pattern) {
            if !confirm.matches(pattern(of), starts(of), &mut taken) {
                taken.limits.insert(Limit::Confirms);
            }
        }
    }
}

/// Keeps the findings of one rule in one text.
struct Taken<'a> {
    rule: u32,
    view: Option<Viewed<'a>>,
    /// Where the rule was found already.
    known: &'a mut Vec<Range<u32>>,
    findings: &'a mut Vec<Finding>,
    limits: &'a mut LimitsReached,
}

impl Taken<'_> {
    /// No more is kept of the rule, or of any.
    fn has_enough(&self) -> bool {
        self.known.len() >= FINDINGS_PER_RULE_MAX || self.findings.len() >= FINDINGS_MAX
    }

    /// The same, and that was said: whatever else matches changes nothing.
    fn is_full(&self) -> bool {
        self.has_enough() && self.limits.contains(Limit::Findings)
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
        let span = self.span(found);
        let overlaps = |known: &Range<u32>| known.start < span.end && span.start < known.end;
        !self.known.iter().any(overlaps)
    }

    fn take(&mut self, found: Range<usize>) -> Next {
        if self.has_enough() {
            self.limits.insert(Limit::Findings);
            return Next::Enough;
        }
        let span = self.span(&found);
        self.known.push(span.clone());
        self.findings.push(Finding {
            rule: self.rule,
            span,
            view: self.view.map_or(View::Raw, Viewed::kind),
        });
        Next::More
    }
}
