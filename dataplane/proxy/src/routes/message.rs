//! `POST /v1/message`: one message, one decision (compat §2.2).

use crate::answer;
use crate::body;
use crate::core::aside::Large;
use crate::core::{self, Decided, Rendered};
use crate::plane::{Live, Plane};
use crate::respond::{self, Answer};
use crate::room::Room;
use crate::throttle::throttled;
use bytes::Bytes;
use http::HeaderMap;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::config::ReplayMode;
use oktsec_contract::limits::BODY_BYTES_MAX;
use oktsec_contract::reason::Reason;
use oktsec_contract::verdict::Status;
use oktsec_pipeline::{Decision, Headers, Received};
use pingora::Result;
use pingora::proxy::Session;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// Answers the request.
pub(crate) async fn post(plane: &Plane, session: &mut Session, peer: Option<IpAddr>) -> Result<()> {
    let begun = Instant::now();
    let now = Timestamp::now();
    let received = match core::with(|core| core.admit(peer, now)) {
        Ok(received) => received,
        Err(reason) => {
            count(reason, begun);
            body::discard_small(session.as_downstream_mut(), plane.patience.body).await;
            return respond::send(session, answer::refusal(reason)).await;
        }
    };
    let mut room = Room::default();
    let body = body::read(
        session.as_downstream_mut(),
        BODY_BYTES_MAX,
        plane.patience.body,
        &mut room,
    )
    .await;
    let body = match body {
        Ok(body) => body,
        Err(fault) => {
            let Some(reason) = fault.reason() else {
                return respond::hang_up(session);
            };
            count(reason, begun);
            return respond::send(session, answer::refusal(reason).closing()).await;
        }
    };
    // The body may have taken minutes. A message is as old as it is now that it is whole, or one that trickles in would
    // outlive the memory of its signature and be no replay.
    let now = Timestamp::now();
    let answer = if core::is_large(body.len()) {
        let large = Large::new(received, body, headers(session), now);
        decide_aside(large, begun).await
    } else {
        let opening = core::with(|core| core.open(received, body, headers(session), now));
        decide(opening, begun).await
    };
    drop(room);
    respond::send(session, answer).await
}

/// The headers that belong to a message.
pub(crate) fn headers(session: &Session) -> Headers<'_> {
    let headers: &HeaderMap = &session.req_header().headers;
    let get = |name: &str| headers.get(name).map(|value| value.as_bytes());
    Headers {
        session: get("x-oktsec-session"),
        key_version: get("x-oktsec-key-version"),
        delegation: get("x-oktsec-delegation"),
    }
}

/// From an opened message to its answer, recorded.
async fn decide(opening: Result<core::Opening, Reason>, begun: Instant) -> Answer {
    let core::Opening { opened, proving } = match opening {
        Ok(opening) => opening,
        Err(reason) => {
            count(reason, begun);
            return answer::refusal(reason);
        }
    };
    let proof = proving.await;
    let decided = core::with(|core| core.decide(opened, proof, render));
    conclude(decided, begun).await
}

/// From a large body to its answer, recorded.
async fn decide_aside(large: Large, begun: Instant) -> Answer {
    match core::decide_aside(large, render).await {
        Ok(decided) => conclude(decided, begun).await,
        Err(reason) => {
            count(reason, begun);
            answer::refusal(reason)
        }
    }
}

/// Waits for the record, then gives the answer.
pub(crate) async fn conclude(mut decided: Decided<Rendition>, begun: Instant) -> Answer {
    if let Err(reason) = (&mut decided.record).await {
        core::with(|core| core.undo(&decided));
        count(reason, begun);
        return answer::refusal(reason);
    }
    let Rendition {
        answer,
        status,
        earlier,
    } = decided.value;
    count_as(decided.reason, status, begun);
    match earlier {
        None => answer,
        Some(earlier) => decided_before(earlier).await.unwrap_or(answer),
    }
}

/// What [`render`] makes of a decision.
pub(crate) struct Rendition {
    answer: Answer,
    status: Status,
    /// A replay that is answered from its first record.
    earlier: Option<Box<Earlier>>,
}

/// What finds an earlier decision.
struct Earlier {
    signature: [u8; 64],
    live: Arc<Live>,
}

/// The answer to a decision, and whether it leaves a record.
pub(crate) fn render(decision: &Decision<'_>, live: &Arc<Live>) -> Rendered<Rendition> {
    let config = &live.policy.snapshot().config;
    let idempotent = decision.reason == Reason::ReplayRejected
        && config.identity.replay == ReplayMode::Idempotent;
    let earlier = decision
        .signature_bytes()
        .filter(|_| idempotent)
        .map(|&signature| {
            Box::new(Earlier {
                signature,
                live: Arc::clone(live),
            })
        });
    Rendered {
        record: decision.is_recorded() && earlier.is_none(),
        value: Rendition {
            answer: answer::decision(decision, live.policy.database()),
            status: decision.status,
            earlier,
        },
    }
}

/// The first decision about this signature, from its record. `None` while that is still being written: then the
/// replay is refused like any other.
async fn decided_before(earlier: Box<Earlier>) -> Option<Answer> {
    let log = core::with(|core| core.log());
    // Reads the disk, so not on this thread.
    let found = tokio::task::spawn_blocking(move || {
        let stored = log.find_signature(&earlier.signature)?;
        Ok::<_, oktsec_audit::ReadError>((stored, earlier))
    });
    match found.await {
        Ok(Ok((stored, earlier))) => {
            let policy = &earlier.live.policy;
            let hold_secs = u64::from(policy.snapshot().config.quarantine.expiry_hours) * 3_600;
            let stored = stored?;
            let mut findings = Vec::new();
            let record = stored.record(&mut findings).ok()?;
            Some(answer::again(&record, hold_secs, policy.database()))
        }
        Ok(Err(error)) => {
            throttled!(error, %error, "an earlier decision could not be read");
            Some(answer::refusal(Reason::AuditUnavailable))
        }
        Err(_) => None,
    }
}

pub(crate) fn count(reason: Reason, begun: Instant) {
    count_as(reason, reason.status(), begun);
}

fn count_as(reason: Reason, status: Status, begun: Instant) {
    core::with(|core| core.counters.answered(reason, status, begun.elapsed()));
}

/// A message of a group: opened here, decided with the others.
pub(crate) fn open(
    received: Received,
    body: Bytes,
    headers: Headers<'_>,
    now: Timestamp,
) -> Result<core::Opening, Reason> {
    core::with(|core| core.open(received, body, headers, now))
}
