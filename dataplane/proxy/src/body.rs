//! Reads request bodies: bounded in bytes, and in time with a minimum of progress.

use crate::limits::BODY_BYTES_PER_SEC_MIN;
use crate::respond;
use crate::room::Room;
use bytes::{Bytes, BytesMut};
use http::header;
use oktsec_contract::reason::Reason;
use pingora::ErrorType;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// It is larger than allowed.
    TooLarge,
    /// It came too slowly.
    TooSlow,
    /// Other bodies have taken all the memory there is for them.
    NoRoom,
    /// Its framing is wrong, or it ended before that. Whoever closed one direction may still read in the other.
    Malformed,
    /// The peer went away; nobody is left to answer.
    Gone,
}

impl BodyFault {
    /// The reason to answer with.
    pub(crate) const fn reason(self) -> Option<Reason> {
        match self {
            Self::TooLarge => Some(Reason::BodyTooLarge),
            Self::TooSlow => Some(Reason::BodyTimeout),
            Self::NoRoom => Some(Reason::Overloaded),
            Self::Malformed => Some(Reason::RequestInvalid),
            Self::Gone => None,
        }
    }
}

/// The clock of one body: so long, and longer the more has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyClock {
    begun: Instant,
    patience: Duration,
}

impl BodyClock {
    pub(crate) fn start(patience: Duration) -> Self {
        Self {
            begun: Instant::now(),
            patience,
        }
    }

    /// Whether so many bytes should have come in less time.
    pub(crate) fn is_over(&self, bytes: usize) -> bool {
        Instant::now() > self.deadline(bytes)
    }

    fn deadline(&self, bytes: usize) -> Instant {
        self.begun
            + self.patience
            + Duration::from_secs(u64::try_from(bytes).unwrap_or(u64::MAX) / BODY_BYTES_PER_SEC_MIN)
    }
}

/// Reads the whole body. The room it takes is the caller's to give back.
pub(crate) async fn read(
    session: &mut ServerSession,
    bytes_max: usize,
    patience: Duration,
    room: &mut Room,
) -> Result<Bytes, BodyFault> {
    let declared = declared_bytes(session);
    if declared.is_some_and(|declared| declared > bytes_max) {
        return Err(BodyFault::TooLarge);
    }
    invite(session).await?;
    let clock = BodyClock::start(patience);
    let Some(first) = next_chunk(session, clock, 0).await? else {
        return Ok(Bytes::new());
    };
    if first.len() > bytes_max {
        return Err(BodyFault::TooLarge);
    }
    if declared == Some(first.len()) {
        return Ok(first);
    }
    let Some(second) = next_chunk(session, clock, first.len()).await? else {
        return Ok(first);
    };
    // Memory that is not written to yet is none.
    let mut whole = BytesMut::with_capacity(declared.unwrap_or(4 * first.len()).max(first.len()));
    whole.extend_from_slice(&first);
    let mut chunk = Some(second);
    while let Some(more) = chunk {
        let bytes = whole.len() + more.len();
        if bytes > bytes_max {
            return Err(BodyFault::TooLarge);
        }
        if !room.fit(bytes) {
            drop((whole, std::mem::take(room)));
            // Whoever still sends would not see the answer.
            discard(session, clock, bytes, bytes_max).await;
            return Err(BodyFault::NoRoom);
        }
        whole.extend_from_slice(&more);
        if declared == Some(whole.len()) {
            break;
        }
        chunk = next_chunk(session, clock, whole.len()).await?;
    }
    Ok(whole.freeze())
}

/// The next piece of the body, `None` at its end. `before` counts what has come so far.
pub(crate) async fn next_chunk(
    session: &mut ServerSession,
    clock: BodyClock,
    before: usize,
) -> Result<Option<Bytes>, BodyFault> {
    let read = session.read_request_body();
    match timeout_at(clock.deadline(before), read).await {
        Err(_) => Err(BodyFault::TooSlow),
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(match error.etype() {
            ErrorType::ReadTimedout => BodyFault::TooSlow,
            ErrorType::Custom(_) | ErrorType::InvalidHTTPHeader | ErrorType::ConnectionClosed => {
                BodyFault::Malformed
            }
            _ => BodyFault::Gone,
        }),
    }
}

/// Reads a small body away, so that an early answer reaches a peer which is still sending and the connection can
/// go on. A large one, or one that waits to be invited, is left: the connection closes.
pub(crate) async fn discard_small(session: &mut ServerSession, patience: Duration) {
    const SMALL: usize = 64 << 10;
    let small = declared_bytes(session).is_some_and(|bytes| bytes <= SMALL);
    if !small || session.req_header().headers.contains_key(header::EXPECT) {
        return;
    }
    discard(session, BodyClock::start(patience), 0, SMALL).await;
}

/// Reads what is left of a body behind its first `bytes` and keeps none of it.
async fn discard(
    session: &mut ServerSession,
    clock: BodyClock,
    mut bytes: usize,
    bytes_max: usize,
) {
    while bytes <= bytes_max
        && let Ok(Some(chunk)) = next_chunk(session, clock, bytes).await
    {
        bytes += chunk.len();
    }
}

/// Tells a peer that asked first to go on sending.
pub(crate) async fn invite(session: &mut ServerSession) -> Result<(), BodyFault> {
    let expects = session.req_header().headers.get(header::EXPECT);
    if expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        let head = ResponseHeader::build(100, Some(0)).map_err(|_| BodyFault::Gone)?;
        let invited = respond::announce(session, Box::new(head)).await;
        return invited.map_err(|_| BodyFault::Gone);
    }
    Ok(())
}

/// Bytes it will have, if its head says so.
pub(crate) fn declared_bytes(session: &ServerSession) -> Option<usize> {
    let length = session.req_header().headers.get(header::CONTENT_LENGTH)?;
    // `framing` has checked the digits; a number beyond usize is certainly too large.
    Some(length.to_str().ok()?.parse().unwrap_or(usize::MAX))
}
