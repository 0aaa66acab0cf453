//! `kill -9` at random points: every acknowledged record is there afterwards, and the chain holds.
//!
//! The test starts itself again as a child that appends until it is killed. `OKTSEC_CRASH_ROUNDS=100` kills
//! more often than the default.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use oktsec_audit::{Held, SignatureReport};
use oktsec_contract::record::RecordRef;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Numbers, T0, id, reader, record, start, verify};

const CHILD: &str = "OKTSEC_CRASH_CHILD";
const ROUNDS: &str = "OKTSEC_CRASH_ROUNDS";

/// The child: appends batches of 1 to 64, several on their way at once, and prints what is acknowledged.
#[test]
fn appends_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let (log, _writer) = start(Path::new(&dir));
    let mut number = log.health().sequence;
    let mut numbers = Numbers(number + 77);
    let mut waiting = VecDeque::new();
    let mut out = std::io::stdout().lock();
    loop {
        let count = 1 + numbers.below(64);
        let mut batch = log.batch();
        for _ in 0..count {
            let content = number.to_le_bytes();
            let held = Held {
                content: &content,
                expires_at: T0.plus_secs(1 << 30),
            };
            let hold = number.is_multiple_of(50);
            let content_hash = Sha256::digest(content).into();
            let record = RecordRef {
                content_hash,
                ..record(number)
            };
            batch.push(&record, hold.then_some(held)).unwrap();
            number += 1;
        }
        waiting.push_back((number - count, count, log.append(batch).unwrap()));
        if waiting.len() > 8 {
            let (first, count, ticket) = waiting.pop_front().unwrap();
            let sequence = ticket.wait().unwrap().first_sequence;
            writeln!(out, "ack {first} {count} {sequence}").unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let rounds: u64 = std::env::var(ROUNDS)
        .ok()
        .and_then(|r| r.parse().ok())
        .unwrap_or(4);
    let dir = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(u64::from(std::process::id()) << 20 | 1);
    let mut acknowledged = 0u64;
    for round in 0..rounds {
        let acks = run_and_kill(dir.path(), numbers.below(400));
        let reader = reader(dir.path());
        for (first, count, sequence) in acks {
            for within in 0..count {
                let stored = reader.get_sequence(sequence + within).unwrap();
                let found = stored.as_ref().and_then(oktsec_audit::StoredRecord::id);
                assert_eq!(found, Some(id(first + within)), "round {round}");
                acknowledged += 1;
            }
        }
        drop(reader);
        // The next writer goes on from here without a break.
        let (log, writer) = start(dir.path());
        let head = log.health().sequence;
        writer.shutdown();
        let report = verify(dir.path());
        assert!(report.valid, "round {round}: {report:?}");
        assert_eq!((report.head, report.segments), (head, 1), "round {round}");
        assert_eq!(report.signature, SignatureReport::Valid);
        let stats = support::reader(dir.path()).held_stats().unwrap();
        assert_eq!(
            stats.pending,
            head.div_ceil(50),
            "held with their records, round {round}"
        );
    }
    assert!(acknowledged > 0 || rounds == 0);
}

/// Kills the child after so many acknowledgements; answers all that it printed.
fn run_and_kill(dir: &Path, after: u64) -> Vec<(u64, u64, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "appends_until_it_is_killed",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut acks = Vec::new();
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The test runner prints its own words before the first line of ours.
        let Some((_, numbers)) = line.rsplit_once("ack ") else {
            continue;
        };
        let numbers: Vec<u64> = numbers.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [first, count, sequence] = numbers[..] else {
            assert!(killed, "only the last line can be cut off: {line}");
            continue;
        };
        acks.push((first, count, sequence));
        if !killed && acks.len() as u64 > after {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself");
    acks
}
