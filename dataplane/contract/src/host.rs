//! Hosts as they are compared: one spelling of each name and each address, whoever wrote it and however.
//!
//! A name is lower-case ASCII after IDNA (UTS 46) without its trailing dot; whatever a URL parser would take for
//! an IPv4 address (`127.1`, `0x7f.0.0.1`, `017700000001`) is that address; an IPv4 address inside IPv6 is the IPv4
//! address. Everything that could mean two things to two readers is refused: zone ids, percent-encoding, userinfo.
//!
//! ```
//! use oktsec_contract::host::{Host, HostPattern};
//! assert_eq!(Host::parse("EXAMPLE.com.").unwrap().to_string(), "example.com");
//! assert_eq!(Host::parse("0x7f.1").unwrap(), Host::parse("::ffff:127.0.0.1").unwrap());
//! assert!(HostPattern::parse("*.example.com").unwrap().matches(&Host::parse("a.b.example.com").unwrap()));
//! ```

mod address;
mod pattern;
pub mod presets;
pub mod special;

pub use pattern::{HostPattern, PatternError};

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A host: a name or an address, in its one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name to be resolved.
    Name(Name),
    /// An address. Invariant: never an IPv4 address mapped into IPv6.
    Address(IpAddr),
}

/// A host name. Invariant: lower-case ASCII letters, digits, `-` and `_` in labels of 1 to 63 bytes joined by dots,
/// at most [`NAME_BYTES_MAX`] in all, no trailing dot, and nothing a reader could take for an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

/// Bytes of a name (RFC 1035 §2.3.4, without the length of the root).
pub const NAME_BYTES_MAX: usize = 253;
/// Bytes of a label.
pub const LABEL_BYTES_MAX: usize = 63;
/// Bytes accepted of a name before IDNA makes it shorter.
const WRITTEN_BYTES_MAX: usize = 1_024;

/// Why a text is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HostError {
    /// Nothing is written.
    #[error("is empty")]
    Empty,
    /// A name longer than [`NAME_BYTES_MAX`].
    #[error("is longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// A label that is empty or longer than [`LABEL_BYTES_MAX`].
    #[error("has a label that is empty or longer than {LABEL_BYTES_MAX} bytes")]
    Label,
    /// A character that no host name has.
    #[error("holds a character that no host name has")]
    Character,
    /// What IDNA refuses.
    #[error("is no valid international name")]
    Idna,
    /// It ends in a number, but is no IPv4 address.
    #[error("looks like an address and is none")]
    Address,
    /// An IPv6 address with a zone: it means something else on every machine.
    #[error("has an IPv6 zone")]
    Zone,
    /// Percent-encoded characters.
    #[error("holds percent-encoded characters")]
    Encoded,
    /// A user name before the host.
    #[error("holds a user name")]
    Userinfo,
}

impl Host {
    /// Reads a host without a port: a name, an IPv4 address in any spelling, an IPv6 address with or without brackets.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > WRITTEN_BYTES_MAX {
            return Err(HostError::TooLong);
        }
        // PERF: what everybody writes for an address; the reading below takes ten times as long, and comes to the same.
        if text.as_bytes()[0].is_ascii_digit()
            && let Ok(v4) = text.parse()
        {
            return Ok(Self::Address(IpAddr::V4(v4)));
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Character)?;
            return address::v6(inner);
        }
        if text.contains(':') {
            return address::v6(text);
        }
        for (byte, error) in [(b'@', HostError::Userinfo), (b'%', HostError::Encoded)] {
            if text.as_bytes().contains(&byte) {
                return Err(error);
            }
        }
        let ascii = to_ascii(text)?;
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        if address::ends_in_a_number(name) {
            return address::v4(name)
                .map(|v4| Self::Address(IpAddr::V4(v4)))
                .ok_or(HostError::Address);
        }
        check_name(name)?;
        Ok(Self::Name(Name(name.into())))
    }

    /// The host of an address we already have.
    pub fn from_address(address: IpAddr) -> Self {
        Self::Address(canonical(address))
    }

    /// The name, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name.as_str()),
            Self::Address(_) => None,
        }
    }

    /// The address, if it is one.
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Address(address) => Some(*address),
        }
    }
}

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name and every name above it, the shortest last: `a.b.c`, `b.c`, `c`.
    pub fn and_above(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |name| {
            name.split_once('.').map(|(_, above)| above)
        })
    }
}

/// As in a URL without brackets; see [`Bracketed`].
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(&name.0),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Shows a host as a URL and a `Host` header have it: IPv6 in brackets.
#[derive(Clone, Copy, Debug)]
pub struct Bracketed<'a>(pub &'a Host);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Host::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
            host @ (Host::Name(_) | Host::Address(_)) => host.fmt(f),
        }
    }
}

/// An address in its one spelling: IPv4 inside IPv6 is IPv4.
pub fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => v6_canonical(v6),
    }
}

fn v6_canonical(v6: Ipv6Addr) -> IpAddr {
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

/// Lower-cases, and runs IDNA where a name asks for it.
fn to_ascii(text: &str) -> Result<Cow<'_, str>, HostError> {
    // PERF: names on the wire are lower-case ASCII nearly always; the tables of UTS 46 cost a hundred times as much.
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'));
    let encoded = || {
        let bytes = text.as_bytes();
        let starts = |label: &[u8]| label.len() >= 4 && label[..4].eq_ignore_ascii_case(b"xn--");
        bytes.split(|b| *b == b'.').any(starts)
    };
    if plain && !encoded() {
        return Ok(Cow::Borrowed(text));
    }
    if text.is_ascii() && !encoded() {
        return Ok(Cow::Owned(text.to_ascii_lowercase()));
    }
    idna::uts46::Uts46::new()
        .to_ascii(
            text.as_bytes(),
            idna::AsciiDenyList::URL,
            idna::uts46::Hyphens::Allow,
            idna::uts46::DnsLength::Ignore,
        )
        .map_err(|_| HostError::Idna)
}

fn check_name(name: &str) -> Result<(), HostError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    for label in name.split('.') {
        if !label.bytes().all(fits) {
            return Err(HostError::Character);
        }
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return Err(HostError::Label);
        }
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(HostError::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
