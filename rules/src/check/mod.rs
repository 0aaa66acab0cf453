//! Pure tests on the matched bytes, for formats that carry their own proof.
//!
//! A checksum turns "looks like a card number" into "is one": that is what lets a rule block
//! without blocking order numbers. One file per family; each function takes the match and
//! answers yes or no, without allocation limits to fear: matches are short. One, [`Check::Apart`],
//! also looks at what stands before the match.

mod apart;
mod crypto;
mod finance;
mod identity;
mod lookalike;
mod national;
mod network;
mod quality;
mod token;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use national::Scheme;

/// A test of the matched bytes, named by a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Check {
    /// Payment card number: 12 to 19 digits, Luhn sum, not one repeated digit.
    Luhn,
    /// International bank account number: country length and mod 97.
    Iban,
    /// United States bank routing number.
    Aba,
    /// JSON Web Token: three parts, the header decodes to JSON with `alg`.
    Jwt,
    /// GitHub token: CRC-32 of the body in its last six characters.
    Github,
    /// npm token: the same checksum as GitHub's.
    Npm,
    /// At least this many thousandths of a bit per character in the longest token of the match.
    Entropy {
        /// Thousandths of a bit per character.
        millibits_min: u16,
    },
    /// No example, placeholder, variable reference or repeated character.
    NotPlaceholder,
    /// United States social security number that can have been issued.
    Ssn,
    /// At least twelve consecutive words of the English BIP-39 list.
    Bip39,
    /// Bitcoin private key in wallet import format.
    Wif,
    /// Ethereum address; EIP-55 checksum if it is in mixed case.
    EthAddress,
    /// Bitcoin address: base58check or bech32(m).
    BtcAddress,
    /// Plausible e-mail address.
    Email,
    /// Private, loopback, link-local or otherwise not public IP address, in any spelling.
    PrivateIp,
    /// Spanish DNI or NIE with its letter.
    EsDni,
    /// Brazilian CPF with its two digits.
    BrCpf,
    /// British national insurance number with a prefix in use.
    UkNino,
    /// Indian Aadhaar number (Verhoeff).
    InAadhaar,
    /// A number of a person, vehicle or device with the check digits of its scheme.
    Number(Scheme),
    /// Letters and digits that no words are made of, as generated keys are.
    Random,
    /// Ends with a value that is not plainly made of words, as names of variables and placeholders are.
    NotWords,
    /// Letters and digits in the order of the alphabet or of a keyboard, as people type values.
    Typed,
    /// `scheme://user:password@` with a password that no guide or factory uses.
    UserInfo,
    /// age identity (bech32).
    Age,
    /// Base58check: a sum over what extended keys and addresses carry.
    Base58Check,
    /// Stellar secret seed (CRC-16).
    Stellar,
    /// GitLab token of the routable kind: CRC-32 in base 36 at its end.
    Gitlab,
    /// Host name in letters that look like Latin ones, written out or in punycode.
    LookalikeHost,
    /// Not in the middle of encoded bytes, where short prefixes stand by chance.
    Apart,
}

/// What rule files call the checks without a parameter. A check that is missing here does not compile.
macro_rules! named {
    ($($name:literal $check:ident,)*) => {
        const NAMED: &[(&str, Check)] = &[$(($name, Check::$check)),*];

        impl Check {
            const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$check => Some($name),)*
                    Self::Entropy { .. } | Self::Number(_) => None,
                }
            }
        }
    };
}

named! {
    "luhn" Luhn,
    "iban" Iban,
    "aba" Aba,
    "jwt" Jwt,
    "github" Github,
    "npm" Npm,
    "not_placeholder" NotPlaceholder,
    "ssn" Ssn,
    "bip39" Bip39,
    "wif" Wif,
    "eth_address" EthAddress,
    "btc_address" BtcAddress,
    "email" Email,
    "private_ip" PrivateIp,
    "es_dni" EsDni,
    "br_cpf" BrCpf,
    "uk_nino" UkNino,
    "in_aadhaar" InAadhaar,
    "random" Random,
    "not_words" NotWords,
    "typed" Typed,
    "userinfo" UserInfo,
    "age" Age,
    "base58check" Base58Check,
    "stellar" Stellar,
    "gitlab" Gitlab,
    "lookalike_host" LookalikeHost,
    "apart" Apart,
}

/// A word that names no check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown check {0:?}; known: {known}", known = known().join(" "))]
pub struct CheckError(pub String);

fn known() -> Vec<&'static str> {
    let named = NAMED.iter().map(|(name, _)| *name);
    named
        .chain(["entropy:<bits>"])
        .chain(Scheme::words())
        .collect()
}

impl Check {
    /// Whether what was found in a text passes.
    pub fn passes(self, text: &[u8], found: Range<usize>) -> bool {
        let matched = &text[found.clone()];
        match self {
            Self::Luhn => finance::luhn(matched),
            Self::Iban => finance::iban(matched),
            Self::Aba => finance::aba(matched),
            Self::Jwt => token::jwt(matched),
            Self::Github | Self::Npm => token::crc32_base62(matched),
            Self::Entropy { millibits_min } => quality::entropy(matched, millibits_min),
            Self::NotPlaceholder => quality::not_placeholder(matched),
            Self::Ssn => identity::ssn(matched),
            Self::Bip39 => crypto::bip39(matched),
            Self::Wif => crypto::wif(matched),
            Self::EthAddress => crypto::eth_address(matched),
            Self::BtcAddress => crypto::btc_address(matched),
            Self::Email => network::email(matched),
            Self::PrivateIp => network::private_ip(matched),
            Self::EsDni => identity::es_dni(matched),
            Self::BrCpf => identity::br_cpf(matched),
            Self::UkNino => identity::uk_nino(matched),
            Self::InAadhaar => identity::in_aadhaar(matched),
            Self::Number(scheme) => scheme.passes(matched),
            Self::Random => quality::random(matched),
            Self::NotWords => quality::not_words(matched),
            Self::Typed => quality::typed(matched),
            Self::UserInfo => quality::userinfo(matched),
            Self::Age => crypto::age(matched),
            Self::Base58Check => crypto::base58check_any(matched),
            Self::Stellar => crypto::stellar(matched),
            Self::Gitlab => token::gitlab(matched),
            Self::LookalikeHost => lookalike::lookalike_host(matched),
            Self::Apart => apart::apart(text, found.start),
        }
    }
}

impl FromStr for Check {
    type Err = CheckError;

    fn from_str(word: &str) -> Result<Self, CheckError> {
        if let Some(bits) = word.strip_prefix("entropy:") {
            let bits: f32 = bits
                .trim()
                .parse()
                .map_err(|_| CheckError(word.to_owned()))?;
            if !(0.0..=8.0).contains(&bits) {
                return Err(CheckError(word.to_owned()));
            }
            // In range: at most 8,000.
            return Ok(Self::Entropy {
                millibits_min: (bits * 1000.0).round() as u16,
            });
        }
        let named = NAMED.iter().find(|(name, _)| *name == word);
        let number = || Scheme::of(word).map(Self::Number);
        named
            .map(|(_, check)| *check)
            .or_else(number)
            .ok_or_else(|| CheckError(word.to_owned()))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entropy { millibits_min } => {
                write!(f, "entropy:{}", f32::from(*millibits_min) / 1000.0)
            }
            Self::Number(scheme) => f.write_str(scheme.as_str()),
            named => f.write_str(named.name().unwrap_or_default()),
        }
    }
}

impl TryFrom<String> for Check {
    type Error = CheckError;

    fn try_from(word: String) -> Result<Self, CheckError> {
        word.parse()
    }
}

impl From<Check> for String {
    fn from(check: Check) -> Self {
        check.to_string()
    }
}

/// The decimal digits of a match, separators dropped. `None` if there are more than `N`.
fn digits<const N: usize>(matched: &[u8]) -> Option<([u8; N], usize)> {
    let mut out = [0_u8; N];
    let mut len = 0;
    for byte in matched.iter().filter(|byte| byte.is_ascii_digit()) {
        *out.get_mut(len)? = byte - b'0';
        len += 1;
    }
    Some((out, len))
}

/// The longest run of characters that tokens are made of.
fn longest_token(matched: &[u8]) -> &[u8] {
    matched
        .split(|byte| !(byte.is_ascii_alphanumeric() || b"+/_=-".contains(byte)))
        .max_by_key(|run| run.len())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_survives_being_written_and_read() {
        let words = NAMED.iter().map(|(name, _)| *name);
        for word in words.chain(Scheme::words()).chain(["entropy:3.5"]) {
            let check: Check = word.parse().unwrap();
            assert_eq!(check.to_string(), word);
            for bytes in [
                &b""[..],
                b"\xff\xfe",
                b"0",
                b"-",
                b"aaaa.bbbb.cccc",
                &[b'1'; 4096],
            ] {
                let _ = check.passes(bytes, 0..bytes.len());
                let _ = check.passes(bytes, bytes.len()..bytes.len());
            }
        }
        assert!("lun".parse::<Check>().is_err());
        assert!("entropy:9".parse::<Check>().is_err());
        assert!("entropy:NaN".parse::<Check>().is_err());
    }
}
