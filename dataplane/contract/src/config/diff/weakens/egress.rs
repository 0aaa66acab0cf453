//! Weaker outbound policy: more hosts, ports, private targets and proofs; less scanning; higher limits.

use super::{Weak, auth, gained, tls};
use crate::config::{
    Config, Egress, EgressAction, EgressLimits, EgressRule, ForwardProxy, Interception,
    NameResolution, OnQuarantine, OnSealed, Redact,
};

pub(super) fn forward_proxy(old: &Config, new: &Config, weak: &mut Weak) {
    let (before, now) = (&old.forward_proxy, &new.forward_proxy);
    let key = |name: &str| format!("forward_proxy.{name}");
    let lost = |before: bool, now: bool| before && !now;
    weak.when(
        auth(before.require_auth, now.require_auth),
        key("require_auth"),
    );
    let header = |proxy: &ForwardProxy| proxy.trusted_loopback_headers != Some(false);
    weak.when(
        !header(before) && header(now),
        key("trusted_loopback_headers"),
    );
    weak.when(
        !before.auth_methods.is_empty()
            && (now.auth_methods.is_empty() || gained(&before.auth_methods, &now.auth_methods)),
        key("auth_methods"),
    );
    weak.when(
        lost(before.scan_requests, now.scan_requests),
        key("scan_requests"),
    );
    weak.when(
        lost(before.scan_responses, now.scan_responses),
        key("scan_responses"),
    );
    for name in allow_keys(before.into(), now.into()) {
        weak.when(true, key(name));
    }
    weak.when(
        gained(&now.blocked_domains, &before.blocked_domains),
        key("blocked_domains"),
    );
    weak.when(gained(&before.ports, &now.ports), key("ports"));
    weak.when(rules(&before.rules, &now.rules), key("rules"));
    weak.when(
        gained(&before.private_targets, &now.private_targets),
        key("private_targets"),
    );
    let blocks = |proxy: &ForwardProxy| proxy.quarantine == OnQuarantine::Block;
    weak.when(lost(blocks(before), blocks(now)), key("quarantine"));
    let opens = |proxy: &ForwardProxy| proxy.sealed_archives == OnSealed::Block;
    weak.when(lost(opens(before), opens(now)), key("sealed_archives"));
    // A placeholder lets the rest of a request through that was refused whole.
    weak.when(
        before.redact != now.redact && now.redact != Redact::Off,
        key("redact"),
    );
    limits(&key("limits"), &before.limits, &now.limits, weak);
    let resolves = |proxy: &ForwardProxy| {
        let upstream = proxy.upstream_proxy.as_ref();
        upstream.is_none_or(|upstream| upstream.resolve == NameResolution::Local)
    };
    weak.when(
        lost(resolves(before), resolves(now)),
        key("upstream_proxy.resolve"),
    );
    weak.when(
        gained(&before.proxy_protocol_from, &now.proxy_protocol_from),
        key("proxy_protocol_from"),
    );
    weak.when(gained(&before.listeners, &now.listeners), key("listeners"));
    weak.when(gained(&before.sources, &now.sources), key("sources"));
    weak.when(
        gained(&before.certificates, &now.certificates),
        key("certificates"),
    );
    tls(&key("tls"), before.tls.as_ref(), now.tls.as_ref(), weak);
    interception(&before.interception, &now.interception, weak);
    weak.when(
        before.kill_switch.is_some() && before.kill_switch != now.kill_switch,
        key("kill_switch"),
    );
    weak.when(
        gained(
            &old.trust_boundaries.internal,
            &new.trust_boundaries.internal,
        ),
        "trust_boundaries.internal",
    );
}

fn interception(old: &Interception, new: &Interception, weak: &mut Weak) {
    if !old.enabled {
        return;
    }
    let key = |name: &str| format!("forward_proxy.interception.{name}");
    weak.when(!new.enabled, key("enabled"));
    weak.when(gained(&new.hosts, &old.hosts), key("hosts"));
    let fewer =
        !new.agents.is_empty() && (old.agents.is_empty() || gained(&new.agents, &old.agents));
    weak.when(fewer, key("agents"));
    weak.when(
        gained(&old.passthrough, &new.passthrough),
        key("passthrough"),
    );
    weak.when(
        gained(&old.extra_roots, &new.extra_roots),
        key("extra_roots"),
    );
}

pub(super) fn agent(key: &str, old: Option<&Egress>, new: Option<&Egress>, weak: &mut Weak) {
    let Some(before) = old else { return };
    let Some(now) = new else {
        weak.when(true, key);
        return;
    };
    let below = |name: &str| format!("{key}.{name}");
    for name in allow_keys(before.into(), now.into()) {
        weak.when(true, below(name));
    }
    weak.when(
        gained(&now.blocked_domains, &before.blocked_domains),
        below("blocked_domains"),
    );
    weak.when(
        gained(&now.blocked_categories, &before.blocked_categories),
        below("blocked_categories"),
    );
    weak.when(
        !before.scope.is_empty() && before.scope != now.scope,
        below("scope"),
    );
    let scans = |flag: Option<bool>| flag == Some(true);
    weak.when(
        scans(before.scan_requests) && !scans(now.scan_requests),
        below("scan_requests"),
    );
    weak.when(
        scans(before.scan_responses) && !scans(now.scan_responses),
        below("scan_responses"),
    );
    weak.when(
        raised(before.rate_limit, now.rate_limit),
        below("rate_limit"),
    );
    let more_ports =
        !before.ports.is_empty() && (now.ports.is_empty() || gained(&before.ports, &now.ports));
    weak.when(more_ports, below("ports"));
    weak.when(rules(&before.rules, &now.rules), below("rules"));
    match (&before.limits, &now.limits) {
        (Some(before), Some(now)) => limits(&below("limits"), before, now, weak),
        (Some(_), None) => weak.when(true, below("limits")),
        (None, _) => {}
    }
}

/// What allows hosts by name on one level; a level with none of it allows all.
#[derive(Clone, Copy)]
struct Allows<'a> {
    domains: &'a [String],
    integrations: &'a [String],
    by_rule: bool,
}

impl<'a> From<&'a ForwardProxy> for Allows<'a> {
    fn from(proxy: &'a ForwardProxy) -> Self {
        Self {
            domains: &proxy.allowed_domains,
            integrations: &proxy.integrations,
            by_rule: allows(&proxy.rules),
        }
    }
}

impl<'a> From<&'a Egress> for Allows<'a> {
    fn from(egress: &'a Egress) -> Self {
        Self {
            domains: &egress.allowed_domains,
            integrations: &egress.integrations,
            by_rule: allows(&egress.rules) || !egress.scope.is_empty(),
        }
    }
}

fn allows(rules: &[EgressRule]) -> bool {
    rules.iter().any(|rule| rule.action == EgressAction::Allow)
}

/// The lists by which a level allows more than it did.
fn allow_keys(old: Allows<'_>, new: Allows<'_>) -> Vec<&'static str> {
    let names = |allows: Allows<'_>| {
        allows.by_rule || !allows.domains.is_empty() || !allows.integrations.is_empty()
    };
    let mut keys = Vec::new();
    if !names(old) {
        return keys;
    }
    let open = !names(new);
    if gained(old.domains, new.domains) || (open && !old.domains.is_empty()) {
        keys.push("allowed_domains");
    }
    if gained(old.integrations, new.integrations) || (open && !old.integrations.is_empty()) {
        keys.push("integrations");
    }
    keys
}

/// Whether rules may let more through: one that blocks is gone, one that allows is new, or their order changed.
fn rules(old: &[EgressRule], new: &[EgressRule]) -> bool {
    let of = |rules: &[EgressRule], action: EgressAction| -> Vec<EgressRule> {
        rules
            .iter()
            .filter(|rule| rule.action == action)
            .cloned()
            .collect()
    };
    let block_gone = gained(&of(new, EgressAction::Block), &of(old, EgressAction::Block));
    let allow_new = gained(&of(old, EgressAction::Allow), &of(new, EgressAction::Allow));
    let kept: Vec<_> = new.iter().filter(|rule| old.contains(rule)).collect();
    let before: Vec<_> = old.iter().filter(|rule| new.contains(rule)).collect();
    let allow_list_gone = allows(old) && !allows(new);
    block_gone || allow_new || kept != before || allow_list_gone
}

fn limits(key: &str, old: &EgressLimits, new: &EgressLimits, weak: &mut Weak) {
    let below = |name: &str| format!("{key}.{name}");
    for (name, before, now) in [
        ("connections", old.connections, new.connections),
        ("requests", old.requests, new.requests),
        ("bytes_up", old.bytes_up, new.bytes_up),
        ("bytes_down", old.bytes_down, new.bytes_down),
    ] {
        weak.when(raised(before, now), below(name));
    }
    let has_budget = new.requests > 0 || new.bytes_up > 0 || new.bytes_down > 0;
    weak.when(has_budget && new.window < old.window, below("window"));
}

/// Whether a limit, 0 for none, is higher.
fn raised(old: u64, new: u64) -> bool {
    let limit = |n: u64| if n == 0 { u64::MAX } else { n };
    limit(new) > limit(old)
}
