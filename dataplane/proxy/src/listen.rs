//! The port: found free or named in an error, shared by all cores, with TLS if configured.

use crate::error::RunError;
use oktsec_contract::config::{ClientAuth, Tls};
use pingora::listeners::{L4BufferSettings, ListenerConfig, TcpSocketOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
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

/// How a listener of ours speaks TLS: its certificate, and whose it asks for. Read once, before any core starts, so
/// that a mistake is an error with its path.
pub(crate) fn tls(tls: &Tls) -> Result<ServerConfig, RunError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certs = certificates(&tls.cert)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|e| bad(&tls.key, &e))?;
    let builder = ServerConfig::builder();
    let builder = match (&tls.client_auth, &tls.client_ca) {
        (ClientAuth::None, _) => builder.with_no_client_auth(),
        (ClientAuth::Optional | ClientAuth::Required, None) => {
            return Err(bad(&tls.cert, &"client_auth needs client_ca"));
        }
        (asked, Some(authorities)) => {
            let verifier = verifier(authorities, *asked == ClientAuth::Required)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certs, key)
        .map_err(|e| bad(&tls.cert, &e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The endpoint of one core.
pub(crate) fn endpoint(address: SocketAddr, buffers: L4BufferSettings) -> ListenerConfig {
    let mut options = TcpSocketOptions::default();
    options.so_reuseport = Some(true);
    ListenerConfig::tcp(address.to_string())
        .tcp_socket_options(options)
        .l4_buffer(buffers)
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
