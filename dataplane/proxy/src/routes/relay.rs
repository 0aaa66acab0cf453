//! Everything that is not ours goes to the control plane over its Unix socket. When that is down these requests
//! are answered 503, and messages still flow.

use crate::body::BodyClock;
use crate::limits::{RELAYS_KEYLESS_MAX, RELAYS_MAX};
use crate::respond::Answer;
use bytes::Bytes;
use http::header::HeaderValue;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, Peer};
use std::cell::Cell;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

thread_local! {
    /// Requests that are passed on by this core, and those of them that brought no key.
    static OPEN: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// A request on its way to the control plane. Each takes a connection to it, and over HTTP/2 a peer may have many on one
/// of its own; whoever brings no key may look at pages, and leaves room for those who do.
#[derive(Debug)]
pub(crate) struct Relaying {
    keyless: usize,
    clock: BodyClock,
}

impl Relaying {
    /// Lets one begin; `None` if there are too many. `patience` is for its body.
    pub(crate) fn begin(has_key: bool, patience: Duration) -> Option<Self> {
        let keyless = usize::from(!has_key);
        let (all, without) = OPEN.get();
        let (all, without) = (all + 1, without + keyless);
        if all > RELAYS_MAX || without > RELAYS_KEYLESS_MAX && !has_key {
            return None;
        }
        OPEN.set((all, without));
        let clock = BodyClock::start(patience);
        Some(Self { keyless, clock })
    }

    /// Its body is read from now on.
    pub(crate) fn body_begins(&mut self, patience: Duration) {
        self.clock = BodyClock::start(patience);
    }

    /// Whether so many bytes of its body should have taken less time.
    pub(crate) fn is_late(&self, bytes: usize) -> bool {
        self.clock.is_over(bytes)
    }
}

impl Drop for Relaying {
    fn drop(&mut self) {
        let (all, without) = OPEN.get();
        OPEN.set((all.saturating_sub(1), without.saturating_sub(self.keyless)));
    }
}

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
    use super::{RELAYS_KEYLESS_MAX, RELAYS_MAX, Relaying, rewrite};
    use pingora::http::RequestHeader;
    use std::time::Duration;

    #[test]
    fn who_brings_no_key_leaves_room_for_who_does() {
        let begin = |has_key| Relaying::begin(has_key, Duration::from_secs(60));
        let pages: Vec<_> = (0..RELAYS_KEYLESS_MAX).map(|_| begin(false)).collect();
        assert!(pages.iter().all(Option::is_some));
        assert!(begin(false).is_none());
        let rest = RELAYS_MAX - RELAYS_KEYLESS_MAX;
        let keyed: Vec<_> = (0..rest).map(|_| begin(true)).collect();
        assert!(keyed.iter().all(Option::is_some));
        assert!(begin(true).is_none());
        drop(pages);
        assert!(begin(false).is_some() && begin(true).is_some());
    }

    #[test]
    fn a_body_on_its_way_has_the_time_of_every_body() {
        let begin = |patience| Relaying::begin(true, patience).expect("there is room");
        assert!(begin(Duration::ZERO).is_late(1));
        assert!(!begin(Duration::ZERO).is_late(16 << 10));
        assert!(!begin(Duration::from_secs(60)).is_late(1));
    }

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
