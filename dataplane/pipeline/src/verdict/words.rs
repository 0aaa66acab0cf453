//! One line for the sender: what to do next. Operators read records; senders read this.

use oktsec_contract::reason::Reason;

/// The next step after a refusal; empty where nothing was refused.
pub const fn suggestion(reason: Reason) -> &'static str {
    match reason {
        Reason::PeerRateLimited | Reason::AgentRateLimited => {
            "Slow down: wait for the time in Retry-After, then send again."
        }
        Reason::RequestInvalid
        | Reason::BodyTooLarge
        | Reason::BodyTimeout
        | Reason::JsonInvalid
        | Reason::JsonDuplicateKey
        | Reason::JsonTooDeep
        | Reason::FieldTypeInvalid
        | Reason::FieldMissing
        | Reason::NameInvalid
        | Reason::HeaderInvalid => {
            "Send one JSON object with the strings from, to and content; the reason names what is wrong."
        }
        Reason::TimestampInvalid | Reason::TimestampTooOld | Reason::TimestampAhead => {
            "Use the current time in RFC 3339, sign again and check the sender's clock."
        }
        Reason::SignatureRequired => {
            "Sign from, to, content and timestamp with the agent's Ed25519 key and send the signature."
        }
        Reason::KeyUnknown => {
            "No public key is known for this agent: place its .pub file in keys_dir."
        }
        Reason::KeyRevoked => "This key was revoked: use the agent's current key.",
        Reason::KeyVersionMismatch => {
            "Sign with the agent's current key version, or leave X-Oktsec-Key-Version out."
        }
        Reason::SignatureInvalid => {
            "The signature does not fit these exact bytes: sign from, to, content and timestamp as sent."
        }
        Reason::ReplayRejected => {
            "This signed message was already received: sign a new one with a new timestamp."
        }
        Reason::ReplayCacheFull => {
            "Replays cannot be told apart right now: send again in a few minutes, or raise identity.replay_signatures_max."
        }
        Reason::DelegationRequired => "Send a delegation chain in X-Oktsec-Delegation.",
        Reason::DelegationInvalid => {
            "The delegation chain cannot be accepted: send the message as its own signer."
        }
        Reason::AgentSuspended => "This agent is suspended: ask an operator to lift it.",
        Reason::RecipientSuspended => "The recipient is suspended: ask an operator to lift it.",
        Reason::GrantMissing => {
            "No grant reaches this recipient: an operator can add it to can_message."
        }
        Reason::GrantConstraint => {
            "The grant to this recipient has a constraint that does not hold now."
        }
        Reason::SenderUnknown => "This sender is not configured: an operator can add it to agents.",
        Reason::ScanFailed => "The content could not be scanned: send again later.",
        Reason::ScanLimit => {
            "The content is too deeply encoded or too large to be seen whole: send it plainly, or wait for an operator."
        }
        Reason::ContentBlocked => "Remove what the findings name, then send again.",
        Reason::ContentQuarantined => {
            "An operator reviews this message: poll its quarantine id, or send it without what the findings name."
        }
        Reason::AuditUnavailable | Reason::AuditOverloaded => {
            "The decision could not be recorded: send again later."
        }
        Reason::SnapshotMissing => "The gateway is starting: send again in a moment.",
        Reason::ContentFlagged
        | Reason::Allowed
        | Reason::Started
        | Reason::SnapshotApplied
        | Reason::QuarantineApproved
        | Reason::QuarantineRejected
        | Reason::QuarantineExpired
        | Reason::ChainBroken => "",
    }
}
