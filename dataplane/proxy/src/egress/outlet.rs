//! What is written to a connection and has not left: small pieces are gathered until somebody flushes, so that a head and
//! a short body are one system call and one packet.
//!
//! Towards a host a write never waits either. Whoever waits until a host takes the request does not read its answer, and
//! a host that answers while it reads waits for that: both would wait for ever. What it does not take is kept, reading
//! from the host moves it on, and no more of the request is read while too much is kept.

use bytes::{Buf as _, BytesMut};
use pingora::protocols::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Bytes of memory that an outlet keeps when nothing waits in it.
const SPARE_BYTES_MAX: usize = 4 << 10;

/// The way out of a connection.
pub(crate) struct Outlet {
    pub(crate) stream: Stream,
    /// Bytes that have not left, in order.
    kept: BytesMut,
    /// Up to so many bytes wait for a flush.
    gathers: usize,
    /// What is more waits here, too, and not where it is written.
    endless: bool,
}

impl Outlet {
    /// One that gathers up to `gathers` bytes; who writes more waits for the other end.
    pub(crate) fn new(stream: Stream, gathers: usize) -> Self {
        Self {
            stream,
            kept: BytesMut::new(),
            gathers,
            endless: false,
        }
    }

    /// One where nobody waits.
    pub(super) fn endless(stream: Stream, gathers: usize) -> Self {
        Self {
            endless: true,
            ..Self::new(stream, gathers)
        }
    }

    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept.len()
    }

    /// Writes what is kept, as far as the other end takes it.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.kept))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.kept.advance(written),
            }
        }
        if self.kept.capacity() > SPARE_BYTES_MAX {
            self.kept = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Whether so many more bytes may wait for a flush.
    fn has_room(&self, bytes: usize) -> bool {
        self.kept.len() + bytes <= self.gathers
    }
}

impl AsyncWrite for Outlet {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.has_room(buf.len()) {
            let drained = self.poll_drain(cx)?.is_ready();
            if drained && let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, buf)
            {
                return Poll::Ready(written);
            }
            if !self.endless {
                return Poll::Pending;
            }
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
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        if !self.has_room(bytes) {
            let drained = self.poll_drain(cx)?.is_ready();
            let stream = Pin::new(&mut self.stream);
            if drained && let Poll::Ready(written) = stream.poll_write_vectored(cx, bufs) {
                return Poll::Ready(written);
            }
            if !self.endless {
                return Poll::Pending;
            }
        }
        for buf in bufs {
            self.kept.extend_from_slice(buf);
        }
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.gathers > 0 || self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::{Outlet, SPARE_BYTES_MAX};
    use pingora::protocols::l4::stream::Stream;
    use std::io::Read as _;
    use std::net::TcpListener;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    /// Both ends of a connection; what is sent into one is in the other at once.
    async fn ends() -> (TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (far, _) = listener.accept().unwrap();
        far.set_nonblocking(true).unwrap();
        (near.unwrap(), far)
    }

    /// What has come so far.
    fn came(far: &mut std::net::TcpStream) -> Vec<u8> {
        let mut all = Vec::new();
        let _ = far.read_to_end(&mut all);
        all
    }

    #[tokio::test]
    async fn small_pieces_leave_together_when_they_are_flushed_or_too_many() {
        let (near, mut far) = ends().await;
        let mut outlet = Outlet::new(Box::new(Stream::from(near)), 8);
        outlet.write_all(b"head").await.unwrap();
        outlet.write_all(b"body").await.unwrap();
        assert_eq!(came(&mut far), b"");
        outlet.flush().await.unwrap();
        assert_eq!(
            (came(&mut far).as_slice(), outlet.kept_bytes()),
            (&b"headbody"[..], 0)
        );
        outlet.write_all(b"head").await.unwrap();
        outlet.write_all(b"a long body").await.unwrap();
        assert_eq!(came(&mut far), b"heada long body");
        outlet.write_all(b"last").await.unwrap();
        outlet.shutdown().await.unwrap();
        assert_eq!(came(&mut far), b"last");
    }

    #[tokio::test]
    async fn memory_for_much_goes_when_it_has_left() {
        let (near, mut far) = ends().await;
        let mut outlet = Outlet::new(Box::new(Stream::from(near)), 64 << 10);
        outlet.write_all(&[7; 32 << 10]).await.unwrap();
        outlet.flush().await.unwrap();
        assert_eq!(came(&mut far).len(), 32 << 10);
        assert!(outlet.kept.capacity() <= SPARE_BYTES_MAX);
    }
}
