//! What a reason and a verdict lead to on a surface, in one place: status and HTTP answer, enforcing or observing.
//!
//! Fail closed: whatever we are configured to check and cannot check is refused, on every surface. Observe mode
//! lets everything through that we understood and could record; what is no message at all, and what could not
//! be recorded, cannot be observed either.

use oktsec_contract::reason::Reason;
use oktsec_contract::verdict::{Mode, Status, Verdict};

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict, before the mode.
    pub verdict: Verdict,
    /// What is done, after the mode.
    pub status: Status,
    /// The HTTP status of the answer.
    pub http_status: u16,
}

/// The outcome of a reason.
pub const fn outcome(reason: Reason, mode: Mode) -> Outcome {
    let verdict = verdict_of(reason);
    match mode {
        Mode::Observe if !stops_observing(reason) => Outcome {
            verdict,
            status: observed(reason),
            http_status: 200,
        },
        Mode::Observe | Mode::Enforce => Outcome {
            verdict,
            status: reason.status(),
            http_status: reason.http_status(),
        },
    }
}

const fn verdict_of(reason: Reason) -> Verdict {
    if matches!(reason, Reason::ContentFlagged | Reason::EgressFlagged) {
        return Verdict::Flag;
    }
    match reason.status() {
        Status::Delivered | Status::Forwarded | Status::Tunneled | Status::System => Verdict::Allow,
        Status::Quarantined => Verdict::Quarantine,
        Status::Blocked | Status::Rejected | Status::Error => Verdict::Block,
    }
}

/// What becomes of what is let through while observing.
const fn observed(reason: Reason) -> Status {
    match reason {
        Reason::EgressTunneled => Status::Tunneled,
        _ if reason.is_egress() => Status::Forwarded,
        _ => Status::Delivered,
    }
}

/// Reasons for which there is nothing to let through, or no way to record it. The kill switch is one: whoever
/// pulls it wants nothing to go out.
const fn stops_observing(reason: Reason) -> bool {
    reason.is_unreadable()
        || matches!(
            reason,
            Reason::AuditUnavailable
                | Reason::AuditOverloaded
                | Reason::SnapshotMissing
                | Reason::Overloaded
                | Reason::EgressTargetInvalid
                | Reason::EgressStopped
                | Reason::EgressNameUnresolved
                | Reason::EgressUpstreamUnreachable
                | Reason::EgressUpstreamTimeout
                | Reason::EgressUpstreamTls
                | Reason::EgressUpstreamInvalid
                | Reason::EgressProtocolInvalid
                | Reason::EgressIdle
        )
}

#[cfg(test)]
mod tests {
    use super::outcome;
    use oktsec_contract::reason::Reason;
    use oktsec_contract::verdict::{Mode, Status, Verdict};

    #[test]
    fn whatever_cannot_be_checked_is_refused() {
        for reason in [
            Reason::ScanFailed,
            Reason::AuditUnavailable,
            Reason::AuditOverloaded,
            Reason::SnapshotMissing,
            Reason::Overloaded,
            Reason::ReplayCacheFull,
            Reason::KeyUnknown,
            Reason::DelegationInvalid,
            Reason::GrantConstraint,
            Reason::JsonInvalid,
        ] {
            let outcome = outcome(reason, Mode::Enforce);
            assert_eq!(outcome.verdict, Verdict::Block, "{reason:?}");
            assert!(outcome.http_status >= 400, "{reason:?}");
            assert!(
                matches!(outcome.status, Status::Rejected | Status::Error),
                "{reason:?}"
            );
        }
        assert_eq!(
            outcome(Reason::ScanLimit, Mode::Enforce).verdict,
            Verdict::Quarantine
        );
    }

    #[test]
    fn observing_lets_through_what_enforcing_would_refuse_and_keeps_the_verdict() {
        for &reason in Reason::ALL {
            let (enforced, observed) = (
                outcome(reason, Mode::Enforce),
                outcome(reason, Mode::Observe),
            );
            assert_eq!(enforced.verdict, observed.verdict, "{reason:?}");
            // What is not recorded could not be, except rates; see `Reason::is_recorded`.
            let limited = matches!(reason, Reason::PeerRateLimited | Reason::AgentRateLimited);
            let unrecorded = !reason.is_recorded() && !limited;
            // No target, no upstream server, or the kill switch.
            let nowhere = matches!(reason.code(), 70 | 75 | 87..=91 | 95 | 96);
            if unrecorded || nowhere {
                assert_eq!(enforced, observed, "{reason:?}");
            } else {
                assert_eq!(observed.http_status, 200, "{reason:?}");
            }
        }
    }
}
