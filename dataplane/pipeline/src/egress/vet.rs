//! Whether the addresses of a host are on the public internet, or where the operator said they may be.
//!
//! Every address is checked, and one bad one spoils the answer: a name that resolves to a public and a private
//! address is an attack or a mistake. What gets connected to is exactly what was vetted.

use super::compiled::EgressPolicy;
use super::refusal::{Line, Refusal};
use super::target::Target;
use oktsec_contract::config::{Cidr, PrivateTarget};
use oktsec_contract::host::special::{embedded_v4, special};
use oktsec_contract::host::{HostPattern, canonical};
use oktsec_contract::reason::Reason;
use std::net::IpAddr;

/// A private target, compiled.
#[derive(Debug)]
pub(crate) struct Exemption {
    agent: Option<Box<str>>,
    host: HostPattern,
    network: Cidr,
    ports: Vec<u16>,
    line: Line,
}

impl Exemption {
    pub(crate) fn all(targets: &[PrivateTarget]) -> Vec<Self> {
        let compiled = |(index, target): (usize, &PrivateTarget)| {
            Some(Self {
                agent: (!target.agent.is_empty()).then(|| target.agent.as_str().into()),
                host: HostPattern::parse(&target.host).ok()?,
                network: Cidr::parse(&target.network)?,
                ports: target.ports.clone(),
                line: Line::item("forward_proxy.private_targets", index),
            })
        };
        targets.iter().enumerate().filter_map(compiled).collect()
    }

    /// Whether it is about this request, and holds this address.
    fn holds(&self, agent: Option<&str>, target: &Target, address: IpAddr, metadata: bool) -> bool {
        let whose = self.agent.as_deref().is_none_or(|name| agent == Some(name));
        let port = self.ports.is_empty() || self.ports.contains(&target.port());
        // A metadata service gives credentials to whoever asks: it is never meant by accident.
        let meant = !metadata || self.network.single() == Some(address);
        whose && port && meant && self.host.matches(target.host()) && self.network.contains(address)
    }
}

/// What is known about one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// On the public internet.
    Public,
    /// Not public, and the private target at this line says it may be reached.
    Exempt(Line),
    /// A public IPv4 address inside an IPv6 transition mechanism: harmless, and not connected to.
    Transition,
}

/// Looks at one address.
pub(super) fn kind(
    address: IpAddr,
    target: &Target,
    agent: Option<&str>,
    policy: &EgressPolicy,
) -> Result<Kind, Refusal> {
    let address = canonical(address);
    if let Some(line) = policy.blocked_network(agent, address) {
        return Err(Refusal::new(Reason::EgressHostBlocked)
            .at(line)
            .because(format!("it resolves to {address}")));
    }
    let inner = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => embedded_v4(v6),
    };
    // What a translator makes of it is where the packet goes, so that has to hold as well.
    let inner = match inner {
        Some(v4) => Some(kind(IpAddr::V4(v4), target, agent, policy)?),
        None => None,
    };
    let Some(range) = special(address) else {
        return Ok(Kind::Public);
    };
    let exempt = policy
        .exemptions()
        .iter()
        .find(|exemption| exemption.holds(agent, target, address, range.metadata));
    match (exempt, inner) {
        (Some(exemption), _) => Ok(Kind::Exempt(exemption.line.clone())),
        (None, Some(Kind::Public)) => Ok(Kind::Transition),
        (None, Some(Kind::Exempt(_) | Kind::Transition) | None) => {
            Err(Refusal::new(Reason::EgressAddressSpecial)
                .because(format!("{address} is {}", range.name)))
        }
    }
}

/// The addresses that may be connected to, in the order given, and the lines that exempt some.
pub(super) fn vet(
    addresses: &[IpAddr],
    target: &Target,
    agent: Option<&str>,
    policy: &EgressPolicy,
) -> Result<(Vec<IpAddr>, Option<Line>), Refusal> {
    let mut vetted = Vec::with_capacity(addresses.len());
    let mut exempted = None;
    let mut transition = false;
    for &address in addresses {
        match kind(address, target, agent, policy)? {
            Kind::Public => vetted.push(canonical(address)),
            Kind::Exempt(line) => {
                vetted.push(canonical(address));
                exempted = Some(line);
            }
            Kind::Transition => transition = true,
        }
    }
    match (vetted.is_empty(), transition) {
        (false, _) => Ok((vetted, exempted)),
        (true, true) => Err(Refusal::new(Reason::EgressAddressSpecial)
            .because("only through an IPv6 transition mechanism")),
        (true, false) => Err(Refusal::new(Reason::EgressNameUnresolved)),
    }
}

#[cfg(test)]
mod tests;
