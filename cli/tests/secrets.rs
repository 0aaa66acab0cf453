//! `oktsec secrets`: what goes in, what is shown, what a running server makes of it, and that no value is kept.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{PATIENCE, Place, is_private, said, until};
use serde_json::json;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

const VALUE: &str = "blue+Harbour9/tide";

/// Whether any file below this folder holds these bytes.
fn holds(folder: &Path, needle: &str) -> bool {
    folder.read_dir().unwrap().flatten().any(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => holds(&path, needle),
            false => std::fs::read(&path)
                .unwrap_or_default()
                .windows(needle.len())
                .any(|part| part == needle.as_bytes()),
        }
    })
}

#[test]
fn values_come_from_files_variables_commands_and_pipes() {
    let place = Place::with_agents();
    std::fs::write(place.path("one"), "Zebra-0plum-kettle\r\n").unwrap();
    std::fs::write(
        place.path("many"),
        "Orchid_77_lantern\nshort\n\nPlover;Quill!31\n",
    )
    .unwrap();
    let file = place.path("one").display().to_string();
    let added = place.json(&["secrets", "add", "file", "--file", &file], 0);
    assert_eq!(added["new"], 1);
    let file = place.path("many").display().to_string();
    let added = place.json(&["secrets", "add", "many", "--lines", "--file", &file], 1);
    assert_eq!((&added["new"], &added["known"]), (&json!(2), &json!(0)));
    let refused = added["refused"][0].as_str().unwrap();
    assert!(
        refused.contains("value 2") && refused.contains("5 bytes"),
        "{refused}"
    );

    let mut command = place.command(&["secrets", "add", "variable", "--env", "PASSWORD"]);
    said(command.env("PASSWORD", VALUE).output().unwrap()).expect(0);
    place
        .run(&[
            "secrets",
            "add",
            "command",
            "--command",
            "printf 'Fern8Gable|x\\n'",
        ])
        .expect(0);
    let failed = place.run(&[
        "secrets",
        "add",
        "no",
        "--command",
        "echo Fern8Gable; exit 3",
    ]);
    assert!(!failed.expect(2).stderr.contains("Fern8"));
    std::fs::write(place.path("blank"), "\n\r\n").unwrap();
    let file = place.path("blank").display().to_string();
    let blank = place.run(&["secrets", "add", "no", "--lines", "--file", &file]);
    let said_of_it = &blank.expect(2).stderr;
    assert!(said_of_it.contains("every line is empty"), "{said_of_it}");
    let mut child = place
        .command(&["secrets", "add", "pipe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"Gate+5Willow~z")
        .unwrap();
    said(child.wait_with_output().unwrap()).expect(0);

    let listed = place.json(&["secrets", "list"], 0);
    let names: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["name"].as_str().unwrap(),
                row["values"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            ("file", 1),
            ("many", 2),
            ("variable", 1),
            ("command", 1),
            ("pipe", 1)
        ]
    );
    let state = place.path("oktsec.db.d");
    for name in ["store", "key"] {
        assert!(is_private(&state.join("secrets").join(name)));
    }
    for value in [
        VALUE,
        "Zebra-0plum",
        "Orchid_77",
        "Fern8Gable",
        "Gate+5Willow",
    ] {
        assert!(!holds(&state, value), "{value}");
    }

    std::fs::write(place.path("text"), format!("x {VALUE} y")).unwrap();
    let text = place.path("text").display().to_string();
    let found = place.json(&["secrets", "check", &text], 1);
    assert_eq!(found["findings"][0]["name"], "variable");
    assert_eq!(place.json(&["verify"], 0)["known_secrets"], 6);
    let mut piped = place.command(&["secrets", "check", "-"]);
    let mut piped = piped
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    piped
        .stdin
        .take()
        .unwrap()
        .write_all(VALUE.as_bytes())
        .unwrap();
    assert_eq!(piped.wait().unwrap().code(), Some(1));
    place.run(&["secrets", "remove", "variable"]).expect(0);
    place.run(&["secrets", "check", &text]).expect(0);
    let gone = place.run(&["secrets", "remove", "variable"]).expect(2);
    assert!(gone.stderr.contains("secrets list"), "{gone:?}");

    std::fs::write(state.join("secrets/store"), b"damaged").unwrap();
    let damaged = place.run(&["verify"]).expect(2);
    assert!(damaged.stderr.contains("damaged"), "{damaged:?}");
}

#[test]
fn replacing_forgets_what_the_name_stood_for() {
    let place = Place::with_agents();
    let add = |value: &str, more: &[&str]| {
        let arguments = [&["secrets", "add", "db", "--env", "V"], more].concat();
        said(place.command(&arguments).env("V", value).output().unwrap()).expect(0)
    };
    add(VALUE, &[]);
    add("Zebra-0plum-kettle", &["--replace"]);
    std::fs::write(place.path("old"), VALUE).unwrap();
    std::fs::write(place.path("new"), "Zebra-0plum-kettle").unwrap();
    for (file, code) in [("old", 0), ("new", 1)] {
        let file = place.path(file).display().to_string();
        place.run(&["secrets", "check", &file]).expect(code);
    }
}

#[test]
fn a_running_server_knows_a_secret_as_soon_as_it_was_added() {
    let place = Place::with_agents();
    let mut server = place.serve();
    let content = format!("the password of the orders database is {VALUE}");
    let send = || place.send("research-agent", "analysis-agent", &content);
    assert_eq!(send().1["status"], "delivered");

    let mut command = place.command(&["secrets", "add", "orders-db", "--env", "V", "--json"]);
    let added = said(command.env("V", VALUE).output().unwrap()).expect(0);
    assert!(!added.stdout.contains(VALUE));
    until("the secret is known", PATIENCE, || {
        (send().1["policy_decision"] == "content_blocked").then_some(())
    });
    let refused = send().1;
    let finding = &refused["rules_triggered"][0];
    assert_eq!(finding["rule_id"], "EXS-001", "{refused}");
    assert_eq!(
        finding["match"],
        "[REDACTED:KNOWN_SECRET(orders-db):len=18]"
    );

    let planted = place.json(&["secrets", "plant", "hermit"], 0);
    let token = planted["token"].as_str().unwrap();
    let leak = || place.send("research-agent", "analysis-agent", token).1;
    until("the canary is known", PATIENCE, || {
        (leak()["rules_triggered"][0]["match"] == "[REDACTED:CANARY(hermit):len=28]").then_some(())
    });

    // A store that was damaged changes nothing for traffic, and the status says so.
    let store = place.path("oktsec.db.d/secrets/store");
    std::fs::write(&store, b"damaged").unwrap();
    until("the server says so", PATIENCE, || {
        let status = place.status().to_string();
        status.contains("store of known secrets").then_some(())
    });
    assert_eq!(send().1["policy_decision"], "content_blocked");

    let (_, log) = server.stop();
    assert!(!log.contains("Harbour") && !log.contains(token), "{log}");
    assert!(!holds(&place.path("oktsec.db.d"), VALUE));
    assert!(!holds(&place.path("oktsec.db.d"), token));
}

#[test]
fn values_belong_to_the_hosts_they_are_bound_to() {
    let place = Place::with_agents();
    let add = |name: &str, hosts: &[&str], value: &str| {
        let mut command = place.command(&[&["secrets", "add", name, "--env", "V"], hosts].concat());
        said(command.env("V", value).output().unwrap())
    };
    add(
        "api-key",
        &["--host", "API.Example.com.", "--host", "*.Example.org"],
        VALUE,
    )
    .expect(0);
    let listed = || place.json(&["secrets", "list"], 0)[0]["hosts"].clone();
    assert_eq!(listed(), json!(["api.example.com", "*.example.org"]));
    // Another value of the name goes where the first one may.
    add("api-key", &[], "Zebra-0plum-kettle").expect(0);
    assert_eq!(listed(), json!(["api.example.com", "*.example.org"]));
    for wrong in ["https://api.example.com", "*", "10.0.0.0/8", "a..b", ""] {
        let refused = place.run(&["secrets", "bind", "api-key", "--host", wrong]);
        refused.expect(2);
    }
    assert_eq!(listed(), json!(["api.example.com", "*.example.org"]));
    place
        .run(&["secrets", "bind", "nobody", "--host", "a.example"])
        .expect(2);
    place
        .run(&["secrets", "bind", "api-key", "--host", "10.0.0.7"])
        .expect(0);
    assert_eq!(listed(), json!(["10.0.0.7"]));
    let freed = place.json(&["secrets", "bind", "api-key"], 0);
    assert_eq!(freed["hosts"], json!([]));
    assert_eq!(listed(), json!([]));
}
