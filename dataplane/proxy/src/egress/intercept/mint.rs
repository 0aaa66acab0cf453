//! One certificate for each host: minted when it is first asked for, kept, the one unused for longest dropped.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use lru::LruCache;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::host::Host;
use parking_lot::Mutex;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType, SerialNumber,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SigningKey};
use time::OffsetDateTime;

use super::authority::{Authority, AuthorityError};

/// Days a certificate is valid.
const LEAF_DAYS: i64 = 30;

/// It is made anew when fewer days are left.
const LEAF_RENEW_DAYS: i64 = 10;

/// Clocks of clients may be behind ours.
const BACKDATED_HOURS: i64 = 24;

const DAY_SECS: i64 = 86_400;

/// Longest common name (RFC 5280, `ub-common-name`); longer hosts stand in the alternative names only.
const COMMON_NAME_BYTES_MAX: usize = 64;

/// Why a host has no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MintError {
    /// The authority is held to other names.
    #[error("the authority may not sign for this host")]
    NotPermitted,
    /// Nothing it signs is valid any more.
    #[error("the authority has expired; `oktsec tls init` makes another one")]
    Expired,
    /// Signing failed.
    #[error("no certificate could be signed")]
    Failed,
}

/// Signs and keeps certificates. Shared by all cores.
pub(crate) struct Minter {
    authority: Authority,
    /// One key for all leaves of this process: it lives in the same memory as the authority's, so more keys protect nothing more.
    leaf: KeyPair,
    signing: Arc<dyn SigningKey>,
    kept: Mutex<LruCache<Host, Kept>>,
    /// What all handshakes share: versions, ticket keys.
    pub(super) config: Arc<ServerConfig>,
}

#[derive(Clone)]
struct Kept {
    certificate: Arc<CertifiedKey>,
    /// Seconds since 1970.
    renew_at: i64,
}

impl Minter {
    /// Reads an authority. Of its certificates so many are kept ready.
    pub(crate) fn load(
        certificate: &Path,
        key: &Path,
        certificates_max: usize,
    ) -> Result<Self, AuthorityError> {
        let failed = |cause: &dyn std::fmt::Display| AuthorityError::Unusable {
            path: certificate.to_owned(),
            cause: cause.to_string(),
        };
        let authority = Authority::load(certificate, key)?;
        let leaf =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| failed(&error))?;
        let der = PrivatePkcs8KeyDer::from(leaf.serialize_der());
        let signing = ring::sign::any_ecdsa_type(&der.into()).map_err(|error| failed(&error))?;
        let provider = Arc::new(ring::default_provider());
        let mut shared = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(NoCertificate));
        // Clients that come back save a signature; tickets are tied to the name they were made for.
        shared.ticketer = ring::Ticketer::new().map_err(|error| failed(&error))?;
        shared.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            authority,
            leaf,
            signing,
            kept: Mutex::new(LruCache::new(room(certificates_max))),
            config: Arc::new(shared),
        })
    }

    /// Keeps so many certificates ready from now on; those unused for longest go.
    pub(crate) fn keep_at_most(&self, certificates_max: usize) {
        self.kept.lock().resize(room(certificates_max));
    }

    /// The certificate for a host.
    pub(crate) fn certificate(
        &self,
        host: &Host,
        now: Timestamp,
    ) -> Result<Arc<CertifiedKey>, MintError> {
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX / 2);
        if let Some(kept) = self.kept.lock().get(host)
            && seconds < kept.renew_at
        {
            return Ok(Arc::clone(&kept.certificate));
        }
        if seconds >= self.authority.not_after {
            return Err(MintError::Expired);
        }
        // Not under the lock: signing takes as long as many look-ups. Two cores may do it twice.
        let expires = (seconds + LEAF_DAYS * DAY_SECS).min(self.authority.not_after);
        let leaf = self.sign(host, seconds, expires).ok_or(MintError::Failed)?;
        if !self.authority.is_accepted(&leaf, host, now) {
            return Err(MintError::NotPermitted);
        }
        let certificate = Arc::new(CertifiedKey::new(vec![leaf], Arc::clone(&self.signing)));
        let kept = Kept {
            certificate: Arc::clone(&certificate),
            renew_at: expires - LEAF_RENEW_DAYS * DAY_SECS,
        };
        self.kept.lock().put(host.clone(), kept);
        Ok(certificate)
    }

    /// Hosts with a certificate at hand.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept.lock().len()
    }

    fn sign(&self, host: &Host, now: i64, expires: i64) -> Option<CertificateDer<'static>> {
        let name = host.to_string();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![match host.address() {
            Some(address) => SanType::IpAddress(address),
            None => SanType::DnsName(name.as_str().try_into().ok()?),
        }];
        params.distinguished_name = rcgen::DistinguishedName::new();
        if name.len() <= COMMON_NAME_BYTES_MAX {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.not_before =
            OffsetDateTime::from_unix_timestamp(now - BACKDATED_HOURS * 3_600).ok()?;
        params.not_after = OffsetDateTime::from_unix_timestamp(expires).ok()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let mut serial = [0; 16];
        getrandom::fill(&mut serial).ok()?;
        // Positive, and never shorter: RFC 5280 §4.1.2.2.
        serial[0] = serial[0] & 0x7F | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        Some(
            params
                .signed_by(&self.leaf, &self.authority.issuer)
                .ok()?
                .into(),
        )
    }
}

fn room(certificates_max: usize) -> NonZeroUsize {
    NonZeroUsize::new(certificates_max).unwrap_or(NonZeroUsize::MIN)
}

/// Every handshake brings its own certificate.
#[derive(Debug)]
struct NoCertificate;

impl rustls::server::ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

impl std::fmt::Debug for Minter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minter")
            .field("kept", &self.kept.lock().len())
            .field("leaf_key_bytes", &self.leaf.der_bytes().len())
            .finish_non_exhaustive()
    }
}
