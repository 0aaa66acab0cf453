//! Appending, restarting, and what is found again.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use oktsec_audit::{AppendError, OpenError, PushError, Reader, SignatureReport, open};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::config::Durability;
use oktsec_contract::keys::{KeyPair, PublicKey};
use oktsec_contract::reason::Reason;
use oktsec_contract::record::{RecordRef, SignatureState};
use std::os::unix::fs::PermissionsExt;
use support::{
    FINDING, T0, append, id, options, public_key, reader, record, signature, start, verify,
};

#[test]
fn the_chain_goes_on_after_a_restart_and_holds() {
    let dir = tempfile::tempdir().unwrap();
    for (round, durability) in [Durability::Group, Durability::Sync, Durability::Group]
        .into_iter()
        .enumerate()
    {
        let mut options = options(dir.path());
        options.durability = durability;
        let (log, writer) = open(options).unwrap();
        let base = round as u64 * 100;
        assert_eq!(append(&log, base..base + 1), base + 1);
        assert_eq!(append(&log, base + 1..base + 100), base + 2);
        assert_eq!(log.health().appended_total, 100);
        writer.shutdown();
        let report = verify(dir.path());
        assert!(report.valid, "{report:?}");
        assert_eq!(
            (report.entries, report.head, report.segments),
            (base + 100, base + 100, 1)
        );
        assert_eq!(report.signature, SignatureReport::Valid);
        assert_eq!(
            report.signed_sequence,
            base + 100,
            "shutdown signs the last head"
        );
    }
    let reader = reader(dir.path());
    for number in [0, 1, 99, 100, 299] {
        let found = reader.get(id(number)).unwrap().unwrap();
        assert_eq!(found.sequence, number + 1);
        assert_eq!(found.record(&mut Vec::new()).unwrap(), record(number));
    }
    assert_eq!(reader.get(id(300)).unwrap(), None);
}

#[test]
fn a_checkpoint_follows_by_itself_within_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _writer) = start(dir.path());
    append(&log, 0..10);
    support::wait_until("the checkpoint", || log.health().signed_sequence == 10);
}

#[test]
fn tickets_are_answered_in_order_and_numbers_have_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = start(dir.path());
    let threads: Vec<_> = (0..4u64)
        .map(|thread| {
            let log = log.clone();
            std::thread::spawn(move || {
                let mut sequences = Vec::new();
                for turn in 0..50u64 {
                    let from = (thread * 50 + turn) * 8;
                    let count = 1 + turn % 8;
                    let first = append(&log, from..from + count);
                    sequences.extend(first..first + count);
                }
                sequences
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        let sequences = thread.join().unwrap();
        assert!(sequences.is_sorted());
        all.extend(sequences);
    }
    all.sort_unstable();
    assert!(all.iter().copied().eq(1..=all.len() as u64));
    let health = log.health();
    assert_eq!((health.queue_records, health.queue_bytes), (0, 0));
    writer.shutdown();
    assert!(verify(dir.path()).valid);
    let late = {
        let mut batch = log.batch();
        batch.push(&record(1), None).unwrap();
        log.append(batch)
    };
    assert_eq!(late.err(), Some(AppendError::Closed));
}

#[test]
fn records_above_the_limits_are_refused_and_leave_the_batch_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _writer) = start(dir.path());
    let mut batch = log.batch();
    batch.push(&record(0), None).unwrap();
    let bytes = batch.bytes();
    let long = "x".repeat(300 << 10);
    let large = RecordRef {
        intent: &long,
        ..record(1)
    };
    assert!(matches!(
        batch.push(&large, None),
        Err(PushError::TooLarge { .. })
    ));
    let findings = [FINDING; 65];
    let many = RecordRef {
        findings: &findings,
        ..record(1)
    };
    assert_eq!(
        batch.push(&many, None),
        Err(PushError::TooManyFindings { count: 65 })
    );
    assert_eq!((batch.len(), batch.bytes()), (1, bytes));
    log.append(batch).unwrap().wait().unwrap();
}

#[test]
fn a_replay_finds_the_first_record_that_verified() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _writer) = start(dir.path());
    let mut batch = log.batch();
    // A forger who captured the signature sends other content first.
    let forged = RecordRef {
        signature: SignatureState::Invalid,
        signature_bytes: Some(signature(1)),
        ..RecordRef::empty(id(90), T0, Reason::SignatureInvalid)
    };
    batch.push(&forged, None).unwrap();
    batch.push(&record(1), None).unwrap();
    let replayed = RecordRef {
        signature: SignatureState::Verified,
        signature_bytes: Some(signature(1)),
        ..RecordRef::empty(id(91), T0, Reason::ReplayRejected)
    };
    batch.push(&replayed, None).unwrap();
    log.append(batch).unwrap().wait().unwrap();
    assert_eq!(
        log.find_signature(&signature(1)).unwrap().unwrap().id(),
        Some(id(1))
    );
    assert_eq!(log.find_signature(&signature(2)).unwrap(), None);
}

#[test]
fn recent_gives_what_was_received_since_then_also_when_the_clock_went_back() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = start(dir.path());
    let mut times = Vec::new();
    // Ten seconds a batch; the clock goes back by three minutes in the middle, and forth again.
    for (batch_number, shift) in [0i64, 0, 0, 0, -180, -180, 0, 0].into_iter().enumerate() {
        let mut batch = log.batch();
        for within in 0..300u64 {
            let number = batch_number as u64 * 300 + within;
            let micros = T0.0 as i64 + batch_number as i64 * 10_000_000 + within as i64 * 30_000;
            let time = Timestamp((micros + shift * 1_000_000) as u64);
            times.push((time, number));
            batch
                .push(
                    &RecordRef {
                        received_at: time,
                        ..record(number)
                    },
                    None,
                )
                .unwrap();
        }
        log.append(batch).unwrap().wait().unwrap();
    }
    writer.shutdown();
    let (log, _writer) = start(dir.path());
    for since in [0, 15, 35, 44, 70, 79, 200].map(|seconds| T0.plus_secs(seconds)) {
        let expected: Vec<_> = times
            .iter()
            .filter(|(time, _)| *time >= since)
            .map(|&(_, number)| id(number))
            .collect();
        let found: Vec<_> = log
            .recent(since)
            .unwrap()
            .map(|r| r.unwrap().id().unwrap())
            .collect();
        assert_eq!(found.len(), expected.len(), "since {since:?}");
        assert!(found == expected);
    }
}

#[test]
fn a_log_has_one_writer_and_a_private_folder() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Reader::open(&dir.path().join("audit"), &dir.path().join("readers"));
    assert!(matches!(missing, Err(OpenError::Missing(_))));
    let (_log, writer) = start(dir.path());
    let mode = std::fs::metadata(dir.path().join("audit"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    let second = open(options(dir.path()));
    assert!(
        matches!(second, Err(OpenError::Locked(_))),
        "{:?}",
        second.err()
    );
    writer.shutdown();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
    let mut linked = options(dir.path());
    linked.dir = dir.path().join("link");
    assert!(matches!(open(linked), Err(OpenError::Symlink(_))));
    let mut file = options(dir.path());
    file.dir = dir.path().join("file");
    std::fs::write(&file.dir, "no folder").unwrap();
    assert!(open(file).is_err());
}

#[test]
fn another_key_begins_a_new_segment_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = start(dir.path());
    append(&log, 0..5);
    writer.shutdown();
    let mut other = options(dir.path());
    other.key = KeyPair::from_seed("_proxy", &[8; 32]);
    let theirs = PublicKey {
        bytes: other.key.public_key(),
    };
    let (log, writer) = open(other).unwrap();
    assert_eq!(append(&log, 5..6), 7);
    writer.shutdown();
    let reader = reader(dir.path());
    for key in [public_key(), theirs] {
        let report = reader.verify_chain(Some(&key), &mut |_| ()).unwrap();
        assert!(!report.valid);
        assert_eq!(
            (report.segments, report.signature),
            (2, SignatureReport::Invalid)
        );
    }
    let break_record = reader.get_sequence(6).unwrap().unwrap();
    let mut findings = Vec::new();
    let break_record = break_record.record(&mut findings).unwrap();
    assert_eq!(break_record.reason, Reason::ChainBroken);
    assert!(
        break_record.detail.contains("not signed by this key"),
        "{}",
        break_record.detail
    );
}

#[test]
fn a_writer_that_has_ended_is_told_as_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = start(dir.path());
    append(&log, 0..1);
    assert_eq!(log.health().last_error, None);
    writer.shutdown();
    let error = log.health().last_error.unwrap();
    assert_eq!(&*error, "the audit writer has stopped");
}
