//! `POST /v1/message` from outside: what is answered to what, to the letter (compat §2.2).

use crate::common::{Client, PLAIN, Site, Wish, eventually, key_of, signed, signed_at, unsigned};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::keys::RevokedKey;
use oktsec_contract::limits::BODY_BYTES_MAX;
use serde_json::json;

/// Replaces what differs from run to run.
fn masked(text: &str) -> String {
    let mut out = text.to_owned();
    for key in ["message_id", "quarantine_id", "expires_at"] {
        let start = format!("\"{key}\":\"");
        if let Some(at) = out.find(&start) {
            let from = at + start.len();
            let to = from + out[from..].find('"').unwrap();
            out.replace_range(from..to, "*");
        }
    }
    out
}

#[test]
fn a_clean_message_is_delivered_with_the_exact_body_and_headers() {
    let site = Site::plain();
    let response = site.post(&signed("alice", "bob", "hello"));
    assert_eq!(response.status, 200);
    assert_eq!(
        masked(&response.text()),
        "{\"status\":\"delivered\",\"message_id\":\"*\",\"policy_decision\":\"allow\",\
         \"rules_triggered\":[],\"verified_sender\":true}\n"
    );
    let id = response.json()["message_id"].as_str().unwrap().to_owned();
    assert_eq!((id.len(), &id[14..15]), (36, "4"), "a version 4 UUID: {id}");
    for (name, value) in [
        ("Content-Type", "application/json"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "strict-origin-when-cross-origin"),
        ("Permissions-Policy", "interest-cohort=()"),
        ("Connection", "keep-alive"),
        (
            "Content-Security-Policy",
            "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' \
             'unsafe-inline'; font-src 'self'; img-src 'self' data:; connect-src 'self'",
        ),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    let request_id = response.header("X-Request-ID").unwrap();
    assert_eq!(request_id.len(), 36);
    assert_ne!(request_id, id, "the request's id is not the message's");
}

#[test]
fn a_blocked_message_names_the_rule_and_escapes_like_go() {
    let site = Site::plain();
    let response = site.post(&signed("alice", "bob", "a <b> forbidden-word here"));
    assert_eq!(response.status, 403);
    let text = masked(&response.text());
    assert!(
        text.starts_with(
            "{\"status\":\"blocked\",\"message_id\":\"*\",\"policy_decision\":\"content_blocked\",\
             \"rules_triggered\":[{\"rule_id\":\"T-BLOCK\",\"name\":\"Forbidden word\",\
             \"severity\":\"CRITICAL\",\"category\":\"testing\",\"match\":\"forbidden-word\",\
             \"remediation\":\"Take \\u003cit\\u003e out.\"}],\"verified_sender\":true,\
             \"remediation\":\"Take \\u003cit\\u003e out.\",\"suggestion\":\""
        ),
        "{text}"
    );
    assert!(text.ends_with("\"}\n"), "{text}");
}

#[test]
fn a_held_message_says_until_when_and_a_flagged_one_is_delivered() {
    let site = Site::plain();
    let held = site.post(&signed("alice", "bob", "a strange-word"));
    assert_eq!(held.status, 202);
    let body = held.json();
    assert_eq!(body["status"], "quarantined");
    assert_eq!(body["policy_decision"], "content_quarantined");
    assert_eq!(body["quarantine_id"], body["message_id"]);
    let until = Timestamp::parse_rfc3339(body["expires_at"].as_str().unwrap()).unwrap();
    let hours = until.micros_since(Timestamp::now()) as f64 / 3.6e9;
    assert!((23.9..=24.0).contains(&hours), "{hours} hours");
    assert!(!body["suggestion"].as_str().unwrap().is_empty());

    let flagged = site.post(&signed("alice", "bob", "an odd-word"));
    assert_eq!(flagged.status, 200);
    let body = flagged.json();
    assert_eq!(
        (&body["status"], &body["policy_decision"]),
        (&json!("delivered"), &json!("content_flagged"))
    );
    assert_eq!(body["rules_triggered"][0]["category"], "other");
    assert!(
        body.get("suggestion").is_none() && body.get("remediation").is_none(),
        "{body}"
    );
    assert!((site.metric("oktsec_quarantine_pending") - 1.0).abs() < 0.1);
}

#[test]
fn refusals_come_in_the_order_of_evaluation() {
    let yaml = "
rate_limit: {per_agent: 0, per_ip: -1}
agents:
  alice: {can_message: [bob], blocked_content: []}
  bob: {suspended: true}
  mallory: {suspended: true}
  carol: {}
  research-agent: {can_message: [alice]}
";
    let key = key_of("research-agent");
    let revoked = RevokedKey::new(
        key.fingerprint(),
        "research-agent",
        Timestamp::now(),
        "lost",
    );
    let site = Site::new(Wish {
        yaml,
        revoked: vec![revoked],
        ..Wish::default()
    });
    let forged = {
        let mut message = signed("alice", "bob", "x");
        message["content"] = json!("y");
        message
    };
    for (what, message, status, decision, verified) in [
        ("forged", forged, 403, "identity_rejected", false),
        (
            "no key",
            signed("carol", "bob", "x"),
            403,
            "identity_rejected",
            false,
        ),
        (
            "revoked",
            signed("research-agent", "alice", "x"),
            403,
            "identity_rejected",
            false,
        ),
        (
            "unsigned",
            unsigned("alice", "bob", "x"),
            401,
            "signature_required",
            false,
        ),
        (
            "suspended sender",
            signed("mallory", "alice", "x"),
            403,
            "agent_suspended",
            true,
        ),
        (
            "suspended recipient",
            signed("alice", "bob", "x"),
            403,
            "recipient_suspended",
            true,
        ),
        (
            "no grant",
            signed("alice", "carol", "forbidden-word"),
            403,
            "acl_denied",
            true,
        ),
    ] {
        let response = site.post(&message);
        let body = response.json();
        assert_eq!(response.status, status, "{what}: {body}");
        assert_eq!(body["status"], "rejected", "{what}");
        assert_eq!(body["policy_decision"], decision, "{what}");
        assert_eq!(body["verified_sender"], verified, "{what}");
        assert_eq!(body["rules_triggered"], json!([]), "{what}");
        assert!(!body["suggestion"].as_str().unwrap().is_empty(), "{what}");
    }
    assert_eq!(site.message_records().len(), 7, "each left a record");
    assert!((site.metric("oktsec_refusals_total{reason=\"key_revoked\"}") - 1.0).abs() < 0.1);
}

#[test]
fn what_is_no_message_is_a_400_with_a_reason_and_leaves_no_record() {
    let site = Site::plain();
    let now = Timestamp::now();
    let old = signed_at("alice", "bob", "x", now.minus_secs(301)).to_string();
    let ahead = signed_at("alice", "bob", "x", now.plus_secs(40)).to_string();
    for (body, reason) in [
        ("", "json_invalid"),
        ("[]", "json_invalid"),
        ("{", "json_invalid"),
        ("\"x\"", "json_invalid"),
        ("{\"from\":\"alice\",\"to\":\"bob\"}", "field_missing"),
        (
            "{\"from\":\"\",\"to\":\"bob\",\"content\":\"x\"}",
            "field_missing",
        ),
        (
            "{\"from\":1,\"to\":\"bob\",\"content\":\"x\"}",
            "field_type_invalid",
        ),
        (
            "{\"from\":\"a\",\"from\":\"b\",\"to\":\"bob\",\"content\":\"x\"}",
            "json_duplicate_key",
        ),
        (
            "{\"from\":\"a\\nb\",\"to\":\"bob\",\"content\":\"x\"}",
            "name_invalid",
        ),
        (
            "{\"from\":\"a\",\"to\":\"b\",\"content\":\"x\",\"timestamp\":\"soon\"}",
            "timestamp_invalid",
        ),
        (old.as_str(), "timestamp_too_old"),
        (ahead.as_str(), "timestamp_ahead"),
    ] {
        let response = site.client().post("/v1/message", &[], body.as_bytes());
        assert_eq!(response.status, 400, "{body}");
        let expected = format!("{{\"error\":\"invalid request\",\"reason\":\"{reason}\"}}\n");
        assert_eq!(response.text(), expected, "{body}");
    }
    assert_eq!(site.message_records().len(), 0);
    assert!(site.metric("oktsec_refusals_total{reason=\"json_duplicate_key\"}") > 0.5);
}

#[test]
fn a_body_above_the_limit_is_refused_whether_declared_or_not() {
    let site = Site::plain();
    let mut client = site.client();
    client.send(b"POST /v1/message HTTP/1.1\r\nHost: t\r\nContent-Length: 10485761\r\n\r\n");
    let response = client.receive().unwrap();
    assert_eq!(response.status, 400);
    assert_eq!(response.json()["reason"], "body_too_large");
    assert!(client.is_closed());

    let mut client = site.client();
    client.send(b"POST /v1/message HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = vec![b' '; 1 << 20];
    let mut sent = 0;
    while sent <= 10 {
        let piece = [b"100000\r\n", chunk.as_slice(), b"\r\n"].concat();
        if std::io::Write::write_all(&mut client.stream, &piece).is_err() {
            break;
        }
        sent += 1;
    }
    assert_eq!(
        client.receive().map(|r| r.json()["reason"].clone()),
        Some(json!("body_too_large"))
    );
}

#[test]
fn large_bodies_that_are_never_whole_keep_no_usual_message_out() {
    let site = Site::plain();
    let large = || site.post(&signed("alice", "bob", &"large ".repeat(200_000)));
    let begin = |bytes: usize| {
        let mut client = site.client();
        let head = "POST /v1/message HTTP/1.1\r\nHost: t\r\nContent-Length: ";
        client.send(format!("{head}{bytes}\r\n\r\n").as_bytes());
        client.send(&vec![b' '; bytes - 1]);
        client
    };
    let mut waiting: Vec<_> = (0..26).map(|_| begin(BODY_BYTES_MAX)).collect();
    // Which of them found no room is not known, so what is left is filled until a large message does not.
    let refused = loop {
        let answer = large();
        if answer.status != 200 {
            break answer;
        }
        assert!(waiting.len() < 100);
        waiting.push(begin(BODY_BYTES_MAX / 20));
    };
    let retry = refused.header("Retry-After");
    assert_eq!((refused.status, retry), (503, Some("1")));
    assert_eq!(refused.json()["reason"], "overloaded");
    assert_eq!(site.post(&signed("alice", "bob", "usual")).status, 200);
    drop(waiting);
    eventually("there is room again", || large().status == 200);
}

#[test]
fn the_vectors_of_the_protocol_verify() {
    // Their timestamp is long past, so here the same keys sign now; the bytes are pinned in the pipeline.
    let yaml = "
rate_limit: {per_agent: 0, per_ip: -1}
agents: {research-agent: {can_message: [analysis-agent], key_version: 2}, analysis-agent: {}}
";
    let site = Site::with(yaml);
    let content = "línea 1\nline 2 ✓";
    let v1 = signed("research-agent", "analysis-agent", content);
    assert_eq!(site.post(&v1).json()["verified_sender"], true);

    let timestamp = Timestamp::now().to_rfc3339();
    let payload = format!("research-agent\nanalysis-agent\n{content}\n{timestamp}\n2");
    let signature = key_of("research-agent").sign(payload.as_bytes());
    let signature = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, signature);
    let v2 = json!({"from": "research-agent", "to": "analysis-agent", "content": content,
        "timestamp": timestamp, "signature": signature})
    .to_string();
    let mut client = site.client();
    let with = |client: &mut Client, version: &str| {
        client.post(
            "/v1/message",
            &[("X-Oktsec-Key-Version", version)],
            v2.as_bytes(),
        )
    };
    let wrong = with(&mut client, "3");
    assert_eq!(
        (wrong.status, &wrong.json()["policy_decision"]),
        (403, &json!("identity_rejected"))
    );
    assert_eq!(with(&mut client, "2").json()["verified_sender"], true);
}

#[test]
fn a_replay_is_refused_and_with_idempotent_gets_the_first_answer_again() {
    let site = Site::plain();
    let message = signed("alice", "bob", "once");
    assert_eq!(site.post(&message).status, 200);
    let again = site.post(&message);
    assert_eq!(again.status, 409);
    assert_eq!(again.json()["policy_decision"], "replay_rejected");
    assert_eq!(again.json()["verified_sender"], false);
    assert_eq!(site.message_records().len(), 2);

    let site = Site::with(&format!("identity: {{replay: idempotent}}\n{PLAIN}"));
    for content in ["clean", "an odd-word", "a strange-word", "a forbidden-word"] {
        let message = signed("alice", "bob", content);
        let (first, again) = (site.post(&message), site.post(&message));
        assert_eq!(first.status, again.status, "{content}");
        assert_eq!(first.text(), again.text(), "{content}");
    }
    assert_eq!(site.message_records().len(), 4, "nothing is done twice");

    let site = Site::with(&format!("identity: {{replay: 'off'}}\n{PLAIN}"));
    let message = signed("alice", "bob", "twice");
    assert_eq!(
        (site.post(&message).status, site.post(&message).status),
        (200, 200)
    );
}

#[test]
fn a_replay_is_still_known_after_a_restart() {
    let mut site = Site::plain();
    let message = signed("alice", "bob", "before the restart");
    assert_eq!(site.post(&message).status, 200);
    site.restart();
    assert_eq!(site.post(&message).status, 409);
}

#[test]
fn rates_answer_429_with_a_time_and_no_record() {
    let yaml = "
rate_limit: {per_agent: 2, per_ip: -1, window: 60}
agents: {alice: {can_message: [bob]}, bob: {}}
";
    let site = Site::with(yaml);
    for n in 0..2 {
        assert_eq!(
            site.post(&signed("alice", "bob", &n.to_string())).status,
            200
        );
    }
    let third = site.post(&signed("alice", "bob", "3"));
    assert_eq!(third.status, 429);
    assert_eq!(
        third.text(),
        "{\"error\":\"rate limit exceeded\",\"reason\":\"agent_rate_limited\"}\n"
    );
    assert!(third.header("Retry-After").is_some());
    assert_eq!(site.message_records().len(), 2);

    let yaml = "
rate_limit: {per_agent: 0, per_ip: 1, window: 60}
server: {trusted_proxies: [127.0.0.0/8]}
agents: {alice: {can_message: [bob]}, bob: {}}
";
    let site = Site::with(yaml);
    let mut client = site.client();
    let mut post = |from: &str, n: u32| {
        let body = signed("alice", "bob", &n.to_string()).to_string();
        client.post("/v1/message", &[("X-Forwarded-For", from)], body.as_bytes())
    };
    assert_eq!(post("192.0.2.1", 1).status, 200);
    let second = post("192.0.2.1", 2);
    assert_eq!(second.status, 429);
    assert_eq!(
        second.text(),
        "{\"error\":\"rate limit exceeded (ip)\",\"reason\":\"peer_rate_limited\"}\n"
    );
    assert_eq!(
        post("192.0.2.2", 3).status,
        200,
        "another peer, on the same connection"
    );
    assert!((site.metric("oktsec_rate_limit_hits_total") - 1.0).abs() < 0.1);
}

#[test]
fn observing_lets_everything_through_and_records_what_would_have_been() {
    let site = Site::with(&format!(
        "surfaces: {{message: {{mode: observe}}}}\n{PLAIN}"
    ));
    let response = site.post(&signed("alice", "bob", "a forbidden-word"));
    assert_eq!(
        (response.status, &response.json()["status"]),
        (200, &json!("delivered"))
    );
    let unsigned = site.post(&unsigned("mallory", "bob", "x"));
    assert_eq!(unsigned.status, 200);
    let records = site.message_records();
    assert_eq!(records[0]["verdict"], "block");
    assert_eq!(records[0]["policy_decision"], "content_blocked");
    assert_eq!(records[1]["policy_decision"], "signature_required");
}

#[test]
fn the_key_comes_before_every_other_answer() {
    let site = Site::with(&format!("server: {{api_key: s3cret}}\n{PLAIN}"));
    let message = signed("alice", "bob", "x").to_string();
    let mut client = site.client();
    for (path, headers) in [
        ("/v1/message", &[][..]),
        ("/v1/message", &[("Authorization", "Bearer wrong")]),
        ("/nowhere", &[]),
        ("/metrics", &[("X-API-Key", "s3cre")]),
    ] {
        let response = client.post(path, headers, message.as_bytes());
        assert_eq!(response.status, 401, "{path}");
        assert_eq!(response.text(), "{\"error\":\"unauthorized\"}\n");
    }
    let ok = client.post(
        "/v1/message",
        &[("Authorization", "Bearer s3cret")],
        message.as_bytes(),
    );
    assert_eq!(ok.status, 200);
    let wrong = client.post("/metrics", &[("X-API-Key", "s3cret")], b"");
    assert_eq!(
        (wrong.status, wrong.header("Allow")),
        (405, Some("GET, HEAD"))
    );
    assert_eq!(wrong.text(), "Method Not Allowed\n");
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn a_wrong_method_is_a_405_in_words() {
    let site = Site::plain();
    let response = site.get("/v1/message");
    assert_eq!(
        (response.status, response.header("Allow")),
        (405, Some("POST"))
    );
    assert_eq!(response.text(), "Method Not Allowed\n");
    assert!(
        response
            .header("Content-Type")
            .unwrap()
            .starts_with("text/plain")
    );
}

#[test]
fn probes_say_how_it_is() {
    let site = Site::plain();
    let health = site.get("/health");
    let expected = format!(
        "{{\"status\":\"ok\",\"version\":\"{}\"}}\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(health.text(), expected);
    assert_eq!(site.get("/healthz").text(), expected);
    assert_eq!(site.get("/readyz").status, 200);

    let site = Site::new(Wish {
        snapshot: false,
        ..Wish::default()
    });
    let ready = site.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(
        ready.json()["causes"][0]
            .as_str()
            .unwrap()
            .contains("snapshot")
    );
    let refused = site.post(&signed("alice", "bob", "x"));
    assert_eq!(refused.status, 503);
    assert_eq!(
        refused.text(),
        "{\"error\":\"not_ready\",\"reason\":\"snapshot_missing\"}\n"
    );
    assert_eq!(site.get("/health").status, 200);
}

#[test]
fn large_messages_are_decided_aside_and_by_the_same_rules() {
    let site = Site::plain();
    let aside = || site.metric("oktsec_decided_aside_total");
    assert_eq!(site.post(&signed("alice", "bob", "hello")).status, 200);
    assert!(aside() < 0.5);
    let filler = "lorem ipsum dolor ".repeat(6 << 10);
    for (word, status, decision) in [
        ("hello", 200, "allow"),
        ("odd-word", 200, "content_flagged"),
        ("strange-word", 202, "content_quarantined"),
        ("forbidden-word", 403, "content_blocked"),
    ] {
        let before = aside();
        let message = signed("alice", "bob", &format!("{filler}{word}"));
        let answer = site.post(&message);
        assert_eq!(answer.status, status, "{word}: {}", answer.text());
        let id = answer.json()["message_id"].clone();
        let record = site.message_records().pop().unwrap();
        assert_eq!(record["policy_decision"], decision, "{word}");
        assert_eq!(record["id"], id, "recorded before it is answered");
        assert!((aside() - before - 1.0).abs() < 0.1);
        let again = site.post(&message).json();
        assert_eq!(again["policy_decision"], "replay_rejected", "{word}");
    }
    // They are parsed and verified there as well.
    let before = aside();
    let broken = site.client().post("/v1/message", &[], filler.as_bytes());
    assert_eq!(broken.status, 400);
    assert_eq!(broken.json()["reason"], "json_invalid");
    let mut forged = signed("alice", "bob", &filler);
    forged["to"] = "mallory".into();
    let refused = site.post(&forged);
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json()["policy_decision"], "identity_rejected");
    assert!((aside() - before - 2.0).abs() < 0.1);
}
