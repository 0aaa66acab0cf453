//! The handshake with a client: the name it asks for must be the host it tunnelled to, and it gets the protocols
//! it offers.

use std::sync::Arc;

use oktsec_contract::clock::Timestamp;
use oktsec_pipeline::egress::{Target, sni_agrees};
use pingora::protocols::{ALPN, Stream};
use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::LazyConfigAcceptor;

use super::mint::{MintError, Minter};
use crate::egress::tls::{Rewound, TlsEnd};

/// Why there is no connection to look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// What the client says first is no TLS we speak, and no HTTP.
    #[error("between the client and us: neither a TLS handshake nor HTTP")]
    NotTls,
    /// It asks for another host than the one it tunnelled to.
    #[error("between the client and us: the handshake asks for another host")]
    NameMismatch,
    /// There is no certificate for the host.
    #[error("between the client and us: {0}")]
    Mint(#[from] MintError),
    /// It did not finish in time.
    #[error("between the client and us: the handshake takes too long")]
    TooSlow,
    /// The client gave up: it does not trust our authority, or shares no protocol with us.
    #[error(
        "between the client and us: the client ended the handshake (does it trust our authority?)"
    )]
    Refused,
}

/// A client whose host we are.
#[derive(Debug)]
pub(crate) struct Intercepted {
    pub(crate) stream: TlsEnd,
    /// What the client offered to speak: what the host should be offered, too.
    pub(crate) offered: ALPN,
}

const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

impl Minter {
    /// Answers the handshake of a client that tunnelled to `target`. `early` is what it has sent already. No clock runs
    /// here: the caller's does.
    pub(crate) async fn accept(
        &self,
        stream: Stream,
        early: Vec<u8>,
        target: &Target,
        now: Timestamp,
    ) -> Result<Intercepted, Broken> {
        let stream = Rewound::new(early, stream);
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
            .await
            .map_err(|_| Broken::NotTls)?;
        let hello = start.client_hello();
        sni_agrees(target, hello.server_name().map(str::as_bytes))
            .map_err(|_| Broken::NameMismatch)?;
        let offered = Offered::of(&hello);
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = offered.common();
        config.cert_resolver = Arc::new(Only(self.certificate(target.host(), now)?));
        let stream = start
            .into_stream(Arc::new(config))
            .await
            .map_err(|_| Broken::Refused)?;
        Ok(Intercepted {
            stream: TlsEnd::new(stream),
            offered: offered.to_upstream(),
        })
    }
}

/// The protocols of a client that are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offered {
    h2: bool,
    http_1_1: bool,
    /// It offers protocols at all.
    any: bool,
}

impl Offered {
    fn of(hello: &ClientHello<'_>) -> Self {
        let mut offered = Self {
            h2: false,
            http_1_1: false,
            any: false,
        };
        for protocol in hello.alpn().into_iter().flatten() {
            offered.any = true;
            offered.h2 |= protocol == H2;
            offered.http_1_1 |= protocol == HTTP_1_1;
        }
        offered
    }

    /// What we can speak with it. If it offers others only, the handshake fails, as it would with the host.
    fn common(self) -> Vec<Vec<u8>> {
        let ours = [
            (self.h2, H2),
            (self.http_1_1 || (self.any && !self.h2), HTTP_1_1),
        ];
        ours.iter()
            .filter(|(common, _)| *common)
            .map(|(_, name)| name.to_vec())
            .collect()
    }

    /// The same offer, made to the host: hosts treat clients by what they offer.
    fn to_upstream(self) -> ALPN {
        match (self.h2, self.http_1_1) {
            (true, true) => ALPN::H2H1,
            (true, false) => ALPN::H2,
            (false, _) => ALPN::H1,
        }
    }
}

/// The one certificate of one handshake.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
