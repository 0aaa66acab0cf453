//! One HTTP/2 stream as a stream of bytes: what CONNECT opens over HTTP/2 (RFC 9113 §8.5). The rest of the proxy takes
//! it like a connection of its own.

use async_trait::async_trait;
use bytes::Bytes;
use h2::SendStream;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Bytes of one DATA frame of ours, at most.
const FRAME_BYTES_MAX: usize = 16 << 10;

/// The two halves of a stream, after its head was answered.
pub(crate) struct H2Stream {
    session: HttpSession,
    send: SendStream<Bytes>,
    /// Received and not yet read.
    left: Bytes,
}

impl H2Stream {
    /// `None` if the stream has not been answered, or is over.
    pub(crate) fn new(mut session: HttpSession) -> Option<Self> {
        let send = session.take_response_body_writer()?;
        Some(Self {
            session,
            send,
            left: Bytes::new(),
        })
    }
}

impl AsyncRead for H2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            match ready!(self.session.poll_read_body_bytes(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(bytes)) => self.left = bytes,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let n = self.left.len().min(buf.remaining());
        buf.put_slice(&self.left.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for H2Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(buf.len().min(FRAME_BYTES_MAX));
        loop {
            let granted = match ready!(self.send.poll_capacity(cx)) {
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                Some(Ok(granted)) => granted.min(buf.len()),
            };
            if granted > 0 {
                let piece = Bytes::copy_from_slice(&buf[..granted]);
                let sent = self.send.send_data(piece, false);
                return Poll::Ready(sent.map(|()| granted).map_err(io::Error::other));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection sends by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.send.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}

#[async_trait]
impl Shutdown for H2Stream {
    async fn shutdown(&mut self) {
        // The other end may be gone, which is what a shutdown is for.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for H2Stream {
    /// That of no connection: many streams share one.
    fn id(&self) -> UniqueIDType {
        -1
    }
}

impl Ssl for H2Stream {}

#[async_trait]
impl Peek for H2Stream {}

impl GetTimingDigest for H2Stream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for H2Stream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.session.digest()?.proxy_digest.clone()
    }
}

impl GetSocketDigest for H2Stream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.session.digest()?.socket_digest.clone()
    }
}

impl std::fmt::Debug for H2Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H2Stream")
            .field("left", &self.left.len())
            .finish_non_exhaustive()
    }
}
