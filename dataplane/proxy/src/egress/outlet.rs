//! What is written to a host and is not taken yet.
//!
//! Whoever waits until a host takes the request does not read its answer, and a host that answers while it reads waits for
//! that: both would wait for ever. So a write never waits here: it is kept, reading from the host moves it on, and no
//! more of the request is read while too much is kept.

use bytes::{Buf as _, BytesMut};
use pingora::protocols::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// The way out of a connection.
pub(super) struct Outlet {
    pub(super) stream: Stream,
    /// Bytes that the host has not taken, in order.
    kept: BytesMut,
}

impl Outlet {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            kept: BytesMut::new(),
        }
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.len()
    }

    /// Writes what is kept, as far as the host takes it.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.kept))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.kept.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Outlet {
    /// Takes everything.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.poll_drain(cx)?.is_ready()
            && let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, buf)
        {
            return Poll::Ready(written);
        }
        self.kept.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.poll_drain(cx)?.is_ready()
            && let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
        {
            return Poll::Ready(written);
        }
        let before = self.kept.len();
        for buf in bufs {
            self.kept.extend_from_slice(buf);
        }
        Poll::Ready(Ok(self.kept.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
