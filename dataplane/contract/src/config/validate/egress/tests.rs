use crate::config::tests::{accepted, flow};
use crate::config::{Env, Period, Redact, RequireAuth, parse};
use std::path::Path;

const GO: &str = include_str!("../../../../testdata/config/egress-go.yaml");
const OURS: &str = include_str!("../../../../testdata/config/egress.yaml");

/// Problems of a text, one per line, without the file.
fn problems(text: &str) -> Vec<String> {
    let text = format!("identity: {{require_signature: false}}\n{text}");
    match parse(&text, Path::new("o"), &Env::empty()) {
        Ok(loaded) => loaded.warnings,
        Err(failed) => failed.problems,
    }
    .iter()
    .filter(|problem| !problem.message.starts_with("has no effect: this version"))
    .map(|problem| {
        let level = match problem.level {
            crate::config::Level::Error => "",
            crate::config::Level::Warning => "warning: ",
        };
        format!("{level}{}: {}", problem.key, problem.message)
    })
    .collect()
}

#[test]
fn a_configuration_of_the_go_version_loads_and_its_traps_are_named() {
    let loaded = accepted(GO);
    let proxy = &loaded.config.forward_proxy;
    assert!(proxy.enabled && proxy.scan_requests && proxy.scan_responses);
    assert_eq!(proxy.require_auth, RequireAuth::Auto);
    assert_eq!(proxy.ports, [80, 443]);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    for text in [
        "forward_proxy.max_body_size: has no effect: bodies are scanned as they stream",
        "forward_proxy.blocked_domains[1]: \"https://paste.example/raw\" is a URL or has a port; read as its host; write paste.example",
        "forward_proxy.allowed_domains[3]: \"api.*.example\" has a * that is not its first label, so it allows nothing",
        "agents.researcher.egress.allowed_domains[0]: news.example is not allowed by forward_proxy, so it allows nothing here either; the Go version added it",
        "agents.researcher.egress.tool_restrictions: has no effect",
        "agents.inside.egress.scope: this scope names nothing, so this agent reaches nothing",
    ] {
        assert!(
            warnings.iter().any(|w| w.contains(text)),
            "{text}\n{warnings:#?}"
        );
    }
    assert_eq!(warnings.len(), 6, "{warnings:#?}");
}

#[test]
fn every_key_of_ours_loads_and_travels_in_a_snapshot() {
    let loaded = accepted(OURS);
    let mut others = loaded.warnings.iter();
    let other = others.find(|warning| !warning.message.starts_with("has no effect: this version"));
    assert_eq!(other, None);
    let proxy = &loaded.config.forward_proxy;
    assert_eq!(proxy.redact, Redact::Requests);
    assert_eq!(proxy.timeouts.idle, Period::from_secs(900));
    assert_eq!(proxy.rules[0].methods, ["GET", "HEAD"]);
    let json = serde_json::to_vec(&loaded.config).unwrap();
    let back: crate::config::Config = serde_json::from_slice(&json).unwrap();
    assert_eq!(back, loaded.config);
}

#[test]
fn a_private_target_that_can_never_apply_is_refused() {
    for (proxy, target, agents, expected) in [
        (
            "",
            "{agent: ci, host: a.example, network: 10.0.0.0/8}",
            "",
            "agent: there is no agent \"ci\"",
        ),
        (
            "",
            "{host: a.example, network: 10.0.0.0/33}",
            "",
            "network: expected a network, found \"10.0.0.0/33\"",
        ),
        (
            "",
            "{host: a.example, network: 8.8.8.0/24}",
            "",
            "network: 8.8.8.0/24 is public: it can be reached without this",
        ),
        (
            "",
            "{host: \"a*.example\", network: 10.0.0.1}",
            "",
            "host: \"a*.example\" has a * that is not its first label",
        ),
        ("", "{network: 10.0.0.1}", "", "host: \"\" is empty"),
        (
            "",
            "{host: 10.1.1.1, network: 10.2.0.0/16}",
            "",
            "network: can never apply: 10.1.1.1 is not in 10.2.0.0/16",
        ),
        (
            "blocked_domains: [\"*.example\"]",
            "{host: a.example, network: 10.0.0.1}",
            "",
            "host: can never apply: a.example is blocked by *.example",
        ),
        (
            "allowed_domains: [b.example]",
            "{host: a.example, network: 10.0.0.1}",
            "",
            "host: can never apply: forward_proxy does not allow a.example",
        ),
        (
            "",
            "{agent: ci, host: a.example, network: 10.0.0.1}",
            "ci: {egress: {integrations: [github]}}",
            "host: can never apply: the agent does not allow a.example",
        ),
        (
            "",
            "{host: a.example, network: 10.0.0.1, ports: [5432]}",
            "",
            "ports: can never apply: port 5432 may not be reached",
        ),
        (
            "rules: [{hosts: [b.example], ports: [5432], action: allow}]",
            "{host: a.example, network: 10.0.0.1, ports: [5432]}",
            "",
            "host: can never apply: forward_proxy does not allow a.example",
        ),
        (
            "",
            "{agent: ci, host: a.example, network: 10.0.0.1, ports: [80]}",
            "ci: {egress: {ports: [443]}}",
            "ports: can never apply: port 80 may not be reached",
        ),
    ] {
        let found = problems(&format!(
            "forward_proxy: {{private_targets: [{target}], {proxy}}}\nagents: {{{agents}}}\n"
        ));
        let expected = format!("forward_proxy.private_targets[0].{expected}");
        assert!(found.contains(&expected), "{expected}\n{found:#?}");
    }
    for (proxy, target, agents) in [
        ("", "{host: a.example, network: 10.0.0.1}", ""),
        ("", "{host: \"*\", network: \"64:ff9b::/96\"}", ""),
        ("", "{host: imds.example, network: 168.63.129.16}", ""),
        (
            "allowed_domains: [\"*.corp.example\"]",
            "{host: build.corp.example, network: 10.0.0.0/8, ports: [443]}",
            "",
        ),
        (
            "rules: [{hosts: [\"*\"], ports: [5432], action: allow}]",
            "{host: db.example, network: 10.0.0.1, ports: [5432]}",
            "",
        ),
        (
            "",
            "{agent: ci, host: a.example, network: \"fd00::/8\"}",
            "ci: {egress: {allowed_domains: [\"*.example\"]}}",
        ),
    ] {
        let found = problems(&format!(
            "forward_proxy: {{private_targets: [{target}], {proxy}}}\nagents: {{{agents}}}\n"
        ));
        assert!(found.is_empty(), "{target} {found:#?}");
    }
}

#[test]
fn mistakes_in_keys_of_ours_are_errors_with_their_place() {
    for (text, expected) in [
        (
            "forward_proxy: {integrations: [gihtub]}",
            "forward_proxy.integrations[0]: unknown integration \"gihtub\" allows nothing",
        ),
        (
            "agents: {a: {egress: {integrations: [x]}}}",
            "agents.a.egress.integrations[0]: unknown integration \"x\" allows nothing",
        ),
        (
            "forward_proxy: {ports: []}",
            "forward_proxy.ports: nothing can be reached without a port",
        ),
        (
            "forward_proxy: {ports: [0]}",
            "forward_proxy.ports[0]: invalid port: 0",
        ),
        (
            "forward_proxy: {rules: [{action: allow}]}",
            "forward_proxy.rules[0]: a rule names at least one host",
        ),
        (
            "forward_proxy: {rules: [{hosts: [a b]}]}",
            "forward_proxy.rules[0].hosts[0]: \"a b\" holds a character that no host name has",
        ),
        (
            "forward_proxy: {rules: [{hosts: [\"*\"], methods: [\"GET /\"]}]}",
            "forward_proxy.rules[0].methods[0]: expected an HTTP method, found \"GET /\"",
        ),
        (
            "forward_proxy: {rules: [{hosts: [\"*\"], paths: [v1]}]}",
            "forward_proxy.rules[0].paths[0]: expected the beginning of a path, decoded and without . and .. segments, found \"v1\"",
        ),
        (
            "forward_proxy: {rules: [{hosts: [\"*\"], agents: [b]}]}\nagents: {bb: {}}",
            "forward_proxy.rules[0].agents[0]: there is no agent \"b\"",
        ),
        (
            "agents: {a: {egress: {rules: [{hosts: [\"*\"], agents: [a]}]}}}",
            "agents.a.egress.rules[0].agents: this rule is about the agent it stands at",
        ),
        (
            "forward_proxy: {timeouts: {connect: 0s}}",
            "forward_proxy.timeouts.connect: this wait needs an end",
        ),
        (
            "forward_proxy: {upstream_proxy: {url: proxy:3128}}",
            "forward_proxy.upstream_proxy.url: expected a URL",
        ),
        (
            "forward_proxy: {upstream_proxy: {url: \"socks5://p:1\"}}",
            "forward_proxy.upstream_proxy.url: expected a URL that begins with http:// or https://",
        ),
        (
            "forward_proxy: {upstream_proxy: {url: \"http://u:p@proxy:3128\"}}",
            "forward_proxy.upstream_proxy.url: a user name belongs in username, a password in password",
        ),
        (
            "forward_proxy: {upstream_proxy: {url: \"http://proxy:99999\"}}",
            "forward_proxy.upstream_proxy.url: expected a host and a port, and nothing behind",
        ),
        (
            "forward_proxy: {proxy_protocol_from: [x]}",
            "forward_proxy.proxy_protocol_from[0]: expected a network, found \"x\"",
        ),
        (
            "forward_proxy: {listeners: [{agent: a}]}\nagents: {a: {}}",
            "forward_proxy.listeners[0]: a listener needs a port",
        ),
        (
            "forward_proxy: {listeners: [{port: 8083, agent: a}]}\nagents: {a: {}}",
            "forward_proxy.listeners[0].port: port 8083 is taken by another listener of this file",
        ),
        (
            "forward_proxy: {sources: [{network: 10.0.0.0/8}]}",
            "forward_proxy.sources[0].agent: needs the name of an agent",
        ),
        (
            "forward_proxy: {certificates: [{name: x, agent: a}]}\nagents: {a: {}}",
            "forward_proxy.certificates: nobody is asked for a certificate, so none of these can ever apply",
        ),
        (
            "forward_proxy: {tls: {cert: c}}",
            "forward_proxy.tls.key: forward_proxy.tls needs key",
        ),
        (
            "forward_proxy: {interception: {passthrough: [\"http://x\"]}}",
            "forward_proxy.interception.passthrough[0]: \"http://x\" is a URL or has a port",
        ),
        (
            "forward_proxy: {interception: {certificates_max: 1}}",
            "forward_proxy.interception.certificates_max: expected a whole number from 100 to 1000000, found 1",
        ),
    ] {
        let found = problems(text);
        assert!(
            found.iter().any(|p| p == expected),
            "{expected}\n{found:#?}"
        );
    }
}

#[test]
fn settings_that_do_nothing_or_too_much_are_warned_about() {
    for (text, expected) in [
        (
            "forward_proxy: {auth_methods: [mtsl]}",
            "unknown method \"mtsl\" proves nobody",
        ),
        (
            "deployment: {profile: enterprise}\nforward_proxy: {trusted_loopback_headers: true}",
            "nobody is believed without proof",
        ),
        (
            "forward_proxy: {enabled: true, scan_requests: true, bind: 0.0.0.0}",
            "lets everybody through who reaches it",
        ),
        (
            "forward_proxy: {enabled: true, scan_requests: true, require_auth: true, trusted_loopback_headers: false}",
            "nobody can prove who asks, so everything is refused",
        ),
        (
            "forward_proxy: {redact: both, scan_requests: true}",
            "only what is scanned can be redacted",
        ),
        (
            "forward_proxy: {upstream_proxy: {url: \"http://p:1\", resolve: upstream}}",
            "private addresses behind them cannot be refused here",
        ),
        (
            "agents: {a: {egress: {scope: everything}}}",
            "unknown scope \"everything\" names nothing",
        ),
        (
            "agents: {a: {egress: {scope: \"internal+a b\"}}}",
            "\"a b\" is neither an integration nor a host",
        ),
        (
            "agents: {a: {egress: {ports: [22]}}}",
            "port 22 may not be reached through forward_proxy",
        ),
        (
            "forward_proxy: {allowed_domains: [a.example]}\nagents: {a: {egress: {integrations: [github]}}}",
            "github is not allowed by forward_proxy",
        ),
        (
            "trust_boundaries: {internal: [\"x:1\"]}",
            "\"x:1\" is a URL or has a port, so it allows nothing",
        ),
    ] {
        let found = problems(text);
        assert!(
            found
                .iter()
                .any(|p| p.starts_with("warning: ") && p.contains(expected)),
            "{expected}\n{found:#?}"
        );
    }
    let text = "principals: [{id: a, tokens: [{type: proxy, hash: x}, {type: hook_bearer, hash: \"sha256:00:\"}]}]";
    let found = accepted(&format!("identity: {{require_signature: false, {text}}}\n")).warnings;
    let keys: Vec<_> = found.iter().map(|p| p.key.as_str()).collect();
    let token = |n: usize, key: &str| format!("identity.principals[0].tokens[{n}].{key}");
    assert_eq!(
        keys,
        [
            token(0, "type"),
            token(0, "hash"),
            token(1, "type"),
            token(1, "hash")
        ]
    );
}

#[test]
fn an_agent_without_an_egress_section_is_not_looked_at() {
    assert_eq!(flow("agents: {a: {}}").agents["a"].egress, None);
}
