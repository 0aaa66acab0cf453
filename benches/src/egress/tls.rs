//! The authorities of a bench: one vouches for the origin, one is the gateway's.

use super::Outcome;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The host that agents ask over TLS.
pub(super) const HOST: &str = "localhost";

/// Makes both authorities in a folder: `ca.crt` and `ca.key` of the gateway; `hosts.pem` of hosts, with `host.crt`
/// and `host.key` for [`HOST`].
pub(super) fn lay_out(dir: &Path) -> Outcome {
    let ours = authority()?;
    write(&dir.join("ca.crt"), &ours.pem())?;
    write(&dir.join("ca.key"), &ours.key().serialize_pem())?;
    let theirs = authority()?;
    write(&dir.join("hosts.pem"), &theirs.pem())?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &theirs)?;
    write(&dir.join("host.crt"), &certificate.pem())?;
    write(&dir.join("host.key"), &key.serialize_pem())?;
    Ok(())
}

fn authority() -> Outcome<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn write(path: &PathBuf, text: &str) -> Outcome {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    Ok(std::io::Write::write_all(&mut file, text.as_bytes())?)
}

/// Ends TLS as [`HOST`].
pub(super) fn acceptor(dir: &Path) -> Outcome<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_file(dir.join("host.crt"))?;
    let key = PrivateKeyDer::from_pem_file(dir.join("host.key"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Trusts both authorities. An agent of the bench does not resume sessions: each of its connections is a new one.
pub(super) fn connector(dir: &Path, resumes: bool) -> Outcome<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for authority in ["ca.crt", "hosts.pem"] {
        roots.add(CertificateDer::from_pem_file(dir.join(authority))?)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Ok(TlsConnector::from(Arc::new(config)))
}
