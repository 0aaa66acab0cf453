//! Commands that need no server: exit codes, JSON, and nothing overwritten.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{Place, is_private};
use serde_json::json;

#[test]
fn wrong_usage_exits_2_and_says_what_is_right() {
    let place = Place::empty();
    for arguments in [
        &["fly"][..],
        &["send"],
        &["--frobnicate"],
        &["logs", "--status", "bloked"],
    ] {
        let said = place.run(arguments).expect(2);
        assert!(
            said.stdout.is_empty() && !said.stderr.is_empty(),
            "{said:?}"
        );
    }
    let said = place.run(&["--port", "1", "verify"]).expect(2);
    assert!(said.stderr.contains("behind it"), "{said:?}");
}

#[test]
fn version_completions_and_manual_are_there() {
    let place = Place::empty();
    assert!(
        place
            .run(&["version"])
            .expect(0)
            .stdout
            .starts_with("oktsec 0.")
    );
    assert_eq!(
        place.json(&["version"], 0)["version"],
        env!("CARGO_PKG_VERSION")
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            place
                .run(&["completions", shell])
                .expect(0)
                .stdout
                .contains("quarantine")
        );
    }
    assert!(place.run(&["man"]).expect(0).stdout.contains(".TH oktsec"));
}

#[test]
fn a_broken_configuration_is_refused_with_every_mistake_at_once() {
    let place = Place::empty();
    place.write_config(
        "server:\n  port: 99999\n  log_level: loud\nidentity:\n  require_signature: maybe\n",
    );
    for command in ["verify", "serve", "controlplane"] {
        let said = place.run(&[command]).expect(2);
        for key in [
            "server.port",
            "server.log_level",
            "identity.require_signature",
        ] {
            assert!(
                said.stderr.contains(key),
                "{command}: {key} in {}",
                said.stderr
            );
        }
        assert!(
            said.stderr.contains("oktsec.yaml:2"),
            "{command} names the line: {}",
            said.stderr
        );
    }
    let problems = place.json(&["verify"], 2);
    assert!(
        problems["problems"].as_array().unwrap().len() >= 4,
        "{problems}"
    );
}

#[test]
fn verify_counts_and_warns() {
    let place = Place::with_agents();
    let valid = place.json(&["verify"], 0);
    assert_eq!(valid["valid"], true);
    assert_eq!(valid["agents"], 3);
    assert_eq!(valid["keys"], 3);
    assert!(valid["rules"].as_u64().unwrap() > 50, "{valid}");
    place.write_config(&place.config("agents:\n  a:\n    can_mesage: [b]\n"));
    let said = place.run(&["verify"]).expect(0);
    assert!(said.stderr.contains("did you mean can_message"), "{said:?}");
    place.run(&["verify", "--strict"]).expect(1);
    let text = "agents:\n  a:\n    can_message: [b]\n    blocked_content: [credential-leek]\nrules:\n  - {id: IAP-0001, action: block}\n  - {id: iap-001, action: block, managed_by_policy: true}\nquarantine: {archive_dir: old}\nsurfaces: {stdio: {mode: observe}}\n";
    place.write_config(&place.config(text));
    let warnings = place.json(&["verify"], 0)["warnings"].to_string();
    for text in [
        "no rule has the category \\\"credential-leek\\\"; did you mean credential-leak?",
        "there is no rule \\\"IAP-0001\\\", this override does nothing; did you mean IAP-001?",
        "rules[1].managed_by_policy: has no effect",
        "quarantine.archive_dir: has no effect",
        "surfaces.stdio: has no effect",
    ] {
        assert!(warnings.contains(text), "{text} in {warnings}");
    }
    assert!(
        !warnings.contains("iap-001"),
        "an id in another case is known: {warnings}"
    );
}

#[test]
fn keygen_makes_private_keys_and_overwrites_none() {
    let place = Place::with_agents();
    let key = place.path("keys/research-agent.key");
    assert!(is_private(&key));
    let before = std::fs::read(&key).unwrap();
    let said = place
        .run(&["keygen", "--agent", "newcomer,research-agent"])
        .expect(2);
    assert!(said.stderr.contains("keys rotate"), "{said:?}");
    assert_eq!(std::fs::read(&key).unwrap(), before);
    assert!(!place.path("keys/newcomer.key").exists(), "all or none");
    for name in ["_proxy", "a/b", "con", ""] {
        place.run(&["keygen", "--agent", name]).expect(2);
    }
    let out = place.path("elsewhere");
    let made = place.json(
        &["keygen", "--agent", "x", "--out", out.to_str().unwrap()],
        0,
    );
    assert_eq!(made[0]["fingerprint"].as_str().unwrap().len(), 64);
    assert!(out.join("x.pub").exists());
}

#[test]
fn keygen_with_a_configuration_that_cannot_be_used_makes_no_keys_elsewhere() {
    let place = Place::empty();
    let no_home = |place: &Place| !place.path(".oktsec").exists();
    place.write_config("agents: [no map]\n");
    let said = place.run(&["keygen", "--agent", "a"]).expect(2);
    assert!(
        said.stderr.contains("oktsec.yaml:1") && said.stderr.contains("--out"),
        "{said:?}"
    );
    assert!(no_home(&place));
    place
        .run(&["keygen", "--agent", "a", "--config", "another.yaml"])
        .expect(2);
    assert!(no_home(&place));
    place
        .run(&["keygen", "--agent", "a", "--out", "here"])
        .expect(0);
    assert!(place.path("here/a.key").exists() && no_home(&place));
    // Without any configuration they are made where the first one will look for them.
    std::fs::remove_file(place.config_path()).unwrap();
    place.run(&["keygen", "--agent", "a"]).expect(0);
    assert!(is_private(&place.path(".oktsec/keys/a.key")));
}

/// Runs a command whose files may grow to so many blocks and no further.
fn with_little_disk(place: &Place, blocks: usize, arguments: &str) -> std::process::Output {
    let line = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" {arguments}");
    std::process::Command::new("sh")
        .args(["-c", &line, env!("CARGO_BIN_EXE_oktsec")])
        .current_dir(place.dir.path())
        .env("HOME", place.dir.path())
        .output()
        .unwrap()
}

/// A full disk, as far as one command sees: no byte can be written to a file.
#[test]
fn what_could_not_be_written_is_in_nobodys_way() {
    let place = Place::with_agents();
    let on_a_full_disk = |arguments: &str| {
        let said = with_little_disk(&place, 0, arguments);
        assert_eq!(said.status.code(), Some(2), "{arguments}: {said:?}");
    };
    on_a_full_disk("keygen --agent late");
    on_a_full_disk("secrets add late --command 'echo blue+Harbour9/tide'");
    on_a_full_disk("tls init");
    place.run(&["keygen", "--agent", "late"]).expect(0);
    place
        .run(&[
            "secrets",
            "add",
            "late",
            "--command",
            "echo blue+Harbour9/tide",
        ])
        .expect(0);
    place.run(&["tls", "init"]).expect(0);
}

/// A disk that becomes full in the middle of a revocation: the list may grow to one block and no further.
#[test]
fn a_revocation_that_does_not_fit_the_disk_leaves_the_list_whole() {
    let place = Place::with_agents();
    let reason = "r".repeat(200);
    let mut done = 0;
    let code = loop {
        let agent = format!("agent-{done}");
        place.run(&["keygen", "--agent", &agent]).expect(0);
        let revoke = format!("keys revoke --agent {agent} --reason {reason}");
        match with_little_disk(&place, 1, &revoke).status.code() {
            Some(0) => done += 1,
            code => break code,
        }
        assert!(done < 100, "the disk never became full");
    };
    assert_eq!(code, Some(2));
    let list = std::fs::read_to_string(place.path("keys/revoked/revocations.jsonl")).unwrap();
    assert!(list.ends_with('\n'), "{list}");
    assert_eq!(list.lines().count(), done);
    let revoked = place.json(&["keys", "list-revoked"], 0);
    assert_eq!(revoked.as_array().unwrap().len(), done);
}

#[test]
fn wrong_arguments_are_said_in_json_to_whoever_asks_for_it() {
    let place = Place::with_agents();
    let said = place
        .run(&["logs", "--json", "--status", "nonsense"])
        .expect(2);
    let error = said.json()["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("nonsense") && error.contains("--status"),
        "{error}"
    );
    assert!(said.stderr.contains("nonsense"), "{said:?}");
    let plain = place.run(&["logs", "--status", "nonsense"]).expect(2);
    assert_eq!(plain.stdout, "");
    let help = place.run(&["logs", "--json", "--help"]).expect(0);
    assert!(help.stdout.contains("Usage:"), "{help:?}");
}

#[test]
fn certificates_that_keep_a_data_plane_from_starting_are_a_mistake_with_its_line() {
    let place = Place::with_agents();
    let text = place.read_config();
    let tls = "forward_proxy:\n  enabled: true\n  scan_requests: true\n  tls: {cert: none.crt, key: none.key}\n";
    std::fs::write(place.config_path(), format!("{text}{tls}")).unwrap();
    let said = place.run(&["verify"]).expect(2);
    let line = text.lines().count() + 4;
    let expected = format!("oktsec.yaml:{line}: forward_proxy.tls: ");
    assert!(said.stderr.contains(&expected), "{said:?}");
    assert!(said.stderr.contains("none.crt"), "{said:?}");
}

#[test]
fn half_a_revocation_is_a_warning_and_none_after_the_next_one() {
    let place = Place::with_agents();
    place
        .run(&["keys", "rotate", "--agent", "research-agent"])
        .expect(0);
    let path = place.path("keys/revoked/revocations.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}{}", &whole[..40])).unwrap();
    let verified = place.run(&["verify", "--strict"]).expect(1);
    assert!(verified.stderr.contains("revocations.jsonl:2: half a line"));
    let listed = place.json(&["keys", "list-revoked"], 0);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    place
        .run(&["keys", "revoke", "--agent", "research-agent"])
        .expect(0);
    assert!(!place.run(&["verify"]).expect(0).stderr.contains("half"));
    let listed = place.json(&["keys", "list-revoked"], 0);
    assert_eq!(listed.as_array().unwrap().len(), 2);
}

#[test]
fn keys_are_rotated_and_revoked() {
    let place = Place::with_agents();
    let fingerprint = |agent: &str| {
        let keys = place.json(&["keys", "list"], 0);
        let key = keys
            .as_array()
            .unwrap()
            .iter()
            .find(|k| k["agent"] == agent && k["status"] == "active");
        key.map(|key| key["fingerprint"].clone())
    };
    let first = fingerprint("research-agent").unwrap();
    let rotated = place.json(&["keys", "rotate", "--agent", "research-agent"], 0);
    assert_eq!(rotated["key_version"], 1);
    assert_eq!(rotated["in_force"]["server"], "not_running");
    let second = fingerprint("research-agent").unwrap();
    assert_eq!(second, rotated["fingerprint"]);
    assert_ne!(first, second);
    assert!(place.read_config().starts_with("# kept comment\n"));
    assert!(place.read_config().contains("key_version: 1"));
    let slip = place
        .run(&["keys", "rotate", "--agent", "resaerch-agent"])
        .expect(2);
    assert!(
        slip.stderr.contains("resaerch-agent has no key"),
        "{slip:?}"
    );
    assert_eq!(fingerprint("resaerch-agent"), None);

    place
        .run(&[
            "keys",
            "revoke",
            "--agent",
            "research-agent",
            "--reason",
            "laptop stolen",
        ])
        .expect(0);
    assert_eq!(fingerprint("research-agent"), None);
    let revoked = place.json(&["keys", "list-revoked"], 0);
    let reasons: Vec<_> = revoked
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["fingerprint"])
        .collect();
    assert_eq!(reasons, [&first, &second]);
    assert_eq!(revoked[1]["reason"], "laptop stolen");
    assert_eq!(revoked[1]["agent_name"], "research-agent");
    place
        .run(&["keys", "revoke", "--agent", "nobody"])
        .expect(2);
}

#[test]
fn agents_are_suspended_without_a_server_and_comments_stay() {
    let place = Place::with_agents();
    let said = place.json(&["agent", "suspend", "hermit"], 0);
    assert_eq!(said["changed"], true);
    assert_eq!(said["in_force"]["server"], "not_running");
    assert!(place.read_config().starts_with("# kept comment\n"));
    let agents = place.json(&["agent", "list"], 0);
    let hermit = agents
        .as_array()
        .unwrap()
        .iter()
        .find(|a| a["name"] == "hermit")
        .unwrap();
    assert_eq!(hermit["suspended"], true);
    assert_eq!(hermit["can_message"], json!([]));
    assert_eq!(
        place.json(&["agent", "suspend", "hermit"], 0)["changed"],
        false
    );
    assert_eq!(
        place.json(&["agent", "unsuspend", "hermit"], 0)["changed"],
        true
    );
    let said = place.run(&["agent", "suspend", "nobody"]).expect(2);
    assert!(
        said.stderr.contains("hermit"),
        "says who there is: {said:?}"
    );
}

#[test]
fn rules_are_listed_explained_and_checked() {
    let place = Place::with_agents();
    let rules = place.json(&["rules"], 0);
    assert!(rules.as_array().unwrap().len() > 50);
    assert!(
        place
            .run(&["rules"])
            .expect(0)
            .stdout
            .starts_with("Loaded ")
    );
    let explained = place
        .run(&["rules", "--explain", "iap-001"])
        .expect(0)
        .stdout;
    assert!(
        explained.contains("IAP-001") && explained.contains("Patterns:"),
        "{explained}"
    );
    assert!(
        ["held back", "stopped before", "detected only"]
            .iter()
            .any(|words| explained.contains(words)),
        "what scanning a stream promises for it: {explained}"
    );
    place.run(&["rules", "--explain", "NOPE-1"]).expect(2);

    let good = "id: ACME-1\nname: Vault\nseverity: high\ncategory: acme\npatterns:\n  - type: contains\n    value: vault.acme.internal\nexamples:\n  true_positive: [see vault.acme.internal now]\n  false_positive: [see vault]\n";
    let file = place.path("good.yaml");
    std::fs::write(&file, good).unwrap();
    let path = file.to_str().unwrap();
    place.run(&["rules", "lint", path]).expect(0);
    let tested = place.json(&["rules", "test", path], 0);
    assert_eq!(
        (&tested["rules"], &tested["examples"]),
        (&json!(1), &json!(2))
    );
    std::fs::write(
        &file,
        good.replace("see vault]", "\"vault.acme.internal\"]"),
    )
    .unwrap();
    place.run(&["rules", "lint", path]).expect(0);
    let said = place.run(&["rules", "test", path]).expect(1);
    assert!(said.stdout.contains("ACME-1"), "{said:?}");
    std::fs::write(
        &file,
        "id: X-1\nname: x\nseverity: huge\ncategory: c\npatterns: [{type: regex, value: '('}]\n",
    )
    .unwrap();
    place.run(&["rules", "lint", path]).expect(1);
}

#[test]
fn rules_are_converted_measured_and_scored() {
    let place = Place::with_agents();
    let theirs = place.path("theirs.yaml");
    let text = "id: ACME-1\nname: Vault\nseverity: high\ncategory: acme\ntargets: ['*.md']\nmatch_mode: any\npatterns: [{type: contains, value: vault.acme.internal}]\nexamples:\n  true_positive: [see vault.acme.internal now]\n  false_positive: [see vault]\n";
    std::fs::write(&theirs, text).unwrap();
    let theirs = theirs.to_str().unwrap();
    let ours = place.path("ours.yaml");
    let ours = ours.to_str().unwrap();
    let said = place.json(&["rules", "import", theirs, "--out", ours], 0);
    assert_eq!(said["rules"], 1);
    place.run(&["rules", "test", ours]).expect(0);
    let back = place
        .run(&["rules", "export", ours, "--format", "aguara"])
        .expect(0)
        .stdout;
    assert!(back.contains("match_mode: any"), "{back}");

    let costs = place.json(&["rules", "bench", ours], 0);
    assert_eq!(costs[0]["id"], "ACME-1");
    assert!(costs[0]["worst_ns_per_kib"].as_f64().unwrap() >= 0.0);
    place
        .run(&["rules", "bench", ours, "--rule", "NOPE"])
        .expect(2);

    let corpus = place.path("corpus.jsonl");
    std::fs::write(
        &corpus,
        "{\"source\":\"s\",\"id\":1,\"label\":\"attack\",\"category\":\"acme\",\"text\":\"go to vault.acme.internal\"}\n\n{\"source\":\"s\",\"id\":\"2\",\"label\":\"benign\",\"category\":\"chat\",\"text\":\"hello\"}\n",
    )
    .unwrap();
    let corpus = corpus.to_str().unwrap();
    let verdicts = place.path("verdicts.jsonl");
    let tally = place.json(
        &[
            "rules",
            "test",
            ours,
            "--corpus",
            corpus,
            "--out",
            verdicts.to_str().unwrap(),
        ],
        0,
    );
    assert_eq!(tally[0]["blocked"], 1, "{tally}");
    let verdicts: Vec<serde_json::Value> = std::fs::read_to_string(&verdicts)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(verdicts.len(), 2);
    assert_eq!(
        (&verdicts[0]["id"], &verdicts[0]["verdict"]),
        (&json!(1), &json!("block"))
    );
    assert_eq!(verdicts[0]["categories"], json!(["acme"]));
    assert_eq!(
        (&verdicts[1]["id"], &verdicts[1]["verdict"]),
        (&json!("2"), &json!("allow"))
    );
    std::fs::write(place.path("corpus.jsonl"), "{\"id\":1}\n").unwrap();
    let said = place
        .run(&["rules", "test", ours, "--corpus", corpus])
        .expect(2);
    assert!(said.stderr.contains("line 1"), "{said:?}");
}

#[test]
fn without_a_server_nothing_pretends() {
    let place = Place::with_agents();
    let status = place.json(&["status"], 0);
    assert_eq!(status["running"], false);
    place.run(&["logs"]).expect(0);
    assert_eq!(place.json(&["quarantine", "list"], 0), json!([]));
    let id = "550e8400-e29b-41d4-a716-446655440000";
    place.run(&["quarantine", "detail", id]).expect(2);
    let said = place.run(&["quarantine", "approve", id]).expect(2);
    assert!(said.stderr.contains("oktsec serve"), "{said:?}");
    place.run(&["audit", "verify-chain"]).expect(2);
    let said = place.run(&[
        "send",
        "--from",
        "research-agent",
        "--to",
        "analysis-agent",
        "--content",
        "x",
    ]);
    assert!(said.expect(2).stderr.contains("cannot connect"));
}

#[test]
fn a_server_that_is_starting_is_not_taken_for_none() {
    let place = Place::with_agents();
    // Any process that is called so, and ends with its input.
    let mut starting = std::process::Command::new("sh")
        .args(["-c", "read line", "controlplane"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let state = place.path("oktsec.db.d");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("controlplane.pid"), starting.id().to_string()).unwrap();
    let suspended = place.json(&["agent", "suspend", "hermit"], 0);
    assert_eq!(suspended["in_force"]["server"], "starting");
    assert_eq!(place.json(&["status"], 0)["starting"], true);

    drop(starting.stdin.take());
    starting.wait().unwrap();
    let restored = place.json(&["agent", "unsuspend", "hermit"], 0);
    assert_eq!(restored["in_force"]["server"], "not_running");
    assert_eq!(place.json(&["status"], 0)["starting"], false);
}
