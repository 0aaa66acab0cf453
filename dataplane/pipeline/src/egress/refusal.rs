//! A refusal, and what decided it.

use oktsec_contract::reason::Reason;
use oktsec_contract::verdict::Verdict;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The configuration key that decided: `agents.ci.egress.blocked_domains[2]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Line(Arc<str>);

impl Line {
    /// A key.
    pub fn new(key: &str) -> Self {
        Self(key.into())
    }

    /// An entry of a list.
    pub(crate) fn item(key: &str, index: usize) -> Self {
        Self(format!("{key}[{index}]").into())
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What was found in a host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameFinding {
    /// Index into the rules of the database.
    pub rule: u32,
    /// What it raises the verdict to.
    pub verdict: Verdict,
    /// Redacted excerpt.
    pub excerpt: String,
}

/// Why a request does not go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The configuration key that decided; `None` where it is built in.
    pub line: Option<Line>,
    /// In a few words, what the reason does not say: the kind of address, what is wrong with the host. Never content.
    pub detail: Cow<'static, str>,
    /// What was found in the host name, for [`Reason::EgressNameContent`].
    pub findings: Vec<NameFinding>,
}

impl Refusal {
    pub(crate) const fn new(reason: Reason) -> Self {
        Self {
            reason,
            line: None,
            detail: Cow::Borrowed(""),
            findings: Vec::new(),
        }
    }

    pub(crate) fn at(mut self, line: &Line) -> Self {
        self.line = Some(line.clone());
        self
    }

    pub(crate) fn because(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }
}
