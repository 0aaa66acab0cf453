//! A tunnel: after `200`, bytes as they are, in both directions, until both ends have closed, a clock or the policy
//! ends it. What a client says first must fit where it wanted to go ([`super::hello`]).

use super::exchange::forever_if_zero;
use super::h2_stream::H2Stream;
use super::hello::Opening;
use super::live::Leash;
use super::relay::{End, Relay};
use super::trail::Trail;
use crate::connection::Guarded;
use crate::front::Seat;
use crate::metrics::Counters;
use crate::metrics::egress::Unscanned;
use crate::throttle::throttled;
use oktsec_contract::config::EgressTimeouts;
use oktsec_contract::reason::Reason;
use oktsec_contract::verdict::Status;
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::HttpSession;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection Established\r\n\r\n";
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// Both ends of a tunnel that may begin.
pub(crate) struct Tunnel {
    pub(crate) upstream: TcpStream,
    /// What the host has said already.
    pub(crate) said: Vec<u8>,
    pub(crate) leash: Leash,
    pub(crate) timeouts: EgressTimeouts,
    pub(crate) counters: Arc<Counters>,
}

/// Takes the connection out of HTTP: the stream, and what came behind the head already.
pub(crate) async fn detach(session: ServerSession) -> Option<(Stream, Vec<u8>)> {
    let ServerSession::H1(mut h1) = session else {
        return None;
    };
    // A tunnel's head has no body, so this reads nothing; it sorts what is behind the head.
    if h1.read_body_bytes().await.ok()?.is_some() {
        return None;
    }
    let (stream, early) = h1.reuse().await.ok()??.into_parts();
    Some((stream, early.map(Vec::from).unwrap_or_default()))
}

impl Tunnel {
    /// Tells the client, then relays in a task of its own: a tunnel that lives for hours should not keep alive what
    /// was needed to open it.
    pub(crate) async fn open(self, stream: Stream, early: Vec<u8>, trail: Trail) {
        let mut stream = stream;
        if greet(&mut stream, &self.said).await.is_none() {
            return self.ended(trail, End::Broken, 0, 0).await;
        }
        // The clocks of a request are not those of a tunnel.
        match without_clocks(stream) {
            Some((stream, seat)) => drop(tokio::spawn(self.relay(stream, early, trail, seat))),
            None => self.ended(trail, End::Broken, 0, 0).await,
        }
    }

    /// The same over one stream of an HTTP/2 connection, which lives as long as this call.
    pub(crate) async fn open_h2(self, mut session: HttpSession, trail: Trail) {
        let greeted = ResponseHeader::build_no_case(200, Some(1))
            .and_then(|head| session.write_response_header(Box::new(head), false));
        match greeted.ok().and_then(|()| H2Stream::new(session)) {
            // What the host has said already stays unsaid only if there is such a thing: a proxy between us.
            Some(stream) if self.said.is_empty() => {
                self.relay(stream, Vec::new(), trail, ()).await;
            }
            Some(_) | None => self.ended(trail, End::Broken, 0, 0).await,
        }
    }

    async fn relay<C, S>(self, stream: C, early: Vec<u8>, trail: Trail, seat: S)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            upstream,
            leash,
            timeouts,
            counters,
            ..
        } = self;
        let open = &counters.egress.tunnels_open;
        open.fetch_add(1, Ordering::Relaxed);
        let opening = Opening::new(leash.vetted().target().clone());
        let clocks = super::relay::Clocks {
            idle: forever_if_zero(timeouts.idle.as_duration()),
            total: forever_if_zero(timeouts.total.as_duration()),
        };
        let moved = Relay::new(stream, upstream, &leash, Some(opening), &early, clocks).await;
        open.fetch_sub(1, Ordering::Relaxed);
        counters
            .egress
            .unscanned(Unscanned::Tunnel, moved.up + moved.down);
        record(trail, moved.end, moved.up, moved.down).await;
        drop((leash, seat));
    }

    async fn ended(self, trail: Trail, end: End, up: u64, down: u64) {
        record(trail, end, up, down).await;
    }
}

/// Tells the client that its tunnel is open. `None` if it does not take it.
pub(crate) async fn greet(stream: &mut Stream, said: &[u8]) -> Option<()> {
    let greeted = async {
        stream.write_all(ESTABLISHED).await?;
        stream.write_all(said).await?;
        stream.flush().await
    };
    tokio::time::timeout(WRITE_PATIENCE, greeted)
        .await
        .ok()?
        .ok()
}

/// The stream below the clocks of a request, and its place among the connections.
pub(crate) fn without_clocks(stream: Stream) -> Option<(Stream, Seat)> {
    let guarded = stream.into_any().downcast::<Guarded<Seat>>().ok()?;
    Some(guarded.into_parts())
}

/// The one record of a tunnel.
async fn record(mut trail: Trail, end: End, up: u64, down: u64) {
    (trail.up, trail.down) = (up, down);
    let (reason, status, detail) = match end {
        End::Closed => (Reason::EgressTunneled, Status::Tunneled, ""),
        End::Broken => (
            Reason::EgressTunneled,
            Status::Tunneled,
            "one side broke off",
        ),
        End::Idle => (Reason::EgressIdle, Status::Tunneled, "nothing moved"),
        End::TooOld => (Reason::EgressIdle, Status::Tunneled, "it lived too long"),
        End::Told(reason) => (reason, reason.status(), "ended while it was open"),
    };
    if let Err(reason) = trail.end(reason, status, detail).await {
        throttled!(
            error,
            reason = reason.as_str(),
            "the record of a tunnel was not written"
        );
    }
}
