//! Exemptions for addresses off the public internet, and every reason why one could never apply.

use super::{allowed, allowed_globally, below, known_agent, network, pattern};
use crate::config::validate::{Check, Item, Key};
use crate::config::{Cidr, Config, Egress, EgressAction, EgressRule, PrivateTarget};
use crate::host::{HostPattern, special};

/// A private target, and every reason why it could never apply.
pub(super) fn check(
    config: &Config,
    index: usize,
    target: &PrivateTarget,
    check: &mut Check<'_, '_>,
) {
    let at = [Key("forward_proxy"), Key("private_targets"), Item(index)];
    let key = |name| below(&at, &[Key(name)]);
    if !target.agent.is_empty() {
        known_agent(&key("agent"), &target.agent, config, check);
    }
    let host = pattern(&key("host"), &target.host, check);
    let Some(network) = network(&key("network"), &target.network, check) else {
        return;
    };
    if !special::touches(&network) {
        let message = format!("{network} is public: it can be reached without this");
        check.error(&key("network"), message, "remove this entry");
    }
    let Some(host) = host else { return };
    if is_outside(&host, &network) {
        let message = format!("can never apply: {host} is not in {network}");
        check.error(&key("network"), message, "name the network of the host");
    }
    let agent = config.agents.get(&target.agent);
    let own = agent.and_then(|agent| agent.egress.as_ref());
    if let Some((message, remedy)) = closed_to(&host, config, own) {
        check.error(&key("host"), message, remedy);
        return;
    }
    let proxy = &config.forward_proxy;
    let reachable = |port: &u16| {
        let here = proxy.ports.contains(port) || opens(&proxy.rules, *port, &host);
        let there = own.is_none_or(|own| {
            own.ports.is_empty() || own.ports.contains(port) || opens(&own.rules, *port, &host)
        });
        here && there
    };
    if !target.ports.is_empty() && !target.ports.iter().any(reachable) {
        let ports: Vec<_> = target.ports.iter().map(ToString::to_string).collect();
        let ports = ports.join(", ");
        let message = format!("can never apply: port {ports} may not be reached");
        let remedy = format!(
            "add {{hosts: [\"{host}\"], ports: [{ports}], action: allow}} to forward_proxy.rules"
        );
        check.error(&key("ports"), message, &remedy);
    }
}

/// Whether a host that is written as an address, or as a network, is none of this network's.
fn is_outside(host: &HostPattern, network: &Cidr) -> bool {
    match host {
        HostPattern::Exact(host) => host
            .address()
            .is_some_and(|address| !network.contains(address)),
        HostPattern::Network(hosts) => !hosts.overlaps(network),
        HostPattern::Any | HostPattern::Below(_) => false,
    }
}

/// Why lists of hosts keep everybody, or the agent with this level of its own, from a host; and the remedy.
fn closed_to(
    host: &HostPattern,
    config: &Config,
    own: Option<&Egress>,
) -> Option<(String, &'static str)> {
    let proxy = &config.forward_proxy;
    let blocked = proxy
        .blocked_domains
        .iter()
        .chain(own.map_or(&[][..], |own| &own.blocked_domains));
    let block = blocked
        .filter_map(|entry| HostPattern::parse(entry).ok())
        .find(|block| block.covers(host));
    if let Some(block) = block {
        let message = format!("can never apply: {host} is blocked by {block}");
        return Some((message, "remove one of them"));
    }
    let own_list = own.and_then(|own| {
        let internal = &config.trust_boundaries.internal;
        let scope: &[String] = if own.scope.is_empty() { &[] } else { internal };
        allowed(
            &[&own.allowed_domains, scope],
            &own.integrations,
            &own.rules,
        )
    });
    let levels = [
        (allowed_globally(proxy), "forward_proxy"),
        (own_list, "the agent"),
    ];
    let (_, whose) = levels.into_iter().find(|(list, _)| {
        let allows = |list: &[HostPattern]| list.iter().any(|allowed| allowed.overlaps(host));
        list.as_deref().is_some_and(|list| !allows(list))
    })?;
    let message = format!("can never apply: {whose} does not allow {host}");
    Some((message, "add it to allowed_domains"))
}

/// Whether one of the rules opens a port of the host.
fn opens(rules: &[EgressRule], port: u16, host: &HostPattern) -> bool {
    rules.iter().any(|rule| {
        let mut hosts = rule
            .hosts
            .iter()
            .filter_map(|text| HostPattern::parse(text).ok());
        rule.action == EgressAction::Allow
            && rule.ports.contains(&port)
            && hosts.any(|pattern| pattern.overlaps(host))
    })
}
