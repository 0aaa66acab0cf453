use super::{AuthMethod, Presented, TokenCache, identify, identify_again};
use crate::egress::EgressPolicy;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::config::{
    CertificateBinding, Config, EgressListener, Principal, PrincipalToken, Profile, RequireAuth,
    Secret, SourceBinding,
};
use oktsec_contract::reason::Reason;
use oktsec_contract::token;
use std::net::IpAddr;

const NOW: Timestamp = Timestamp::from_secs(1_771_754_400);
const CI: &str = "okt_proxy_1111111111111111111111111111111111111111111111111111111111111111";
const CHAT: &str = "okt_proxy_2222222222222222222222222222222222222222222222222222222222222222";
const OLD: &str = "okt_proxy_3333333333333333333333333333333333333333333333333333333333333333";
const GONE: &str = "okt_proxy_4444444444444444444444444444444444444444444444444444444444444444";
const HOOK: &str = "okt_hook_5555555555555555555555555555555555555555555555555555555555555555";
const INSIDE: &str = "okt_proxy_6666666666666666666666666666666666666666666666666666666666666666";

fn kept(raw: &str, kind: &str, expires_at: &str, revoked_at: &str) -> PrincipalToken {
    PrincipalToken {
        id: String::from("t"),
        kind: String::from(kind),
        hash: Secret::from(
            token::hash(raw.as_bytes().get(10..26).unwrap(), raw.as_bytes()).as_str(),
        ),
        expires_at: String::from(expires_at),
        revoked_at: String::from(revoked_at),
        ..PrincipalToken::default()
    }
}

fn config() -> Config {
    let mut config = Config::default();
    let principal = |id: &str, tokens: Vec<PrincipalToken>, surfaces: &[&str]| Principal {
        id: String::from(id),
        tokens,
        allowed_surfaces: surfaces.iter().map(ToString::to_string).collect(),
        ..Principal::default()
    };
    config.identity.principals = vec![
        principal(
            "ci",
            vec![
                kept(CI, "proxy_basic", "2030-01-01T00:00:00Z", ""),
                kept(OLD, "proxy_basic", "2020-01-01T00:00:00Z", ""),
                kept(GONE, "proxy_basic", "", "2026-01-01T00:00:00Z"),
                kept(HOOK, "hook_bearer", "", ""),
            ],
            &[],
        ),
        principal(
            "chat",
            vec![kept(CHAT, "proxy_basic", "", "")],
            &["gateway", "egress"],
        ),
        principal(
            "inside",
            vec![kept(INSIDE, "proxy_basic", "", "")],
            &["gateway"],
        ),
    ];
    let proxy = &mut config.forward_proxy;
    proxy.listeners = vec![EgressListener {
        port: 8090,
        agent: String::from("ci"),
        ..EgressListener::default()
    }];
    let source = |network: &str, agent: &str| SourceBinding {
        network: String::from(network),
        agent: String::from(agent),
    };
    proxy.sources = vec![source("10.0.0.0/8", "fleet"), source("10.2.0.0/16", "chat")];
    proxy.certificates = vec![CertificateBinding {
        name: String::from("ci.agents.example"),
        agent: String::from("ci"),
    }];
    config
}

/// Who a connection is, or why not.
fn who(config: &Config, presented: &Presented<'_>) -> String {
    let policy = EgressPolicy::build(config, 1);
    let mut cache = TokenCache::default();
    let first = identify(presented, &policy, &mut cache, NOW);
    let again = identify(presented, &policy, &mut cache, NOW);
    assert_eq!(first, again, "a cached token proves what it proved");
    match first {
        (_, Some(refusal)) => String::from(refusal.reason.as_str()),
        (principal, None) => format!(
            "{} {}",
            principal.agent().unwrap_or("-"),
            principal.method().as_str()
        ),
    }
}

fn from(address: &str) -> Presented<'static> {
    Presented {
        peer: Some(address.parse::<IpAddr>().unwrap()),
        ..Presented::default()
    }
}

fn basic(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

#[test]
fn a_token_proves_its_agent_in_every_form_it_comes_in() {
    let config = config();
    for (value, expected) in [
        (format!("Bearer {CI}"), "ci proxy_token"),
        (format!("bearer   {CI}"), "ci proxy_token"),
        (basic(&format!("{CI}:")), "ci proxy_token"),
        (basic(CI), "ci proxy_token"),
        (basic(&format!("ci:{CI}")), "ci proxy_token"),
        (basic(&format!("token:{CI}")), "ci proxy_token"),
        (basic(&format!(":{CHAT}")), "chat proxy_token"),
        (basic(&format!("chat:{CI}")), "egress_identity_conflict"),
        (format!("Bearer {}x", &CI[..73]), "egress_token_invalid"),
        (format!("Bearer {OLD}"), "egress_token_invalid"),
        (format!("Bearer {GONE}"), "egress_token_invalid"),
        (format!("Bearer {HOOK}"), "egress_token_invalid"),
        (format!("Bearer {INSIDE}"), "egress_token_invalid"),
        (String::from("Bearer "), "egress_token_invalid"),
        (String::from("Basic !!!"), "egress_token_invalid"),
        (String::from("Digest x"), "egress_token_invalid"),
        (String::new(), "egress_token_invalid"),
        (
            format!("Bearer {}", "x".repeat(5_000)),
            "egress_token_invalid",
        ),
    ] {
        let presented = Presented {
            authorization: Some(value.as_bytes()),
            ..from("192.0.2.1")
        };
        assert_eq!(who(&config, &presented), expected, "{value}");
    }
}

#[test]
fn credentials_mean_nothing_where_no_token_exists_or_none_is_accepted() {
    let mut without = config();
    without.identity.principals.clear();
    let mut refusing = config();
    refusing.forward_proxy.auth_methods = vec![String::from("mtls")];
    for config in [without, refusing] {
        let presented = Presented {
            authorization: Some(b"Basic dXNlcjpwYXNz"),
            ..from("192.0.2.1")
        };
        assert_eq!(who(&config, &presented), "- ");
    }
}

#[test]
fn listeners_addresses_and_certificates_prove_the_agent_they_are_bound_to() {
    let config = config();
    let names = ["x.example", "ci.agents.example"];
    for (presented, expected) in [
        (from("192.0.2.1"), "- "),
        (from("10.9.9.9"), "fleet source"),
        (from("10.2.9.9"), "chat source"),
        (from("::ffff:10.2.9.9"), "chat source"),
        (
            Presented {
                listener: Some(0),
                ..from("192.0.2.1")
            },
            "ci listener",
        ),
        (
            Presented {
                listener: Some(7),
                ..from("192.0.2.1")
            },
            "- ",
        ),
        (
            Presented {
                certificate_names: &names,
                ..from("192.0.2.1")
            },
            "ci mtls",
        ),
        (
            Presented {
                certificate_names: &names[..1],
                ..from("192.0.2.1")
            },
            "- ",
        ),
        (
            Presented {
                certificate_names: &names,
                listener: Some(0),
                ..from("192.0.2.1")
            },
            "ci mtls",
        ),
        (
            Presented {
                listener: Some(0),
                ..from("10.2.0.1")
            },
            "egress_identity_conflict",
        ),
        (
            Presented {
                certificate_names: &names,
                ..from("10.2.0.1")
            },
            "egress_identity_conflict",
        ),
    ] {
        assert_eq!(who(&config, &presented), expected, "{presented:?}");
    }
}

#[test]
fn what_a_caller_says_counts_only_on_its_own_machine_and_last() {
    let said = |address: &str| Presented {
        agent_header: Some(b"helper"),
        ..from(address)
    };
    let mut config = config();
    assert_eq!(who(&config, &said("127.0.0.1")), "helper trusted_loopback");
    assert_eq!(who(&config, &said("::1")), "helper trusted_loopback");
    assert_eq!(
        who(&config, &said("::ffff:127.0.0.1")),
        "helper trusted_loopback"
    );
    assert_eq!(who(&config, &said("192.0.2.1")), "- ");
    let presented = Presented {
        agent_header: Some(b"_proxy"),
        ..from("127.0.0.1")
    };
    assert_eq!(who(&config, &presented), "- ", "no reserved name");
    let presented = Presented {
        listener: Some(0),
        ..said("127.0.0.1")
    };
    assert_eq!(who(&config, &presented), "ci listener");
    config.forward_proxy.trusted_loopback_headers = Some(false);
    assert_eq!(who(&config, &said("127.0.0.1")), "- ");
    config.forward_proxy.trusted_loopback_headers = None;
    config.forward_proxy.auth_methods = vec![String::from("mtls")];
    assert_eq!(who(&config, &said("127.0.0.1")), "- ");
    config.forward_proxy.auth_methods.clear();
    config.deployment.profile = Profile::Enterprise;
    config.forward_proxy.require_auth = RequireAuth::No;
    config.forward_proxy.trusted_loopback_headers = Some(true);
    assert_eq!(
        who(&config, &said("127.0.0.1")),
        "- ",
        "the enterprise profile believes nobody"
    );
}

#[test]
fn whoever_must_prove_who_asks_and_does_not_is_told_to() {
    for (auth, profile, surface, expected) in [
        (RequireAuth::Auto, Profile::Local, false, "- "),
        (
            RequireAuth::Auto,
            Profile::Enterprise,
            false,
            "egress_auth_required",
        ),
        (
            RequireAuth::Auto,
            Profile::Local,
            true,
            "egress_auth_required",
        ),
        (
            RequireAuth::Yes,
            Profile::Local,
            false,
            "egress_auth_required",
        ),
        (RequireAuth::No, Profile::Enterprise, true, "- "),
    ] {
        let mut config = config();
        config.forward_proxy.require_auth = auth;
        config.deployment.profile = profile;
        config.deployment.require_surface_auth = surface;
        assert_eq!(
            who(&config, &from("192.0.2.1")),
            expected,
            "{auth:?} {profile:?} {surface}"
        );
    }
    let mut config = config();
    config.forward_proxy.require_auth = RequireAuth::Yes;
    let policy = EgressPolicy::build(&config, 1);
    let (_, refusal) = identify(&from("192.0.2.1"), &policy, &mut TokenCache::default(), NOW);
    let refusal = refusal.unwrap();
    assert_eq!(refusal.reason, Reason::EgressAuthRequired);
    assert_eq!(refusal.line.unwrap().as_str(), "forward_proxy.require_auth");
}

#[test]
fn a_token_that_was_revoked_by_a_new_policy_is_not_remembered() {
    let mut config = config();
    let mut cache = TokenCache::default();
    let authorization = format!("Bearer {CI}");
    let presented = Presented {
        authorization: Some(authorization.as_bytes()),
        ..from("192.0.2.1")
    };
    let before = identify(
        &presented,
        &EgressPolicy::build(&config, 1),
        &mut cache,
        NOW,
    );
    assert_eq!(before.0.method(), AuthMethod::Token);
    config.identity.principals[0].tokens.remove(0);
    let (_, refusal) = identify(
        &presented,
        &EgressPolicy::build(&config, 2),
        &mut cache,
        NOW,
    );
    assert_eq!(refusal.map(|r| r.reason), Some(Reason::EgressTokenInvalid));
}

#[test]
fn neither_token_nor_hash_is_ever_printed() {
    let authorization = format!("Bearer {CI}");
    let presented = Presented {
        authorization: Some(authorization.as_bytes()),
        ..from("192.0.2.1")
    };
    let policy = EgressPolicy::build(&config(), 1);
    let printed = format!("{presented:?} {policy:?}");
    assert!(
        !printed.contains(&CI[10..20]) && !printed.contains("sha256:"),
        "{printed}"
    );
}

/// A change of the configuration, and what becomes of whoever was proven before it.
type Withdrawal = (fn(&mut Config), &'static str);

#[track_caller]
fn withdrawn(presented: &Presented<'_>, changes: &[Withdrawal]) {
    let before = EgressPolicy::build(&config(), 1);
    let mut cache = TokenCache::default();
    let (principal, refusal) = identify(presented, &before, &mut cache, NOW);
    assert!(refusal.is_none(), "{refusal:?}");
    assert_eq!(identify_again(&principal, &before, NOW), Ok(()));
    for (at, (change, expected)) in changes.iter().enumerate() {
        let mut config = config();
        change(&mut config);
        let now = EgressPolicy::build(&config, 2);
        let again = identify_again(&principal, &now, NOW);
        let reason = again.map_or_else(|refusal| refusal.reason.as_str(), |()| "");
        assert_eq!(reason, *expected, "change {at}");
    }
}

#[test]
fn what_proved_an_agent_can_be_withdrawn() {
    fn ci(config: &mut Config) -> &mut Principal {
        &mut config.identity.principals[0]
    }
    let token = format!("Bearer {CI}");
    let by_token = Presented {
        authorization: Some(token.as_bytes()),
        ..from("192.0.2.1")
    };
    let changes: [Withdrawal; 8] = [
        (|config| config.identity.principals.reverse(), ""),
        (
            |config| {
                config
                    .forward_proxy
                    .blocked_domains
                    .push(String::from("x.example"))
            },
            "",
        ),
        (
            |config| ci(config).tokens[0].revoked_at = String::from("2026-01-01T00:00:00Z"),
            "egress_token_invalid",
        ),
        (
            |config| drop(ci(config).tokens.remove(0)),
            "egress_token_invalid",
        ),
        (
            |config| ci(config).allowed_surfaces = vec![String::from("gateway")],
            "egress_token_invalid",
        ),
        (
            |config| ci(config).id = String::from("other"),
            "egress_identity_conflict",
        ),
        (
            |config| config.forward_proxy.auth_methods = vec![String::from("mtls")],
            "egress_identity_conflict",
        ),
        (
            |config| config.identity.principals.clear(),
            "egress_identity_conflict",
        ),
    ];
    withdrawn(&by_token, &changes);

    let at_listener = Presented {
        listener: Some(0),
        ..from("192.0.2.1")
    };
    let names = ["ci.agents.example"];
    let by_certificate = Presented {
        certificate_names: &names,
        ..from("192.0.2.1")
    };
    let unbound: Withdrawal = (unbind, "egress_identity_conflict");
    let required: Withdrawal = (unbind_and_require, "egress_auth_required");
    for presented in [at_listener, by_certificate, from("10.9.9.9")] {
        withdrawn(&presented, &[unbound, required]);
    }
    // Another proof of the same agent is enough.
    let both = Presented {
        listener: Some(0),
        ..by_certificate
    };
    withdrawn(
        &both,
        &[
            (|config| config.forward_proxy.certificates.clear(), ""),
            unbound,
        ],
    );
    // Somebody who was nobody becomes somebody, or must be.
    let bind: Withdrawal = (
        |config| {
            config.forward_proxy.sources.push(SourceBinding {
                network: String::from("192.0.2.0/24"),
                agent: String::from("fleet"),
            });
        },
        "egress_identity_conflict",
    );
    withdrawn(
        &from("192.0.2.1"),
        &[
            (|config| config.forward_proxy.sources.clear(), ""),
            bind,
            required,
        ],
    );
}

fn unbind(config: &mut Config) {
    let proxy = &mut config.forward_proxy;
    proxy.listeners[0].agent.clear();
    proxy.certificates.clear();
    proxy.sources.clear();
}

fn unbind_and_require(config: &mut Config) {
    unbind(config);
    config.forward_proxy.require_auth = RequireAuth::Yes;
}

#[test]
fn a_token_that_expires_proves_nothing_from_then_on() {
    let policy = EgressPolicy::build(&config(), 1);
    let token = format!("Bearer {CI}");
    let presented = Presented {
        authorization: Some(token.as_bytes()),
        ..from("192.0.2.1")
    };
    let (principal, _) = identify(&presented, &policy, &mut TokenCache::default(), NOW);
    let end = Timestamp::parse_rfc3339("2030-01-01T00:00:00Z").unwrap();
    let refusal = identify_again(&principal, &policy, end).unwrap_err();
    assert_eq!(refusal.reason, Reason::EgressTokenInvalid);
    let shown = format!("{principal:?}");
    assert!(!shown.contains("sha256"), "{shown}");
}
