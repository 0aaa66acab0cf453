//! What happens to a message, and the words for it on the wire and in records.

use serde::{Deserialize, Serialize};

/// The outcome of a decision, weakest first. A stage may only raise it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Goes through.
    #[default]
    Allow,
    /// Goes through, and an operator may want to look.
    Flag,
    /// Is held until an operator releases or discards it.
    Quarantine,
    /// Is refused.
    Block,
}

impl Verdict {
    /// The word of logs and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Flag => "flag",
            Self::Quarantine => "quarantine",
            Self::Block => "block",
        }
    }

    /// The one byte of the record encoding.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Reads [`Self::code`].
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Allow),
            1 => Some(Self::Flag),
            2 => Some(Self::Quarantine),
            3 => Some(Self::Block),
            _ => None,
        }
    }
}

/// What a surface does with a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Records what it would have done and blocks nothing.
    Observe,
    /// Acts.
    #[default]
    Enforce,
}

impl Mode {
    /// The word of configuration and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// What became of a message: the `status` of the wire and of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Went through (also when flagged).
    Delivered,
    /// Held for an operator.
    Quarantined,
    /// Refused for what it says.
    Blocked,
    /// Refused for who sent it, to whom, or how.
    Rejected,
    /// We could not decide; refused.
    Error,
    /// An opaque tunnel was opened (egress).
    Tunneled,
    /// An outbound request went through (egress).
    Forwarded,
    /// A record about the system itself: start, checkpoint, review, configuration.
    System,
}

impl Status {
    /// Every status, in the order of its code.
    pub const ALL: [Self; 8] = [
        Self::Delivered,
        Self::Quarantined,
        Self::Blocked,
        Self::Rejected,
        Self::Error,
        Self::Tunneled,
        Self::Forwarded,
        Self::System,
    ];

    /// The word of the wire and of records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Quarantined => "quarantined",
            Self::Blocked => "blocked",
            Self::Rejected => "rejected",
            Self::Error => "error",
            Self::Tunneled => "tunneled",
            Self::Forwarded => "forwarded",
            Self::System => "system",
        }
    }

    /// The one byte of the record encoding.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Reads [`Self::code`].
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Reads [`Self::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }
}
