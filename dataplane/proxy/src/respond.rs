//! Sends answers: the headers every answer carries (compat §2.1), and the body.

use crate::chance;
use crate::connection::Connection;
use crate::linger::{self, Rest};
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use std::sync::Arc;

/// An answer of ours, whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: Kind,
    pub(crate) body: Bytes,
    /// Seconds after which it may be tried again.
    pub(crate) retry_after: Option<u32>,
    /// The `Allow` of a 405.
    pub(crate) allow: Option<&'static str>,
    /// Close the connection afterwards: what follows on it cannot be trusted or is not wanted.
    pub(crate) close: bool,
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    Lines,
    Text,
    Metrics,
    Html,
    GitPush,
}

impl Kind {
    const fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Text => "text/plain; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::GitPush => "application/x-git-receive-pack-result",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
        })
    }
}

impl Answer {
    pub(crate) const fn json(status: u16, body: Bytes) -> Self {
        Self {
            status,
            kind: Kind::Json,
            body,
            retry_after: None,
            allow: None,
            close: false,
        }
    }

    pub(crate) const fn text(status: u16, body: &'static str) -> Self {
        let body = Bytes::from_static(body.as_bytes());
        Self {
            status,
            kind: Kind::Text,
            body,
            retry_after: None,
            allow: None,
            close: false,
        }
    }

    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}

/// Sends a whole answer. What the peer still sends of its body is dropped.
pub(crate) async fn send(session: &mut Session, answer: Answer) -> Result<()> {
    send_on(session.as_downstream_mut(), answer, |_| Ok(())).await?;
    note_unread(session.as_downstream_mut());
    linger::on_stream(session.as_downstream_mut()).await;
    Ok(())
}

/// Sends a whole answer whose head `adorn` completes.
pub(crate) async fn send_on(
    session: &mut ServerSession,
    answer: Answer,
    adorn: impl FnOnce(&mut ResponseHeader) -> Result<()> + Send,
) -> Result<()> {
    let mut head = head(answer.status, answer.kind)?;
    head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(answer.body.len()))?;
    if let Some(seconds) = answer.retry_after {
        head.insert_header(header::RETRY_AFTER, HeaderValue::from(seconds))?;
    }
    if let Some(allow) = answer.allow {
        head.insert_header(header::ALLOW, HeaderValue::from_static(allow))?;
    }
    adorn(&mut head)?;
    let stopping = Connection::of(session.digest()).is_some_and(|c| c.is_stopping());
    if answer.close || stopping {
        session.set_keepalive(None);
    }
    session.write_response_header(head).await?;
    session.write_response_body(answer.body, true).await
}

/// Sends an answer that announces another one (1xx). To pingora an answer to a body that has not come ends the connection,
/// also where it asks for that body.
pub(crate) async fn announce(session: &mut ServerSession, head: Box<ResponseHeader>) -> Result<()> {
    if let ServerSession::H1(h1) = session {
        h1.set_close_on_response_before_downstream_finish(false);
    }
    let sent = session.write_response_header(head).await;
    if let ServerSession::H1(h1) = session {
        h1.set_close_on_response_before_downstream_finish(true);
    }
    sent
}

/// Where an answer ends its connection before all of the body was read, what still comes is read away. So are the next
/// requests of a peer that could not know that the process stops. The head of the request must have been read.
pub(crate) fn note_unread(session: &mut ServerSession) {
    let ServerSession::H1(h1) = session else {
        return;
    };
    let is_read = h1.is_body_done();
    if !h1.will_keepalive()
        && let Some(connection) = Connection::of(Some(h1.digest()))
        && (!is_read || connection.is_stopping())
    {
        connection.leave(Rest::Body);
    }
}

/// Nobody is left to answer: closes.
pub(crate) fn hang_up(session: &mut Session) -> Result<()> {
    session.set_keepalive(None);
    Ok(())
}

/// The head of an answer of ours, without a length.
pub(crate) fn head(status: u16, kind: Kind) -> Result<Box<ResponseHeader>> {
    let mut head = ResponseHeader::build_no_case(status, Some(12))?;
    head.insert_header(header::CONTENT_TYPE, kind.media_type())?;
    add_common(&mut head)?;
    Ok(Box::new(head))
}

/// Adds what every answer carries; the control plane's own values stay.
pub(crate) fn add_common(head: &mut ResponseHeader) -> Result<()> {
    let id = chance::request_id();
    let id = HeaderValue::from_bytes(&id).expect("hex digits and dashes are visible ASCII");
    head.insert_header(HeaderName::from_static("x-request-id"), id)?;
    for (name, value) in &COMMON {
        if !head.headers.contains_key(name) {
            head.insert_header(name, value.clone())?;
        }
    }
    Ok(())
}

/// The connection a session runs on.
pub(crate) fn connection(session: &Session) -> Option<Arc<Connection>> {
    Connection::of(session.as_downstream().digest()).cloned()
}

static COMMON: [(HeaderName, HeaderValue); 5] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("strict-origin-when-cross-origin"),
    ),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("interest-cohort=()"),
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; script-src 'self' 'unsafe-inline'; \
             style-src 'self' 'unsafe-inline'; font-src 'self'; img-src 'self' data:; \
             connect-src 'self'",
        ),
    ),
];
