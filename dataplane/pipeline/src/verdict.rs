//! From findings to a decision. A stage here can only raise what the stage before said; the one thing that
//! lowers is the operator's own override of that very rule, applied when findings are weighed.

mod decision;
mod intent;
mod table;
mod words;

use crate::parse::Message;
use crate::policy::{Place, Policy};
use crate::scan::Scanned;
use oktsec_contract::limits::{HISTORY_BLOCK_MIN, HISTORY_QUARANTINE_MIN};
use oktsec_contract::reason::{Reason, Retry};
use oktsec_contract::verdict::{Status, Verdict};

pub use decision::Decision;
pub use table::{Outcome, outcome};
pub use words::suggestion;

/// Whether the sender is asked to send the very same message again: then this was not its first use.
pub(crate) fn may_come_again(reason: Reason, status: Status) -> bool {
    reason.retry() == Retry::Transient && status != Status::Delivered
}

/// Intent, limits and history on top of the findings; then remembers what was said or refused.
pub(crate) fn decide(
    message: Message<'_>,
    scanned: &Scanned,
    policy: &Policy,
    place: &Place<'_>,
    lowered: &mut String,
) -> (Reason, Verdict) {
    let mut verdict = scanned.verdict;
    if !intent::fits(
        message.intent,
        message.content,
        policy.requires_intent(),
        lowered,
    ) {
        verdict = verdict.max(Verdict::Flag);
    }
    let mut limited = false;
    if scanned.limited && verdict < Verdict::Quarantine {
        limited = true;
        verdict = Verdict::Quarantine;
    }
    let now = place.now;
    if verdict == Verdict::Allow {
        place
            .shared
            .senders
            .get(place.sender, now)
            .said(message.content, now);
        return (Reason::Allowed, verdict);
    }
    let mut sender = place.shared.senders.get(place.sender, now);
    let refusals = sender.refusals(now);
    if verdict == Verdict::Flag && refusals >= HISTORY_QUARANTINE_MIN {
        verdict = Verdict::Quarantine;
    } else if verdict == Verdict::Quarantine && refusals >= HISTORY_BLOCK_MIN {
        verdict = Verdict::Block;
    }
    match verdict {
        Verdict::Allow | Verdict::Flag => sender.said(message.content, now),
        // Only who is proven has a history: anybody could spoil a claimed name's.
        Verdict::Quarantine | Verdict::Block if scanned.permitted.identity.is_verified() => {
            sender.refused(now);
        }
        Verdict::Quarantine | Verdict::Block => {}
    }
    let reason = match verdict {
        Verdict::Allow => Reason::Allowed,
        Verdict::Flag => Reason::ContentFlagged,
        Verdict::Quarantine if limited => Reason::ScanLimit,
        Verdict::Quarantine => Reason::ContentQuarantined,
        Verdict::Block => Reason::ContentBlocked,
    };
    (reason, verdict)
}
