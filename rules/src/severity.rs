//! How bad a finding is, and what that means for a verdict by default.

use serde::{Deserialize, Serialize};

/// Severity of a rule, weakest first, so that `max` finds the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; never acts.
    Info,
    /// Reported with the decision; never acts.
    Low,
    /// Flags a message.
    Medium,
    /// Holds a message for an operator.
    High,
    /// Blocks a message.
    Critical,
}

impl Severity {
    /// Every severity, weakest first.
    pub const ALL: [Self; 5] = [
        Self::Info,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::Critical,
    ];

    /// The lower-case word of rule files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The upper-case word of the wire (`rules_triggered[].severity`).
    pub const fn as_wire(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }
}
