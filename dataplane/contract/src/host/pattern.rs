//! Host patterns of allow and block lists: a host, everything below a name, a network, or everything.

use super::{Host, HostError, Name};
use crate::config::Cidr;
use std::fmt;
use std::net::IpAddr;

/// What an entry of a list covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`: every host.
    Any,
    /// This very host.
    Exact(Host),
    /// `*.example.com`: every name below `example.com`, at any depth, and not `example.com` itself (compat §7.2).
    Below(Name),
    /// `10.0.0.0/8`: every address in the network. Names are never in it, whatever they resolve to.
    Network(Cidr),
}

/// Why an entry covers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// What is written is no host.
    #[error("{0}")]
    Host(#[from] HostError),
    /// `*` somewhere else than in front.
    #[error("has a * that is not its first label")]
    Wildcard,
    /// A wildcard in front of an address.
    #[error("is a wildcard in front of an address")]
    BelowAddress,
    /// A scheme, port or path.
    #[error("is a URL or has a port")]
    Url,
    /// A network that is none.
    #[error("is no network")]
    Network,
}

impl HostPattern {
    /// Reads an entry.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(above) = text.strip_prefix("*.") {
            if above.contains('*') {
                return Err(PatternError::Wildcard);
            }
            return match Host::parse(above)? {
                Host::Address(_) => Err(PatternError::BelowAddress),
                Host::Name(name) => Ok(Self::Below(name)),
            };
        }
        if text.contains('*') {
            return Err(PatternError::Wildcard);
        }
        if text.contains("://") || has_port(text) {
            return Err(PatternError::Url);
        }
        if let Some((address, _)) = text.split_once('/') {
            if address.parse::<IpAddr>().is_err() {
                return Err(PatternError::Url);
            }
            return Cidr::parse(text)
                .map(Self::Network)
                .ok_or(PatternError::Network);
        }
        Ok(Self::Exact(Host::parse(text)?))
    }

    /// The host of a URL or of `host:port`, for an entry that says more than a list can hold.
    pub fn parse_host_of(text: &str) -> Option<Self> {
        let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
        let authority = authority.split(['/', '?', '#']).next()?;
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            Some(_) | None => authority,
        };
        Self::parse(host).ok()
    }

    /// Whether a host is covered.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exact(this), host) => this == host,
            (Self::Below(above), Host::Name(name)) => is_below(name.as_str(), above.as_str()),
            (Self::Network(network), Host::Address(address)) => network.contains(*address),
            (Self::Below(_), Host::Address(_)) | (Self::Network(_), Host::Name(_)) => false,
        }
    }

    /// Whether there is a host that both cover.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Exact(host), pattern) | (pattern, Self::Exact(host)) => pattern.matches(host),
            (Self::Below(a), Self::Below(b)) => {
                let (a, b) = (a.as_str(), b.as_str());
                a == b || is_below(a, b) || is_below(b, a)
            }
            (Self::Network(a), Self::Network(b)) => a.overlaps(b),
            (Self::Below(_), _) | (Self::Network(_), Self::Below(_)) => false,
        }
    }

    /// Whether everything that `other` covers is covered.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (pattern, Self::Exact(host)) => pattern.matches(host),
            (Self::Below(a), Self::Below(b)) => a == b || is_below(b.as_str(), a.as_str()),
            (Self::Network(a), Self::Network(b)) => a.covers(b),
            (Self::Exact(_) | Self::Below(_) | Self::Network(_), _) => false,
        }
    }
}

fn has_port(text: &str) -> bool {
    let bracketed = text.starts_with('[') && text.contains("]:");
    bracketed || text.bytes().filter(|b| *b == b':').count() == 1
}

fn is_below(name: &str, above: &str) -> bool {
    name.strip_suffix(above)
        .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => host.fmt(f),
            Self::Below(name) => write!(f, "*.{}", name.as_str()),
            Self::Network(network) => network.fmt(f),
        }
    }
}
