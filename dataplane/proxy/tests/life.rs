//! A data plane's life: starting without anybody, snapshots coming while it works, a control plane that is away,
//! an audit log that cannot keep up, and the end.

use crate::common::control::ControlPlane;
use crate::common::{
    Client, PLAIN, Site, Wish, eventually, parse_config, signed, snapshot, unsigned,
};
use oktsec_contract::config::Config;
use oktsec_contract::id::MessageId;
use oktsec_contract::link::{LinkRequest, LinkResponse, Resolution, ToControl, ToDataplane};
use oktsec_proxy::{Dataplane, DataplaneOptions, RunError};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn config(site: &Site, yaml: &str) -> Config {
    let mut config = parse_config(yaml, site.dir.path());
    config.server.port = site.address().port();
    config
}

#[test]
fn snapshots_come_down_the_link_and_the_last_one_survives_a_restart() {
    let mut site = Site::new(Wish {
        snapshot: false,
        ..Wish::default()
    });
    assert_eq!(site.post(&signed("alice", "bob", "too early")).status, 503);
    let listener = ControlPlane::listen(&site);
    let (mut line, hello) = ControlPlane::accept(&listener);
    assert!(
        matches!(hello, ToControl::Hello { revision: 0, .. }),
        "{hello:?}"
    );

    let first = snapshot(1, config(&site, PLAIN));
    assert_eq!(line.publish(&first), ToControl::Applied { revision: 1 });
    assert_eq!(site.post(&signed("alice", "bob", "now")).status, 200);
    assert_eq!(site.get("/readyz").status, 200);

    let suspended = PLAIN.replace("bob: {}", "bob: {suspended: true}");
    let second = snapshot(2, config(&site, &suspended));
    assert_eq!(line.publish(&second), ToControl::Applied { revision: 2 });
    let refused = site.post(&signed("alice", "bob", "and now"));
    assert_eq!(refused.json()["policy_decision"], "recipient_suspended");

    // What cannot be used is refused, and what was in force stays.
    let mut broken = snapshot(3, config(&site, PLAIN));
    broken.keys[0].public_key = [0; 32];
    assert!(matches!(
        line.publish(&broken),
        ToControl::Refused { revision: 3, .. }
    ));
    line.send(&ToDataplane::Snapshot(b"nonsense".to_vec()));
    assert!(matches!(
        line.receive(),
        ToControl::Refused { revision: 0, .. }
    ));
    assert_eq!(site.running().revision(), 2);
    assert!((site.metric("oktsec_snapshots_refused_total") - 2.0).abs() < 0.1);

    drop((line, listener));
    site.restart();
    assert_eq!(site.running().revision(), 2);
    let applied: Vec<_> = site
        .records()
        .into_iter()
        .filter(|r| r["policy_decision"] == "snapshot_applied")
        .map(|r| r["revision"].clone())
        .collect();
    assert_eq!(applied, [json!(1), json!(2), json!(2)]);
}

#[test]
fn a_start_whose_rules_must_be_compiled_answers_meanwhile_and_decides_then() {
    let mut site = Site::plain();
    site.stop();
    for file in site.paths.rules_cache.read_dir().unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    // No control plane is there to send it again.
    site.begin(&|_| {});
    eventually("a decision", || {
        let response = site.post(&signed("alice", "bob", "hello"));
        let decides = response.status == 200;
        if !decides {
            assert_eq!(response.status, 503);
            assert_eq!(response.json()["reason"], "snapshot_missing");
            assert_eq!(response.header("Retry-After"), Some("1"));
        }
        decides
    });
}

#[test]
fn a_snapshot_that_could_not_be_kept_is_kept_as_soon_as_it_can_be() {
    let mut site = Site::plain();
    std::fs::remove_file(&site.paths.snapshot).unwrap();
    // Nothing can take the place of a folder with something in it.
    std::fs::create_dir_all(site.paths.snapshot.join("full")).unwrap();
    let listener = ControlPlane::listen(&site);
    let (mut line, _) = ControlPlane::accept(&listener);
    let suspended = PLAIN.replace("bob: {}", "bob: {suspended: true}");
    let second = snapshot(2, config(&site, &suspended));
    assert_eq!(line.publish(&second), ToControl::Applied { revision: 2 });
    assert!(site.paths.snapshot.is_dir(), "it could not be written");

    std::fs::remove_dir_all(&site.paths.snapshot).unwrap();
    eventually("the snapshot is on disk", || site.paths.snapshot.is_file());
    drop((line, listener));
    site.restart();
    assert_eq!(site.running().revision(), 2);
    let refused = site.post(&signed("alice", "bob", "still suspended"));
    assert_eq!(refused.json()["policy_decision"], "recipient_suspended");
}

#[test]
fn the_link_is_found_again_after_the_control_plane_restarts() {
    let site = Site::plain();
    for _ in 0..3 {
        let listener = ControlPlane::listen(&site);
        let (mut line, hello) = ControlPlane::accept(&listener);
        assert!(
            matches!(hello, ToControl::Hello { revision: 1, .. }),
            "{hello:?}"
        );
        line.send(&ToDataplane::Request {
            id: 7,
            body: LinkRequest::Status,
        });
        let ToControl::Response {
            id: 7,
            body: LinkResponse::Status(status),
        } = line.receive()
        else {
            panic!("not a status")
        };
        let rules = u32::try_from(crate::common::rules().rules.len()).unwrap();
        assert_eq!(
            (status.revision, status.workers, status.rules),
            (1, 1, rules)
        );
    }
}

#[test]
fn held_messages_are_resolved_over_the_link() {
    let site = Site::plain();
    let listener = ControlPlane::listen(&site);
    let (mut line, _) = ControlPlane::accept(&listener);
    let held = site.post(&signed("alice", "bob", "a strange-word")).json();
    let message = MessageId::parse(held["quarantine_id"].as_str().unwrap()).unwrap();
    let mut ask = |message, action| {
        let reviewer = String::from("ops");
        line.send(&ToDataplane::Request {
            id: 1,
            body: LinkRequest::Resolve {
                message,
                action,
                reviewer,
            },
        });
        match line.receive() {
            ToControl::Response { id: 1, body } => body,
            other => panic!("{other:?}"),
        }
    };
    let unknown = ask(MessageId::from_random([9; 16]), Resolution::Release);
    assert_eq!(unknown, LinkResponse::NotFound);
    let LinkResponse::Resolved(item) = ask(message, Resolution::Release) else {
        panic!("not resolved")
    };
    assert_eq!(
        (item.message, item.from.as_str(), item.reviewer.as_str()),
        (message, "alice", "ops")
    );
    assert!(matches!(
        ask(message, Resolution::Discard),
        LinkResponse::NotPending { .. }
    ));
    assert!(site.metric("oktsec_quarantine_pending") < 0.5);
}

#[test]
fn a_full_quarantine_refuses_and_records_and_a_review_makes_room() {
    let site = Site::with(&format!(
        "quarantine: {{contents_bytes_max: 1000}}\n{PLAIN}"
    ));
    let listener = ControlPlane::listen(&site);
    let (mut line, _) = ControlPlane::accept(&listener);
    let hold = |what: &str| site.post(&signed("alice", "bob", &format!("{what} strange-word")));
    let held = hold("one");
    assert_eq!(held.status, 202, "{}", held.text());
    let taken = site.metric("oktsec_quarantine_pending_bytes");
    assert!(taken > 500.0 && taken < 1000.0, "{taken}");
    let refused = hold("another");
    assert_eq!(refused.status, 503);
    let body = refused.json();
    assert_eq!(body["status"], "rejected");
    assert_eq!(body["policy_decision"], "quarantine_full");
    assert_eq!(body["rules_triggered"][0]["rule_id"], "T-HOLD");
    assert_eq!(body["quarantine_id"], Value::Null);
    assert!(!body["suggestion"].as_str().unwrap().is_empty());
    let record = site.message_records().pop().unwrap();
    assert_eq!(record["policy_decision"], "quarantine_full", "{record}");
    assert_eq!(record["rules_triggered"][0]["rule_id"], "T-HOLD");
    let counted = site.metric("oktsec_refusals_total{reason=\"quarantine_full\"}");
    assert!((counted - 1.0).abs() < 0.5);
    let clean = site.post(&signed("alice", "bob", "hello"));
    assert_eq!(clean.status, 200, "nothing else is refused");

    let message = MessageId::parse(held.json()["quarantine_id"].as_str().unwrap()).unwrap();
    line.send(&ToDataplane::Request {
        id: 1,
        body: LinkRequest::Resolve {
            message,
            action: Resolution::Discard,
            reviewer: String::from("ops"),
        },
    });
    let ToControl::Response { body, .. } = line.receive() else {
        panic!("no answer")
    };
    assert!(matches!(body, LinkResponse::Resolved(_)), "{body:?}");
    assert_eq!(hold("a third").status, 202);
}

#[test]
fn messages_flow_while_the_control_plane_is_away() {
    let site = Site::with(&format!("server: {{api_key: k}}\n{PLAIN}"));
    for path in ["/v1/agents", "/v1/quarantine/x", "/nowhere"] {
        let response = site.client().post(path, &[("X-API-Key", "k")], b"{}");
        assert_eq!(response.status, 503, "{path}");
        assert_eq!(
            response.text(),
            "{\"error\":\"control plane unavailable\"}\n"
        );
        assert_eq!(response.header("X-Frame-Options"), Some("DENY"));
    }
    let message = signed("alice", "bob", "meanwhile").to_string();
    let mut client = site.client();
    let response = client.post("/v1/message", &[("X-API-Key", "k")], message.as_bytes());
    assert_eq!(response.status, 200);
    assert_eq!(
        client.get("/dashboard").status,
        503,
        "pages have their own sessions"
    );
}

#[test]
fn what_is_for_a_control_plane_that_is_starting_waits_for_it() {
    let site = Site::new(Wish {
        tune: Box::new(|options| options.patience.control_plane = Duration::from_secs(600)),
        ..Wish::default()
    });
    let _ = std::fs::remove_file(&site.paths.api_socket);
    let mut early = site.client();
    early.send(b"GET /v1/agents HTTP/1.1\r\nHost: t\r\n\r\n");
    let mut scrapes = 0.0;
    eventually("the request arrives", || {
        scrapes += 1.0;
        site.metric("oktsec_http_requests_total") > scrapes + 0.5
    });
    let api = UnixListener::bind(&site.paths.api_socket).unwrap();
    let link = ControlPlane::listen(&site);
    let (_line, _) = ControlPlane::accept(&link);
    let (mut relayed, _) = api.accept().unwrap();
    let mut head = [0; 16];
    relayed.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"GET /v1/agents H");
    relayed
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]\n")
        .unwrap();
    let answer = early.receive().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "[]\n"));
}

#[test]
fn the_rest_is_passed_on_as_it_came() {
    let site = Site::plain();
    let _ = std::fs::remove_file(&site.paths.api_socket);
    let listener = UnixListener::bind(&site.paths.api_socket).unwrap();
    let backend = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        for _ in 0..2 {
            let mut piece = [0; 4096];
            let mut seen = Vec::new();
            while !(seen.ends_with(b"{\"a\":1}") || seen.ends_with(b"0\r\n\r\n")) {
                let n = stream.read(&mut piece).unwrap();
                assert!(n > 0);
                seen.extend_from_slice(&piece[..n]);
            }
            got.push(String::from_utf8(seen).unwrap());
            stream
                .write_all(
                    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n\
                      Content-Security-Policy: default-src 'none'\r\nKeep-Alive: timeout=9\r\n\
                      Content-Length: 3\r\n\r\n{}\n",
                )
                .unwrap();
        }
        got
    });
    let mut client = site.client();
    let headers = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("X-Stays", "2"),
    ];
    for _ in 0..2 {
        let response = client.post("/v1/agents?x=%20y", &headers, b"{\"a\":1}");
        assert_eq!((response.status, response.text().as_str()), (201, "{}\n"));
        assert_eq!(
            response.header("Content-Security-Policy"),
            Some("default-src 'none'")
        );
        assert_eq!(response.header("X-Content-Type-Options"), Some("nosniff"));
        assert!(response.header("X-Request-ID").is_some());
    }
    for request in backend.join().unwrap() {
        let lower = request.to_ascii_lowercase();
        assert!(
            request.starts_with("POST /v1/agents?x=%20y HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(lower.contains("\r\nx-stays: 2\r\n"), "{request}");
        assert!(
            lower.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"),
            "{request}"
        );
        assert!(
            !lower.contains("6.6.6.6") && !lower.contains("x-hop"),
            "{request}"
        );
    }
}

#[test]
fn a_busy_port_is_an_error_that_names_it() {
    let site = Site::plain();
    let other = tempfile::tempdir().unwrap();
    let mut config = parse_config(PLAIN, other.path());
    config.server.port = site.address().port();
    let paths = oktsec_contract::paths::StatePaths::for_config(&config);
    let error = Dataplane::start(DataplaneOptions::from_config(&config, paths)).unwrap_err();
    assert!(matches!(error, RunError::PortBusy { .. }), "{error}");
    assert!(
        error.to_string().contains(&config.server.port.to_string()),
        "{error}"
    );
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn snapshots_change_under_load_and_every_message_gets_one_answer() {
    let yaml = PLAIN.replace("rate_limit", "server: {workers: 2}\nrate_limit");
    let site = Site::with(&yaml);
    let listener = ControlPlane::listen(&site);
    let (mut line, _) = ControlPlane::accept(&listener);
    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let address = site.address();
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            std::thread::spawn(move || {
                let mut client = Client::new(address);
                let mut n = 0;
                while !over.load(Ordering::Relaxed) {
                    let message = signed("alice", "bob", &format!("{sender} {n}")).to_string();
                    let response = client.post("/v1/message", &[], message.as_bytes());
                    assert!(matches!(response.status, 200 | 403), "{}", response.text());
                    answered.fetch_add(1, Ordering::Relaxed);
                    n += 1;
                }
            })
        })
        .collect();
    let suspended = yaml.replace("bob: {}", "bob: {suspended: true}");
    for revision in 2..30 {
        let text = if revision % 2 == 0 { &suspended } else { &yaml };
        let next = snapshot(revision, config(&site, text));
        assert_eq!(line.publish(&next), ToControl::Applied { revision });
        let before = answered.load(Ordering::Relaxed);
        eventually("messages after a swap", || {
            answered.load(Ordering::Relaxed) >= before + 20
        });
        // Whoever asks after `Applied` is decided by the new one, on whichever core.
        let status = site.post(&signed("alice", "bob", "probe")).status;
        assert_eq!(
            status,
            if revision % 2 == 0 { 403 } else { 200 },
            "revision {revision}"
        );
    }
    over.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().unwrap();
    }
    let expected = answered.load(Ordering::Relaxed) + 28;
    assert_eq!(
        site.metric("oktsec_message_latency_seconds_count{status=\"delivered\"}")
            + site.metric("oktsec_message_latency_seconds_count{status=\"rejected\"}"),
        expected as f64
    );
}

#[test]
fn stopping_finishes_what_was_begun_and_keeps_every_record() {
    let mut site = Site::plain();
    let mut idle = site.client();
    assert_eq!(idle.get("/health").status, 200);
    let message = signed("alice", "bob", "in flight").to_string();
    let (first, second) = message.split_at(20);
    let mut busy = site.client();
    busy.send(
        format!(
            "POST /v1/message HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{first}",
            message.len()
        )
        .as_bytes(),
    );
    // Its head has been read once another request on this one core was answered.
    assert_eq!(site.get("/health").status, 200);
    let address = site.address();
    let dataplane = site.dataplane.take().unwrap();
    let stopping = std::thread::spawn(move || dataplane.stop());
    assert!(idle.is_closed(), "a connection without a request ends");
    eventually("the port is closed", || {
        std::net::TcpStream::connect(address).is_err()
    });
    busy.send(second.as_bytes());
    let response = busy.receive().unwrap();
    assert_eq!(
        (response.status, response.header("Connection")),
        (200, Some("close"))
    );
    stopping.join().unwrap();
    assert_eq!(site.message_records().len(), 1);
    site.start(&|_| {});
    assert_eq!(site.post(&unsigned("alice", "bob", "x")).status, 401);
}

#[test]
fn stopping_does_not_wait_for_a_connection_on_which_nothing_was_asked() {
    let mut site = Site::new(Wish {
        tune: Box::new(|options| options.drain = Duration::from_secs(600)),
        ..Wish::default()
    });
    let mut silent = site.client();
    // This one's request is on the second.
    eventually("both are open", || {
        site.metric("oktsec_connections_open") > 1.5
    });
    site.stop();
    assert!(silent.is_closed());
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let site = Site::new(Wish {
        tune: Box::new(|o| o.drain = Duration::from_millis(300)),
        ..Wish::default()
    });
    let mut slow = site.client();
    slow.send(b"POST /v1/message HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{");
    assert_eq!(site.get("/health").status, 200);
    let begun = Instant::now();
    drop(site);
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert!(slow.is_closed());
}

#[test]
fn a_full_audit_queue_is_back_pressure_and_then_a_503() {
    // Nothing fits beside anything: only an empty queue takes a record.
    let site = Site::new(Wish {
        tune: Box::new(|o| o.audit_queue_max = (1, 1)),
        yaml: &PLAIN.replace("rate_limit", "server: {workers: 2}\nrate_limit"),
        ..Wish::default()
    });
    let address = site.address();
    let senders: Vec<_> = (0..16)
        .map(|sender| {
            std::thread::spawn(move || {
                let mut client = Client::new(address);
                let mut delivered = 0;
                for n in 0..100 {
                    let message = signed("alice", "bob", &format!("{sender} {n}")).to_string();
                    let mut response = client.post("/v1/message", &[], message.as_bytes());
                    if response.status == 503 {
                        // Not recorded, so not seen: the same message may come again.
                        response = client.post("/v1/message", &[], message.as_bytes());
                    }
                    match response.status {
                        200 => delivered += 1,
                        503 => {
                            let body = response.json();
                            assert_eq!(body["reason"], "audit_overloaded", "{body}");
                            assert_eq!(body["error"], "audit log unavailable");
                        }
                        other => panic!("{other}: {}", response.text()),
                    }
                }
                delivered
            })
        })
        .collect();
    let delivered: usize = senders.into_iter().map(|s| s.join().unwrap()).sum();
    assert!(delivered > 0);
    assert!(
        site.metric("oktsec_audit_waits_total") > 0.5,
        "the queue was full at times"
    );
    let records = site.message_records();
    assert_eq!(
        records.len(),
        delivered,
        "exactly what was acknowledged is recorded"
    );
}

#[test]
fn a_damaged_log_is_told_to_whoever_watches() {
    let mut site = Site::plain();
    let sent: Vec<_> = (0..50)
        .map(|n| signed("alice", "bob", &n.to_string()))
        .collect();
    for message in &sent {
        assert_eq!(site.post(message).status, 200);
    }
    assert!(site.metric("oktsec_audit_damaged") < 0.5);
    site.stop();
    let files = std::fs::read_dir(&site.paths.audit).unwrap();
    let tables = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "sst"));
    let largest = tables
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let half = largest.metadata().unwrap().len() / 2;
    std::fs::OpenOptions::new()
        .write(true)
        .open(largest)
        .unwrap()
        .set_len(half)
        .unwrap();
    site.start(&|_| {});
    let ready = site.client().get("/readyz");
    assert_eq!(
        (ready.status, &ready.json()["audit_damaged"]),
        (200, &true.into())
    );
    assert!(site.metric("oktsec_audit_damaged") > 0.5);
    // Some signatures are lost with their records: which, nobody knows, so none of that time is taken for new.
    let again = |message| site.post(message).json()["policy_decision"].take();
    let answers: Vec<_> = sent.iter().map(again).collect();
    let known = answers.iter().filter(|a| **a == "replay_rejected").count();
    let untold = answers.iter().filter(|a| **a == "replay_unchecked").count();
    assert_eq!(known + untold, sent.len(), "{answers:?}");
    assert!(untold > 0);
    let fresh = site.post(&signed("alice", "bob", "still here"));
    assert_eq!(
        (fresh.status, &fresh.json()["policy_decision"]),
        (503, &"replay_unchecked".into())
    );
}
