//! Known secrets on the way of a message: what they decide, and that no record holds one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use common::Plane;
use oktsec_contract::reason::Reason;
use oktsec_contract::verdict::{Status, Verdict};
use oktsec_scanner::secrets::{SecretKey, SecretKind, SecretStore};

const OPEN: &str = "
identity: {require_signature: false}
agents:
  a: {can_message: ['*']}
  b: {can_message: ['*']}
";
const VALUE: &str = "blue+Harbour9/tide";

fn store() -> SecretStore {
    let mut store = SecretStore::new(SecretKey::from_bytes([5; 32]));
    store
        .add("orders-db", SecretKind::Value, VALUE.as_bytes())
        .unwrap();
    store
}

#[test]
fn a_message_with_a_known_secret_is_blocked_and_nothing_keeps_the_value() {
    let mut plane = Plane::knowing(OPEN, &store());
    for content in [
        format!("log in with {VALUE}"),
        "log in with Ymx1ZStIYXJib3VyOS90aWRl".to_owned(),
    ] {
        let said = plane.unsigned("a", "b", &content);
        assert_eq!(said.reason, Reason::ContentBlocked, "{content}");
        assert_eq!(said.rules, ["EXS-001"]);
        assert!(said.excerpts[0].starts_with("[REDACTED:KNOWN_SECRET(orders-db):len="));
        assert_eq!(said.counted, [("EXS-001".to_owned(), "enforce")]);
        let record = String::from_utf8_lossy(&said.record);
        assert!(record.contains("orders-db") && !record.contains("Harbour"));
    }
    assert_eq!(
        plane.unsigned("a", "b", "blue harbour, tide 9").verdict,
        Verdict::Allow
    );
}

#[test]
fn a_canary_names_the_agent_it_was_given_to() {
    let mut store = store();
    let token = store.plant("courier", &[3; 32]).unwrap();
    let mut plane = Plane::knowing(OPEN, &store);
    let said = plane.unsigned("a", "b", &format!("my notes say {token}"));
    assert_eq!(said.status, Status::Blocked);
    assert_eq!(said.rules, ["EXS-002"]);
    assert_eq!(said.excerpts, ["[REDACTED:CANARY(courier):len=28]"]);
}

#[test]
fn a_known_secret_cut_in_two_messages_is_seen_with_the_second() {
    for cut in [1, 5, 9, 17] {
        let mut plane = Plane::knowing(OPEN, &store());
        let (head, tail) = VALUE.split_at(cut);
        let first = plane.unsigned("a", "b", &format!("part one: {head}"));
        assert_eq!(first.verdict, Verdict::Allow);
        let second = plane.unsigned("a", "b", &format!("{tail} was part two"));
        assert_eq!(second.rules, ["EXS-001"], "cut at {cut}");
        assert_eq!(second.verdict, Verdict::Block);
        assert_eq!(plane.unsigned("a", "b", "thanks").verdict, Verdict::Allow);
    }
}

#[test]
fn operators_choose_what_a_known_secret_does_as_with_any_rule() {
    for (action, verdict, counted) in [
        ("ignore", Verdict::Allow, "ignored"),
        ("allow-and-flag", Verdict::Flag, "enforce"),
        ("quarantine", Verdict::Quarantine, "enforce"),
    ] {
        let yaml = format!("{OPEN}\nrules: [{{id: EXS-001, action: {action}}}]\n");
        let said = Plane::knowing(&yaml, &store()).unsigned("a", "b", VALUE);
        assert_eq!(said.verdict, verdict, "{action}");
        assert_eq!(said.counted, [("EXS-001".to_owned(), counted)]);
    }
}
