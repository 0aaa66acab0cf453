//! What key files hold: our raw bytes in PEM, and the SPKI and PKCS #8 (RFC 8410) that SDKs write.

use super::pem;
use super::types::{KeyPair, PublicKey};
use ed25519_dalek::pkcs8::{DecodePrivateKey, spki::DecodePublicKey};
use ed25519_dalek::{SigningKey, VerifyingKey};

const PRIVATE_LABEL: &str = "OKTSEC ED25519 PRIVATE KEY";
const PUBLIC_LABEL: &str = "OKTSEC ED25519 PUBLIC KEY";

/// Why bytes are no key we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM.
    #[error("{0}")]
    Pem(&'static str),
    /// A length no key has.
    #[error("{0} bytes are no Ed25519 key; expected 32 or SPKI (public), 64 or PKCS #8 (private)")]
    Length(usize),
    /// DER of another algorithm, or broken.
    #[error("not an Ed25519 key in SPKI or PKCS #8")]
    Der,
    /// The bytes are no point of the curve, or not written in the one right way.
    #[error("not a point of the curve")]
    NotAPoint,
    /// Anybody could sign for it.
    #[error("a weak key: signatures by anybody would verify")]
    Weak,
    /// Batch and single verification could disagree about its signatures.
    #[error("a key outside the prime-order group")]
    MixedOrder,
    /// The two halves of a private key don't belong together.
    #[error("the public half does not belong to the private half")]
    HalvesDiffer,
    /// A public key where a private one is needed, or the other way round.
    #[error("32 bytes are a public key, a private one is needed")]
    PublicNotPrivate,
    /// A private key in a public file.
    #[error("64 bytes are a private key: keep it out of public files")]
    PrivateNotPublic,
}

impl PublicKey {
    /// Accepts a key that is safe to verify with.
    ///
    /// # Errors
    /// Weak keys, keys outside the prime-order group, no keys at all.
    pub fn check(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::NotAPoint)?;
        let point = key.to_edwards();
        if point.compress().to_bytes() != bytes {
            return Err(KeyError::NotAPoint);
        }
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        if !point.is_torsion_free() {
            return Err(KeyError::MixedOrder);
        }
        Ok(Self { bytes })
    }
}

/// Reads the text of a `.pub` file.
///
/// # Errors
/// See [`KeyError`].
pub fn decode_public(text: &str) -> Result<PublicKey, KeyError> {
    PublicKey::check(public_bytes(text)?)
}

/// The raw key in the text of a `.pub` file, not checked yet.
pub(super) fn public_bytes(text: &str) -> Result<[u8; 32], KeyError> {
    let body = pem::decode(text).map_err(KeyError::Pem)?;
    if let Ok(raw) = <[u8; 32]>::try_from(body.as_slice()) {
        return Ok(raw);
    }
    match body.len() {
        64 => Err(KeyError::PrivateNotPublic),
        44 => {
            let key = VerifyingKey::from_public_key_der(&body).map_err(|_| KeyError::Der)?;
            Ok(key.to_bytes())
        }
        length => Err(KeyError::Length(length)),
    }
}

/// Reads the text of a `.key` file.
///
/// # Errors
/// See [`KeyError`].
pub fn decode_private(name: &str, text: &str) -> Result<KeyPair, KeyError> {
    let body = pem::decode(text).map_err(KeyError::Pem)?;
    match body.len() {
        32 => Err(KeyError::PublicNotPrivate),
        64 => {
            let halves = body.first_chunk::<32>().zip(body.last_chunk::<32>());
            let (seed, public) = halves.expect("64 bytes hold two times 32");
            let pair = KeyPair::from_seed(name, seed);
            if pair.public_key() == *public {
                Ok(pair)
            } else {
                Err(KeyError::HalvesDiffer)
            }
        }
        // PKCS #8 of version 1 has 48 bytes, of version 2 (with the public key) 81 or more.
        48..=512 => {
            let key = SigningKey::from_pkcs8_der(&body).map_err(|_| KeyError::Der)?;
            Ok(KeyPair::from_seed(name, key.as_bytes()))
        }
        length => Err(KeyError::Length(length)),
    }
}

impl KeyPair {
    /// The text of its `.key` file.
    pub fn private_pem(&self) -> String {
        let mut body = [0; 64];
        body[..32].copy_from_slice(self.seed());
        body[32..].copy_from_slice(&self.public_key());
        pem::encode(PRIVATE_LABEL, &body)
    }

    /// The text of its `.pub` file.
    pub fn public_pem(&self) -> String {
        pem::encode(PUBLIC_LABEL, &self.public_key())
    }
}
