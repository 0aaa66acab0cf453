//! A disk that takes no more: refused, nothing half acknowledged, and on again when there is room.
//!
//! The test starts itself again with a limit on the size of files, which a full disk looks like to RocksDB.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use oktsec_audit::{AppendError, Held, Log};
use oktsec_contract::reason::Reason;
use oktsec_contract::record::RecordRef;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::Path;
use std::process::Command;
use support::{T0, id, reader, record, start, verify, wait_until};

const CHILD: &str = "OKTSEC_DISK_CHILD";
const FILE_BYTES: u64 = 3 << 20;

fn append_large(log: &Log, number: u64) -> Result<u64, AppendError> {
    let content = vec![b'x'; 64 << 10];
    let mut batch = log.batch();
    let held = Held {
        content: &content,
        expires_at: T0.plus_secs(1 << 30),
        place: None,
    };
    batch
        .push(&RecordRef { ..record(number) }, Some(held))
        .unwrap();
    log.append(batch)?
        .wait()
        .map(|appended| appended.first_sequence)
}

#[test]
fn runs_into_the_limit() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let dir = Path::new(&dir);
    let (log, writer) = start(dir);
    let unlimited = getrlimit(Resource::Fsize);
    let limited = Rlimit {
        current: Some(FILE_BYTES),
        maximum: unlimited.maximum,
    };
    setrlimit(Resource::Fsize, limited).unwrap();

    let mut acknowledged = Vec::new();
    let mut number = 0;
    let error = loop {
        match append_large(&log, number) {
            Ok(sequence) => acknowledged.push((sequence, number)),
            Err(error) => break error,
        }
        number += 1;
        assert!(number < 1_000, "the limit was never reached");
    };
    assert!(matches!(error, AppendError::Unavailable(_)), "{error:?}");
    assert!(!acknowledged.is_empty());
    assert!(log.health().refused_total > 0);

    setrlimit(Resource::Fsize, unlimited).unwrap();
    wait_until("the recovery", || log.health().last_error.is_none());
    for number in 1_000..1_010 {
        acknowledged.push((append_large(&log, number).unwrap(), number));
    }
    writer.shutdown();

    let reader = reader(dir);
    for (sequence, number) in acknowledged {
        let stored = reader.get_sequence(sequence).unwrap().unwrap();
        assert_eq!(stored.id(), Some(id(number)));
    }
    let report = verify(dir);
    assert!(report.valid && report.segments == 1, "{report:?}");
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    // A process that writes past its limit is killed unless it ignores the signal, as a shell lets it.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "runs_into_the_limit",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        dir.path().join("audit/CURRENT").exists(),
        "the child did run: {said}"
    );
}

/// Records that nobody can find again must not be acknowledged for longer than it takes to notice.
#[test]
fn a_log_whose_folder_is_taken_away_is_begun_anew_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = start(dir.path());
    for number in 0..3 {
        append_large(&log, number).unwrap();
    }
    std::fs::rename(dir.path().join("audit"), dir.path().join("away")).unwrap();
    // Whether this one is still taken is a race; the log learns of it all the same.
    let _ = append_large(&log, 3);
    wait_until("the new log", || {
        dir.path().join("audit/CURRENT").exists() && log.health().last_error.is_none()
    });
    append_large(&log, 4).unwrap();
    writer.shutdown();

    let reader = reader(dir.path());
    let mut findings = Vec::new();
    let first = reader.get_sequence(1).unwrap().unwrap();
    let record = first.record(&mut findings).unwrap();
    assert_eq!(record.reason, Reason::ChainBroken);
    assert!(record.detail.contains("removed or replaced"), "{record:?}");
    let second = reader.get_sequence(2).unwrap().unwrap();
    assert_eq!(second.id(), Some(id(4)));
    assert!(dir.path().join("away/CURRENT").exists());
}
