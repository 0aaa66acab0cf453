//! The way of one content: views, raw matches of each, confirm, findings.
//!
//! Bounded on every axis, and each bound that is reached is reported: attempts to confirm,
//! findings kept, views and their bytes (see [`crate::view`]).

use oktsec_rules::Surface;

use crate::compile::Lookup;
use crate::confirm::{self, Caches, Next};
use crate::database::Database;
use crate::engine::{EngineError, RawMatch};
use crate::finding::{Finding, Limit, LimitsReached, ScanError, Scanned};
use crate::scanner::CONTENT_BYTES_MAX;
use crate::view::{View, Views};

/// Findings kept of one rule: enough to redact and to show, and the verdict needs one.
const FINDINGS_PER_RULE_MAX: usize = 8;

/// Findings kept of one content.
const FINDINGS_MAX: usize = 512;

/// Matches looked at in one view whatever its length.
const ATTEMPTS_MIN: u32 = 1024;

/// One more match is looked at for each so many bytes.
const BYTES_PER_ATTEMPT: usize = 16;

/// Hits beside those of patterns.
pub(crate) const RESERVED_HITS: usize = 4;

/// Reported by a prefilter, beside patterns of rules, for a text that holds [`REVERSED_WORDS`].
pub(crate) const REVERSED_SIGN: u32 = u32::MAX - 1;

/// The same for [`ROT13_WORDS`].
pub(crate) const ROT13_SIGN: u32 = u32::MAX - 2;

/// Words of attacks, read from the end.
pub(crate) const REVERSED_WORDS: &[&str] = &[
    "erongi",
    "dragersid",
    "snoitcurtsni",
    "suoiverp",
    "tpmorp",
    "laever",
    "drowssap",
    "terces",
    "ssapyb",
    "etucexe",
    "di/hss.",
    "dwssap/cte",
];

/// Words of attacks, shifted by thirteen letters.
pub(crate) const ROT13_WORDS: &[&str] = &[
    "vtaber",
    "qvfertneq",
    "vafgehpgvba",
    "cerivbhf",
    "cebzcg",
    "erirny",
    "cnffjbeq",
    "frperg",
    "olcnff",
    "rkrphgr",
    "flfgrz",
    "ergevrir",
];

/// What a text shows of letters turned around.
#[derive(Clone, Copy, Default)]
struct Signs {
    reversed: bool,
    rot13: bool,
}

/// Says which patterns may occur in a text: more is allowed, fewer is not.
pub(crate) trait Prefilter {
    fn hits(&mut self, database: &Database, text: &[u8]) -> Result<&[RawMatch], EngineError>;
}

/// The buffers of one scanner.
#[derive(Default)]
pub(crate) struct Sweep {
    views: Views,
    caches: Caches,
    hits: Vec<RawMatch>,
    findings: Vec<Finding>,
    limits: LimitsReached,
}

impl Sweep {
    /// Forgets everything tied to the database before.
    pub(crate) fn reset(&mut self, database: &Database) {
        self.caches.reset(database.matcher_count());
        self.hits.clear();
        self.hits.reserve(database.patterns().len() + RESERVED_HITS);
        self.findings.clear();
    }

    pub(crate) fn run(
        &mut self,
        database: &Database,
        prefilter: &mut impl Prefilter,
        content: &[u8],
        surface: Surface,
    ) -> Result<Scanned<'_>, ScanError> {
        self.findings.clear();
        self.limits = LimitsReached::default();
        if content.len() > CONTENT_BYTES_MAX {
            return Err(ScanError::ContentTooLarge {
                bytes: content.len(),
            });
        }
        let signs = self.text(database, prefilter, content, None, surface)?;
        let mut views = std::mem::take(&mut self.views);
        views.start(content, &mut self.limits);
        for (signs, kind) in [(signs.reversed, View::Reversed), (signs.rot13, View::Rot13)] {
            if signs {
                views.turn(content, kind, &mut self.limits);
            }
        }
        let mut result = Ok(());
        while let Some(at) = views.next(content, &mut self.limits) {
            if let Err(error) = self.text(database, prefilter, content, Some((&views, at)), surface)
            {
                result = Err(error);
                break;
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
        })
    }

    /// Looks at one text: the content itself, or a view of it.
    fn text(
        &mut self,
        database: &Database,
        prefilter: &mut impl Prefilter,
        content: &[u8],
        view: Option<(&Views, usize)>,
        surface: Surface,
    ) -> Result<Signs, ScanError> {
        let text = view.map_or(content, |(views, at)| views.bytes(at));
        self.hits.clear();
        self.hits.extend_from_slice(prefilter.hits(database, text)?);
        let mut signs = Signs::default();
        self.hits.retain(|hit| match hit.pattern {
            REVERSED_SIGN => {
                signs.reversed = true;
                false
            }
            ROT13_SIGN => {
                signs.rot13 = true;
                false
            }
            pattern => (pattern as usize) < database.patterns().len(),
        });
        if self.hits.is_empty() {
            return Ok(signs);
        }
        self.hits.sort_unstable_by_key(|hit| hit.pattern);
        let mut attempts = ATTEMPTS_MIN.saturating_add((text.len() / BYTES_PER_ATTEMPT) as u32);
        let hits = std::mem::take(&mut self.hits);
        for group in hits.chunk_by(|a, b| rule_of(database, a) == rule_of(database, b)) {
            let rule = rule_of(database, &group[0]);
            let info = &database.infos()[rule as usize];
            if !info.applies_to(surface) || (info.all && group.len() < info.patterns.len()) {
                continue;
            }
            self.rule(database, text, view, rule, group, &mut attempts);
        }
        self.hits = hits;
        Ok(signs)
    }

    /// Confirms the raw matches of one rule in one text.
    fn rule(
        &mut self,
        database: &Database,
        text: &[u8],
        view: Option<(&Views, usize)>,
        rule: u32,
        group: &[RawMatch],
        attempts: &mut u32,
    ) {
        let info = &database.infos()[rule as usize];
        let Self {
            caches,
            findings,
            limits,
            ..
        } = self;
        let start = |hit: &RawMatch| {
            let pattern = &database.patterns()[hit.pattern as usize];
            match pattern.lookup {
                Lookup::Exact if hit.end > 0 => {
                    database.matcher(pattern.matcher).search_start(hit.end)
                }
                Lookup::Exact | Lookup::Prefilter | Lookup::Unindexed => 0,
            }
        };
        if info.all {
            // All but the first must hold somewhere; the first says where.
            for hit in &group[1..] {
                let pattern = &database.patterns()[hit.pattern as usize];
                let mut found = false;
                let accept = |_| {
                    found = true;
                    Next::Enough
                };
                if !confirm::matches(
                    database,
                    caches,
                    pattern,
                    text,
                    start(hit),
                    attempts,
                    accept,
                ) {
                    limits.insert(Limit::Confirms);
                }
                if !found {
                    return;
                }
            }
        }
        let mut of_rule = findings
            .iter()
            .filter(|finding| finding.rule == rule)
            .count();
        let places = if info.all { &group[..1] } else { group };
        for hit in places {
            if of_rule >= FINDINGS_PER_RULE_MAX || findings.len() >= FINDINGS_MAX {
                limits.insert(Limit::Findings);
                return;
            }
            let pattern = &database.patterns()[hit.pattern as usize];
            let accept = |found: std::ops::Range<usize>| {
                let found = found.start as u32..found.end as u32;
                let (span, kind) = match view {
                    None => (found, View::Raw),
                    Some((views, at)) => (views.original(at, found), views.kind(at)),
                };
                let known = findings.iter().any(|finding| {
                    finding.rule == rule
                        && finding.span.start < span.end
                        && span.start < finding.span.end
                });
                if !known {
                    findings.push(Finding {
                        rule,
                        span,
                        view: kind,
                    });
                    of_rule += 1;
                }
                if of_rule >= FINDINGS_PER_RULE_MAX || findings.len() >= FINDINGS_MAX {
                    limits.insert(Limit::Findings);
                    return Next::Enough;
                }
                Next::More
            };
            if !confirm::matches(
                database,
                caches,
                pattern,
                text,
                start(hit),
                attempts,
                accept,
            ) {
                limits.insert(Limit::Confirms);
            }
        }
    }
}

fn rule_of(database: &Database, hit: &RawMatch) -> u32 {
    database.patterns()[hit.pattern as usize].rule
}
