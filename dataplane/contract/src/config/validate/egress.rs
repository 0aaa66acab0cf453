//! What spans several keys of `forward_proxy` and `agents.<n>.egress`. Keys of the Go version that mean nothing are
//! warnings, because its files must load; keys of ours are errors, above all doors that could never open.

mod private_targets;

use super::{At, Check, Item, Key};
use crate::config::{
    Cidr, Config, Egress, EgressAction, EgressRule, ForwardProxy, NameResolution, Profile, Redact,
    RequireAuth, nearest_of,
};
use crate::host::{Host, HostPattern, presets};
use crate::keys::check_agent_name;
use std::collections::HashSet;

/// Accepted proofs (compat §5).
const AUTH_METHODS: &[&str] = &[
    "bearer_token",
    "proxy_basic_token",
    "hook_token",
    "mtls",
    "trusted_loopback_header",
];

pub(super) fn check(config: &Config, check: &mut Check<'_, '_>) {
    forward_proxy(config, check);
    reachability(config, check);
    bindings(config, check);
    upstream(&config.forward_proxy, check);
    interception(config, check);
    for (index, target) in config.forward_proxy.private_targets.iter().enumerate() {
        private_targets::check(config, index, target, check);
    }
    for (name, agent) in &config.agents {
        if let Some(egress) = &agent.egress {
            agent_egress(config, name, egress, check);
        }
    }
    let internal = &config.trust_boundaries.internal;
    allow_list(&[Key("trust_boundaries"), Key("internal")], internal, check);
    principals(config, check);
}

/// The place of a value below another one.
fn below<'a>(base: &[At<'a>], more: &[At<'a>]) -> Vec<At<'a>> {
    base.iter().chain(more).copied().collect()
}

fn forward_proxy(config: &Config, check: &mut Check<'_, '_>) {
    let proxy = &config.forward_proxy;
    let at = |key| [Key("forward_proxy"), Key(key)];
    for (index, method) in proxy.auth_methods.iter().enumerate() {
        if !AUTH_METHODS.contains(&method.as_str()) {
            let near = nearest_of(method, AUTH_METHODS.iter().copied());
            let remedy = near.map_or_else(
                || format!("write one of {}", AUTH_METHODS.join(", ")),
                |near| format!("did you mean {near}?"),
            );
            let [section, key] = at("auth_methods");
            let message = format!("unknown method {method:?} proves nobody");
            check.warn(&[section, key, Item(index)], message, &remedy);
        }
    }
    let enterprise = config.deployment.profile == Profile::Enterprise;
    if proxy.trusted_loopback_headers == Some(true) && enterprise {
        let message = "with deployment.profile enterprise nobody is believed without proof";
        check.warn(&at("trusted_loopback_headers"), message, "remove it");
    }
    allow_list(&at("allowed_domains"), &proxy.allowed_domains, check);
    block_list(&at("blocked_domains"), &proxy.blocked_domains, check);
    integrations(&at("integrations"), &proxy.integrations, check);
    rules(&at("rules"), &proxy.rules, Some(config), check);
    if proxy.ports.is_empty() {
        check.error(
            &at("ports"),
            "nothing can be reached without a port",
            "write [80, 443]",
        );
    }
    let own = || {
        config
            .agents
            .values()
            .filter_map(|agent| agent.egress.as_ref())
    };
    let requests = proxy.scan_requests || own().any(|e| e.scan_requests == Some(true));
    let responses = proxy.scan_responses || own().any(|e| e.scan_responses == Some(true));
    let (needs_requests, needs_responses) = match proxy.redact {
        Redact::Off => (false, false),
        Redact::Requests => (true, false),
        Redact::Responses => (false, true),
        Redact::Both => (true, true),
    };
    if (needs_requests && !requests) || (needs_responses && !responses) {
        let message = "only what is scanned can be redacted";
        check.warn(
            &at("redact"),
            message,
            "set scan_requests or scan_responses",
        );
    }
    super::tls(&at("tls"), proxy.tls.as_ref(), check);
}

/// Who can come in at all, and whether that is meant.
fn reachability(config: &Config, check: &mut Check<'_, '_>) {
    let proxy = &config.forward_proxy;
    if !proxy.enabled {
        return;
    }
    let enterprise = config.deployment.profile == Profile::Enterprise;
    let required = match proxy.require_auth {
        RequireAuth::Yes => true,
        RequireAuth::No => false,
        RequireAuth::Auto => config.deployment.require_surface_auth || enterprise,
    };
    let at = |key| [Key("forward_proxy"), Key(key)];
    if !required && !super::is_local(&proxy.bind) {
        let message = "listens beyond this machine and lets everybody through who reaches it";
        check.warn(&at("bind"), message, "set forward_proxy.require_auth: true");
    }
    let tokens = config
        .identity
        .principals
        .iter()
        .any(|p| !p.tokens.is_empty());
    let bound =
        !proxy.listeners.is_empty() || !proxy.sources.is_empty() || !proxy.certificates.is_empty();
    let header = !enterprise && proxy.trusted_loopback_headers != Some(false);
    if required && !tokens && !bound && !header {
        let message = "nobody can prove who asks, so everything is refused";
        check.warn(
            &at("require_auth"),
            message,
            "add tokens under identity.principals",
        );
    }
}

fn bindings(config: &Config, check: &mut Check<'_, '_>) {
    let proxy = &config.forward_proxy;
    let mut ports = HashSet::from([proxy.port, config.server.port]);
    for (index, listener) in proxy.listeners.iter().enumerate() {
        let at = [Key("forward_proxy"), Key("listeners"), Item(index)];
        if listener.port == 0 {
            check.error(&at, "a listener needs a port", "write port: 8084");
        } else if !ports.insert(listener.port) {
            let message = format!(
                "port {} is taken by another listener of this file",
                listener.port
            );
            check.error(&below(&at, &[Key("port")]), message, "write another one");
        }
        known_agent(&below(&at, &[Key("agent")]), &listener.agent, config, check);
    }
    for (index, source) in proxy.sources.iter().enumerate() {
        let at = [Key("forward_proxy"), Key("sources"), Item(index)];
        network(&below(&at, &[Key("network")]), &source.network, check);
        known_agent(&below(&at, &[Key("agent")]), &source.agent, config, check);
    }
    for (index, binding) in proxy.certificates.iter().enumerate() {
        let at = [Key("forward_proxy"), Key("certificates"), Item(index)];
        if binding.name.is_empty() {
            check.error(
                &at,
                "a certificate binding needs a name",
                "write name: ci.agents.example",
            );
        }
        known_agent(&below(&at, &[Key("agent")]), &binding.agent, config, check);
    }
    let asks = proxy
        .tls
        .as_ref()
        .is_some_and(|tls| tls.client_ca.is_some());
    if !proxy.certificates.is_empty() && !asks {
        let at = [Key("forward_proxy"), Key("certificates")];
        let message = "nobody is asked for a certificate, so none of these can ever apply";
        check.error(
            &at,
            message,
            "set forward_proxy.tls with client_ca and client_auth",
        );
    }
}

fn upstream(proxy: &ForwardProxy, check: &mut Check<'_, '_>) {
    let Some(upstream) = &proxy.upstream_proxy else {
        return;
    };
    let at = |key| [Key("forward_proxy"), Key("upstream_proxy"), Key(key)];
    if let Some(problem) = upstream_problem(&upstream.url) {
        check.error(
            &at("url"),
            problem,
            "write e.g. http://proxy.corp.example:3128",
        );
    }
    patterns(&at("direct"), &upstream.direct, check);
    if upstream.resolve == NameResolution::Upstream {
        let message = "the upstream proxy resolves names, so private addresses behind them cannot be refused here";
        check.warn(&at("resolve"), message, "write local");
    }
}

fn upstream_problem(url: &str) -> Option<&'static str> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Some("expected a URL");
    };
    if !matches!(scheme, "http" | "https") {
        return Some("expected a URL that begins with http:// or https://");
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Some("a user name belongs in username, a password in password");
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (rest, None),
    };
    let port_is_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    (Host::parse(host).is_err() || !port_is_good)
        .then_some("expected a host and a port, and nothing behind")
}

fn interception(config: &Config, check: &mut Check<'_, '_>) {
    let interception = &config.forward_proxy.interception;
    let at = |key| [Key("forward_proxy"), Key("interception"), Key(key)];
    patterns(&at("hosts"), &interception.hosts, check);
    patterns(&at("passthrough"), &interception.passthrough, check);
    for (index, name) in interception.agents.iter().enumerate() {
        let [a, b, c] = at("agents");
        known_agent(&[a, b, c, Item(index)], name, config, check);
    }
    if interception.enabled && interception.hosts.is_empty() {
        check.warn(&at("hosts"), "no host is looked into", "write [\"*\"]");
    }
    if !interception.enabled && check.says(&["forward_proxy", "interception", "passthrough"]) {
        let message = "nothing is looked into, so nothing needs passing through";
        check.warn(&at("passthrough"), message, "set enabled: true beside it");
    }
}

/// Entries of an allow list of the Go version: what is no pattern allows nothing.
fn allow_list(at: &[At<'_>], entries: &[String], check: &mut Check<'_, '_>) {
    for (index, entry) in entries.iter().enumerate() {
        if let Err(error) = HostPattern::parse(entry) {
            let remedy = HostPattern::parse_host_of(entry).map_or_else(
                || String::from("write e.g. api.example.com or *.example.com"),
                |host| format!("write {host}"),
            );
            check.warn(
                &below(at, &[Item(index)]),
                format!("{entry:?} {error}, so it allows nothing"),
                &remedy,
            );
        }
    }
}

/// Entries of a block list of the Go version: a URL blocks its host, anything else nothing.
fn block_list(at: &[At<'_>], entries: &[String], check: &mut Check<'_, '_>) {
    for (index, entry) in entries.iter().enumerate() {
        let Err(error) = HostPattern::parse(entry) else {
            continue;
        };
        let at = below(at, &[Item(index)]);
        match HostPattern::parse_host_of(entry) {
            Some(host) => check.warn(
                &at,
                format!("{entry:?} {error}; read as its host"),
                &format!("write {host}"),
            ),
            None => check.warn(
                &at,
                format!("{entry:?} {error}, so it blocks nothing"),
                "write e.g. evil.example or *.evil.example",
            ),
        }
    }
}

/// Entries of a list of ours.
fn patterns(at: &[At<'_>], entries: &[String], check: &mut Check<'_, '_>) {
    for (index, entry) in entries.iter().enumerate() {
        pattern(&below(at, &[Item(index)]), entry, check);
    }
}

fn pattern(at: &[At<'_>], entry: &str, check: &mut Check<'_, '_>) -> Option<HostPattern> {
    match HostPattern::parse(entry) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let remedy = "write a host, *.example.com, a network or *";
            check.error(at, format!("{entry:?} {error}"), remedy);
            None
        }
    }
}

fn network(at: &[At<'_>], text: &str, check: &mut Check<'_, '_>) -> Option<Cidr> {
    let network = Cidr::parse(text);
    if network.is_none() {
        let message = format!("expected a network, found {text:?}");
        check.error(at, message, "write e.g. 10.1.0.0/16 or 10.1.2.3");
    }
    network
}

fn integrations(at: &[At<'_>], names: &[String], check: &mut Check<'_, '_>) {
    for (index, name) in names.iter().enumerate() {
        if presets::find(name).is_none() {
            let known = || presets::PRESETS.iter().map(|preset| preset.name);
            let remedy = presets::nearest(name).map_or_else(
                || format!("write one of {}", known().collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean {near}?"),
            );
            let message = format!("unknown integration {name:?} allows nothing");
            check.error(&below(at, &[Item(index)]), message, &remedy);
        }
    }
}

/// Rules; only those of the surface (`config` is given) name agents.
fn rules(at: &[At<'_>], rules: &[EgressRule], config: Option<&Config>, check: &mut Check<'_, '_>) {
    for (index, rule) in rules.iter().enumerate() {
        let at = below(at, &[Item(index)]);
        if rule.hosts.is_empty() {
            check.error(
                &at,
                "a rule names at least one host",
                "write hosts: [\"*\"] for all",
            );
        }
        patterns(&below(&at, &[Key("hosts")]), &rule.hosts, check);
        let agents = below(&at, &[Key("agents")]);
        match config {
            None if !rule.agents.is_empty() => {
                let message = "this rule is about the agent it stands at";
                check.error(
                    &agents,
                    message,
                    "remove it, or move the rule to forward_proxy.rules",
                );
            }
            None => {}
            Some(config) => {
                for (number, name) in rule.agents.iter().enumerate() {
                    known_agent(&below(&agents, &[Item(number)]), name, config, check);
                }
            }
        }
    }
}

/// An agent that a key of ours is about: one that exists, by section or by token.
fn known_agent(at: &[At<'_>], name: &str, config: &Config, check: &mut Check<'_, '_>) {
    let principals = || config.identity.principals.iter().map(|p| p.id.as_str());
    let known = config.agents.contains_key(name) || principals().any(|id| id == name);
    if known {
        return;
    }
    let names = config.agents.keys().map(String::as_str).chain(principals());
    let remedy = nearest_of(name, names.take(super::NAMES_COMPARED_MAX)).map_or_else(
        || String::from("add it under agents"),
        |near| format!("did you mean {near}?"),
    );
    let message = if name.is_empty() {
        String::from("needs the name of an agent")
    } else {
        format!("there is no agent {name:?}")
    };
    check.error(at, message, &remedy);
}

/// What one level allows by name; `None` is everything.
fn allowed(
    lists: &[&[String]],
    integrations: &[String],
    rules: &[EgressRule],
) -> Option<Vec<HostPattern>> {
    let presets = integrations.iter().filter_map(|name| presets::find(name));
    let entries = lists
        .iter()
        .flat_map(|list| list.iter())
        .map(String::as_str);
    let allowing = rules
        .iter()
        .filter(|rule| rule.action == EgressAction::Allow);
    let texts = entries
        .chain(presets.flat_map(|preset| preset.hosts.iter().copied()))
        .chain(allowing.flat_map(|rule| rule.hosts.iter().map(String::as_str)));
    let says = lists.iter().any(|list| !list.is_empty())
        || !integrations.is_empty()
        || rules.iter().any(|rule| rule.action == EgressAction::Allow);
    says.then(|| {
        texts
            .filter_map(|text| HostPattern::parse(text).ok())
            .collect()
    })
}

fn allowed_globally(proxy: &ForwardProxy) -> Option<Vec<HostPattern>> {
    allowed(&[&proxy.allowed_domains], &proxy.integrations, &proxy.rules)
}

fn agent_egress(config: &Config, name: &str, egress: &Egress, check: &mut Check<'_, '_>) {
    let proxy = &config.forward_proxy;
    let at = |key| [Key("agents"), Key(name), Key("egress"), Key(key)];
    allow_list(&at("allowed_domains"), &egress.allowed_domains, check);
    block_list(&at("blocked_domains"), &egress.blocked_domains, check);
    integrations(&at("integrations"), &egress.integrations, check);
    rules(&at("rules"), &egress.rules, None, check);
    super::categories(&at("blocked_categories"), &egress.blocked_categories, check);
    scope(config, &at("scope"), egress, check);
    if let Some(global) = allowed_globally(proxy) {
        let met = |entry: &HostPattern| global.iter().any(|allowed| allowed.overlaps(entry));
        let narrowed = "is not allowed by forward_proxy, so it allows nothing here either; the Go version added it";
        for (index, entry) in egress.allowed_domains.iter().enumerate() {
            if HostPattern::parse(entry).is_ok_and(|entry| !met(&entry)) {
                let at = below(&at("allowed_domains"), &[Item(index)]);
                let remedy = format!("add {entry} to forward_proxy.allowed_domains");
                check.warn(&at, format!("{entry} {narrowed}"), &remedy);
            }
        }
        for (index, integration) in egress.integrations.iter().enumerate() {
            let hosts = presets::find(integration).map_or(&[][..], |preset| preset.hosts);
            let mut hosts = hosts
                .iter()
                .filter_map(|host| HostPattern::parse(host).ok());
            if presets::find(integration).is_some() && !hosts.any(|host| met(&host)) {
                let at = below(&at("integrations"), &[Item(index)]);
                let remedy = format!("add {integration} to forward_proxy.integrations");
                check.warn(&at, format!("{integration} {narrowed}"), &remedy);
            }
        }
    }
    for (index, port) in egress.ports.iter().enumerate() {
        let opened =
            |rule: &EgressRule| rule.action == EgressAction::Allow && rule.ports.contains(port);
        if !proxy.ports.contains(port) && !proxy.rules.iter().any(opened) {
            let message =
                format!("port {port} may not be reached through forward_proxy, so not here either");
            let remedy = format!("add {port} to forward_proxy.ports");
            check.warn(&below(&at("ports"), &[Item(index)]), message, &remedy);
        }
    }
}

fn scope(config: &Config, at: &[At<'_>], egress: &Egress, check: &mut Check<'_, '_>) {
    if egress.scope.is_empty() {
        return;
    }
    let (word, more) = egress.scope.split_once('+').unwrap_or((&egress.scope, ""));
    if word.trim() != "internal" {
        let message = format!("unknown scope {:?} names nothing", egress.scope);
        check.warn(at, message, "write internal, or internal+ and more hosts");
    }
    let mut more = more
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty());
    if let Some(entry) = more
        .clone()
        .find(|entry| presets::find(entry).is_none() && HostPattern::parse(entry).is_err())
    {
        let message = format!("{entry:?} is neither an integration nor a host");
        check.warn(at, message, "write e.g. internal+github,api.example.com");
    }
    let names_more =
        more.any(|entry| presets::find(entry).is_some() || HostPattern::parse(entry).is_ok());
    let names_internal = word.trim() == "internal" && !config.trust_boundaries.internal.is_empty();
    if !names_more && !names_internal && egress.allowed_domains.is_empty() {
        let message = "this scope names nothing, so this agent reaches nothing; the Go version let it reach everything";
        check.warn(at, message, "add hosts to trust_boundaries.internal");
    }
}

fn principals(config: &Config, check: &mut Check<'_, '_>) {
    let mut ids = HashSet::new();
    for (index, principal) in config.identity.principals.iter().enumerate() {
        let at = [Key("identity"), Key("principals"), Item(index)];
        if let Err(problem) = check_agent_name(&principal.id) {
            let message = format!("principal {:?}: {problem}", principal.id);
            check.error(
                &below(&at, &[Key("id")]),
                message,
                "write the name of an agent",
            );
        } else if !ids.insert(principal.id.as_str()) {
            let message = format!("principal {:?} stands twice", principal.id);
            check.warn(
                &below(&at, &[Key("id")]),
                message,
                "put its tokens into one entry",
            );
        }
        for (number, token) in principal.tokens.iter().enumerate() {
            let at = below(&at, &[Key("tokens"), Item(number)]);
            match token.kind.as_str() {
                "proxy_basic" => {}
                "gateway_bearer" | "hook_bearer" => check.warn(
                    &below(&at, &[Key("type")]),
                    "has no effect: its surface is not part of this version",
                    "",
                ),
                other => check.warn(
                    &below(&at, &[Key("type")]),
                    format!("unknown type {other:?} proves nobody"),
                    "write proxy_basic, gateway_bearer or hook_bearer",
                ),
            }
            if !is_token_hash(token.hash.expose()) {
                let message = "can't be read, so this token proves nobody";
                let remedy = "make a token with `oktsec tokens create`";
                check.warn(&below(&at, &[Key("hash")]), message, remedy);
            }
        }
    }
}

/// `sha256:<hex salt>:<hex digest>` (compat §2.7).
fn is_token_hash(hash: &str) -> bool {
    let parts = hash
        .strip_prefix("sha256:")
        .and_then(|rest| rest.split_once(':'));
    let is_hex =
        |text: &str| text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
    parts.is_some_and(|(salt, digest)| {
        !salt.is_empty() && is_hex(salt) && digest.len() == 64 && is_hex(digest)
    })
}

#[cfg(test)]
mod tests;
