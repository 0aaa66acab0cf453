//! The whole way of a message without sockets: a real policy, a real scanner, real signatures.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use bytes::Bytes;
use common::{Plane, START, Said, agent_key};
use oktsec_contract::Surface;
use oktsec_contract::held_room::HELD_ENTRY_BYTES;
use oktsec_contract::keys::RevokedKey;
use oktsec_contract::reason::Reason;
use oktsec_contract::record::RecordRef;
use oktsec_contract::verdict::{Status, Verdict};
use oktsec_pipeline::{Headers, Moment, Proof};

const SIGNED: &str = "
identity: {keys_dir: /keys}
agents:
  a: {can_message: [b]}
  b: {can_message: [a]}
";
const OPEN: &str = "
identity: {require_signature: false}
agents:
  a: {can_message: [b], blocked_content: [pii]}
  b: {can_message: ['*']}
";

fn refused(reason: Reason, said: &Said) {
    assert_eq!(said.reason, reason);
    assert_eq!(said.http, reason.http_status());
    assert_eq!(said.status, reason.status());
    assert_eq!(said.rules, [""; 0]);
}

#[test]
fn a_signed_message_to_a_granted_recipient_is_delivered() {
    let said = Plane::new(SIGNED).signed("a", "b", "Summarize the quarterly report");
    assert_eq!(said.reason, Reason::Allowed);
    assert_eq!(
        (said.http, said.verified, said.verdict),
        (200, true, Verdict::Allow)
    );
}

#[test]
fn unsigned_message_is_refused_when_signatures_are_required() {
    refused(
        Reason::SignatureRequired,
        &Plane::new(SIGNED).unsigned("a", "b", "hi"),
    );
}

#[test]
fn a_forged_signature_is_refused() {
    let mut plane = Plane::new(SIGNED);
    let body = plane
        .signed_body("a", "b", "pay 10", None)
        .replace("pay 10", "pay 99");
    let said = plane.send_body(&body, Headers::default()).unwrap();
    refused(Reason::SignatureInvalid, &said);
    assert!(!said.verified);
}

#[test]
fn a_signature_without_a_time_never_holds() {
    let mut plane = Plane::new(SIGNED);
    let body = plane.signed_without_time("a", "b", "good for ever");
    refused(
        Reason::SignatureInvalid,
        &plane.send_body(&body, Headers::default()).unwrap(),
    );
}

#[test]
fn an_unknown_key_and_a_revoked_key_are_refused() {
    let mut plane = Plane::new(SIGNED);
    refused(Reason::KeyUnknown, &plane.signed("zoe", "b", "hi"));
    let revoked = RevokedKey {
        fingerprint: agent_key("a").fingerprint,
        agent_name: "a".into(),
        revoked_at: START.to_rfc3339(),
        reason: "manually revoked".into(),
    };
    let mut plane = Plane::with(SIGNED, vec![revoked]);
    refused(Reason::KeyRevoked, &plane.signed("a", "b", "hi"));
    assert_eq!(plane.signed("b", "a", "hi").reason, Reason::Allowed);
}

#[test]
fn key_versions_are_honoured_and_clients_that_send_none_are_not_locked_out() {
    let config = "
identity: {keys_dir: /keys}
agents: {a: {can_message: [b], key_version: 2}}
";
    let mut plane = Plane::new(config);
    let mut send = |version, header: Option<&[u8]>, content: &str| {
        let body = plane.signed_body("a", "b", content, version);
        let headers = Headers {
            key_version: header,
            ..Headers::default()
        };
        plane.send_body(&body, headers).unwrap().reason
    };
    assert_eq!(send(Some(2), Some(b"2"), "1"), Reason::Allowed);
    assert_eq!(send(None, None, "2"), Reason::Allowed);
    assert_eq!(send(Some(3), Some(b"3"), "3"), Reason::KeyVersionMismatch);
    assert_eq!(send(None, Some(b"2"), "4"), Reason::SignatureInvalid);
    let mut plane = Plane::new(SIGNED);
    let body = plane.signed_body("a", "b", "v1 with a header, no version configured", None);
    let headers = Headers {
        key_version: Some(b"7"),
        ..Headers::default()
    };
    assert_eq!(
        plane.send_body(&body, headers).unwrap().reason,
        Reason::Allowed
    );
}

#[test]
fn the_same_signature_counts_once_while_it_is_valid() {
    let mut plane = Plane::new(SIGNED);
    let body = plane.signed_body("a", "b", "transfer", None);
    assert_eq!(
        plane.send_body(&body, Headers::default()).unwrap().reason,
        Reason::Allowed
    );
    plane.now = plane.now.plus_secs(299);
    let again = plane.send_body(&body, Headers::default()).unwrap();
    refused(Reason::ReplayRejected, &again);
    assert_eq!(again.http, 409);
    plane.now = plane.now.plus_secs(2);
    assert_eq!(
        plane.send_body(&body, Headers::default()),
        Err(Reason::TimestampTooOld)
    );
}

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
fn what_cannot_be_told_from_a_replay_is_recorded_without_its_signature() {
    let mut plane = Plane::new(SIGNED);
    plane.shared.lose_signatures(plane.now);
    let said = plane.signed("a", "b", "transfer");
    refused(Reason::ReplayCacheFull, &said);
    // A start that reads this record must not take the refusal for the signature's first use.
    let mut findings = Vec::new();
    let record = RecordRef::decode(&said.record, &mut findings).unwrap();
    assert_eq!(record.signature_bytes, None);
}

#[test]
fn a_key_that_is_revoked_while_its_signature_is_verified_proves_nothing() {
    let mut plane = Plane::new(SIGNED);
    let revoked = RevokedKey::new(agent_key("a").fingerprint, "a", START, "stolen");
    for (then, reason) in [
        (Plane::new(SIGNED), Reason::Allowed),
        (Plane::with(SIGNED, vec![revoked]), Reason::KeyRevoked),
    ] {
        let body = plane.signed_body("a", "b", reason.as_str(), None);
        let received = plane.pipeline.admit(Surface::Message, None, plane.now);
        let moment = Moment {
            now: plane.now,
            random: [reason.code(); 32],
        };
        let opened =
            plane
                .pipeline
                .open(received.unwrap(), body.into(), Headers::default(), moment);
        let mut opened = opened.unwrap();
        let proof = opened.take_check().map_or_else(Proof::none, Proof::single);
        assert!(proof.is_held());
        let policy = then.pipeline.policy();
        plane.pipeline.set_policy(policy.clone()).unwrap();
        let now = plane.now;
        plane.pipeline.decide(
            opened,
            proof,
            || now,
            |decision| {
                assert_eq!(decision.reason, reason);
                assert_eq!(decision.is_verified(), reason == Reason::Allowed);
            },
        );
    }
}

#[test]
fn the_time_of_the_scan_counts_and_a_held_message_waits_from_then_on() {
    let mut plane = Plane::new("identity: {require_signature: false}\n");
    let received = plane
        .pipeline
        .admit(Surface::Message, None, plane.now)
        .unwrap();
    let moment = Moment {
        now: plane.now,
        random: [9; 32],
    };
    let body = br#"{"from":"a","to":"b","content":"attack-high"}"#;
    let opened = plane.pipeline.open(
        received,
        Bytes::from_static(body),
        Headers::default(),
        moment,
    );
    let clock = std::cell::Cell::new(plane.now);
    let ticks = || {
        clock.set(clock.get().plus_secs(2));
        clock.get()
    };
    plane
        .pipeline
        .decide(opened.unwrap(), Proof::none(), ticks, |decision| {
            assert_eq!(decision.latency_us, 4_000_000);
            let day = 24 * 3_600;
            assert_eq!(decision.held_until, Some(START.plus_secs(4 + day)));
        });
}

#[test]
fn a_replay_is_known_after_a_restart() {
    let mut before = Plane::new(SIGNED);
    let body = before.signed_body("a", "b", "transfer", None);
    let received = before
        .pipeline
        .admit(Surface::Message, None, before.now)
        .unwrap();
    let moment = Moment {
        now: before.now,
        random: [9; 32],
    };
    let bytes = Bytes::from(body.clone());
    let mut opened = before
        .pipeline
        .open(received, bytes, Headers::default(), moment)
        .unwrap();
    let proof = opened.take_check().map_or_else(Proof::none, Proof::single);
    let mut record = Vec::new();
    let now = before.now;
    before
        .pipeline
        .decide(opened, proof, || now, |d| d.record().encode(&mut record));

    let mut after = Plane::new(SIGNED);
    let mut findings = Vec::new();
    let record = RecordRef::decode(&record, &mut findings).unwrap();
    after.shared.restore(&record, after.now);
    let said = after.send_body(&body, Headers::default()).unwrap();
    assert_eq!(said.reason, Reason::ReplayRejected);
}

#[test]
fn replays_are_not_looked_for_when_switched_off() {
    let mut plane = Plane::new(
        "
identity: {keys_dir: /keys, replay: off}
agents: {a: {can_message: [b]}}
",
    );
    let body = plane.signed_body("a", "b", "transfer", None);
    for _ in 0..3 {
        assert_eq!(
            plane.send_body(&body, Headers::default()).unwrap().reason,
            Reason::Allowed
        );
    }
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
fn severities_come_to_verdicts() {
    let mut plane = Plane::new(OPEN);
    for (content, reason, rules) in [
        ("attack-critical", Reason::ContentBlocked, &["T-CRIT"][..]),
        ("attack-high", Reason::ContentQuarantined, &["T-HIGH"]),
        ("attack-medium", Reason::ContentFlagged, &["T-MED"]),
        ("attack-low", Reason::Allowed, &["T-LOW"]),
        (
            "attack-low and attack-high",
            Reason::ContentQuarantined,
            &["T-HIGH", "T-LOW"],
        ),
        ("fine", Reason::Allowed, &[]),
    ] {
        let said = plane.unsigned("b", "a", content);
        assert_eq!(
            (said.reason, said.http),
            (reason, reason.http_status()),
            "{content}"
        );
        assert_eq!(said.rules, rules, "{content}");
    }
}

#[test]
fn blocked_content_holds_whatever_else_is_configured() {
    let mut plane = Plane::new(&format!(
        "{OPEN}\nrules: [{{id: T-HIGH, action: ignore}}]\n"
    ));
    assert_eq!(
        plane.unsigned("a", "b", "attack-medium").reason,
        Reason::ContentBlocked
    );
    assert_eq!(
        plane.unsigned("b", "a", "attack-medium").reason,
        Reason::ContentFlagged
    );
    let ignored = plane.unsigned("b", "a", "attack-high");
    assert_eq!((ignored.reason, ignored.rules.len()), (Reason::Allowed, 0));
}

#[test]
fn overrides_change_the_outcome_of_their_own_rule_only() {
    let mut plane = Plane::new(
        "
identity: {require_signature: false}
rules: [{id: T-LOW, action: block}, {id: T-CRIT, action: allow-and-flag}]
",
    );
    assert_eq!(
        plane.unsigned("a", "b", "attack-low").reason,
        Reason::ContentBlocked
    );
    assert_eq!(
        plane.unsigned("a", "b", "attack-critical").reason,
        Reason::ContentFlagged
    );
    assert_eq!(
        plane.unsigned("a", "b", "attack-high").reason,
        Reason::ContentQuarantined
    );
    let both = plane
        .unsigned("a", "b", "attack-critical attack-high")
        .reason;
    assert_eq!(both, Reason::ContentQuarantined);
}

#[test]
fn lanes_decide_what_acts_what_is_reported_and_what_is_only_counted() {
    let mut plane = Plane::new(&format!(
        "{OPEN}\nrules: [{{id: t-low, action: ignore}}, {{id: T-crit, action: allow-and-flag}}]\n"
    ));
    for (content, reason, reported, counted) in [
        (
            "attack-critical",
            Reason::ContentFlagged,
            &["T-CRIT"][..],
            ("T-CRIT", "enforce"),
        ),
        (
            "attack-alert",
            Reason::Allowed,
            &["T-ALERT"],
            ("T-ALERT", "alert"),
        ),
        (
            "attack-shadow",
            Reason::Allowed,
            &[],
            ("T-SHADOW", "shadow"),
        ),
        ("attack-low", Reason::Allowed, &[], ("T-LOW", "ignored")),
    ] {
        let said = plane.unsigned("b", "a", content);
        assert_eq!(said.reason, reason, "{content}");
        assert_eq!(said.rules, reported, "{content}");
        let (rule, lane) = counted;
        assert_eq!(said.counted, [(String::from(rule), lane)], "{content}");
    }
}

#[test]
fn the_configuration_moves_a_rule_into_another_lane() {
    for (over, content, verdict, reported, counted) in [
        (
            "lane: enforce",
            "attack-shadow",
            Verdict::Block,
            1,
            Some("enforce"),
        ),
        (
            "lane: enforce, action: allow-and-flag",
            "attack-shadow",
            Verdict::Flag,
            1,
            Some("enforce"),
        ),
        (
            "lane: alert",
            "attack-critical",
            Verdict::Allow,
            1,
            Some("alert"),
        ),
        (
            "lane: shadow",
            "attack-critical",
            Verdict::Allow,
            0,
            Some("shadow"),
        ),
        ("lane: \"off\"", "attack-critical", Verdict::Allow, 0, None),
    ] {
        let id = content.replace("attack-", "T-").replace("critical", "crit");
        let yaml = format!("{OPEN}\nrules: [{{id: {id}, {over}}}]\n");
        let said = Plane::new(&yaml).unsigned("b", "a", content);
        assert_eq!(said.verdict, verdict, "{over}");
        assert_eq!(said.rules.len(), reported, "{over}");
        let lanes: Vec<_> = said.counted.iter().map(|(_, lane)| *lane).collect();
        assert_eq!(lanes, Vec::from_iter(counted), "{over}");
    }
}

#[test]
fn an_attack_cut_in_pieces_is_seen_whole_and_does_not_follow_its_sender() {
    let mut plane = Plane::new(OPEN);
    assert_eq!(
        plane.unsigned("b", "a", "first attack-crit").reason,
        Reason::Allowed
    );
    let second = plane.unsigned("b", "a", "ical, then more");
    assert_eq!(
        (second.reason, second.rules),
        (Reason::ContentBlocked, vec!["T-CRIT".to_owned()])
    );
    for text in ["how are you", "critical thinking", "the weather is fine"] {
        assert_eq!(
            plane.unsigned("b", "a", text).reason,
            Reason::Allowed,
            "{text}"
        );
    }
    // Another peer that claims the same name has its own window.
    plane.unsigned("b", "a", "attack-crit");
    let body = r#"{"from":"b","to":"a","content":"ical"}"#;
    let other = plane.send_from(Some("10.0.0.9".parse().unwrap()), body, Headers::default());
    assert_eq!(other.unwrap().reason, Reason::Allowed);
    plane.unsigned("b", "a", "attack-crit");
    plane.now = plane.now.plus_secs(3_601);
    assert_eq!(
        plane.unsigned("b", "a", "ical").reason,
        Reason::Allowed,
        "an hour later"
    );
}

#[test]
fn a_blocked_message_is_not_part_of_the_window() {
    let mut plane = Plane::new(OPEN);
    assert_eq!(
        plane
            .unsigned("b", "a", "attack-critical attack-crit")
            .reason,
        Reason::ContentBlocked
    );
    assert_eq!(plane.unsigned("b", "a", "ical").reason, Reason::Allowed);
}

#[test]
fn history_escalates_proven_senders() {
    let mut plane = Plane::new(SIGNED);
    for n in 0..3 {
        assert_eq!(
            plane
                .signed("a", "b", &format!("attack-critical {n}"))
                .reason,
            Reason::ContentBlocked
        );
    }
    assert_eq!(
        plane.signed("a", "b", "attack-medium").reason,
        Reason::ContentQuarantined
    );
    assert_eq!(
        plane.signed("b", "a", "attack-medium").reason,
        Reason::ContentFlagged,
        "its victim not"
    );
    assert_eq!(
        plane.signed("a", "b", "attack-high").reason,
        Reason::ContentQuarantined
    );
    assert_eq!(
        plane.signed("a", "b", "attack-high again").reason,
        Reason::ContentBlocked
    );
    plane.now = plane.now.plus_secs(3_601);
    assert_eq!(
        plane.signed("a", "b", "attack-medium later").reason,
        Reason::ContentFlagged
    );
}

#[test]
fn what_would_be_held_is_refused_while_the_quarantine_is_full_and_may_come_again() {
    let mut plane = Plane::new(SIGNED);
    let room = std::sync::Arc::clone(plane.shared.held_room());
    room.set_bytes_max(2 * HELD_ENTRY_BYTES + 40);
    let content = "attack-high";
    // The test keeps no content, so each gives its room back; two others wait for an operator.
    let said = plane.signed("a", "b", content);
    assert_eq!(
        (said.reason, said.status),
        (Reason::ContentQuarantined, Status::Quarantined)
    );
    assert_eq!(room.taken(), 0);
    let waiting = room.take(20).unwrap();
    room.take(20).unwrap().keep();
    plane.now = plane.now.plus_secs(1);
    let body = plane.signed_body("a", "b", content, None);
    let said = plane.send_body(&body, Headers::default()).unwrap();
    assert_eq!(
        (said.reason, said.status, said.http),
        (Reason::QuarantineFull, Status::Rejected, 503)
    );
    assert_eq!(
        said.verdict,
        Verdict::Quarantine,
        "recorded as it was judged"
    );
    assert_eq!(said.rules, ["T-HIGH"]);
    assert_eq!(plane.signed("a", "b", "hello").reason, Reason::Allowed);
    drop(waiting);
    let again = plane.send_body(&body, Headers::default()).unwrap();
    assert_eq!(again.reason, Reason::ContentQuarantined);

    let mut watching = Plane::new("mode: observe\nidentity: {require_signature: false}\n");
    watching.shared.held_room().set_bytes_max(0);
    let said = watching.unsigned("a", "b", content);
    assert_eq!(
        (said.reason, said.status),
        (Reason::ContentQuarantined, Status::Delivered),
        "nothing is held while observing"
    );
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
fn observe_blocks_nothing_and_keeps_the_verdict() {
    let mut plane = Plane::new(&format!("mode: observe\n{SIGNED}"));
    for (said, reason, verdict) in [
        (
            plane.unsigned("a", "b", "hi"),
            Reason::SignatureRequired,
            Verdict::Block,
        ),
        (
            plane.signed("a", "c", "hi"),
            Reason::GrantMissing,
            Verdict::Block,
        ),
        (
            plane.signed("a", "b", "attack-critical"),
            Reason::ContentBlocked,
            Verdict::Block,
        ),
        (
            plane.signed("a", "b", "attack-high"),
            Reason::ContentQuarantined,
            Verdict::Quarantine,
        ),
    ] {
        assert_eq!((said.reason, said.verdict), (reason, verdict));
        assert_eq!((said.status, said.http), (Status::Delivered, 200));
    }
}

#[test]
fn delegation_is_refused_while_chains_cannot_be_verified() {
    let mut plane = Plane::new(SIGNED);
    let body = plane.signed_body("a", "b", "hi", None);
    let headers = Headers {
        delegation: Some(b"W10="),
        ..Headers::default()
    };
    assert_eq!(
        plane.send_body(&body, headers).unwrap().reason,
        Reason::DelegationInvalid
    );
    let mut plane = Plane::new(
        "
identity: {keys_dir: /keys, require_delegation: true}
agents: {a: {can_message: [b]}}
",
    );
    assert_eq!(
        plane.signed("a", "b", "hi").reason,
        Reason::DelegationRequired
    );
}

#[test]
fn intents_flag_and_never_refuse() {
    let mut plane = Plane::new(
        "
identity: {require_signature: false}
server: {require_intent: true}
",
    );
    let mut send = |body: &str| plane.send_body(body, Headers::default()).unwrap().reason;
    assert_eq!(
        send(r#"{"from":"a","to":"b","content":"ship it","intent":"deploy"}"#),
        Reason::Allowed
    );
    assert_eq!(
        send(r#"{"from":"a","to":"b","content":"hi","intent":"deploy"}"#),
        Reason::ContentFlagged
    );
    assert_eq!(
        send(r#"{"from":"a","to":"b","content":"hi"}"#),
        Reason::ContentFlagged
    );
}
