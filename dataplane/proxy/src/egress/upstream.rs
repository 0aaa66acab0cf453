//! The other end of an exchange or a tunnel: a connection to the host, or to the proxy we go through. Only to
//! addresses that were vetted.

use super::dial::dial;
use super::gateway::Outbound;
use super::live::Leash;
use super::refusal::{because, plain};
use super::resolve::Resolver;
use super::trail::Trail;
use crate::plane::Live;
use ahash::RandomState;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use oktsec_contract::host::Host;
use oktsec_contract::reason::Reason;
use oktsec_pipeline::egress::{Refusal, Scheme, Target, Upstream as Proxy};
use pingora::connectors::l4::Connect;
use pingora::protocols::ALPN;
use pingora::protocols::http::client::HttpSession as ClientSession;
use pingora::protocols::l4::socket::SocketAddr as AnySocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorType};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of a proxy's answer to CONNECT.
const PROXY_ANSWER_BYTES_MAX: usize = 8 << 10;

/// A connection an exchange can go over.
pub(crate) struct Upstream {
    pub(crate) session: ClientSession,
    pub(crate) peer: Box<HttpPeer>,
    /// It carried requests before.
    pub(crate) reused: bool,
    /// A proxy is on the other end.
    pub(crate) takes_absolute_form: bool,
    /// What that proxy asks for.
    pub(crate) proxy_authorization: Option<HeaderValue>,
}

impl Upstream {
    /// Gives the connection up.
    pub(crate) async fn shutdown(&mut self) {
        self.session.shutdown().await;
    }
}

/// Connects for an exchange, or takes a connection that lies idle.
pub(crate) async fn connect(
    outbound: &Outbound,
    live: &Live,
    leash: &Leash,
    offered: Option<&ALPN>,
    trail: &mut Trail,
) -> Result<Upstream, Refusal> {
    let begun = Instant::now();
    let vetted = leash.vetted();
    let policy = live.policy.egress();
    let patience = policy.timeouts().connect.as_duration();
    let target = vetted.target();
    let tls = vetted.scheme() == Some(Scheme::Https);
    let proxy = policy.upstream(target.host());
    if proxy.is_some() && tls {
        let detail = "https through an upstream proxy goes by CONNECT only";
        return Err(because(Reason::EgressNotInspectable, detail));
    }
    let addresses = match proxy {
        Some(proxy) => proxy_addresses(proxy, &outbound.resolver).await?,
        None => vetted.addresses().to_vec(),
    };
    let first = *addresses
        .first()
        .ok_or_else(|| plain(Reason::EgressNameUnresolved))?;
    let named = match proxy {
        Some(proxy) => &proxy.target,
        None => target,
    };
    // Never empty with TLS: pingora would take that for "do not verify". An address is verified as an address.
    let sni = match tls {
        true => target.host().to_string(),
        false => String::new(),
    };
    let mut peer = Box::new(HttpPeer::new(first, tls, sni));
    // Connections are shared by requests of one agent to one host only: what an agent proved to a host on its
    // connection is nobody else's, and two names of one address are two hosts.
    peer.group_key = GROUPS.hash_one((
        vetted.principal().agent(),
        named,
        offered.map(|alpn| (alpn.get_min_http_version(), alpn.get_max_http_version())),
    ));
    let options = &mut peer.options;
    options.total_connection_timeout = Some(patience);
    options.connection_timeout = Some(patience);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::standard();
    if tls {
        options.alpn = offered.cloned().unwrap_or(ALPN::H2H1);
    }
    options.custom_l4 = Some(Arc::new(Dialer {
        addresses,
        patience,
        name: named.host().name().map(str::to_owned),
        resolver: Arc::clone(&outbound.resolver),
    }));
    let (session, reused) = outbound
        .connector
        .get_http_session(&*peer)
        .await
        .map_err(|error| unreachable(&error))?;
    trail.address = session.server_addr().and_then(|a| a.as_inet().copied());
    if reused {
        crate::core::with(|core| core.counters.egress.reused.add(1));
    } else {
        trail.connect = begun.elapsed();
    }
    Ok(Upstream {
        session,
        peer,
        reused,
        takes_absolute_form: proxy.is_some(),
        proxy_authorization: proxy.and_then(authorization),
    })
}

/// The seeds are fixed so that all requests of a process agree; nothing outside can choose what is hashed freely.
static GROUPS: RandomState = RandomState::with_seeds(0x6f6b, 0x7473, 0x6563, 0x3137);

/// Connects for a tunnel. Gives what the other end has said already, if a proxy is between.
pub(crate) async fn connect_tunnel(
    outbound: &Outbound,
    live: &Live,
    leash: &Leash,
    trail: &mut Trail,
) -> Result<(TcpStream, Vec<u8>), Refusal> {
    let begun = Instant::now();
    let vetted = leash.vetted();
    let policy = live.policy.egress();
    let patience = policy.timeouts().connect.as_duration();
    let (stream, address, said) = match policy.upstream(vetted.target().host()) {
        None => {
            let (stream, address) = dial(vetted.addresses(), patience).await.map_err(plain)?;
            if let Some(name) = vetted.target().host().name() {
                outbound.resolver.prefer(name, address.ip());
            }
            (stream, address, Vec::new())
        }
        Some(proxy) => {
            let addresses = proxy_addresses(proxy, &outbound.resolver).await?;
            let (mut stream, address) = dial(&addresses, patience).await.map_err(plain)?;
            // The address we vetted, if we resolved it: so the proxy cannot resolve it to another one.
            let target = match vetted.addresses().first() {
                Some(address) => Target::new(Host::from_address(address.ip()), address.port()),
                None => vetted.target().clone(),
            };
            let asked = ask(&mut stream, proxy, &target);
            let said = tokio::time::timeout(patience, asked)
                .await
                .map_err(|_| plain(Reason::EgressUpstreamTimeout))??;
            (stream, address, said)
        }
    };
    trail.address = Some(address);
    trail.connect = begun.elapsed();
    Ok((stream, said))
}

/// Asks a proxy for a tunnel.
async fn ask(stream: &mut TcpStream, proxy: &Proxy, target: &Target) -> Result<Vec<u8>, Refusal> {
    let broken = |_| {
        because(
            Reason::EgressUpstreamInvalid,
            "the upstream proxy broke off",
        )
    };
    if proxy.scheme == Scheme::Https {
        let detail = "tunnels through an https upstream proxy are not supported";
        return Err(because(Reason::EgressUpstreamInvalid, detail));
    }
    let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(credentials) = authorization(proxy) {
        head.extend_from_slice(b"Proxy-Authorization: ");
        head.extend_from_slice(credentials.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    stream.write_all(&head).await.map_err(broken)?;
    let mut answer = Vec::with_capacity(1_024);
    let end = loop {
        if let Some(at) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            break at + 4;
        }
        if answer.len() > PROXY_ANSWER_BYTES_MAX {
            let detail = "the upstream proxy answers without end";
            return Err(because(Reason::EgressUpstreamInvalid, detail));
        }
        if stream.read_buf(&mut answer).await.map_err(broken)? == 0 {
            return Err(because(
                Reason::EgressUpstreamInvalid,
                "the upstream proxy broke off",
            ));
        }
    };
    let said = answer.split_off(end);
    let status = answer.get(9..12).unwrap_or_default();
    if answer.starts_with(b"HTTP/1.") && status.first() == Some(&b'2') {
        return Ok(said);
    }
    let status = String::from_utf8_lossy(status);
    Err(because(
        Reason::EgressUpstreamInvalid,
        format!(
            "the upstream proxy refused with {}",
            status.escape_default()
        ),
    ))
}

fn authorization(proxy: &Proxy) -> Option<HeaderValue> {
    let (user, password) = proxy.credentials.as_ref()?;
    let text = STANDARD.encode(format!("{user}:{}", password.expose()));
    let mut value = HeaderValue::from_str(&format!("Basic {text}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Where the proxy is. It is the operator's choice, so its addresses are not vetted.
async fn proxy_addresses(proxy: &Proxy, resolver: &Resolver) -> Result<Vec<SocketAddr>, Refusal> {
    let port = proxy.target.port();
    let of = |ip| SocketAddr::new(ip, port);
    match proxy.target.host().name() {
        Some(name) => {
            let found = resolver.resolve(name).await.map_err(plain)?;
            Ok(found.iter().copied().map(of).collect())
        }
        None => Ok(proxy.target.host().address().into_iter().map(of).collect()),
    }
}

/// pingora's way to let us connect: it keeps the connections, we choose where they go.
#[derive(Debug)]
struct Dialer {
    addresses: Vec<SocketAddr>,
    patience: Duration,
    name: Option<String>,
    resolver: Arc<Resolver>,
}

#[async_trait]
impl Connect for Dialer {
    async fn connect(&self, _: &AnySocketAddr) -> pingora::Result<Stream> {
        match dial(&self.addresses, self.patience).await {
            Ok((stream, address)) => {
                if let Some(name) = &self.name {
                    self.resolver.prefer(name, address.ip());
                }
                Ok(Stream::from(stream))
            }
            Err(Reason::EgressUpstreamTimeout) => Err(Error::new_up(ErrorType::ConnectTimedout)),
            Err(_) => Err(Error::new_up(ErrorType::ConnectRefused)),
        }
    }
}

/// Why there is no connection.
fn unreachable(error: &Error) -> Refusal {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
            because(Reason::EgressUpstreamTimeout, "no connection in time")
        }
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::HandshakeError => {
            because(Reason::EgressUpstreamTls, "between us and the host")
        }
        _ => plain(Reason::EgressUpstreamUnreachable),
    }
}

/// Why a response does not come to its end.
pub(crate) fn broken(error: &Error) -> Refusal {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
            because(Reason::EgressUpstreamTimeout, "the host kept silent")
        }
        ErrorType::InvalidHTTPHeader => because(
            Reason::EgressUpstreamInvalid,
            "what the host sends is no HTTP",
        ),
        _ => because(Reason::EgressUpstreamInvalid, "the host broke off"),
    }
}
