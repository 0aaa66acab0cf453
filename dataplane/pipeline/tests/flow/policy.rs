//! Who may: rates, suspension, grants.

use crate::common::Plane;
use crate::refused;
use oktsec_contract::reason::Reason;
use oktsec_pipeline::Headers;

#[test]
fn a_message_above_its_senders_rate_may_come_again_as_it_is() {
    let mut plane = Plane::new(
        "
identity: {keys_dir: /keys}
rate_limit: {per_agent: 2, window: 60, per_ip: -1}
agents: {a: {can_message: [b]}}
",
    );
    for n in 0..2 {
        let said = plane.signed("a", "b", &n.to_string());
        assert_eq!(said.reason, Reason::Allowed);
    }
    let body = plane.signed_body("a", "b", "one more", None);
    let mut send = |secs| {
        plane.now = plane.now.plus_secs(secs);
        plane.send_body(&body, Headers::default()).unwrap()
    };
    // It was told to wait, and to send it again then.
    assert_eq!(send(0).reason, Reason::AgentRateLimited);
    assert_eq!(send(1).reason, Reason::AgentRateLimited);
    assert_eq!(send(60).reason, Reason::Allowed);
    assert_eq!(send(0).reason, Reason::ReplayRejected);
}

#[test]
fn rates_are_charged_to_proven_senders_and_to_peers() {
    let mut plane = Plane::new(
        "
identity: {keys_dir: /keys}
rate_limit: {per_agent: 3, window: 60, per_ip: 10}
agents: {a: {can_message: [b]}, b: {can_message: [a]}}
",
    );
    for n in 0..3 {
        assert_eq!(
            plane.signed("a", "b", &n.to_string()).reason,
            Reason::Allowed
        );
    }
    assert_eq!(
        plane.signed("a", "b", "one more").reason,
        Reason::AgentRateLimited
    );
    assert_eq!(plane.signed("b", "a", "not me").reason, Reason::Allowed);
    // Forged messages in the name of b charge the peer, never b.
    for _ in 0..5 {
        let body = plane
            .signed_body("b", "a", "x", None)
            .replace("\"x\"", "\"y\"");
        let _ = plane.send_body(&body, Headers::default());
    }
    let body = plane.signed_body("b", "a", "again", None);
    assert_eq!(
        plane.send_body(&body, Headers::default()),
        Err(Reason::PeerRateLimited)
    );
    let peer = Some("10.0.0.9".parse().unwrap());
    assert_eq!(
        plane
            .send_from(peer, &body, Headers::default())
            .unwrap()
            .reason,
        Reason::Allowed
    );
}

#[test]
fn suspended_agents_neither_send_nor_receive() {
    let mut plane = Plane::new(
        "
identity: {require_signature: false}
agents: {a: {suspended: true}, b: {}}
",
    );
    refused(Reason::AgentSuspended, &plane.unsigned("a", "b", "hello"));
    refused(
        Reason::RecipientSuspended,
        &plane.unsigned("b", "a", "hello"),
    );
}

#[test]
fn grants_decide_who_may_reach_whom() {
    let mut plane = Plane::new("
identity: {require_signature: false}
agents:
  listed: {can_message: [b]}
  nobody: {can_message: []}
  anybody: {}
  star: {can_message: ['*']}
  until: {can_message: [b], acl_entries: [{target: b, constraints: [{type: ttl, expires_at: '2026-02-22T10:00:10Z'}]}]}
  slow: {acl_entries: [{target: '*', constraints: [{type: rate, max_messages: 2, window_secs: 60}]}]}
  odd: {acl_entries: [{target: b, constraints: [{type: moon_phase}]}]}
  entry: {acl_entries: [{target: b}]}
  paced: {acl_entries: [{target: '*', constraints: [{type: rate, max_messages: 4, window_secs: 3600}, {type: rate, max_messages: 3, window_secs: 60}]}]}
");
    let grants = [
        ("listed", "b", Reason::Allowed),
        ("listed", "c", Reason::GrantMissing),
        ("listed", "B", Reason::GrantMissing),
        ("nobody", "b", Reason::GrantMissing),
        ("anybody", "b", Reason::Allowed),
        ("star", "whoever", Reason::Allowed),
        ("until", "b", Reason::Allowed),
        ("odd", "b", Reason::GrantConstraint),
        ("entry", "b", Reason::Allowed),
        ("entry", "c", Reason::GrantMissing),
        ("stranger", "b", Reason::Allowed),
        ("slow", "x", Reason::Allowed),
        ("slow", "x", Reason::Allowed),
        ("slow", "x", Reason::GrantConstraint),
        ("slow", "y", Reason::Allowed),
        ("paced", "x", Reason::Allowed),
        ("paced", "x", Reason::Allowed),
        ("paced", "x", Reason::Allowed),
        ("paced", "x", Reason::GrantConstraint),
        // The rate an hour is not charged for what the rate a minute refuses.
        ("paced", "x", Reason::GrantConstraint),
        ("paced", "x", Reason::GrantConstraint),
    ];
    for (from, to, reason) in grants {
        assert_eq!(
            plane.unsigned(from, to, "hello").reason,
            reason,
            "{from} -> {to}"
        );
    }
    plane.now = plane.now.plus_secs(20);
    for reason in [Reason::Allowed, Reason::GrantConstraint] {
        assert_eq!(plane.unsigned("paced", "x", "hello").reason, reason);
    }
    let late = plane.unsigned("until", "b", "hello").reason;
    assert_eq!(
        late,
        Reason::GrantConstraint,
        "an entry that fits is not passed over for can_message"
    );
}

#[test]
fn empty_lists_and_default_policy_follow_the_configuration() {
    let mut go = Plane::new(
        "
compat: oktsec
identity: {require_signature: false}
agents: {nobody: {can_message: []}}
",
    );
    assert_eq!(go.unsigned("nobody", "b", "hello").reason, Reason::Allowed);
    let mut deny = Plane::new(
        "
default_policy: deny
identity: {require_signature: false}
",
    );
    assert_eq!(
        deny.unsigned("stranger", "b", "hello").reason,
        Reason::SenderUnknown
    );
}
