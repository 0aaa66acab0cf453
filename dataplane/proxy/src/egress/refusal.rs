//! Refusals that come from the surface itself and not from a stage of the policy.

use oktsec_contract::reason::Reason;
use oktsec_pipeline::egress::Refusal;
use std::borrow::Cow;

/// A refusal that no configuration key decided.
pub(crate) const fn plain(reason: Reason) -> Refusal {
    Refusal {
        reason,
        line: None,
        detail: Cow::Borrowed(""),
        findings: Vec::new(),
    }
}

/// One that says more than its reason. Never content.
pub(crate) fn because(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal {
        detail: detail.into(),
        ..plain(reason)
    }
}
