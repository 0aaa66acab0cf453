//! The ways traffic reaches us; a rule names those it applies to.

use serde::{Deserialize, Serialize};

/// A way traffic reaches us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Surface {
    /// `POST /v1/message` and `/v1/messages`.
    Message,
    /// The forward proxy.
    Egress,
    /// The MCP gateway.
    Gateway,
    /// A wrapped MCP server on standard input and output.
    Stdio,
    /// Hook events of an agent's client.
    Hook,
}

impl Surface {
    /// Every surface, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::Message,
        Self::Egress,
        Self::Gateway,
        Self::Stdio,
        Self::Hook,
    ];

    /// The word of configuration, records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Egress => "egress",
            Self::Gateway => "gateway",
            Self::Stdio => "stdio",
            Self::Hook => "hook",
        }
    }
}
