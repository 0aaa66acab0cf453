//! Reading beside a live writer, and queries judged by the slow obvious version.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use oktsec_audit::Filter;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::reason::Reason;
use oktsec_contract::record::{FindingRef, RecordRef, SignatureState};
use oktsec_contract::verdict::Status;
use support::{FINDING, Numbers, T0, append, id, reader, record, start};

#[test]
fn a_reader_sees_what_a_live_writer_appends() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = start(dir.path());
    let first = reader(dir.path());
    assert_eq!(first.last_sequence().unwrap(), 0);
    let mut seen = 0;
    for round in 0..20u64 {
        append(&log, round * 10..round * 10 + 10);
        first.refresh().unwrap();
        let newer = Filter {
            after: Some(seen),
            limit: 100,
            ..Filter::default()
        };
        let new = first.query(&newer).unwrap();
        assert_eq!(new.len(), 10, "round {round}");
        assert!(
            new.iter().map(|r| r.sequence).eq(seen + 1..=seen + 10),
            "oldest first"
        );
        seen += 10;
    }
    let second = reader(dir.path());
    assert_eq!(second.last_sequence().unwrap(), 200);
    assert!(second.get(id(150)).unwrap().is_some());
    drop(first);
    drop(second);
    let left = std::fs::read_dir(dir.path().join("readers"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "readers remove their folders");
    writer.shutdown();
}

#[test]
fn folders_of_dead_readers_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (_log, _writer) = start(dir.path());
    let dead = dir.path().join("readers/reader-4294967294-0");
    std::fs::create_dir_all(dead.join("within")).unwrap();
    let target = dir.path().join("of-another");
    std::fs::create_dir(&target).unwrap();
    let link = dir.path().join("readers/reader-4294967294-1");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let living = dir
        .path()
        .join(format!("readers/reader-{}-x", std::process::id()));
    std::fs::create_dir(&living).unwrap();
    let _reader = reader(dir.path());
    assert!(!dead.exists());
    assert!(living.exists(), "its process may still use it");
    assert!(
        link.exists() && target.exists(),
        "no folder of ours, whatever it is called"
    );
}

/// What the oracle keeps of a record.
struct Row {
    sequence: u64,
    record: RecordRef<'static>,
}

const NAMES: [&str; 6] = ["ann", "bob", "cyd", "dan", "eve", "rare"];
const REASONS: [Reason; 5] = [
    Reason::Allowed,
    Reason::ContentFlagged,
    Reason::ContentBlocked,
    Reason::GrantMissing,
    Reason::KeyUnknown,
];
const SESSIONS: [&str; 3] = ["", "s-1", "s-2"];
static FINDINGS: [FindingRef<'static>; 2] = [
    FINDING,
    FindingRef {
        rule_id: "IAP-003",
        name: "Credential",
        ..FINDING
    },
];

fn random_record(number: u64, numbers: &mut Numbers) -> RecordRef<'static> {
    let pick = |numbers: &mut Numbers| {
        let rare = numbers.below(500) == 0;
        NAMES[if rare { 5 } else { numbers.below(5) as usize }]
    };
    let reason = REASONS[numbers.below(5) as usize];
    let signature = [SignatureState::Verified, SignatureState::Absent][numbers.below(2) as usize];
    RecordRef {
        status: reason.status(),
        reason,
        signature,
        from: pick(numbers),
        to: pick(numbers),
        session: SESSIONS[numbers.below(3) as usize],
        findings: &FINDINGS[..numbers.below(3) as usize],
        ..record(number)
    }
}

fn random_filter(numbers: &mut Numbers, rows: u64) -> Filter {
    let maybe = |numbers: &mut Numbers, choices: &[&str]| {
        (numbers.below(4) == 0).then(|| {
            let choice = numbers.below(choices.len() as u64) as usize;
            String::from(choices[choice])
        })
    };
    let time = |numbers: &mut Numbers| {
        let millis = numbers.below(rows + 2_000);
        (numbers.below(4) == 0).then_some(Timestamp(T0.0 + millis * 1_000))
    };
    let edge = |numbers: &mut Numbers| {
        let sequence = numbers.below(rows + 10);
        (numbers.below(4) == 0).then_some(sequence)
    };
    let all = [
        Status::Delivered,
        Status::Blocked,
        Status::Rejected,
        Status::Tunneled,
    ];
    let statuses = if numbers.below(3) == 0 {
        all.into_iter().filter(|_| numbers.below(2) == 0).collect()
    } else {
        Vec::new()
    };
    Filter {
        statuses,
        agent: maybe(numbers, &NAMES),
        from: maybe(numbers, &NAMES),
        to: maybe(numbers, &NAMES),
        session: maybe(numbers, &["s-1", "s-2", "nobody's"]),
        rule: maybe(numbers, &["IAP-001", "IAP-003", "IAP-00"]),
        decision: maybe(
            numbers,
            &["allow", "identity_rejected", "acl_denied", "all"],
        ),
        unverified: numbers.below(4) == 0,
        since: time(numbers),
        until: time(numbers),
        search: maybe(numbers, &["CREDENTIAL", "an", "block", "zzz"]),
        limit: numbers.below(60) as usize,
        before: edge(numbers),
        after: edge(numbers),
    }
}

fn oracle(rows: &[Row], f: &Filter) -> Vec<u64> {
    let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
    let mut found: Vec<u64> = rows
        .iter()
        .filter(|Row { sequence, record }| {
            let text = [record.from, record.to, record.status.as_str()]
                .into_iter()
                .chain(record.findings.iter().flat_map(|f| [f.rule_id, f.name]));
            (f.statuses.is_empty() || f.statuses.contains(&record.status))
                && (is(&f.agent, record.from) || is(&f.agent, record.to))
                && is(&f.from, record.from)
                && is(&f.to, record.to)
                && is(&f.session, record.session)
                && is(&f.decision, record.reason.decision())
                && f.rule
                    .as_ref()
                    .is_none_or(|r| record.findings.iter().any(|x| x.rule_id == r))
                && (!f.unverified || record.signature != SignatureState::Verified)
                && f.since.is_none_or(|t| record.received_at >= t)
                && f.until.is_none_or(|t| record.received_at <= t)
                && f.before.is_none_or(|b| *sequence < b)
                && f.after.is_none_or(|a| *sequence > a)
                && f.search.as_ref().is_none_or(|s| {
                    text.clone()
                        .any(|t| t.to_lowercase().contains(&s.to_lowercase()))
                })
        })
        .map(|row| row.sequence)
        .collect();
    if f.after.is_none() {
        found.reverse();
    }
    found.truncate(f.limit);
    found
}

#[test]
fn queries_find_what_the_obvious_loop_finds() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut writer) = start(dir.path());
    let mut numbers = Numbers(0x5eed);
    let mut rows = Vec::new();
    let mut number = 0;
    let (mut tickets, mut restarts) = (Vec::new(), 0);
    while number < 20_000 {
        if number > 9_000 && tickets.len() > 60 {
            // What was in no list yet when the writer ended gets into one of the next.
            for ticket in tickets.drain(..) {
                let ticket: oktsec_audit::Ticket = ticket;
                ticket.wait().unwrap();
            }
            writer.shutdown();
            (log, writer) = start(dir.path());
            restarts += 1;
        }
        let mut batch = log.batch();
        for _ in 0..=numbers.below(200) {
            let record = random_record(number, &mut numbers);
            batch.push(&record, None).unwrap();
            number += 1;
            rows.push(Row {
                sequence: number,
                record,
            });
        }
        tickets.push(log.append(batch).unwrap());
    }
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    assert!(restarts > 0, "it ended somewhere between two lists");
    let reader = reader(dir.path());
    let counts = reader.status_counts().unwrap();
    for (status, count) in counts {
        let expected = rows
            .iter()
            .filter(|row| row.record.status == status)
            .count();
        assert_eq!(count, expected as u64, "{status:?}");
    }
    let mut nonempty = 0;
    for round in 0..3_000 {
        let filter = random_filter(&mut numbers, number);
        let found: Vec<u64> = reader
            .query(&filter)
            .unwrap()
            .iter()
            .map(|record| record.sequence)
            .collect();
        assert_eq!(found, oracle(&rows, &filter), "round {round}: {filter:?}");
        nonempty += usize::from(!found.is_empty());
    }
    assert!(nonempty > 500, "the filters are not all empty: {nonempty}");
    drop(reader);
    writer.shutdown();
}

#[test]
fn pages_join_without_a_gap_or_a_double() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _writer) = start(dir.path());
    append(&log, 0..95);
    let reader = reader(dir.path());
    let mut filter = Filter {
        agent: Some(String::from("bob")),
        limit: 10,
        ..Filter::default()
    };
    let mut all = Vec::new();
    loop {
        let page = reader.query(&filter).unwrap();
        let Some(last) = page.last() else { break };
        filter.before = Some(last.sequence);
        all.extend(page.iter().map(|record| record.sequence));
    }
    assert!(all.into_iter().eq((1..=95).rev()));
}

#[test]
fn json_has_the_columns_of_the_go_version() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _writer) = start(dir.path());
    let mut batch = log.batch();
    batch
        .push(
            &RecordRef {
                findings: &[FINDING],
                ..record(7)
            },
            None,
        )
        .unwrap();
    log.append(batch).unwrap().wait().unwrap();
    let json = reader(dir.path())
        .get(id(7))
        .unwrap()
        .unwrap()
        .to_json()
        .unwrap();
    assert_eq!(json["id"], id(7).to_string());
    assert_eq!(json["from_agent"], "ann");
    assert_eq!(json["signature_verified"], 1);
    assert_eq!(json["status"], "delivered");
    assert_eq!(json["policy_decision"], "allow");
    assert_eq!(json["reason"], "allow");
    assert_eq!(json["rules_triggered"][0]["rule_id"], "IAP-001");
    assert_eq!(json["rules_triggered"][0]["severity"], "CRITICAL");
    assert_eq!(
        json["rules_triggered"][0]["match"],
        "ignore what you were told"
    );
    assert_eq!(json["prev_hash"], "");
    assert_eq!(json["entry_hash"].as_str().unwrap().len(), 64);
    assert_eq!(json["node"], "node-1");
    assert_eq!(json["sequence"], 1);
    assert_eq!(json["peer"], "127.0.0.1");
}
