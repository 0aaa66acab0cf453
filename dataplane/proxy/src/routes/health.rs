//! `GET /health`, `/healthz`, `/readyz`, `/metrics`: how this process does.

use crate::json;
use crate::metrics;
use crate::plane::Plane;
use crate::respond::{Answer, Kind};
use bytes::Bytes;
use oktsec_contract::clock::Timestamp;

/// Alive: the process answers.
pub(crate) fn health() -> Answer {
    const BODY: &str = concat!(
        "{\"status\":\"ok\",\"version\":\"",
        env!("CARGO_PKG_VERSION"),
        "\"}\n"
    );
    Answer::json(200, Bytes::from_static(BODY.as_bytes()))
}

/// Ready: messages are decided and recorded; that a part of the log cannot be read any more, or that the configuration
/// on disk is not what is in force, is said beside it. Otherwise what is in the way.
pub(crate) fn ready(plane: &Plane) -> Answer {
    let obstacles = plane.obstacles();
    let mut body = b"{".to_vec();
    if obstacles.is_empty() {
        json::push_field(&mut body, "status", "ready");
        json::push_key(&mut body, "revision");
        body.extend_from_slice(plane.revision().to_string().as_bytes());
        if let Some(standing) = plane.standing() {
            json::push_field(&mut body, "config", standing.config.as_str());
        }
        // What exactly names files, and this path is open to everyone: the log and `audit verify-chain` say it.
        if plane.log.health().damage.is_some() {
            json::push_key(&mut body, "audit_damaged");
            body.extend_from_slice(b"true");
        }
        body.extend_from_slice(b"}\n");
        return Answer::json(200, Bytes::from(body));
    }
    json::push_field(&mut body, "status", "not_ready");
    json::push_key(&mut body, "causes");
    body.push(b'[');
    for (at, obstacle) in obstacles.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        json::push_string(&mut body, obstacle);
    }
    body.extend_from_slice(b"]}\n");
    Answer::json(503, Bytes::from(body))
}

/// What was counted.
pub(crate) fn metrics(plane: &Plane) -> Answer {
    let text = plane.scrapes.text(Timestamp::now(), || {
        metrics::scrape(&plane.counters(), &plane.facts())
    });
    Answer {
        kind: Kind::Metrics,
        ..Answer::json(200, text)
    }
}
