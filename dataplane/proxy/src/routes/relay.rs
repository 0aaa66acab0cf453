//! Everything that is not ours goes to the control plane over its Unix socket. When that is down these requests
//! are answered 503, and messages still flow.

use crate::respond::Answer;
use bytes::Bytes;
use http::header::HeaderValue;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, Peer};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// The control plane as pingora addresses it; `None` if the path is no socket address.
pub(crate) fn peer(socket: &Path) -> Option<HttpPeer> {
    let mut peer = HttpPeer::new_uds(socket.to_str()?, false, String::new()).ok()?;
    let options = peer.get_mut_peer_options()?;
    options.connection_timeout = Some(Duration::from_secs(2));
    options.total_connection_timeout = Some(Duration::from_secs(2));
    options.read_timeout = Some(Duration::from_secs(60));
    options.write_timeout = Some(Duration::from_secs(30));
    options.idle_timeout = Some(Duration::from_secs(30));
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    Some(peer)
}

/// The answer while the control plane is away.
pub(crate) fn unavailable() -> Answer {
    let body = Bytes::from_static(b"{\"error\":\"control plane unavailable\"}\n");
    Answer {
        retry_after: Some(1),
        ..Answer::json(503, body)
    }
}

/// Says who asked: in our words, not in those of the one who asks. pingora's policy (see [`peer`]) has removed
/// what concerned only this connection (RFC 9110 §7.6.1).
pub(crate) fn rewrite(head: &mut RequestHeader, asked_by: Option<IpAddr>) -> Result<()> {
    for name in [
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
    ] {
        head.remove_header(name);
    }
    if let Some(address) = asked_by {
        let address = HeaderValue::from_str(&address.to_string())
            .expect("digits, dots, colons and hex are visible ASCII");
        head.insert_header("X-Forwarded-For", address)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::rewrite;
    use pingora::http::RequestHeader;

    #[test]
    fn who_asked_is_said_by_us() {
        let mut head = RequestHeader::build("POST", b"/v1/agents", None).expect("a fixed head");
        for (name, value) in [
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Forwarded-For", "6.6.6.7"),
            ("Forwarded", "for=6.6.6.6"),
            ("X-Real-IP", "6.6.6.6"),
            ("Authorization", "Bearer k"),
        ] {
            head.append_header(name, value).expect("visible ASCII");
        }
        rewrite(&mut head, "192.0.2.1".parse().ok()).expect("an address is a header value");
        let mut left: Vec<(&str, &str)> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("visible ASCII")))
            .collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("authorization", "Bearer k"),
                ("x-forwarded-for", "192.0.2.1")
            ]
        );
    }
}
