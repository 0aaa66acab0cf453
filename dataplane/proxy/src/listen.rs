//! The port: found free or named in an error, shared by all cores, with TLS if configured.

use crate::error::RunError;
use oktsec_contract::config::{ClientAuth, Tls};
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{L4BufferSettings, ListenerConfig, TcpSocketOptions};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

/// Finds the address to listen on, and that nobody else does. Port 0 becomes a free one.
///
/// The sockets of the cores share the port, so they would bind beside another process of the same user that
/// shares it too. This one does not share: it sees everybody.
/// `key` is what the operator can change.
pub(crate) fn claim(bind: &str, port: u16, key: &'static str) -> Result<SocketAddr, RunError> {
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => RunError::PortBusy {
            bind: bind.to_owned(),
            port,
            key,
        },
        _ => RunError::Address {
            bind: bind.to_owned(),
            port,
            source,
        },
    };
    let address = (bind.trim_start_matches('[').trim_end_matches(']'), port)
        .to_socket_addrs()
        .map_err(refused)?
        .next()
        .ok_or_else(|| refused(io::Error::from(io::ErrorKind::AddrNotAvailable)))?;
    TcpListener::bind(address)
        .and_then(|probe| probe.local_addr())
        .map_err(refused)
}

/// Certificates, loaded and checked; each core makes its own settings of them.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    cert: String,
    key: String,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl TlsFiles {
    /// Reads the files once, so that a mistake is an error with its path and not a panic on every core.
    pub(crate) fn load(tls: &Tls) -> Result<Self, RunError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certs = certificates(&tls.cert)?;
        let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|e| bad(&tls.key, &e))?;
        rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certs, key)
            .map_err(|e| bad(&tls.cert, &e))?;
        let verifier = match (&tls.client_auth, &tls.client_ca) {
            (ClientAuth::None, _) => None,
            (ClientAuth::Optional | ClientAuth::Required, None) => {
                return Err(bad(&tls.cert, &"client_auth needs client_ca"));
            }
            (asked, Some(authorities)) => {
                Some(verifier(authorities, *asked == ClientAuth::Required)?)
            }
        };
        let text = |path: &Path| {
            path.to_str()
                .map(str::to_owned)
                .ok_or_else(|| bad(path, &"the path is not UTF-8"))
        };
        Ok(Self {
            cert: text(&tls.cert)?,
            key: text(&tls.key)?,
            verifier,
        })
    }

    /// The same for a listener that ends TLS itself: it wants to know who showed which certificate.
    pub(crate) fn server_config(tls: &Tls) -> Result<rustls::ServerConfig, RunError> {
        let files = Self::load(tls)?;
        let certs = certificates(&tls.cert)?;
        let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|e| bad(&tls.key, &e))?;
        let builder = rustls::ServerConfig::builder();
        let builder = match files.verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder
            .with_single_cert(certs, key)
            .map_err(|e| bad(&tls.cert, &e))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn settings(&self) -> pingora::Result<TlsSettings> {
        let mut settings = TlsSettings::intermediate(&self.cert, &self.key)?;
        settings.enable_h2();
        if let Some(verifier) = &self.verifier {
            settings.set_client_cert_verifier(Arc::clone(verifier));
        }
        Ok(settings)
    }
}

/// The endpoint of one core.
pub(crate) fn endpoint(
    address: SocketAddr,
    tls: Option<&TlsFiles>,
    buffers: L4BufferSettings,
) -> pingora::Result<ListenerConfig> {
    let mut options = TcpSocketOptions::default();
    options.so_reuseport = Some(true);
    let endpoint = ListenerConfig::tcp(address.to_string())
        .tcp_socket_options(options)
        .l4_buffer(buffers);
    Ok(match tls {
        None => endpoint,
        Some(files) => endpoint.tls(files.settings()?),
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RunError> {
    let certs = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| bad(path, &e))?;
    if certs.is_empty() {
        return Err(bad(path, &"no certificate in it"));
    }
    Ok(certs)
}

fn verifier(path: &Path, required: bool) -> Result<Arc<dyn ClientCertVerifier>, RunError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        roots.add(authority).map_err(|e| bad(path, &e))?;
    }
    let builder = WebPkiClientVerifier::builder(Arc::new(roots));
    let builder = if required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    let verifier = builder.build().map_err(|e| bad(path, &e))?;
    Ok(verifier)
}

fn bad(path: &Path, cause: &dyn std::fmt::Display) -> RunError {
    RunError::Tls {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}
