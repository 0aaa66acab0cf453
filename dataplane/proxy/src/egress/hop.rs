//! The way through another proxy (`forward_proxy.upstream_proxy`). Requests to `http://` go to it in absolute form;
//! everything else goes by CONNECT, to an address that we vetted if we resolved the name, so that the proxy cannot
//! resolve it to another one.

use super::dial::dial;
use super::refusal::{because, plain};
use super::resolve::Resolver;
use super::trust::Trust;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use oktsec_contract::host::Host;
use oktsec_contract::reason::Reason;
use oktsec_pipeline::egress::{Refusal, Scheme, Target, Upstream as Proxy, Vetted};
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Bytes of a proxy's answer to CONNECT.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// Addresses of one host that a proxy is asked for, one after the other, while it says that it cannot reach them.
const TARGETS_MAX: usize = 3;

/// The far end of a connection: a host, or whoever is between.
#[derive(Debug)]
pub(crate) enum Far {
    /// As it is.
    Plain(TcpStream),
    /// Through TLS to a proxy.
    Secured(Box<TlsStream<TcpStream>>),
}

/// A proxy, with what it takes to go through it.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    proxy: Proxy,
    addresses: Vec<SocketAddr>,
    /// What verifies it, if it is spoken to over TLS.
    verifier: Option<Arc<ClientConfig>>,
    /// What it is asked to connect to; none for requests in absolute form.
    targets: Vec<Target>,
}

impl Hop {
    /// Looks the proxy up. It is the operator's choice, so its addresses are not vetted.
    pub(crate) async fn to(
        proxy: &Proxy,
        resolver: &Resolver,
        trust: &Trust,
    ) -> Result<Self, Refusal> {
        let verifier = match proxy.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(trust.verifier()?),
        };
        let port = proxy.target.port();
        let of = |ip| SocketAddr::new(ip, port);
        let host = proxy.target.host();
        let addresses = match host.name() {
            Some(name) => {
                let found = resolver.resolve(name).await.map_err(plain)?;
                found.iter().copied().map(of).collect()
            }
            None => host.address().into_iter().map(of).collect(),
        };
        Ok(Self {
            proxy: proxy.clone(),
            addresses,
            verifier,
            targets: Vec::new(),
        })
    }

    /// The same, on to where `vetted` may go.
    pub(crate) fn on_to(mut self, vetted: &Vetted) -> Self {
        let of =
            |address: &SocketAddr| Target::new(Host::from_address(address.ip()), address.port());
        self.targets = match vetted.addresses() {
            [] => vec![vetted.target().clone()],
            addresses => addresses.iter().take(TARGETS_MAX).map(of).collect(),
        };
        self
    }

    /// An address of the proxy, the same one whichever is tried first.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.addresses.iter().min().copied()
    }

    /// What requests in absolute form bring along.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = self.proxy.credentials.as_ref()?;
        let text = STANDARD.encode(format!("{user}:{}", password.expose()));
        let mut value = HeaderValue::from_str(&format!("Basic {text}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Connects. Gives what the other end has said already, too.
    pub(crate) async fn connect(&self, patience: Duration) -> Result<(Far, Vec<u8>), Refusal> {
        let attempt = async {
            let Some((last, others)) = self.targets.split_last() else {
                return Ok((self.reach(patience).await?, Vec::new()));
            };
            for target in others {
                let mut far = self.reach(patience).await?;
                match self.ask(&mut far, target).await {
                    Ok(said) => return Ok((far, said)),
                    Err(NotOpened::Unreachable(_)) => {}
                    Err(NotOpened::Other(refusal)) => return Err(refusal),
                }
            }
            let mut far = self.reach(patience).await?;
            let said = self.ask(&mut far, last).await?;
            Ok((far, said))
        };
        tokio::time::timeout(patience, attempt).await.map_err(|_| {
            because(
                Reason::EgressUpstreamTimeout,
                "the upstream proxy is too slow",
            )
        })?
    }

    /// A connection to the proxy itself.
    async fn reach(&self, patience: Duration) -> Result<Far, Refusal> {
        let (stream, _) = dial(&self.addresses, patience)
            .await
            .map_err(|reason| because(reason, "the upstream proxy takes no connection"))?;
        let Some(verifier) = &self.verifier else {
            return Ok(Far::Plain(stream));
        };
        let untrusted = || {
            because(
                Reason::EgressUpstreamTls,
                "between us and the upstream proxy",
            )
        };
        let name = self.proxy.target.host().to_string();
        let name = ServerName::try_from(name).map_err(|_| untrusted())?;
        let connector = TlsConnector::from(Arc::clone(verifier));
        let secured = connector.connect(name, stream).await;
        Ok(Far::Secured(Box::new(secured.map_err(|_| untrusted())?)))
    }

    /// Asks for a tunnel. Gives what came behind the answer.
    async fn ask(&self, far: &mut Far, target: &Target) -> Result<Vec<u8>, NotOpened> {
        let broken = |_| invalid("the upstream proxy broke off");
        let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        if let Some(credentials) = self.authorization() {
            head.extend_from_slice(b"Proxy-Authorization: ");
            head.extend_from_slice(credentials.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        far.write_all(&head).await.map_err(broken)?;
        far.flush().await.map_err(broken)?;
        let mut answer = Vec::with_capacity(1_024);
        let end = loop {
            if let Some(at) = memchr::memmem::find(&answer, b"\r\n\r\n") {
                break at + 4;
            }
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(invalid("the upstream proxy answers without end"));
            }
            if far.read_buf(&mut answer).await.map_err(broken)? == 0 {
                return Err(invalid("the upstream proxy broke off"));
            }
        };
        let said = answer.split_off(end);
        let status = status_of(&answer)
            .ok_or_else(|| invalid("what the upstream proxy sends is no HTTP"))?;
        let refused = because(
            Reason::EgressUpstreamInvalid,
            format!("the upstream proxy refused with {status}"),
        );
        match status {
            200..=299 => Ok(said),
            502..=504 => Err(NotOpened::Unreachable(refused)),
            _ => Err(NotOpened::Other(refused)),
        }
    }
}

/// Why a proxy opened no tunnel.
enum NotOpened {
    /// It cannot reach the target; perhaps another address of the same host.
    Unreachable(Refusal),
    Other(Refusal),
}

impl From<NotOpened> for Refusal {
    fn from(not: NotOpened) -> Self {
        match not {
            NotOpened::Unreachable(refusal) | NotOpened::Other(refusal) => refusal,
        }
    }
}

fn invalid(detail: &'static str) -> NotOpened {
    NotOpened::Other(because(Reason::EgressUpstreamInvalid, detail))
}

/// The status of an HTTP/1 answer.
fn status_of(head: &[u8]) -> Option<u16> {
    let (version, rest) = head.split_at_checked(9)?;
    let (status, rest) = rest.split_at_checked(3)?;
    let is_http = matches!(version, b"HTTP/1.1 " | b"HTTP/1.0 ");
    let ends = matches!(rest.first(), Some(b' ' | b'\r'));
    let digits = status.iter().all(u8::is_ascii_digit);
    (is_http && ends && digits)
        .then(|| std::str::from_utf8(status).ok()?.parse().ok())
        .flatten()
}

impl From<Far> for Stream {
    fn from(far: Far) -> Self {
        match far {
            Far::Plain(stream) => Self::from(stream),
            secured @ Far::Secured(_) => Self::from(VirtualSocketStream::new(Box::new(secured))),
        }
    }
}

impl VirtualSocket for Far {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        // What matters was set when it was dialled.
        Ok(())
    }
}

impl AsyncRead for Far {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Secured(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Far {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Secured(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secured(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secured(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::status_of;

    #[test]
    fn only_a_status_line_has_a_status() {
        for (head, status) in [
            (&b"HTTP/1.1 200 OK\r\n\r\n"[..], Some(200)),
            (b"HTTP/1.0 502 \r\n\r\n", Some(502)),
            (b"HTTP/1.1 407\r\n\r\n", Some(407)),
            (b"HTTP/1.1 2000 OK\r\n\r\n", None),
            (b"HTTP/1.1 20", None),
            (b"HTTP/2 200 OK\r\n\r\n", None),
            (b"SSH-2.0-x\r\n\r\n", None),
            (b"HTTP/1.1 +20 OK\r\n\r\n", None),
        ] {
            assert_eq!(status_of(head), status, "{}", head.escape_ascii());
        }
    }
}
