//! TLS to a data plane, for `oktsec send`.
//!
//! Who is trusted: with `--ca` the authorities of that file; towards the server of our own configuration the very
//! certificate that it names, whatever name that bears and whoever signed it; else the authorities of this machine.

use crate::exit::Failure;
use crate::trust;
use oktsec_contract::paths::StatePaths;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// Whom to trust, and what to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// PEM file with the authorities to trust [default: the certificate of the configuration, or this machine's
    /// authorities with --url]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file with the certificate to show, where the server asks for one
    #[arg(long, value_name = "FILE", requires = "cert_key")]
    cert: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    cert_key: Option<PathBuf>,
}

impl Args {
    /// A connector that trusts whom it should. `own` is the certificate of our own server, if that is whom we ask.
    pub(crate) fn connector(
        &self,
        own: Option<&Path>,
        paths: Option<&StatePaths>,
    ) -> Result<TlsConnector, Failure> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(Failure::new)?;
        let builder = match (&self.ca, own) {
            (None, Some(own)) => {
                let expected = certificates(own)?.into_iter().next().ok_or_else(|| {
                    Failure::new(format_args!("{}: no certificate in it", own.display()))
                })?;
                let this = TheOne {
                    expected,
                    algorithms: provider.signature_verification_algorithms,
                };
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(this))
            }
            (Some(file), _) => builder.with_root_certificates(roots(certificates(file)?)?),
            (None, None) => {
                let system = match paths {
                    Some(paths) => trust::system(paths)?,
                    None => return Err(Failure::new("name the authorities to trust with --ca")),
                };
                let ders = trust::certificates(&system)?;
                builder.with_root_certificates(roots(ders.into_iter().map(Into::into).collect())?)
            }
        };
        let mut config = match (&self.cert, &self.cert_key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| about(key, &error))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| about(cert, &error))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn roots(authorities: Vec<CertificateDer<'static>>) -> Result<RootCertStore, Failure> {
    let mut store = RootCertStore::empty();
    let (taken, _) = store.add_parsable_certificates(authorities);
    match taken {
        0 => Err(Failure::new("there is no authority to trust")),
        _ => Ok(store),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| about(file, &error))
}

fn about(file: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format_args!("{}: {error}", file.display()))
}

/// Trusts one certificate: the server proves that it has its key, and the configuration says that it is the right one.
#[derive(Debug)]
struct TheOne {
    expected: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for TheOne {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *shown == self.expected {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
