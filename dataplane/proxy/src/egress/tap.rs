//! HTTP/1.1 trailers. pingora reads over them and writes none, so they are read from the bytes as they pass below it,
//! and written there in the place of the last chunk.

use super::below::described_below;
use super::outlet::Outlet;
use crate::limits::GATHERED_BYTES_MAX;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName};
use oktsec_pipeline::content::{TrailerError, TrailerReader};
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora::protocols::http::client::HttpSession as ClientSession;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, Digest, GetProxyDigest, Peek, Shutdown, Ssl, Stream, UniqueID, UniqueIDType,
};
use pingora::upstreams::peer::HttpPeer;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// What pingora ends a chunked body with.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Fields that have no place behind a body (RFC 9110 §6.5.1): whoever reads them late must not act on them. With
/// them go those that concern one connection, and ours.
const NEVER: [HeaderName; 22] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("keep-alive"),
];

/// Removes what must not pass as a trailer.
pub(crate) fn strip(fields: &mut HeaderMap) {
    for name in &NEVER {
        fields.remove(name);
    }
    let ours: Vec<HeaderName> = fields
        .keys()
        .filter(|name| name.as_str().starts_with("x-oktsec-"))
        .cloned()
        .collect();
    for name in ours {
        fields.remove(name);
    }
}

/// The trailers of both directions of one connection.
#[derive(Debug, Default)]
pub(crate) struct Trailers {
    reader: TrailerReader,
    /// Stands in the place of the last chunk when that is written.
    waiting: Option<Bytes>,
    /// What of it is left to write.
    leaving: Bytes,
    /// What is written leaves at once.
    eager: bool,
    /// Bytes written that the other end has not taken.
    kept: usize,
}

impl Trailers {
    /// From now on both ends talk: what is written leaves at once.
    pub(crate) fn talk(&mut self) {
        self.eager = true;
    }

    /// Bytes written that the other end has not taken yet.
    pub(crate) const fn kept_bytes(&self) -> usize {
        self.kept
    }

    /// A message from the other end begins.
    pub(crate) fn begin(&mut self) {
        self.eager = false;
        self.reader.begin();
        // The message before had no place for them.
        self.waiting = None;
    }

    /// The message from the other end has none.
    pub(crate) fn ignore(&mut self) {
        self.reader.ignore();
    }

    /// Whether the message's head had so many bytes. If not, it did not begin where we thought.
    pub(crate) fn agrees(&self, head_bytes: usize) -> bool {
        self.reader.head_bytes() == Some(head_bytes as u64)
    }

    /// Those of the message from the other end that has ended.
    pub(crate) fn take(&mut self) -> Result<HeaderMap, TrailerError> {
        self.reader.take()
    }

    /// The chunked message to the other end gets these.
    pub(crate) fn put(&mut self, fields: &HeaderMap) {
        let mut section = b"0\r\n".to_vec();
        for (name, value) in fields {
            section.extend_from_slice(name.as_str().as_bytes());
            section.extend_from_slice(b": ");
            section.extend_from_slice(value.as_bytes());
            section.extend_from_slice(b"\r\n");
        }
        section.extend_from_slice(b"\r\n");
        self.waiting = Some(Bytes::from(section));
    }

    /// Bytes came from the other end.
    pub(crate) fn came(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// Writes, with the trailers if this is the last chunk.
    pub(crate) fn poll_write<W: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        mut writer: Pin<&mut W>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.leaving.is_empty() {
            match buf == LAST_CHUNK {
                true => self.leaving = self.waiting.take().unwrap_or_default(),
                false => return writer.poll_write(cx, buf),
            }
            if self.leaving.is_empty() {
                return writer.poll_write(cx, buf);
            }
        }
        while !self.leaving.is_empty() {
            match ready!(writer.as_mut().poll_write(cx, &self.leaving))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => drop(self.leaving.split_to(written)),
            }
        }
        Poll::Ready(Ok(LAST_CHUNK.len()))
    }
}

/// Trailers that a connection to a host shares with whoever speaks over it.
pub(crate) type SharedTrailers = Arc<Mutex<Trailers>>;

/// A connection to a host, below HTTP/1.1.
///
/// pingora flushes the head of a request and then its body. What is written here leaves when we begin to wait for the
/// host, or when it fills a buffer: a short request is one system call, and one packet. A WebSocket waits for nothing.
pub(crate) struct Tap {
    inner: Outlet,
    /// Bytes were written that may not have left.
    unflushed: bool,
    trailers: SharedTrailers,
    digest: Arc<ProxyDigest>,
    id: UniqueIDType,
}

/// Streams without a descriptor get numbers of their own: idle connections are told apart by them.
static NEXT_ID: AtomicI32 = AtomicI32::new(-2);

impl Tap {
    const fn below(&self) -> &Stream {
        &self.inner.stream
    }

    /// Puts one around the stream of a session that has not begun.
    pub(crate) fn around(session: HttpSession, peer: &HttpPeer) -> HttpSession {
        let inner = session.into_inner();
        let trailers = SharedTrailers::default();
        let response = ResponseHeader::build_no_case(200, Some(0)).expect("200 is a status");
        let digest = ProxyDigest::new(Box::new(response), Some(Box::new(Arc::clone(&trailers))));
        let id = match inner.id() {
            -1 => NEXT_ID.fetch_sub(1, Ordering::Relaxed),
            id => id,
        };
        let tap = Self {
            inner: Outlet::endless(inner, GATHERED_BYTES_MAX),
            unflushed: false,
            trailers,
            digest: Arc::new(digest),
            id,
        };
        HttpSession::new_with_options(Box::new(tap), peer)
    }

    /// The trailers of a connection that was tapped.
    pub(crate) fn of(session: &ClientSession) -> Option<&SharedTrailers> {
        let digest: &Digest = match session {
            ClientSession::H1(h1) => h1.digest(),
            ClientSession::H2(_) | ClientSession::Custom(()) => return None,
        };
        let digest = digest.proxy_digest.as_ref()?;
        digest.user_data.as_ref()?.downcast_ref()
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.inner.stream).poll_read(cx, buf);
        if outcome.is_pending() && this.unflushed {
            match Pin::new(&mut this.inner).poll_flush(cx) {
                Poll::Ready(Ok(())) => this.unflushed = false,
                // What the host has said before it closed is worth more than why it closed.
                Poll::Ready(Err(error)) if this.inner.kept_bytes() == 0 => {
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
            this.trailers.lock().kept = this.inner.kept_bytes();
        }
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            this.trailers.lock().came(came);
        }
        outcome
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.unflushed = true;
        let mut trailers = this.trailers.lock();
        let written = trailers.poll_write(Pin::new(&mut this.inner), cx, buf);
        trailers.kept = this.inner.kept_bytes();
        written
    }

    /// Waits until we wait for the host, unless both ends talk.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.trailers.lock().eager {
            return Poll::Ready(Ok(()));
        }
        // What cannot leave now does when we wait for the host.
        let flushed = Pin::new(&mut self.inner).poll_flush(cx)?;
        self.unflushed = flushed.is_pending();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.trailers.lock().kept = self.inner.kept_bytes();
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

described_below!(Tap);

#[async_trait]
impl Shutdown for Tap {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::flush(&mut self.inner).await;
        Shutdown::shutdown(&mut *self.inner.stream).await;
    }
}

impl UniqueID for Tap {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

impl Ssl for Tap {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.stream.selected_alpn_proto()
    }
}

#[async_trait]
impl Peek for Tap {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.inner.stream.try_peek(buf).await
    }
}

impl GetProxyDigest for Tap {
    /// The one way to reach the trailers from a session.
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{HttpPeer, HttpSession, LAST_CHUNK, Tap, Trailers, strip};
    use http::{HeaderMap, HeaderValue};
    use pingora::http::RequestHeader;
    use pingora::protocols::l4::stream::Stream;
    use std::future::{Future, poll_fn};
    use std::io::Read as _;
    use std::pin::{Pin, pin};
    use std::task::Poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::net::TcpStream;

    async fn write(trailers: &mut Trailers, stream: &mut DuplexStream, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = poll_fn(|cx| trailers.poll_write(Pin::new(stream), cx, rest)).await;
            rest = &rest[written.unwrap()..];
        }
    }

    #[tokio::test]
    async fn trailers_take_the_place_of_the_last_chunk_and_of_nothing_else() {
        let mut fields = HeaderMap::new();
        fields.insert("x-sum", HeaderValue::from_static("17"));
        // So small that every write is cut.
        let (mut near, mut far) = duplex(2);
        let writer = tokio::spawn(async move {
            let mut trailers = Trailers::default();
            write(&mut trailers, &mut near, b"1\r\na\r\n").await;
            write(&mut trailers, &mut near, LAST_CHUNK).await;
            trailers.put(&fields);
            write(&mut trailers, &mut near, b"5\r\n0\r\n\r\n\r\n").await;
            write(&mut trailers, &mut near, LAST_CHUNK).await;
            write(&mut trailers, &mut near, LAST_CHUNK).await;
            near.shutdown().await.unwrap();
        });
        let mut all = String::new();
        far.read_to_string(&mut all).await.unwrap();
        writer.await.unwrap();
        let expected = "1\r\na\r\n0\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\nx-sum: 17\r\n\r\n0\r\n\r\n";
        assert_eq!(all, expected);
    }

    #[tokio::test]
    async fn head_and_body_of_a_request_leave_together_when_its_answer_is_waited_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let near = TcpStream::connect(address).await.unwrap();
        let (mut far, _) = listener.accept().unwrap();
        far.set_nonblocking(true).unwrap();
        let session = HttpSession::new(Box::new(Stream::from(near)));
        let peer = HttpPeer::new(address, false, String::new());
        let mut session = Tap::around(session, &peer);
        let mut head = RequestHeader::build("POST", b"/", None).unwrap();
        head.insert_header("Content-Length", 2).unwrap();
        session.write_request_header(Box::new(head)).await.unwrap();
        session.write_body(b"hi").await.unwrap();
        session.finish_body().await.unwrap();
        let mut came = [0; 256];
        let nothing = far.read(&mut came).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
        let mut answer = pin!(session.read_response());
        let waits = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_pending())).await;
        assert!(waits);
        let length = far.read(&mut came).unwrap();
        let came = String::from_utf8_lossy(&came[..length]);
        assert!(came.starts_with("POST / HTTP/1.1\r\n"), "{came}");
        assert!(came.ends_with("\r\n\r\nhi"), "{came}");
    }

    #[test]
    fn fields_that_would_change_the_message_are_no_trailers() {
        let mut fields = HeaderMap::new();
        for name in [
            "content-length",
            "host",
            "x-oktsec-agent",
            "set-cookie",
            "x-sum",
            "grpc-status",
        ] {
            fields.insert(name, HeaderValue::from_static("1"));
        }
        strip(&mut fields);
        let mut left: Vec<&str> = fields.keys().map(http::HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-status", "x-sum"]);
    }
}
