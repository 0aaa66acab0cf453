//! The control plane with a data plane that we play ourselves: what goes down, what comes up, what is refused.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use oktsec_contract::config;
use oktsec_contract::id::MessageId;
use oktsec_contract::link::{
    ConfigState, FrameReader, LinkRequest, LinkResponse, Resolution, ResolvedItem, ToControl,
    ToDataplane,
};
use oktsec_contract::paths::StatePaths;
use oktsec_contract::snapshot::Snapshot;
use oktsec_contract::verdict::Status;
use oktsec_controlplane::{Options, local_socket};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);

/// A running control plane; it ends with the test process.
struct Control {
    dir: tempfile::TempDir,
    paths: StatePaths,
}

impl Control {
    fn start(rest: &str) -> Self {
        Self::start_with(rest, seed_rules)
    }

    /// `prepare` makes what stands in the state folder before the start.
    fn start_with(rest: &str, prepare: impl FnOnce(&StatePaths)) -> Self {
        Self::start_as(rest, prepare, |options| options)
    }

    fn start_as(
        rest: &str,
        prepare: impl FnOnce(&StatePaths),
        how: impl FnOnce(Options) -> Options,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("oktsec.yaml");
        let text = format!(
            "identity:\n  keys_dir: {0}/keys\n  require_signature: false\ndb_path: {0}/oktsec.db\n{rest}",
            dir.path().display()
        );
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        std::fs::write(&path, text).unwrap();
        let paths = StatePaths::for_config(&config::load(&path).unwrap().config);
        prepare(&paths);
        let options = how(Options::new(path));
        std::thread::spawn(move || oktsec_controlplane::run(options).unwrap());
        let control = Self { dir, paths };
        until("the socket", || {
            UnixStream::connect(local_socket(&control.paths)).ok()
        });
        control
    }

    fn config_path(&self) -> std::path::PathBuf {
        self.dir.path().join("oktsec.yaml")
    }

    fn local(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        http(&local_socket(&self.paths), method, path, "", body)
    }

    fn relayed(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
        http(&self.paths.api_socket, method, path, headers, body)
    }
}

/// Compiling the built-in rules takes longer than all tests; it is done once.
fn seed_rules(paths: &StatePaths) {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-rules");
        oktsec_contract::files::create_folder(&folder).unwrap();
        let rules = oktsec_rules::RuleSet::builtin();
        oktsec_scanner::Database::load_or_compile(&rules, &folder).unwrap();
        folder
    });
    paths.create().unwrap();
    for entry in compiled.read_dir().unwrap().flatten() {
        std::fs::copy(entry.path(), paths.rules_cache.join(entry.file_name())).unwrap();
    }
}

/// A data plane that does what the test says.
struct Plane {
    stream: UnixStream,
    frames: FrameReader,
}

impl Plane {
    fn connect(control: &Control, revision: u64) -> Self {
        let stream = UnixStream::connect(&control.paths.link_socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut plane = Self {
            stream,
            frames: FrameReader::new(),
        };
        plane.say(&ToControl::Hello {
            node: "n".into(),
            pid: 7,
            version: "0".into(),
            revision,
        });
        plane
    }

    fn say(&mut self, message: &ToControl) {
        self.stream.write_all(&message.encode().unwrap()).unwrap();
    }

    fn hear(&mut self) -> Option<ToDataplane> {
        let mut buffer = [0; 65_536];
        loop {
            if let Some(frame) = self.frames.next().unwrap() {
                return Some(ToDataplane::decode(frame).unwrap());
            }
            let bytes = self.stream.read(&mut buffer).unwrap();
            if bytes == 0 {
                return None;
            }
            self.frames.push(&buffer[..bytes]);
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        loop {
            if let Some(ToDataplane::Snapshot(bytes)) = self.hear() {
                return Snapshot::decode(&bytes).unwrap();
            }
        }
    }

    /// Listens until the configuration is said to stand so.
    fn hear_of(&mut self, state: ConfigState) {
        loop {
            match self.hear() {
                Some(ToDataplane::Standing(standing)) if standing.config == state => return,
                Some(_) => {}
                None => panic!("the line ended before it was {state:?}"),
            }
        }
    }

    /// Takes snapshots until one is as wanted, and says of each that it decides by it.
    fn apply_until(&mut self, is_wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        loop {
            let snapshot = self.apply_above(0);
            if is_wanted(&snapshot) {
                return snapshot;
            }
        }
    }

    /// Takes snapshots until one is above `revision`, and says that it decides by it.
    fn apply_above(&mut self, revision: u64) -> Snapshot {
        loop {
            let snapshot = self.snapshot();
            if snapshot.revision > revision {
                self.say(&ToControl::Applied {
                    revision: snapshot.revision,
                });
                return snapshot;
            }
        }
    }
}

fn http(socket: &Path, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    // A body that is too large is not read to its end, so both may fail after the answer.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_data_plane_gets_the_snapshot_when_it_comes_and_whenever_something_changes() {
    let control = Control::start("agents:\n  a: {}\n");
    for socket in [
        &control.paths.link_socket,
        &control.paths.api_socket,
        &local_socket(&control.paths),
    ] {
        assert_eq!(
            std::fs::metadata(socket).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let mut plane = Plane::connect(&control, 0);
    let first = plane.apply_above(0);
    assert!(first.config.agents.contains_key("a"));
    assert!(first.rules.rules.len() > 10);

    let text = std::fs::read_to_string(control.config_path()).unwrap();
    std::fs::write(control.config_path(), text + "  b: {}\n").unwrap();
    let second = plane.apply_above(first.revision);
    assert!(second.config.agents.contains_key("b"));

    let pair = oktsec_contract::keys::KeyPair::generate("a");
    pair.save(&control.dir.path().join("keys")).unwrap();
    let third = plane.apply_above(second.revision);
    assert_eq!(
        third
            .keys
            .iter()
            .map(|key| key.agent.as_str())
            .collect::<Vec<_>>(),
        ["a"]
    );

    until("the status", || {
        let (_, status) = control.local("GET", "/v1/status", "");
        (status["data_planes"][0]["revision"] == json!(third.revision)).then_some(())
    });
    // The same text again is no change.
    let (status, reload) = control.local("POST", "/v1/reload", "");
    assert_eq!((status, &reload["outcome"]), (200, &json!("unchanged")));
}

#[test]
fn an_upgrade_answers_at_once_with_the_rules_in_force_and_takes_its_own_when_they_are_compiled() {
    let control = Control::start_with("agents:\n  a: {}\n  b: {}\n", |paths| {
        paths.create().unwrap();
        let mut rules = oktsec_rules::RuleSet::builtin();
        rules.rules.truncate(3);
        let before = Snapshot {
            revision: 6,
            created_at: oktsec_contract::clock::Timestamp::now(),
            config: config::Config::default(),
            keys: Vec::new(),
            revoked: Vec::new(),
            rules,
            secrets: None,
        };
        let bytes = before.encode().unwrap();
        Snapshot::save_encoded(&bytes, &paths.snapshot).unwrap();
    });
    let mut plane = Plane::connect(&control, 6);
    let first = plane.apply_above(6);
    assert_eq!(first.rules.rules.len(), 3, "nothing to compile");
    assert!(first.config.agents.contains_key("b"), "what stands on disk");
    let (status, _) = control.local("GET", "/v1/agents", "");
    assert_eq!(status, 200);
    let upgraded = loop {
        let next = plane.apply_above(first.revision);
        if next.rules.rules.len() != 3 {
            break next;
        }
    };
    assert_eq!(
        upgraded.rules.hash(),
        oktsec_rules::RuleSet::builtin().hash()
    );
}

const OWN_RULE: &str = "rules: [{id: ACME-1, name: n, severity: high, category: c, patterns: [{contains: acme-vault}]}]\n";

/// A control plane whose rules cannot be compiled in time; the folder of the operator's own ones.
fn without_time(again_after: Duration) -> (Control, tempfile::TempDir) {
    let rules = tempfile::tempdir().unwrap();
    let folder = rules.path().display();
    let rest = format!("custom_rules_dir: {folder}\nagents:\n  a: {{}}\n  b: {{}}\n");
    let control = Control::start_as(&rest, seed_rules, |options| Options {
        compile_time_max: Duration::ZERO,
        compile_again_after: again_after,
        ..options
    });
    (control, rules)
}

fn config_of(control: &Control) -> Value {
    control.local("GET", "/v1/status", "").1["config"].clone()
}

#[test]
fn rules_that_do_not_compile_stay_out_and_everything_else_takes_effect() {
    let (control, rules) = without_time(Duration::from_secs(600));
    let mut plane = Plane::connect(&control, 0);
    let first = plane.apply_above(0);
    std::fs::write(rules.path().join("acme.yaml"), OWN_RULE).unwrap();
    let problems = until("the refusal", || {
        let config = config_of(&control);
        (config["state"] == "partial").then(|| config["problems"].to_string())
    });
    assert!(problems.contains("longer than 0 s"), "{problems}");
    let (_, status) = control.local("GET", "/v1/status", "");
    assert_eq!(status["revision"], first.revision, "{status}");
    assert_eq!(control.local("GET", "/readyz", "").1["config"], "partial");
    plane.hear_of(ConfigState::Partial);

    // Who is suspended, and which key is revoked, does not depend on somebody else's rule.
    let call = |path: &str, plane: &mut Plane, is_done: &dyn Fn(&Snapshot) -> bool| {
        std::thread::scope(|scope| {
            let call = scope.spawn(|| control.local("POST", path, ""));
            let snapshot = plane.apply_until(is_done);
            assert_eq!(call.join().unwrap().0, 200, "{path}");
            snapshot
        })
    };
    let suspended = |snapshot: &Snapshot| snapshot.config.agents["a"].suspended;
    let second = call("/v1/agents/a/suspend", &mut plane, &suspended);
    assert_eq!(second.rules.hash(), first.rules.hash());
    let has_key = |snapshot: &Snapshot| !snapshot.keys.is_empty();
    let third = call("/v1/agents/b/keys", &mut plane, &has_key);
    let before = third.keys[0].fingerprint;
    call("/v1/agents/b/keys", &mut plane, &|snapshot| {
        let is_revoked = snapshot.revoked.iter().any(|key| key.fingerprint == before);
        is_revoked && snapshot.keys.len() == 1 && snapshot.keys[0].fingerprint != before
    });

    // A wish to look at the disk says what is left out, and that the rest is in force.
    let (code, reload) = control.local("POST", "/v1/reload", "");
    assert_eq!((code, &reload["outcome"]), (200, &json!("unchanged")));
    assert!(
        reload["problems"][0]
            .as_str()
            .unwrap()
            .contains("longer than 0 s"),
        "{reload}"
    );

    // Once the rule is gone, what stands on disk is what is in force.
    std::fs::remove_file(rules.path().join("acme.yaml")).unwrap();
    until("the end of it", || {
        (config_of(&control)["state"] == "current").then_some(())
    });
    plane.hear_of(ConfigState::Current);
}

#[test]
fn rules_that_could_not_be_compiled_in_time_are_tried_again_and_taken_when_it_works() {
    let (control, rules) = without_time(Duration::from_millis(20));
    let mut plane = Plane::connect(&control, 0);
    let first = plane.apply_above(0);
    std::fs::write(rules.path().join("acme.yaml"), OWN_RULE).unwrap();
    until("the refusal", || {
        (config_of(&control)["state"] == "partial").then_some(())
    });
    // Somebody with more time compiles them.
    let own = oktsec_rules::load_text("acme.yaml", OWN_RULE).rules;
    let (all, _) = oktsec_rules::RuleSet::builtin().with_custom(own);
    oktsec_scanner::Database::load_or_compile(&all, &control.paths.rules_cache).unwrap();
    let second = plane.apply_above(first.revision);
    assert_eq!(second.rules.hash(), all.hash());
    until("the end of it", || {
        (config_of(&control)["state"] == "current").then_some(())
    });
}

#[test]
fn a_change_through_the_api_answers_when_the_data_plane_has_it() {
    let control = Control::start("agents:\n  a: {}\n");
    let mut plane = Plane::connect(&control, 0);
    let first = plane.apply_above(0);
    let answered = std::thread::scope(|scope| {
        let call = scope.spawn(|| control.local("POST", "/v1/agents/a/suspend", ""));
        let snapshot = plane.snapshot();
        assert!(snapshot.revision > first.revision && snapshot.config.agents["a"].suspended);
        assert!(!call.is_finished(), "it waits for the data plane");
        plane.say(&ToControl::Applied {
            revision: snapshot.revision,
        });
        call.join().unwrap()
    });
    assert_eq!(answered, (200, json!({"agent": "a", "suspended": "true"})));
}

#[test]
fn revisions_go_on_above_what_a_data_plane_knows() {
    let control = Control::start("agents:\n  a: {}\n");
    let mut plane = Plane::connect(&control, 5_000);
    let snapshot = plane.apply_above(5_000);
    assert_eq!(snapshot.revision, 5_001);
}

#[test]
fn held_messages_are_reviewed_by_the_data_plane_or_not_at_all() {
    let control = Control::start("agents:\n  a: {}\n");
    let id = MessageId::from_random([9; 16]);
    let path = format!("/v1/quarantine/{id}/approve");
    let (status, body) = control.local("POST", &path, "");
    assert_eq!(status, 503, "{body}");

    let mut plane = Plane::connect(&control, 0);
    plane.apply_above(0);
    until("the data plane", || {
        let (_, status) = control.local("GET", "/v1/status", "");
        status["data_planes"]
            .as_array()
            .is_some_and(|planes| !planes.is_empty())
            .then_some(())
    });
    let mut ask = |body: &str, answer: LinkResponse| {
        std::thread::scope(|scope| {
            let call = scope.spawn(|| control.local("POST", &path, body));
            let (question, request) = loop {
                if let Some(ToDataplane::Request { id, body }) = plane.hear() {
                    break (id, body);
                }
            };
            plane.say(&ToControl::Response {
                id: question,
                body: answer,
            });
            (call.join().unwrap(), request)
        })
    };
    let item = ResolvedItem {
        message: id,
        action: Resolution::Release,
        reviewer: "ann".into(),
        resolved_at: "2026-02-22T10:00:00Z".into(),
        from: "a".into(),
        to: "b".into(),
        status: Status::Quarantined,
    };
    let ((status, body), request) = ask(r#"{"reviewer":"ann"}"#, LinkResponse::Resolved(item));
    assert_eq!(
        (status, &body["status"], &body["reviewed_by"]),
        (200, &json!("approved"), &json!("ann"))
    );
    let expected = LinkRequest::Resolve {
        message: id,
        action: Resolution::Release,
        reviewer: "ann".into(),
    };
    assert_eq!(request, expected);
    let not_pending = LinkResponse::NotPending {
        status: "expired".into(),
    };
    assert_eq!(ask("", not_pending).0.0, 409);
    assert_eq!(ask("", LinkResponse::NotFound).0.0, 404);
    assert_eq!(
        ask(
            "",
            LinkResponse::Failed {
                reason: "disk full".into()
            }
        )
        .0
        .0,
        503
    );
    for bad in ["{", r#"{"reviewer":""}"#, r#"{"reviewer":"a\nb"}"#] {
        assert_eq!(control.local("POST", &path, bad).0, 400, "{bad}");
    }
    assert_eq!(
        control.local("POST", "/v1/quarantine/what/approve", "").0,
        404
    );
}

#[test]
fn whoever_breaks_the_protocol_is_cut_off_and_nobody_else_notices() {
    let control = Control::start("agents:\n  a: {}\n");
    let mut good = Plane::connect(&control, 0);
    let first = good.apply_above(0);
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &ToControl::Applied { revision: 1 }.encode().unwrap(),
        &ToDataplane::Snapshot(vec![1]).encode().unwrap(),
        b"OKTS\x01\x00\x03\x00\xff\xff\xff\xff",
    ] {
        let mut stream = UnixStream::connect(&control.paths.link_socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        // Closed, or reset because not everything was read.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "it was told nothing");
    }
    let text = std::fs::read_to_string(control.config_path()).unwrap();
    std::fs::write(control.config_path(), text + "  b: {}\n").unwrap();
    assert!(
        good.apply_above(first.revision)
            .config
            .agents
            .contains_key("b")
    );
}

#[test]
fn the_door_decides_whether_a_key_is_needed() {
    let control = Control::start("server:\n  api_key: s3cret\nagents:\n  a: {}\n");
    assert_eq!(control.local("GET", "/v1/agents", "").0, 200);
    assert_eq!(
        control.relayed("GET", "/v1/agents", "", ""),
        (401, json!({"error": "unauthorized"}))
    );
    assert_eq!(control.relayed("GET", "/nowhere", "", "").0, 401);
    assert_eq!(control.relayed("GET", "/readyz", "", "").0, 200);
    let key = "Authorization: Bearer s3cret\r\n";
    assert_eq!(control.relayed("GET", "/v1/agents", key, "").0, 200);
    assert_eq!(
        control.relayed("GET", "/nowhere", key, ""),
        (404, json!({"error": "not found"}))
    );
    assert_eq!(control.relayed("PATCH", "/v1/agents", key, "").0, 405);
    assert_eq!(control.relayed("POST", "/v1/reload", key, "").0, 404);
    // Without records there is nothing to show, and that is no error.
    let (status, page) = control.local("GET", "/v1/audit", "");
    assert_eq!((status, &page["entries"]), (200, &json!([])));
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(2 << 20));
    let (status, said) = control.relayed("POST", "/v1/agents", key, &large);
    assert_eq!(
        (status, &said["error"]),
        (413, &"request body too large".into())
    );
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing_and_says_so() {
    let control = Control::start("agents:\n  a: {}\n");
    let good = std::fs::read_to_string(control.config_path()).unwrap();
    std::fs::write(
        control.config_path(),
        good.clone() + "server: {port: none}\n",
    )
    .unwrap();
    let (status, reload) = control.local("POST", "/v1/reload", "");
    assert_eq!((status, &reload["outcome"]), (409, &json!("stale")));
    assert!(
        reload["problems"][0]
            .as_str()
            .unwrap()
            .contains("server.port"),
        "{reload}"
    );
    let (_, status) = control.local("GET", "/v1/status", "");
    assert_eq!(status["config"]["state"], "stale");
    assert_eq!(control.local("GET", "/readyz", "").1["config"], "stale");
    assert_eq!(control.local("GET", "/v1/agents/a", "").0, 200);
    assert_eq!(
        control.local("POST", "/v1/agents/a/suspend", "").0,
        409,
        "a broken file is not edited"
    );

    // A revocation list that cannot be read might hide a stolen key.
    std::fs::write(control.config_path(), &good).unwrap();
    std::fs::create_dir(control.dir.path().join("keys/revoked")).unwrap();
    std::fs::write(
        control.dir.path().join("keys/revoked/revocations.jsonl"),
        "what?\n",
    )
    .unwrap();
    let (_, reload) = control.local("POST", "/v1/reload", "");
    assert_eq!(reload["outcome"], "unchanged", "{reload}");
    assert!(
        reload["problems"][0]
            .as_str()
            .unwrap()
            .contains("revocations.jsonl:1"),
        "{reload}"
    );
    assert_eq!(control.local("GET", "/readyz", "").1["config"], "partial");
    std::fs::write(
        control.dir.path().join("keys/revoked/revocations.jsonl"),
        "",
    )
    .unwrap();
    assert_eq!(control.local("POST", "/v1/reload", "").0, 200);
    assert_eq!(
        control.local("GET", "/v1/status", "").1["config"]["state"],
        "current"
    );
}

#[test]
fn while_revocations_cannot_be_read_no_new_key_is_trusted_and_suspensions_still_count() {
    let control = Control::start("agents:\n  a: {}\n  b: {}\n");
    let keys = control.dir.path().join("keys");
    let save = |agent: &str| {
        let pair = oktsec_contract::keys::KeyPair::generate(agent);
        pair.save(&keys).unwrap();
    };
    let mut plane = Plane::connect(&control, 0);
    let first = plane.apply_above(0);
    save("a");
    let second = plane.apply_above(first.revision);
    std::fs::create_dir(keys.join("revoked")).unwrap();
    let list = keys.join("revoked/revocations.jsonl");
    std::fs::write(&list, "what?\n").unwrap();
    save("b");
    let third = std::thread::scope(|scope| {
        let call = scope.spawn(|| control.local("POST", "/v1/agents/a/suspend", ""));
        let third = plane.apply_above(second.revision);
        assert_eq!(call.join().unwrap().0, 200);
        third
    });
    assert!(third.config.agents["a"].suspended);
    assert_eq!(third.keys, second.keys, "b may be revoked");
    // A key that is gone is gone.
    std::fs::remove_file(keys.join("a.pub")).unwrap();
    let fourth = plane.apply_above(third.revision);
    assert!(fourth.keys.is_empty(), "{:?}", fourth.keys);
    // Half a line at the end, as a crash leaves it, is not in the way.
    std::fs::write(&list, "{\"fingerprint\":\"0").unwrap();
    let fifth = plane.apply_above(fourth.revision);
    let [key] = &fifth.keys[..] else {
        panic!("one key: {:?}", fifth.keys)
    };
    assert_eq!(key.agent, "b");
    let warnings = config_of(&control)["warnings"].to_string();
    assert!(warnings.contains("half a line"), "{warnings}");
}

#[test]
fn a_warning_about_what_changes_nothing_in_force_is_still_given() {
    let rules = tempfile::tempdir().unwrap();
    let folder = rules.path().display();
    let control = Control::start(&format!("custom_rules_dir: {folder}\nagents:\n  a: {{}}\n"));
    let mut plane = Plane::connect(&control, 0);
    plane.apply_above(0);
    assert_eq!(config_of(&control)["warnings"], json!([]));
    std::fs::write(
        rules.path().join("bad.yaml"),
        "rules: [{id: BAD-1, name: n}]\n",
    )
    .unwrap();
    let (code, reload) = control.local("POST", "/v1/reload", "");
    assert_eq!((code, &reload["outcome"]), (200, &json!("unchanged")));
    let warnings = config_of(&control)["warnings"].to_string();
    assert!(
        warnings.contains("BAD-1") && warnings.contains("bad.yaml"),
        "{warnings}"
    );
}
