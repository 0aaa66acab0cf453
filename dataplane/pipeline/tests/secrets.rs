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

#[test]
fn a_secret_that_an_agent_was_given_is_known_when_it_goes_elsewhere() {
    let mut plane = Plane::new(OPEN);
    let given = plane.unsigned("a", "b", "log in with token=abc123def456 there");
    assert_eq!(
        (given.verdict, given.status),
        (Verdict::Flag, Status::Delivered)
    );
    for text in [
        "it said abc123def456",
        "it said YWJjMTIzZGVmNDU2 ok",
        "it said 654fed321cba",
    ] {
        let sent = plane.unsigned("b", "c", text);
        assert_eq!(sent.rules, ["EXS-003"], "{text}");
        assert_eq!(sent.verdict, Verdict::Quarantine, "{text}");
        assert!(sent.excerpts[0].starts_with("[REDACTED:SEEN_SECRET(a):len="));
        assert!(!String::from_utf8_lossy(&sent.record).contains("abc123"));
    }
    // Back to whom it came from, from somebody else, and an hour later it is nothing new.
    assert_eq!(
        plane.unsigned("b", "a", "you said abc123def456").verdict,
        Verdict::Allow
    );
    assert_eq!(
        plane.unsigned("c", "a", "I guess abc123def456").verdict,
        Verdict::Allow
    );
    plane.now = plane.now.plus_secs(3_601);
    assert_eq!(
        plane.unsigned("b", "c", "it said abc123def456").verdict,
        Verdict::Allow
    );
}

#[test]
fn a_secret_in_a_message_that_was_held_was_given_to_nobody() {
    let mut plane = Plane::new(OPEN);
    let held = plane.unsigned("a", "b", "attack-high token=abc123def456");
    assert_eq!(held.status, Status::Quarantined);
    assert_eq!(
        plane.unsigned("b", "c", "abc123def456").verdict,
        Verdict::Allow
    );
}

#[test]
fn a_sender_is_offered_its_content_without_the_secrets_if_nothing_else_refuses_it() {
    let yaml = format!("{OPEN}\nsecrets: {{redact_messages: true}}\n");
    let mut plane = Plane::knowing(&yaml, &store());
    let said = plane.unsigned(
        "a",
        "b",
        &format!("é {VALUE} and Ymx1ZStIYXJib3VyOS90aWRl, ok"),
    );
    assert_eq!(said.reason, Reason::ContentBlocked);
    let offered = said.offered.unwrap();
    assert_eq!(
        offered,
        "é [REDACTED:KNOWN_SECRET(orders-db):len=18] and [REDACTED:KNOWN_SECRET(orders-db):len=24], ok"
    );
    assert_eq!(plane.unsigned("a", "b", &offered).verdict, Verdict::Allow);

    let also = plane.unsigned("a", "b", &format!("attack-critical {VALUE}"));
    assert_eq!((also.reason, also.offered), (Reason::ContentBlocked, None));
    assert_eq!(plane.unsigned("a", "b", "hello").offered, None);
    let unwanted = Plane::knowing(OPEN, &store()).unsigned("a", "b", VALUE);
    assert_eq!(
        (unwanted.reason, unwanted.offered),
        (Reason::ContentBlocked, None)
    );
}
