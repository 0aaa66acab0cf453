//! What an agent's client is told when a request does not go out: a status, a JSON body, and headers for programs
//! that read no bodies. The texts of `error` are those of compat §7.1 where clients may match on them.

use super::trail::Trail;
use crate::json;
use crate::respond::{self, Answer};
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use oktsec_contract::reason::Reason;
use oktsec_pipeline::egress::Refusal;
use oktsec_pipeline::suggestion;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;

/// What clients of a proxy are asked for.
const AUTHENTICATE: HeaderValue = HeaderValue::from_static("Basic realm=\"oktsec forward proxy\"");

/// Tells why a request does not go out.
pub(crate) async fn refuse(
    session: &mut ServerSession,
    trail: &Trail,
    refusal: &Refusal,
) -> Result<()> {
    let reason = refusal.reason;
    let mut body = Vec::with_capacity(256);
    body.push(b'{');
    json::push_field(&mut body, "error", error_text(reason));
    if matches!(
        reason,
        Reason::EgressRequestContent | Reason::EgressResponseContent
    ) {
        let count = trail.found.len();
        let detail = format!("{count} security finding(s) detected");
        json::push_field(&mut body, "detail", &detail);
    } else if !refusal.detail.is_empty() {
        json::push_field(&mut body, "detail", &refusal.detail);
    }
    json::push_field(&mut body, "reason", reason.as_str());
    json::push_field(&mut body, "retry", reason.retry().as_str());
    if let Some(line) = &refusal.line {
        json::push_field(&mut body, "policy", line.as_str());
    }
    let id = trail.id.encode();
    let id = std::str::from_utf8(&id).expect("hex digits and dashes are UTF-8");
    json::push_field(&mut body, "record_id", id);
    let next = suggestion(reason);
    if !next.is_empty() {
        json::push_field(&mut body, "suggestion", next);
    }
    body.extend_from_slice(b"}\n");
    let mut answer = Answer::json(reason.http_status(), Bytes::from(body));
    if answer.status == 429 || answer.status == 503 {
        answer.retry_after = Some(1);
    }
    respond::send_on(session, answer, |head| adorn(head, reason, id)).await
}

/// Tells that what was asked is no request to a proxy (compat §7: the plain 404 of a server without pages).
pub(crate) async fn not_proxied(session: &mut ServerSession) -> Result<()> {
    respond::send_on(session, Answer::text(404, "404 page not found\n"), |_| {
        Ok(())
    })
    .await
}

pub(super) fn adorn(head: &mut ResponseHeader, reason: Reason, id: &str) -> Result<()> {
    let word = HeaderValue::from_static(reason.as_str());
    head.insert_header(HeaderName::from_static("x-oktsec-reason"), word)?;
    let retry = HeaderValue::from_static(reason.retry().as_str());
    head.insert_header(HeaderName::from_static("x-oktsec-retry"), retry)?;
    let id = HeaderValue::from_str(id).expect("hex digits and dashes are visible ASCII");
    head.insert_header(HeaderName::from_static("x-oktsec-record"), id)?;
    if head.status == http::StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        head.insert_header(header::PROXY_AUTHENTICATE, AUTHENTICATE)?;
    }
    Ok(())
}

const fn error_text(reason: Reason) -> &'static str {
    match reason {
        Reason::EgressAuthRequired | Reason::EgressTokenInvalid => "Proxy Authentication Required",
        Reason::EgressHostBlocked
        | Reason::EgressHostNotAllowed
        | Reason::EgressPortNotAllowed
        | Reason::EgressRuleBlocked
        | Reason::EgressScopeEmpty
        | Reason::EgressNotInspectable => "domain blocked by proxy policy",
        Reason::EgressRateLimited
        | Reason::EgressBudgetSpent
        | Reason::EgressConnectionsFull
        | Reason::PeerRateLimited => "rate limit exceeded",
        Reason::EgressAddressSpecial => "Forbidden: SSRF protection",
        Reason::EgressNameUnresolved
        | Reason::EgressUpstreamUnreachable
        | Reason::EgressUpstreamTimeout
        | Reason::EgressUpstreamTls
        | Reason::EgressUpstreamInvalid => "upstream request failed",
        Reason::EgressRequestContent | Reason::EgressNameContent | Reason::EgressUndecodable => {
            "request blocked by content scan"
        }
        Reason::EgressResponseContent => "response blocked by content scan",
        Reason::EgressNameMismatch => "names in the request disagree",
        Reason::EgressStopped => "outbound traffic is switched off",
        Reason::AgentSuspended => "agent suspended",
        Reason::AuditUnavailable | Reason::AuditOverloaded => "audit log unavailable",
        Reason::SnapshotMissing => "not_ready",
        Reason::ScanFailed => "content scan failed — retry or check server logs",
        Reason::EgressIdentityConflict => "two proofs of identity disagree",
        _ => "invalid request",
    }
}
