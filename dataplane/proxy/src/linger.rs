//! The end of a connection whose peer still sends. To close it then resets it, and the answer is lost before it was read:
//! so what still comes is read and dropped for a while, after our side was closed (RFC 9112 §9.6). Most clients read
//! nothing before they have sent everything.

use crate::body::{self, BodyClock};
use crate::connection::Connection;
use crate::limits::{
    REFUSED_BYTES_MAX, REFUSED_LINGER_MS, STOPPING_LINGER_MS, UNREAD_BYTES_MAX, UNREAD_PAUSE_MS,
    UNREAD_SECS_MAX,
};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use std::future::Future;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// What the peer still sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rest {
    /// Of a head that was refused.
    Head,
    /// Of a body.
    Body,
}

impl Rest {
    /// Bytes, and times: without a byte, and altogether.
    const fn bounds(self) -> (usize, Duration, Duration) {
        match self {
            Self::Head => {
                let time = Duration::from_millis(REFUSED_LINGER_MS);
                (REFUSED_BYTES_MAX, time, time)
            }
            Self::Body => (
                UNREAD_BYTES_MAX,
                Duration::from_millis(UNREAD_PAUSE_MS),
                Duration::from_secs(UNREAD_SECS_MAX),
            ),
        }
    }
}

/// What comes on a connection whose other direction is closed already is dropped.
pub(crate) struct Linger {
    /// Bytes that may still come.
    left: usize,
    pause: Pin<Box<Sleep>>,
    pause_max: Duration,
    /// Nobody waits longer than this.
    end: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl Linger {
    pub(crate) fn new(rest: Rest, connection: Arc<Connection>) -> Self {
        let (left, pause_max, time_max) = rest.bounds();
        let end = async move {
            tokio::select! {
                () = sleep(time_max) => {}
                () = stopped(&connection) => {}
            }
        };
        Self {
            left,
            pause: Box::pin(sleep(pause_max)),
            pause_max,
            end: Box::pin(end),
        }
    }

    /// Ready when nothing more comes, or is waited for.
    pub(crate) fn poll(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<()> {
        if self.left == 0 || self.end.as_mut().poll(cx).is_ready() {
            self.left = 0;
            return Poll::Ready(());
        }
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        while self.left > 0 {
            let mut piece = ReadBuf::uninit(&mut buffer);
            let read = Pin::new(&mut *stream).poll_read(cx, &mut piece);
            match (read, piece.filled().len()) {
                (Poll::Pending, _) => {
                    ready!(self.pause.as_mut().poll(cx));
                    self.left = 0;
                }
                (Poll::Ready(Ok(())), bytes) if bytes > 0 => {
                    self.left = self.left.saturating_sub(bytes);
                    self.pause.as_mut().reset(Instant::now() + self.pause_max);
                }
                (Poll::Ready(_), _) => self.left = 0,
            }
        }
        Poll::Ready(())
    }
}

/// Drops what is still to come of a stream's body: the peer may not look at our answer before it could send everything,
/// and over HTTP/2 it sends no more than we read.
pub(crate) async fn on_stream(session: &mut ServerSession) {
    if !matches!(session, ServerSession::H2(_)) || session.is_body_done() {
        return;
    }
    let Some(connection) = Connection::of(session.digest()).cloned() else {
        return;
    };
    let (bytes_max, pause, time_max) = Rest::Body.bounds();
    let all = async {
        let mut dropped = 0;
        while dropped < bytes_max
            && let Ok(Some(chunk)) = body::next_chunk(session, BodyClock::start(pause), 0).await
        {
            dropped += chunk.len();
        }
    };
    tokio::select! {
        () = all => {}
        () = sleep(time_max) => {}
        () = stopped(&connection) => {}
    }
}

/// A process that stops gives whoever still sends a moment only.
async fn stopped(connection: &Connection) {
    connection.stopping().await;
    sleep(Duration::from_millis(STOPPING_LINGER_MS)).await;
}
