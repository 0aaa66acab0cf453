//! The authority that signs for intercepted hosts, read from its two files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oktsec_contract::clock::Timestamp;
use oktsec_contract::files::{self, FileError};
use oktsec_contract::host::Host;
use oktsec_contract::limits::KEY_FILE_BYTES_MAX;
use rcgen::{Issuer, KeyPair, PublicKeyData as _};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

/// Why there is no interception.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// A file cannot be read.
    #[error("{path}: {source}; `oktsec tls init` makes an authority")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FileError,
    },
    /// Others can read the key, so others can be anybody to clients that trust it.
    #[error("{0} can be read by others; `chmod 600` it, and make a new authority if they did")]
    Exposed(PathBuf),
    /// What is in a file is of no use.
    #[error("{path}: {cause}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

/// Signs certificates.
pub(super) struct Authority {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// What a client that trusts it would accept.
    verifier: Arc<WebPkiServerVerifier>,
    /// After this nothing it signed is valid. Seconds since 1970.
    pub(super) not_after: i64,
}

impl Authority {
    /// Reads certificate and key, and makes sure that they belong together.
    pub(super) fn load(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let unusable = |path: &Path, cause: &dyn std::fmt::Display| AuthorityError::Unusable {
            path: path.to_owned(),
            cause: cause.to_string(),
        };
        let read = |path: &Path| {
            files::read_text(path, KEY_FILE_BYTES_MAX).map_err(|source| AuthorityError::File {
                path: path.to_owned(),
                source,
            })
        };
        let (certificate_text, key_text) = (read(certificate)?, read(key)?);
        let mode = std::fs::metadata(key)
            .map_err(|error| unusable(key, &error))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            return Err(AuthorityError::Exposed(key.to_owned()));
        }
        // Causes are fixed words here: what a parser says could quote the file.
        let pair = KeyPair::from_pem(&key_text)
            .map_err(|_| unusable(key, &"no private key we can use"))?;
        let der = CertificateDer::from_pem_slice(certificate_text.as_bytes())
            .map_err(|_| unusable(certificate, &"no certificate in it"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der)
            .map_err(|_| unusable(certificate, &"no certificate we can read"))?;
        if !parsed.is_ca() {
            return Err(unusable(certificate, &"is no authority's certificate"));
        }
        if parsed.public_key().raw != pair.subject_public_key_info() {
            return Err(unusable(
                key,
                &"is not the key of the certificate beside it",
            ));
        }
        let not_after = parsed.validity().not_after.timestamp();
        let mut roots = RootCertStore::empty();
        roots
            .add(der.clone())
            .map_err(|error| unusable(certificate, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| unusable(certificate, &error))?;
        let issuer =
            Issuer::from_ca_cert_der(&der, pair).map_err(|error| unusable(certificate, &error))?;
        Ok(Self {
            issuer,
            verifier,
            not_after,
        })
    }

    /// Whether a client that trusts this authority accepts the certificate: it may be held to other names, or have expired.
    pub(super) fn is_accepted(
        &self,
        leaf: &CertificateDer<'_>,
        host: &Host,
        now: Timestamp,
    ) -> bool {
        let Ok(name) = ServerName::try_from(host.to_string()) else {
            return false;
        };
        let seconds = now.as_secs();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        self.verifier
            .verify_server_cert(leaf, &[], &name, &[], now)
            .is_ok()
    }
}
