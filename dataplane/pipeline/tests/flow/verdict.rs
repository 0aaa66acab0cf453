//! What becomes of what was found: severities, overrides, lanes, intents, histories, the mode.

use crate::common::{Plane, START};
use crate::{OPEN, SIGNED};
use bytes::Bytes;
use oktsec_contract::Surface;
use oktsec_contract::held_room::HELD_ENTRY_BYTES;
use oktsec_contract::reason::Reason;
use oktsec_contract::verdict::{Status, Verdict};
use oktsec_pipeline::{Headers, Moment, Proof};

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
