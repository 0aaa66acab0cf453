//! What a scan answers.

use std::fmt;
use std::ops::Range;

use oktsec_rules::{Known, Rule};

use crate::excerpt::{self, excerpt};
use crate::secrets::KnownValues;
use crate::{EngineError, View};

/// A confirmed match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// Index into [`Database::rules`](crate::Database::rules).
    pub rule: u32,
    /// Bytes of the original content. Invariant: `start < end <= content.len()`.
    pub span: Range<u32>,
    /// The form of the content it was seen in.
    pub view: View,
}

/// Findings of one content, valid until the scanner is used again.
#[derive(Debug)]
pub struct Scanned<'a> {
    /// Worst first, then in order of the content; one for each rule and distinct place.
    pub findings: &'a [Finding],
    /// Bounds that kept something from being scanned.
    pub limits: LimitsReached,
    pub(crate) known: Option<&'a KnownValues>,
    /// A rule that matches much may have begun; answered only if it was asked for.
    pub(crate) opens_wide: bool,
}

impl Scanned<'_> {
    /// Of a content in which there is nothing to find.
    pub(crate) fn nothing() -> Self {
        Self {
            findings: &[],
            limits: LimitsReached::default(),
            known: None,
            opens_wide: false,
        }
    }

    /// Whether a finding is a known value that belongs to hosts.
    pub fn is_bound(&self, finding: &Finding) -> bool {
        self.known
            .is_some_and(|values| values.is_bound(&finding.span))
    }

    /// Whether a finding is a known value that belongs to this host, a name in one spelling.
    pub fn belongs_to(&self, finding: &Finding, host: &str) -> bool {
        self.known
            .is_some_and(|values| values.belongs_to(&finding.span, host))
    }

    /// What people see of a finding: its redacted text, or of a known secret the name of its entry.
    pub fn excerpt(&self, content: &[u8], finding: &Finding, rule: &Rule) -> String {
        let Some(known) = rule.known else {
            return excerpt(content, finding, rule);
        };
        let word = match known {
            Known::Value => "KNOWN_SECRET",
            Known::Canary => "CANARY",
            Known::Seen => "SEEN_SECRET",
        };
        let name = self
            .known
            .and_then(|values| values.at(&finding.span, known))
            .unwrap_or_default();
        excerpt::placeholder(&format!("{word}({name})"), finding.span.len())
    }
}

/// A bound of the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Limit {
    /// More findings of one rule, or in all, than are kept. What is kept decides the verdict.
    Findings = 1,
    /// More raw matches than are confirmed.
    Confirms = 2,
    /// More bytes of views than are made.
    ViewBytes = 4,
    /// More views than are made.
    Views = 8,
    /// Encodings nested deeper than they are opened.
    Depth = 16,
}

impl Limit {
    const ALL: [Self; 5] = [
        Self::Findings,
        Self::Confirms,
        Self::ViewBytes,
        Self::Views,
        Self::Depth,
    ];

    /// The word of records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Findings => "findings",
            Self::Confirms => "confirms",
            Self::ViewBytes => "view_bytes",
            Self::Views => "views",
            Self::Depth => "depth",
        }
    }
}

/// The set of limits a scan reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LimitsReached(u8);

impl LimitsReached {
    /// Whether the scan stayed within all bounds.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this bound was reached.
    pub const fn contains(self, limit: Limit) -> bool {
        self.0 & limit as u8 != 0
    }

    /// Whether something may have gone unseen. `Findings` alone only shortens the list.
    pub const fn hides_content(self) -> bool {
        self.0 & !(Limit::Findings as u8) != 0
    }

    /// The bounds reached.
    pub fn iter(self) -> impl Iterator<Item = Limit> {
        Limit::ALL
            .into_iter()
            .filter(move |limit| self.contains(*limit))
    }

    pub(crate) fn insert(&mut self, limit: Limit) {
        self.0 |= limit as u8;
    }
}

impl fmt::Display for LimitsReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, limit) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            f.write_str(limit.as_str())?;
        }
        Ok(())
    }
}

/// Why a content was not scanned. The caller fails closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Longer than [`CONTENT_BYTES_MAX`](crate::CONTENT_BYTES_MAX).
    #[error("content of {bytes} bytes is longer than the scanner takes")]
    ContentTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The pattern engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
