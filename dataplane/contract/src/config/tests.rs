use super::*;
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../testdata/config/example-like.yaml");
const README: &str = include_str!("../../testdata/config/readme.yaml");

fn env() -> Env {
    Env {
        cwd: PathBuf::from("/srv"),
        home: Some(PathBuf::from("/home/o")),
        ..Env::empty()
    }
}

fn parse_text(text: &str) -> Result<Loaded, LoadFailed> {
    parse(text, Path::new("oktsec.yaml"), &env())
}

pub(super) fn accepted(text: &str) -> Loaded {
    parse_text(text).unwrap_or_else(|failed| panic!("{text}\n{failed}"))
}

/// The problems of a text, one per line.
fn problems(text: &str) -> Vec<String> {
    match parse_text(text) {
        Ok(loaded) => loaded.warnings,
        Err(failed) => failed.problems,
    }
    .iter()
    .map(ToString::to_string)
    .collect()
}

/// A file that is right but for what is added.
fn with(more: &str) -> String {
    format!("identity: {{keys_dir: keys}}\n{more}")
}

pub(super) fn flow(text: &str) -> Config {
    accepted(&with(text)).config
}

#[test]
fn the_readme_of_the_seed_loads_and_its_dead_parts_are_named() {
    let loaded = accepted(README);
    let config = &loaded.config;
    assert_eq!(config.server.port, 8080);
    assert_eq!(
        config.identity.keys_dir.as_deref(),
        Some(Path::new("/srv/keys"))
    );
    assert!(config.identity.require_signature);
    let research = &config.agents["research-agent"];
    assert_eq!(
        research.can_message.as_deref(),
        Some(&[String::from("analysis-agent")][..])
    );
    assert_eq!(research.blocked_content, ["credentials", "pii"]);
    assert_eq!(config.rules[0].action, Some(RuleAction::Block));
    let keys: Vec<_> = loaded.warnings.iter().map(|w| w.key.as_str()).collect();
    assert_eq!(keys, ["rules[0].severity", "rules[0].notify", "webhooks"]);

    // Whoever knows the rules also hears that one is none.
    let known = Names {
        categories: vec![String::from("pii"), String::from("credential-leak")],
        rule_ids: vec![String::from("IAP-001")],
    };
    let loaded = super::parse_naming(README, Path::new("oktsec.yaml"), &env(), |config| {
        assert!(config.agents.contains_key("research-agent"), "it was read");
        known
    });
    let warnings = loaded.unwrap().warnings;
    let texts: Vec<_> = warnings
        .iter()
        .map(|w| (w.key.as_str(), w.message.as_str()))
        .collect();
    assert!(texts.contains(&(
        "agents.research-agent.blocked_content[0]",
        "no rule has the category \"credentials\""
    )));
    assert!(texts.contains(&(
        "rules[0]",
        "there is no rule \"block-relay-injection\", this override does nothing"
    )));
}

#[test]
fn the_mistakes_of_the_example_file_of_the_go_version_are_warnings() {
    let loaded = accepted(EXAMPLE);
    let config = &loaded.config;
    assert_eq!(config.db_path, Path::new("/home/o/.oktsec/oktsec.db"));
    assert_eq!(config.forward_proxy.bind, "127.0.0.1");
    assert_eq!(config.alerting.cooldown, Some(Period::from_secs(300)));
    assert_eq!(
        config.agents["reporting-agent"].can_message,
        Some(Vec::new())
    );
    assert_eq!(config.gateway.require_auth, RequireAuth::Yes);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    for text in [
        "can_message: an empty list means nobody",
        "forward_proxy.bind: the port of \"127.0.0.1:8083\" is ignored; write 127.0.0.1",
        "llm.budget.daily_limit: unknown key, ignored; did you mean daily_limit_usd?",
        "llm.fallback.provider: none is no provider",
        "alerting.cooldown: a span of time has a unit; read as 300 seconds; write 300s",
        "agents.reporting-agent.source: ignored: a note of `oktsec init`",
        "rules[0].severity: has no effect",
        "mcp_servers: has no effect",
    ] {
        assert!(
            warnings.iter().any(|w| w.contains(text)),
            "{text}\n{warnings:#?}"
        );
    }
    assert!(
        !format!("{config:?}").contains("hush"),
        "secrets are not shown"
    );
}

#[test]
fn every_mistake_is_named_at_once_with_its_place_and_remedy() {
    let text = "\
server:
  port: 99999
  log_levle: debug
agents:
  a:
    key_version: x
    can_message: [a, b]
    suspended: \"true\"
  b c:
    scan_profile: lax
default_policy: maybe
rules:
  - id: X
    action: explode
  - {id: X, action: block, apply_to_tools: [t], exempt_tools: [u]}
  - {id: Y, notify: [z]}
  - [1]
gateway: {port: 70000}
forward_proxy: {enabled: true, max_body_size: -1}
mcp_servers:
  s: {transport: stdio}
  h: {transport: http}
  o: {transport: carrier pigeon}
";
    assert_eq!(
        problems(text),
        [
            "oktsec.yaml: identity.keys_dir: keys_dir is required when require_signature is true; write keys_dir: ./keys below identity",
            "oktsec.yaml:2:9: server.port: invalid port: 99999; write a port from 1 to 65535",
            "oktsec.yaml:3:3: warning: server.log_levle: unknown key, ignored; did you mean log_level?",
            "oktsec.yaml:6:18: agents.a.key_version: expected a whole number, found \"x\"; write e.g. 2",
            "oktsec.yaml:7:19: agents.a.can_message[0]: agent \"a\" lists itself in can_message; remove it",
            "oktsec.yaml:8:16: agents.a.suspended: expected true or false, found \"true\"; write true or false without quotes",
            "oktsec.yaml:9:3: agents.b c: agent \"b c\": a name holds only letters, digits, '.', '_' and '-', not ' '; rename it",
            "oktsec.yaml:10:5: warning: agents.b c.scan_profile: has no effect: this version does not do that yet",
            "oktsec.yaml:10:19: agents.b c.scan_profile: agent \"b c\" has invalid scan_profile \"lax\" (valid: strict, content-aware, minimal); write strict",
            "oktsec.yaml:11:17: default_policy: invalid default_policy \"maybe\" (must be allow or deny); write deny",
            "oktsec.yaml:14:13: rules[0].action: rule \"X\" has invalid action \"explode\" (valid: block, quarantine, allow-and-flag, ignore); write one of them",
            "oktsec.yaml:15:5: rules[1]: duplicate rule override for \"X\"; keep one of them",
            "oktsec.yaml:15:28: warning: rules[1].apply_to_tools: has no effect: this version does not do that yet",
            "oktsec.yaml:15:49: warning: rules[1].exempt_tools: has no effect: this version does not do that yet",
            "oktsec.yaml:16:5: rules[2].action: rule \"Y\" has invalid action \"\" (valid: block, quarantine, allow-and-flag, ignore); write one of them",
            "oktsec.yaml:16:13: warning: rules[2].notify: has no effect: this version does not do that yet",
            "oktsec.yaml:17:5: rules[3]: expected keys with values, found a list; write key: value lines below it",
            "oktsec.yaml:18:1: warning: gateway: has no effect: this version does not do that yet",
            "oktsec.yaml:18:17: gateway.port: invalid gateway port: 70000; write a port from 1 to 65535",
            "oktsec.yaml:19:1: forward_proxy: forward_proxy is enabled without allowed_domains, blocked_domains, or scanning; configure at least one; write scan_requests: true",
            "oktsec.yaml:19:32: warning: forward_proxy.max_body_size: has no effect: bodies are scanned as they stream, whatever their size",
            "oktsec.yaml:19:47: forward_proxy.max_body_size: forward_proxy.max_body_size must be non-negative; write 0 for 1 MiB",
            "oktsec.yaml:20:1: warning: mcp_servers: has no effect: this version does not do that yet",
            "oktsec.yaml:21:3: mcp_servers.s: mcp_server \"s\": stdio transport requires command; write command: …",
            "oktsec.yaml:22:3: mcp_servers.h: mcp_server \"h\": http transport requires url; write url: …",
            "oktsec.yaml:23:3: mcp_servers.o: mcp_server \"o\": invalid transport \"carrier pigeon\" (must be stdio or http); write stdio or http",
        ]
    );
}

#[test]
fn a_key_that_stands_twice_is_an_error_with_both_lines() {
    let found = problems(&with(
        "server:\n  port: 1\n  bind: ::1\n  port: 2\nserver: {}\nserver: {}\n",
    ));
    assert_eq!(
        found[..3],
        [
            "oktsec.yaml:5:3: server.port: stands twice, first in line 3; keep one of them",
            "oktsec.yaml:6:1: server: stands twice, first in line 2; keep one of them",
            "oktsec.yaml:7:1: server: stands twice, first in line 2; keep one of them",
        ]
    );
}

#[test]
fn texts_that_are_no_configuration_are_refused_where_they_break() {
    for (text, part) in [
        ("a: [1\nb: 2\n", "this is not YAML"),
        ("- a\n", "1:1: expected keys with values, found a list"),
        (
            "just words\n",
            "expected keys with values, found \"just words\"",
        ),
        ("a: *nowhere\n", "this is not YAML"),
        ("a: &a [*a]\n", "alias"),
        ("? [x]\n: 1\n", "a key must be a word"),
        ("<<: 1\n", "<< must refer to a map"),
        ("", "keys_dir is required"),
        ("# nothing\n", "keys_dir is required"),
    ] {
        let failed = parse_text(text).unwrap_err().to_string();
        assert!(failed.contains(part), "{text:?}: {failed}");
    }
    let deep = format!("agents: {}1{}", "[".repeat(100), "]".repeat(100));
    assert!(
        parse_text(&deep)
            .unwrap_err()
            .to_string()
            .contains("nested more deeply")
    );
}

#[test]
fn aliases_can_be_used_but_not_to_make_a_small_file_huge() {
    let config = flow(
        "x-d: &d {can_message: [b], key_version: 3}\nagents:\n  a: *d\n  c: {<<: *d, key_version: 4}\n",
    );
    assert_eq!(config.agents["a"].key_version, 3);
    assert_eq!(config.agents["c"].key_version, 4);
    assert_eq!(
        config.agents["c"].can_message,
        config.agents["a"].can_message
    );
    let mut bomb = String::from("x-0: &l0 {tags: [");
    bomb.push_str(&"t,".repeat(200));
    bomb.push_str("]}\nagents:\n");
    for n in 0..5_000 {
        bomb.push_str(&format!("  a{n}: *l0\n"));
    }
    let failed = parse_text(&with(&bomb)).unwrap_err();
    assert!(
        failed
            .to_string()
            .contains("aliases make this file too large")
    );
}

#[test]
fn a_flood_of_warnings_does_not_hide_an_error() {
    let mut text = with("");
    for n in 0..2_000 {
        text.push_str(&format!("unknown{n}: 1\n"));
    }
    assert_eq!(accepted(&text).warnings.len(), 500);
    text.push_str("server: {port: 0}\n");
    assert!(
        parse_text(&text)
            .unwrap_err()
            .to_string()
            .contains("invalid port: 0")
    );
}

#[test]
fn values_are_read_as_yaml_means_them() {
    let config = flow(
        "server: {port: 0x1F90, require_intent: yes}\nagents: {a: {description: 1.10, max_delegation_depth: -1}, b: }\nversion: 1\n",
    );
    assert_eq!(config.server.port, 8080);
    assert!(config.server.require_intent);
    assert_eq!(config.agents["a"].description, "1.10");
    assert_eq!(config.agents["a"].max_delegation_depth, -1);
    assert_eq!(config.agents["b"], Agent::default());
    assert_eq!(config.version, "1");
    for (bad, part) in [
        ("server: {port: \"8080\"}", "write 8080 without quotes"),
        (
            "agents: {a: {key_version: -1}}",
            "from 0 to 4294967295, found -1",
        ),
        (
            "agents: {a: {can_message: b}}",
            "expected a list, found \"b\"; write [b]",
        ),
        (
            "agents: {a: {can_message: [~]}}",
            "can_message[0]: an empty entry",
        ),
        (
            "agents: [a]",
            "agents: expected keys with values, found a list",
        ),
        ("node: \"a b\"", "write e.g. gateway-1"),
        (
            "mode: watch",
            "expected one of observe, enforce, found \"watch\"",
        ),
        ("compat: go", "expected one of oktsec"),
        ("server: {bind: \"a b\"}", "expected an address"),
        ("server: {bind: 1.2.3.4.5}", "expected an address"),
        (
            "server: {trusted_proxies: [10.0.0.0/99]}",
            "trusted_proxies[0]: expected a network",
        ),
        (
            "server: {tls: {client_auth: required}}",
            "server.tls needs cert",
        ),
        (
            "anomaly: {risk_threshold: high}",
            "expected a number, found \"high\"",
        ),
        ("alerting: {cooldown: soon}", "write e.g. 5m or 1h30m"),
        ("db_path: \"a\\0b\"", "NUL"),
        (
            "llm: {enabled: true, provider: bard}",
            "(must be openai, claude, or webhook)",
        ),
        (
            "llm: {enabled: true, provider: claude}",
            "llm.api_key or llm.api_key_env is required for claude provider",
        ),
        (
            "llm: {enabled: true, provider: openai}",
            "llm.model is required for openai provider",
        ),
        (
            "llm: {enabled: true, provider: webhook}",
            "llm.webhook.url is required for webhook provider",
        ),
        (
            "llm: {enabled: true, provider: openai, model: m, temperature: 3}",
            "llm.temperature must be between 0.0 and 2.0",
        ),
    ] {
        let failed = parse_text(&with(bad)).unwrap_err().to_string();
        assert!(failed.contains(part), "{bad}: {failed}");
    }
}

#[test]
fn surfaces_take_the_mode_of_the_top_unless_they_say_otherwise() {
    let config = flow("mode: observe\nsurfaces: {message: {mode: enforce}, hook: {}}\n");
    assert_eq!(config.surfaces.message.mode, Mode::Enforce);
    assert_eq!(config.surfaces.hook.mode, Mode::Observe);
    assert_eq!(config.surfaces.egress.mode, Mode::Observe);
    assert_eq!(flow("").surfaces, Surfaces::default());
}

#[test]
fn grants_that_allow_nobody_or_never_are_warned_about() {
    for (text, part) in [
        (
            "agents: {a: {can_message: []}}",
            "an empty list means nobody",
        ),
        (
            "compat: oktsec\nagents: {a: {can_message: []}}",
            "an empty list means everybody",
        ),
        (
            "agents: {a: {acl_entries: [{target: b, constraints: [{type: moon}]}]}}",
            "unknown constraint \"moon\" never allows",
        ),
        (
            "agents: {a: {acl_entries: [{target: b, constraints: [{type: ttl, expires_at: soon}]}]}}",
            "expires_at is no RFC 3339 time",
        ),
        (
            "agents: {a: {acl_entries: [{target: b, constraints: [{type: rate}]}]}}",
            "never allows",
        ),
        ("agents: {a: {acl_entries: [{}]}}", "a grant without target"),
        (
            "agents: {alpha: {can_message: [aplha2]}, alpha2: }",
            "did you mean alpha2?",
        ),
        ("default_policy: deny", "denies everybody"),
        ("server: {bind: 0.0.0.0}", "set server.api_key"),
        ("version: \"2\"", "unknown version"),
        ("a: 1\n---\nb: 2", "a second document begins here"),
    ] {
        let warnings = accepted(&with(text)).warnings;
        assert!(
            warnings.iter().any(|w| w.to_string().contains(part)),
            "{text}: {warnings:#?}"
        );
    }
    assert!(
        accepted(&with("agents: {a: {can_message: [anybody]}}\nx-mine: 1\n"))
            .warnings
            .is_empty()
    );
}

#[test]
fn rate_limits_keep_their_old_readings() {
    for (text, agent, peer, window) in [
        ("{}", Some(100), Some(1_000), 60),
        ("{per_agent: 0}", None, None, 60),
        ("{per_agent: -1, per_ip: 5}", None, Some(5), 60),
        ("{per_agent: 7, per_ip: -1, window: 0}", Some(7), None, 60),
        ("{per_agent: 7, window: 10}", Some(7), Some(70), 10),
    ] {
        let limit = flow(&format!("rate_limit: {text}")).rate_limit;
        assert_eq!(
            (limit.agent_limit(), limit.peer_limit(), limit.window),
            (agent, peer, window),
            "{text}"
        );
    }
}

#[test]
fn the_api_key_of_dotenv_is_used_only_if_the_file_has_none() {
    let env = Env {
        api_key: Ok(Some(Secret::from("from-env"))),
        ..env()
    };
    let key = |text: &str| {
        parse(text, Path::new("o.yaml"), &env)
            .unwrap()
            .config
            .server
            .api_key
    };
    assert_eq!(key(&with("")).expose(), "from-env");
    assert_eq!(key(&with("server: {api_key: mine}")).expose(), "mine");
    let broken = Env {
        api_key: Err(String::from("is a symbolic link")),
        ..env
    };
    let parse = |text: &str| parse(text, Path::new("o.yaml"), &broken);
    assert!(
        parse(&with(""))
            .unwrap_err()
            .to_string()
            .contains(".env file beside this one is a")
    );
    assert!(parse(&with("server: {api_key: mine}")).is_ok());
}

#[test]
fn relative_paths_start_beside_the_file_or_where_the_go_version_found_them() {
    let at = |exists: fn(&Path) -> bool| {
        let env = Env { exists, ..env() };
        let loaded = parse(
            "identity: {keys_dir: ./keys}\n",
            Path::new("conf/o.yaml"),
            &env,
        )
        .unwrap();
        (
            loaded.config.identity.keys_dir.unwrap(),
            loaded.warnings.len(),
        )
    };
    assert_eq!(at(|_| false), (PathBuf::from("/srv/conf/keys"), 0));
    assert_eq!(at(|_| true), (PathBuf::from("/srv/conf/keys"), 0));
    assert_eq!(
        at(|p| p == Path::new("/srv/keys")),
        (PathBuf::from("/srv/keys"), 1)
    );
}

#[test]
fn files_that_are_no_small_regular_texts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("o.yaml");
    let failed = |path: &Path| load(path).unwrap_err().to_string();
    assert!(failed(&path).contains("no such file"));
    std::fs::write(&path, with("")).unwrap();
    std::fs::write(folder.path().join(".env"), "OKTSEC_API_KEY='k'\n").unwrap();
    assert_eq!(load(&path).unwrap().config.server.api_key.expose(), "k");
    let link = folder.path().join("link.yaml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(failed(&link).contains("symbolic link"));
    assert!(failed(folder.path()).contains("not a regular file"));
    std::fs::write(&path, vec![b'#'; (CONFIG_BYTES_MAX + 1) as usize]).unwrap();
    assert!(failed(&path).contains("too large"));
    std::fs::write(&path, b"a: \xff\n").unwrap();
    assert!(failed(&path).contains("UTF-8"));
}

#[test]
fn a_configuration_survives_the_snapshot() {
    for text in [README, EXAMPLE] {
        let config = accepted(text).config;
        let json = serde_json::to_vec(&config).unwrap();
        assert_eq!(serde_json::from_slice::<Config>(&json).unwrap(), config);
    }
    // An older control plane sends fewer keys.
    assert_eq!(
        serde_json::from_slice::<Config>(b"{}").unwrap(),
        Config::default()
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z0-9 :{}\\[\\]&*<\\-?|>'\"#!,\\n\\t]{0,200}") {
        crate::fuzz_entry::config(text.as_bytes());
    }

    #[test]
    fn no_damage_to_a_real_file_makes_the_parser_panic(at in 0usize..2_000, with in "\\PC{0,3}", drop in 0usize..20) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        let at = at.min(text.len());
        let end = (at + drop).min(text.len());
        text.splice(at..end, with.chars());
        let text: String = text.into_iter().collect();
        crate::fuzz_entry::config(text.as_bytes());
    }
}
