//! Tokens of principals: what a client shows, and the hash that the configuration keeps of it (compat §2.7).
//!
//! ```
//! use oktsec_contract::token::{TokenKind, hash, matches};
//! let raw = format!("{}{}", TokenKind::GatewayBearer.prefix(), "0".repeat(64));
//! let kept = hash(&[0; 16], raw.as_bytes());
//! assert!(kept.ends_with(":163fc8ee4f4e42c8372ef36b9846288fd0189354a08ed1b66e1073c40eeb0536"));
//! assert!(matches(&kept, raw.as_bytes()) && !matches(&kept, b"okt_gw_"));
//! ```

use crate::clock::Timestamp;
use crate::config::PrincipalToken;
use sha2::{Digest as _, Sha256};

/// Random bytes of a token.
const SECRET_BYTES: usize = 32;
/// Random bytes before it in the hash.
const SALT_BYTES: usize = 16;
/// The longest text anybody takes for a token.
pub const TOKEN_BYTES_MAX: usize = 256;

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// The MCP gateway, as a bearer token.
    GatewayBearer,
    /// The egress proxy, as the password of `Proxy-Authorization: Basic`.
    ProxyBasic,
    /// Hook events, as a bearer token.
    HookBearer,
}

impl TokenKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::GatewayBearer, Self::ProxyBasic, Self::HookBearer];

    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GatewayBearer => "gateway_bearer",
            Self::ProxyBasic => "proxy_basic",
            Self::HookBearer => "hook_bearer",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// What the tokens of a kind begin with, so that a leaked one is recognised.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::GatewayBearer => "okt_gw_",
            Self::ProxyBasic => "okt_proxy_",
            Self::HookBearer => "okt_hook_",
        }
    }
}

/// A new token: what its owner is shown once, and the hash that is kept.
///
/// # Errors
/// When the system has no random numbers.
pub fn generate(kind: TokenKind) -> Result<(String, String), getrandom::Error> {
    let mut random = [0; SECRET_BYTES + SALT_BYTES];
    getrandom::fill(&mut random)?;
    let (secret, salt) = random.split_at(SECRET_BYTES);
    let raw = format!("{}{}", kind.prefix(), hex::encode(secret));
    let kept = hash(salt, raw.as_bytes());
    Ok((raw, kept))
}

/// `sha256:<hex salt>:<hex SHA-256 of salt and token>`. A token is random, so one round is enough.
pub fn hash(salt: &[u8], raw: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(salt)
        .chain_update(raw)
        .finalize();
    format!("sha256:{}:{}", hex::encode(salt), hex::encode(digest))
}

/// Whether a token is the one a hash was kept of. A hash in another form belongs to no token.
pub fn matches(kept: &str, raw: &[u8]) -> bool {
    if raw.is_empty() || raw.len() > TOKEN_BYTES_MAX {
        return false;
    }
    let parts = kept.strip_prefix("sha256:").and_then(|k| k.split_once(':'));
    let Some((Ok(salt), Ok(digest))) =
        parts.map(|(salt, digest)| (hex::decode(salt), hex::decode(digest)))
    else {
        return false;
    };
    let found = Sha256::new()
        .chain_update(&salt)
        .chain_update(raw)
        .finalize();
    // Whoever could measure the comparison would learn bytes of a hash, not of a token.
    digest.len() == found.len() && digest == found.as_slice()
}

/// What a token is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It opens what its kind opens.
    Active,
    /// Its time is over, or its end cannot be read.
    Expired,
    /// An operator revoked it, whenever that says it was.
    Revoked,
}

impl TokenState {
    /// For tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// The state of a token of the configuration.
pub fn state(token: &PrincipalToken, now: Timestamp) -> TokenState {
    if !token.revoked_at.is_empty() {
        return TokenState::Revoked;
    }
    if token.expires_at.is_empty() {
        return TokenState::Active;
    }
    match Timestamp::parse_rfc3339(&token.expires_at) {
        Some(end) if now < end => TokenState::Active,
        Some(_) | None => TokenState::Expired,
    }
}

#[cfg(test)]
mod tests {
    use super::{TOKEN_BYTES_MAX, TokenKind, TokenState, generate, hash, matches, state};
    use crate::clock::Timestamp;
    use crate::config::PrincipalToken;

    #[test]
    fn a_new_token_fits_its_hash_and_no_other() {
        for kind in TokenKind::ALL {
            assert_eq!(TokenKind::parse(kind.as_str()), Some(kind));
            let (raw, kept) = generate(kind).expect("random numbers");
            let (other, _) = generate(kind).expect("random numbers");
            assert_eq!(raw.len(), kind.prefix().len() + 64);
            assert!(matches(&kept, raw.as_bytes()));
            assert!(!matches(&kept, other.as_bytes()) && !matches(&kept, kept.as_bytes()));
        }
    }

    #[test]
    fn a_hash_in_another_form_belongs_to_no_token() {
        let raw = b"okt_proxy_x";
        let good = hash(b"0123456789abcdef", raw);
        assert!(matches(&good, raw));
        for bad in [
            "",
            "sha256:",
            "sha256::",
            "sha512:00:00",
            &good[..good.len() - 2],
            "sha256:zz:00",
        ] {
            assert!(!matches(bad, raw), "{bad}");
        }
        assert!(!matches(&hash(b"", b""), b""));
        let long = [b'x'; TOKEN_BYTES_MAX + 1];
        assert!(!matches(&hash(b"", &long), &long));
    }

    #[test]
    fn an_end_that_cannot_be_read_is_over() {
        let now = Timestamp::from_secs(1_771_754_400);
        let token = |expires: &str, revoked: &str| PrincipalToken {
            expires_at: expires.into(),
            revoked_at: revoked.into(),
            ..PrincipalToken::default()
        };
        for (expires, revoked, expected) in [
            ("", "", TokenState::Active),
            ("2026-02-22T10:00:01Z", "", TokenState::Active),
            ("2026-02-22T10:00:00Z", "", TokenState::Expired),
            ("soon", "", TokenState::Expired),
            (
                "2030-01-01T00:00:00Z",
                "2026-01-01T00:00:00Z",
                TokenState::Revoked,
            ),
            ("", "whenever", TokenState::Revoked),
        ] {
            assert_eq!(
                state(&token(expires, revoked), now),
                expected,
                "{expires} {revoked}"
            );
        }
    }
}
