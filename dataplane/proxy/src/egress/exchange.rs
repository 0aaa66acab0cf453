//! One request that we see whole, and its answer: both streams pass a [`Sieve`], neither is gathered.
//!
//! ```text
//! agent ─► request body ─► sieve ─► host          first bytes wait until the sieve lets them go, so a short
//! agent ◄─ response body ◄─ sieve ◄─ host         request that is refused never reaches the host at all
//! ```
//!
//! What is refused before the first byte of the response is answered; afterwards the connection is cut, so nobody
//! takes a part for the whole. The record is written before the last byte goes to the agent.

use super::gateway::Outbound;
use super::headers;
use super::live::Leash;
use super::refusal::{because, plain};
use super::sieve::{Sieve, Step, Way, scan_head};
use super::tap::{self, Tap};
use super::trail::Trail;
use super::upstream::{self, Upstream};
use super::websocket;
use crate::connection::Connection;
use crate::limits::{RESPONSE_PAUSE_MS, UPSTREAM_IDLE_SECS_MAX};
use crate::plane::Live;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version, header};
use oktsec_contract::config::EgressTimeouts;
use oktsec_contract::reason::Reason;
use oktsec_contract::verdict::Status;
use oktsec_pipeline::content::{DecodeLimits, Kind, PermessageDeflate, Side};
use oktsec_pipeline::egress::{Refusal, Scheme};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::ALPN;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::client::HttpSession as ClientSession;
use pingora::{Error, ErrorType};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// What is left of the agent's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// It was answered whole.
    Answered,
    /// It must be closed: somebody got a part, or is gone.
    Cut,
}

/// Why an exchange does not come to its end.
enum Stop {
    /// We do not let it.
    Refused(Refusal),
    /// The agent went away.
    Gone,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Everything an exchange needs besides its two ends.
pub(crate) struct Exchange<'a> {
    pub(crate) outbound: &'a Outbound,
    pub(crate) live: Arc<Live>,
    pub(crate) leash: Leash,
    /// Path and query as they go upstream.
    pub(crate) path: String,
    /// What the client inside of a tunnel offered to speak, and the host is offered, too.
    pub(crate) offered: Option<ALPN>,
}

impl Exchange<'_> {
    /// Runs it, with its record.
    pub(crate) async fn run(self, session: &mut ServerSession, trail: &mut Trail) -> Finish {
        let outcome = self.go(session, trail).await;
        match outcome {
            Ok(()) => Finish::Answered,
            Err(Stop::Gone) => {
                let recording = trail.end(
                    Reason::EgressForwarded,
                    Status::Forwarded,
                    "the agent went away",
                );
                let _ = recording.await;
                Finish::Cut
            }
            Err(Stop::Refused(refusal)) => refuse(session, trail, &refusal).await,
        }
    }

    async fn go(&self, session: &mut ServerSession, trail: &mut Trail) -> Result<(), Stop> {
        let scans = self
            .live
            .policy
            .egress()
            .scans(self.leash.vetted().principal());
        let timeouts = self.live.policy.egress().timeouts().clone();
        let up = match scans.requests {
            true => {
                let headers = &session.req_header().headers;
                Sieve::of_body(Way::Up, Arc::clone(&self.live), headers, trail)?
            }
            false => Sieve::open(Way::Up, Arc::clone(&self.live)),
        };
        let websocket = websocket::is_asked_for(session.req_header());
        let offered = match websocket {
            true => Some(ALPN::H1),
            false => self.offered.clone(),
        };
        let mut flow = Flow {
            exchange: self,
            up,
            down: Sieve::open(Way::Down, Arc::clone(&self.live)),
            scans_requests: scans.requests,
            scans_responses: scans.responses,
            ready: Vec::new(),
            // What an opening WebSocket sends comes after the answer.
            request_done: websocket || session.is_body_empty(),
            key: websocket::extended(session.req_header()).map(|_| websocket::Key::new()),
            trailers: HeaderMap::new(),
            answer_trailers: HeaderMap::new(),
            head: None,
            head_seen: false,
            head_sent: false,
            upgraded: false,
            pause: None,
            clock: None,
            moved_at: Instant::now(),
            too_old: Instant::now() + forever_if_zero(timeouts.total.as_duration()),
            timeouts,
        };
        flow.gather(session, trail).await?;
        let idempotent = is_idempotent(&session.req_header().method);
        let first = flow.ready.clone();
        loop {
            let mut upstream = upstream::connect(
                self.outbound,
                &self.live,
                &self.leash,
                offered.as_ref(),
                trail,
            )
            .await?;
            let reused = upstream.reused;
            match flow.pass(session, &mut upstream, trail).await {
                Ok(reusable) => {
                    self.release(upstream, reusable).await;
                    return Ok(());
                }
                // A connection that had been lying idle was closed by the host just now.
                Err(Failure::Stale) if reused && idempotent && flow.can_begin_again() => {
                    upstream.shutdown().await;
                    flow.ready.clone_from(&first);
                }
                Err(Failure::Stale) => {
                    upstream.shutdown().await;
                    let detail = "the host closed the connection without an answer";
                    return Err(because(Reason::EgressUpstreamInvalid, detail).into());
                }
                Err(Failure::Stop(stop)) => {
                    upstream.shutdown().await;
                    return Err(stop);
                }
            }
        }
    }

    async fn release(&self, upstream: Upstream, reusable: bool) {
        if reusable {
            let idle = Some(Duration::from_secs(UPSTREAM_IDLE_SECS_MAX));
            self.outbound
                .connector
                .release_http_session(upstream.session, &*upstream.peer, idle)
                .await;
        }
    }
}

/// Answers or cuts.
async fn refuse(session: &mut ServerSession, trail: &mut Trail, refusal: &Refusal) -> Finish {
    let begun = session.response_written().is_some_and(|head| {
        head.status == StatusCode::SWITCHING_PROTOCOLS || !head.status.is_informational()
    });
    let status = refusal.reason.status();
    let detail = super::trail::detail_of(refusal);
    let recorded = trail.end(refusal.reason, status, &detail).await;
    if begun {
        return Finish::Cut;
    }
    let told = match recorded {
        Ok(()) => super::answer::refuse(session, trail, refusal).await,
        Err(reason) => super::answer::refuse(session, trail, &plain(reason)).await,
    };
    match told {
        Ok(()) => Finish::Answered,
        Err(_) => Finish::Cut,
    }
}

/// Why a pass over one connection failed.
enum Failure {
    /// Nothing came back, not even the beginning of a head.
    Stale,
    Stop(Stop),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Stop(Stop::Refused(refusal))
    }
}

/// What happens next.
enum Event {
    /// More of the request; `None` is its end.
    Request(Option<Bytes>),
    AgentGone,
    /// A head of the response was read.
    Head,
    /// More of the response; `None` is its end.
    Response(Option<Bytes>),
    UpstreamFailed(Box<Error>),
    Told(Reason),
    Clock,
}

/// The state of both directions.
struct Flow<'a> {
    exchange: &'a Exchange<'a>,
    up: Sieve,
    down: Sieve,
    scans_requests: bool,
    scans_responses: bool,
    timeouts: EgressTimeouts,
    /// Bytes of the request that may leave and have not.
    ready: Vec<Bytes>,
    request_done: bool,
    /// What stands behind the body of the request, and of the response; scanned.
    trailers: HeaderMap,
    answer_trailers: HeaderMap,
    /// The head of the response, waiting for the first bytes behind it.
    head: Option<Box<ResponseHeader>>,
    head_seen: bool,
    head_sent: bool,
    upgraded: bool,
    /// What the host is asked for a WebSocket that somebody opens over HTTP/2.
    key: Option<websocket::Key>,
    /// When what the response sieve holds is judged by itself.
    pause: Option<Instant>,
    clock: Option<Pin<Box<Sleep>>>,
    moved_at: Instant,
    /// When it has lived long enough, whatever moves.
    too_old: Instant,
}

impl Flow<'_> {
    /// Reads the request until something of it may leave, or all of it is there. A peer that asked to be invited
    /// first is: by the host, whose head must then go out alone.
    async fn gather(&mut self, session: &mut ServerSession, trail: &mut Trail) -> Result<(), Stop> {
        if session.req_header().headers.contains_key(header::EXPECT) {
            return Ok(());
        }
        while !self.request_done && self.ready.is_empty() {
            let event = tokio::select! {
                biased;
                reason = self.exchange.leash.told() => Event::Told(reason),
                chunk = session.read_request_body() => chunk.map_or(Event::AgentGone, Event::Request),
                () = tokio::time::sleep(self.idle()) => Event::Clock,
            };
            match event {
                Event::Request(chunk) => self.request(chunk, session, trail)?,
                Event::Told(reason) => return Err(plain(reason).into()),
                Event::Clock => {
                    return Err(because(Reason::BodyTimeout, "the request came too slowly").into());
                }
                Event::AgentGone | Event::UpstreamFailed(_) | Event::Head | Event::Response(_) => {
                    return Err(Stop::Gone);
                }
            }
        }
        Ok(())
    }

    /// Takes a piece of the request.
    fn request(
        &mut self,
        chunk: Option<Bytes>,
        session: &mut ServerSession,
        trail: &mut Trail,
    ) -> Result<(), Refusal> {
        match chunk {
            Some(bytes) => {
                let length = bytes.len() as u64;
                trail.up += length;
                self.exchange.leash.moved(length, 0).map_err(plain)?;
                self.up.step(Step::Push(bytes), trail, &mut self.ready)?;
                if !self.upgraded && session.is_body_done() {
                    self.request_ends(session, trail)?;
                } else if self.upgraded {
                    self.up.step(Step::Pause, trail, &mut self.ready)?;
                }
            }
            None => self.request_ends(session, trail)?,
        }
        Ok(())
    }

    /// The request is whole: what stands behind its body is looked at, too.
    fn request_ends(&mut self, session: &ServerSession, trail: &mut Trail) -> Result<(), Refusal> {
        self.request_done = true;
        self.up.step(Step::Finish, trail, &mut self.ready)?;
        let trailers = Connection::of(session.digest()).and_then(|it| it.trailers.as_ref());
        if let (Some(trailers), ServerSession::H1(_)) = (trailers, session) {
            let taken = trailers.lock().take();
            self.trailers =
                taken.map_err(|error| because(Reason::EgressProtocolInvalid, error.to_string()))?;
            tap::strip(&mut self.trailers);
            if self.scans_requests && !self.trailers.is_empty() {
                scan_head(Way::Up, "", &self.trailers, &self.exchange.live, trail)?;
            }
        }
        Ok(())
    }

    fn can_begin_again(&self) -> bool {
        self.request_done && !self.head_seen
    }

    fn idle(&self) -> Duration {
        forever_if_zero(self.timeouts.idle.as_duration())
    }

    /// Passes the exchange over one connection. Gives whether that connection can be used again.
    async fn pass(
        &mut self,
        session: &mut ServerSession,
        upstream: &mut Upstream,
        trail: &mut Trail,
    ) -> Result<bool, Failure> {
        let head = self.upstream_head(session, upstream)?;
        if let Some(trailers) = Tap::of(&upstream.session) {
            trailers.lock().begin();
        }
        let sent = upstream.session.write_request_header(Box::new(head)).await;
        sent.map_err(|_| Failure::Stale)?;
        self.send_request(upstream).await?;
        self.moved_at = Instant::now();
        loop {
            match self.next(session, upstream).await {
                Event::Told(reason) => return Err(plain(reason).into()),
                Event::AgentGone => return Err(Stop::Gone.into()),
                Event::Clock => self.ring(session, trail).await?,
                Event::Request(chunk) => {
                    let ended = chunk.is_none();
                    self.moved_at = Instant::now();
                    self.request(chunk, session, trail)?;
                    self.send_request(upstream).await?;
                    if ended && self.upgraded {
                        return self.finish(session, trail).await.map(|()| false);
                    }
                }
                Event::Head => {
                    self.moved_at = Instant::now();
                    if self.response_head(session, upstream, trail).await? {
                        self.finish(session, trail).await?;
                        return Ok(self.request_done && !self.upgraded);
                    }
                }
                Event::Response(Some(bytes)) => {
                    self.moved_at = Instant::now();
                    let length = bytes.len() as u64;
                    trail.down += length;
                    let moved = self.exchange.leash.moved(0, length);
                    moved.map_err(plain)?;
                    let mut out = Vec::new();
                    self.down.step(Step::Push(bytes), trail, &mut out)?;
                    if !self.upgraded && upstream.session.response_done() {
                        self.response_ends(upstream, trail).await?;
                        self.send_response(session, out).await?;
                        self.finish(session, trail).await?;
                        return Ok(self.request_done);
                    }
                    self.settle(session, trail, out).await?;
                }
                Event::Response(None) => {
                    self.response_ends(upstream, trail).await?;
                    self.finish(session, trail).await?;
                    return Ok(self.request_done && !self.upgraded);
                }
                Event::UpstreamFailed(error) => {
                    if !self.head_seen && is_stale(&error) {
                        return Err(Failure::Stale);
                    }
                    return Err(upstream::broken(&error).into());
                }
            }
        }
    }

    /// Waits for whatever comes first.
    async fn next(&mut self, session: &mut ServerSession, upstream: &mut Upstream) -> Event {
        let due = self.due();
        let clock = self
            .clock
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        // Set again only when it would ring too late; one that rings too early costs a turn of the loop.
        if clock.deadline() > due {
            clock.as_mut().reset(due);
        }
        let (head_seen, done) = (self.head_seen, self.request_done);
        if !done && !self.upgraded && session.is_body_done() {
            return Event::Request(None);
        }
        let request = async {
            match self.upgraded {
                // An end is news here, and not the beginning of a wait.
                true => session.read_request_body().await,
                false => session.read_body_or_idle(done).await,
            }
        };
        tokio::select! {
            biased;
            event = response_event(upstream, head_seen) => event,
            reason = self.exchange.leash.told() => Event::Told(reason),
            chunk = request => chunk.map_or(Event::AgentGone, Event::Request),
            () = clock.as_mut() => Event::Clock,
        }
    }

    /// When something is overdue.
    fn due(&self) -> Instant {
        let idle = if self.request_done && !self.head_seen {
            forever_if_zero(self.timeouts.first_byte.as_duration())
        } else {
            self.idle()
        };
        let mut due = self.too_old.min(self.moved_at + idle);
        if let Some(pause) = self.pause {
            due = due.min(pause);
        }
        due
    }

    /// The clock rang: for a pause of the response, or because nobody moved.
    async fn ring(
        &mut self,
        session: &mut ServerSession,
        trail: &mut Trail,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        if self.pause.is_some_and(|at| at <= now) {
            self.pause = None;
            let mut out = Vec::new();
            self.down.step(Step::Boundary, trail, &mut out)?;
            self.send_response(session, out).await?;
        }
        if self.too_old <= now {
            return Err(because(Reason::EgressIdle, "it lived too long").into());
        }
        let due = self.due();
        if due <= now {
            let waits_for_host = self.request_done || self.head_seen;
            return Err(match waits_for_host {
                true => because(Reason::EgressUpstreamTimeout, "the host kept silent"),
                false => because(Reason::BodyTimeout, "the request came too slowly"),
            }
            .into());
        }
        if let Some(clock) = &mut self.clock {
            clock.as_mut().reset(due);
        }
        Ok(())
    }

    /// The head as it goes to the host.
    fn upstream_head(
        &self,
        session: &mut ServerSession,
        upstream: &Upstream,
    ) -> Result<RequestHeader, Refusal> {
        let invalid = |_| plain(Reason::EgressProtocolInvalid);
        let mut head = session.req_header().clone();
        let whole = self.request_done;
        headers::strip_request(&mut head).map_err(plain)?;
        if self.up.may_change() {
            let length = whole.then(|| length_of(&self.ready));
            let changed = !whole || self.up.has_changed();
            headers::resize_request(&mut head, length, changed).map_err(plain)?;
        }
        let target = self.exchange.leash.vetted().target();
        let scheme = self
            .exchange
            .leash
            .vetted()
            .scheme()
            .unwrap_or(Scheme::Http);
        let host = target.host_header(scheme);
        match &upstream.session {
            ClientSession::H2(_) => {
                head.set_version(Version::HTTP_2);
                head.remove_header(&header::HOST);
                head.remove_header(&header::TRANSFER_ENCODING);
                let uri = format!("{}://{host}{}", scheme.as_str(), self.exchange.path);
                head.set_uri(
                    uri.parse()
                        .map_err(|_| plain(Reason::EgressTargetInvalid))?,
                );
            }
            ClientSession::H1(_) | ClientSession::Custom(()) => {
                head.set_version(Version::HTTP_11);
                let path = match upstream.takes_absolute_form {
                    true => format!("{}://{host}{}", scheme.as_str(), self.exchange.path),
                    false => self.exchange.path.clone(),
                };
                head.set_raw_path(path.as_bytes()).map_err(invalid)?;
                head.insert_header(header::HOST, host).map_err(invalid)?;
                if let Some(credentials) = &upstream.proxy_authorization {
                    head.insert_header(header::PROXY_AUTHORIZATION, credentials.clone())
                        .map_err(invalid)?;
                }
                if let Some(key) = &self.key {
                    key.ask(&mut head).map_err(plain)?;
                }
                let framed = head.headers.contains_key(header::CONTENT_LENGTH)
                    || head.headers.contains_key(header::TRANSFER_ENCODING);
                let empty = whole && self.ready.is_empty();
                if !framed && !empty && !websocket::by_upgrade(&head) {
                    head.insert_header(header::TRANSFER_ENCODING, "chunked")
                        .map_err(invalid)?;
                }
            }
        }
        Ok(head)
    }

    /// Sends what of the request may leave.
    async fn send_request(&mut self, upstream: &mut Upstream) -> Result<(), Failure> {
        if self.upgraded
            && let ClientSession::H1(h1) = &mut upstream.session
        {
            h1.maybe_upgrade_body_writer();
        }
        let gone = |_| {
            because(
                Reason::EgressUpstreamInvalid,
                "the host does not take the request",
            )
        };
        for bytes in self.ready.drain(..) {
            let sent = upstream.session.write_request_body(bytes, false).await;
            if sent.is_err() {
                // It may have answered already, and closed because of what it answered.
                self.request_done = true;
                return Ok(());
            }
        }
        if self.request_done && !self.upgraded {
            if !self.trailers.is_empty() && self.send_trailers(upstream) {
                return Ok(());
            }
            upstream.session.finish_request_body().await.map_err(gone)?;
        }
        Ok(())
    }

    /// Sends what stands behind the request, or has it sent with its last chunk. `true` if that ended the request.
    fn send_trailers(&mut self, upstream: &mut Upstream) -> bool {
        if let Some(trailers) = Tap::of(&upstream.session) {
            trailers.lock().put(&self.trailers);
            return false;
        }
        let ClientSession::H2(h2) = &mut upstream.session else {
            return false;
        };
        let Some(mut writer) = h2.take_request_body_writer() else {
            return false;
        };
        // A host that does not take them any more has answered, or is gone: its answer will say.
        let _ = writer.send_trailers(self.trailers.clone());
        true
    }

    /// Takes a head of the response. `true` if nothing follows it.
    async fn response_head(
        &mut self,
        session: &mut ServerSession,
        upstream: &mut Upstream,
        trail: &mut Trail,
    ) -> Result<bool, Failure> {
        let Some(read) = upstream.session.response_header() else {
            return Ok(false);
        };
        let mut head = Box::new(read.clone());
        let status = head.status;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            let wanted = status != StatusCode::CONTINUE
                || session.req_header().headers.contains_key(header::EXPECT);
            if wanted && session.req_header().version != Version::HTTP_10 {
                headers::strip_response(&mut head).map_err(plain)?;
                let told = session.write_response_header(head).await;
                told.map_err(|_| Stop::Gone)?;
            }
            return Ok(false);
        }
        self.head_seen = true;
        trail.first_byte = trail.elapsed();
        if self.scans_responses {
            let line = status.as_str();
            scan_head(Way::Down, line, &head.headers, &self.exchange.live, trail)?;
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return self
                .switch(session, upstream, head, trail)
                .await
                .map(|()| false);
        }
        let done = upstream.session.response_done();
        if let Some(trailers) = Tap::of(&upstream.session)
            && !head.headers.contains_key(header::TRANSFER_ENCODING)
        {
            trailers.lock().ignore();
        }
        if self.scans_responses && !done {
            let live = Arc::clone(&self.exchange.live);
            self.down = Sieve::of_body(Way::Down, live, &head.headers, trail)?;
            if status == StatusCode::PARTIAL_CONTENT {
                // Its range would no longer be true.
                self.down.keep_length();
            }
        }
        headers::strip_response(&mut head).map_err(plain)?;
        if self.down.may_change() {
            headers::forget_length(&mut head);
        }
        let framed = head.headers.contains_key(header::CONTENT_LENGTH);
        let bodiless = done || session.req_header().method == Method::HEAD;
        if !framed && !bodiless && session.req_header().version == Version::HTTP_11 {
            let chunked = head.insert_header(header::TRANSFER_ENCODING, "chunked");
            chunked.map_err(|_| plain(Reason::EgressUpstreamInvalid))?;
        }
        self.head = Some(head);
        Ok(done)
    }

    /// The host agreed to speak WebSocket: from here on both directions are frames.
    async fn switch(
        &mut self,
        session: &mut ServerSession,
        upstream: &mut Upstream,
        mut head: Box<ResponseHeader>,
        trail: &mut Trail,
    ) -> Result<(), Failure> {
        let switched = match &upstream.session {
            ClientSession::H1(h1) => h1.was_upgraded(),
            ClientSession::H2(_) | ClientSession::Custom(()) => false,
        };
        let asked = match &self.key {
            Some(key) => key.is_answered_by(&head.headers),
            None => session.is_upgrade_req(),
        };
        if !switched || !asked {
            let detail = "the host switches to a protocol nobody asked for";
            return Err(because(Reason::EgressUpstreamInvalid, detail).into());
        }
        let scans = self
            .exchange
            .live
            .policy
            .egress()
            .scans(self.exchange.leash.vetted().principal());
        let extensions = head
            .headers
            .get(header::SEC_WEBSOCKET_EXTENSIONS)
            .and_then(|value| value.to_str().ok());
        let deflate = match PermessageDeflate::parse(extensions.unwrap_or_default()) {
            Ok(deflate) => deflate,
            Err(_) if !scans.requests && !scans.responses => None,
            Err(error) => return Err(because(Reason::EgressUndecodable, error.as_str()).into()),
        };
        let kind = |side| Kind::of_web_socket(side, deflate, DecodeLimits::default());
        let live = || Arc::clone(&self.exchange.live);
        self.up = match scans.requests {
            true => Sieve::of_kind(Way::Up, live(), kind(Side::Client)),
            false => Sieve::open(Way::Up, live()),
        };
        self.down = match scans.responses {
            true => Sieve::of_kind(Way::Down, live(), kind(Side::Server)),
            false => Sieve::open(Way::Down, live()),
        };
        if self.key.is_some() {
            // Over HTTP/2 a WebSocket is open when it is answered like any request (RFC 8441 §5).
            let invalid = |_| plain(Reason::EgressUpstreamInvalid);
            head.set_status(StatusCode::OK).map_err(invalid)?;
            head.remove_header(&header::SEC_WEBSOCKET_ACCEPT);
        }
        headers::strip_response(&mut head).map_err(plain)?;
        trail.decided();
        session
            .write_response_header(head)
            .await
            .map_err(|_| Stop::Gone)?;
        self.head_sent = true;
        self.upgraded = true;
        self.request_done = false;
        Ok(())
    }

    /// After a piece of the response: if nothing more is there at once, what is complete goes on, and the rest waits
    /// for a moment only.
    async fn settle(
        &mut self,
        session: &mut ServerSession,
        trail: &mut Trail,
        mut out: Vec<Bytes>,
    ) -> Result<(), Failure> {
        if self.down.holds() {
            self.down.step(Step::Pause, trail, &mut out)?;
        }
        self.send_response(session, out).await?;
        self.pause = match self.down.holds() {
            true => Some(
                self.pause
                    .unwrap_or_else(|| Instant::now() + Duration::from_millis(RESPONSE_PAUSE_MS)),
            ),
            false => None,
        };
        Ok(())
    }

    /// Sends bytes of the response that may leave, the head before the first of them.
    async fn send_response(
        &mut self,
        session: &mut ServerSession,
        out: Vec<Bytes>,
    ) -> Result<(), Failure> {
        if out.is_empty() {
            return Ok(());
        }
        self.send_head(session).await?;
        for bytes in out {
            let sent = session.write_response_body(bytes, false).await;
            sent.map_err(|_| Stop::Gone)?;
        }
        Ok(())
    }

    async fn send_head(&mut self, session: &mut ServerSession) -> Result<(), Failure> {
        if let Some(head) = self.head.take() {
            let sent = session.write_response_header(head).await;
            sent.map_err(|_| Stop::Gone)?;
            self.head_sent = true;
        }
        Ok(())
    }

    /// Looks at what stands behind the body of the response.
    async fn response_ends(
        &mut self,
        upstream: &mut Upstream,
        trail: &mut Trail,
    ) -> Result<(), Failure> {
        if self.upgraded {
            return Ok(());
        }
        let taken = match &mut upstream.session {
            ClientSession::H2(h2) => h2.read_trailers().await.ok().flatten().unwrap_or_default(),
            session => match Tap::of(session) {
                None => return Ok(()),
                Some(trailers) => trailers
                    .lock()
                    .take()
                    .map_err(|error| because(Reason::EgressUpstreamInvalid, error.to_string()))?,
            },
        };
        self.answer_trailers = taken;
        tap::strip(&mut self.answer_trailers);
        if self.scans_responses && !self.answer_trailers.is_empty() {
            let trailers = &self.answer_trailers;
            scan_head(Way::Down, "", trailers, &self.exchange.live, trail)?;
        }
        Ok(())
    }

    /// The response is whole: records the exchange, then sends what is left of it.
    async fn finish(
        &mut self,
        session: &mut ServerSession,
        trail: &mut Trail,
    ) -> Result<(), Failure> {
        let mut out = Vec::new();
        self.down.step(Step::Finish, trail, &mut out)?;
        let reason = match trail.is_flagged() {
            true => Reason::EgressFlagged,
            false => Reason::EgressForwarded,
        };
        let recorded = trail.end(reason, Status::Forwarded, "").await;
        recorded.map_err(plain)?;
        let bodiless = session.req_header().method == Method::HEAD;
        if let (Some(head), true, false) = (&mut self.head, self.down.may_change(), bodiless) {
            // Nothing has left yet, so its length is known after all.
            headers::set_length(head, length_of(&out)).map_err(plain)?;
        }
        self.send_head(session).await?;
        let trailers = std::mem::take(&mut self.answer_trailers);
        let ends_with_body = trailers.is_empty() || !session.is_http2();
        let last = match ends_with_body {
            true => out.pop(),
            false => None,
        };
        self.send_response(session, out).await?;
        if !ends_with_body {
            let sent = session.write_response_trailers(trailers).await;
            return sent.map_err(|_| Stop::Gone.into());
        }
        let ours = Connection::of(session.digest()).and_then(|it| it.trailers.as_ref());
        if let Some(ours) = ours.filter(|_| !trailers.is_empty()) {
            // Written if the response is chunked; one with a length has no place for them.
            ours.lock().put(&trailers);
        }
        session
            .write_response_body(last.unwrap_or_default(), true)
            .await
            .map_err(|_| Stop::Gone)?;
        Ok(())
    }
}

/// Bytes of all the pieces.
fn length_of(pieces: &[Bytes]) -> u64 {
    pieces.iter().map(|bytes| bytes.len() as u64).sum()
}

/// The next thing that comes from the host.
async fn response_event(upstream: &mut Upstream, head_seen: bool) -> Event {
    if head_seen {
        return upstream
            .session
            .read_response_body()
            .await
            .map_or_else(Event::UpstreamFailed, Event::Response);
    }
    match upstream.session.read_response_header().await {
        Ok(()) => Event::Head,
        Err(error) => Event::UpstreamFailed(error),
    }
}

/// Whether a connection was closed before anything came back over it.
fn is_stale(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError
    )
}

/// Whether asking twice is as good as asking once (RFC 9110 §9.2.2).
fn is_idempotent(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
        Method::TRACE,
    ]
    .contains(method)
}

/// Zero means for ever; this is as long as a clock takes.
pub(crate) fn forever_if_zero(duration: Duration) -> Duration {
    const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
    if duration.is_zero() {
        FOREVER
    } else {
        duration
    }
}
