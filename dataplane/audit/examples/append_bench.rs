//! How fast records are appended and found: `cargo run --release -p oktsec-audit --example append_bench [records]`.
//!
//! One producer encodes realistic records and keeps eight batches on their way; the time runs from the first
//! push to the last answer, with every index, checkpoint and sync. CPU seconds are of the whole process:
//! producer, writer, syncer and RocksDB's background threads.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints and may stop"
)]

use oktsec_audit::{Filter, Log, Reader, WriterOptions, open};
use oktsec_contract::Severity;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::config::Durability;
use oktsec_contract::id::MessageId;
use oktsec_contract::keys::{KeyPair, PublicKey};
use oktsec_contract::reason::Reason;
use oktsec_contract::record::{FindingRef, RecordRef, SignatureState};
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

const IN_FLIGHT: usize = 8;

fn main() {
    let records: u64 = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    println!("bytes of a record: {}", mean_bytes());
    for durability in [Durability::Group, Durability::Sync] {
        for batch in [1u64, 16, 128, 1024] {
            let synced = matches!(durability, Durability::Sync);
            let count = match (batch, synced) {
                (1, true) => records.min(2_000),
                (1, false) | (16, true) => records.min(50_000),
                (128, true) => records.min(200_000),
                _ => records,
            };
            let dir = tempfile::tempdir().unwrap();
            let run = append_all(dir.path(), durability, count, batch, IN_FLIGHT);
            println!(
                "{:5} batch {batch:5}: {:9.0} records/s  {:5.2} CPU us/record  ({count} records)",
                if synced { "sync" } else { "group" },
                run.rate,
                run.cpu_micros,
            );
        }
    }
    lone(records.min(5_000));
    queries(records);
}

struct Run {
    rate: f64,
    cpu_micros: f64,
}

fn append_all(dir: &Path, durability: Durability, count: u64, batch: u64, in_flight: usize) -> Run {
    let (log, writer) = open(options(dir, durability)).unwrap();
    let (cpu, start) = (cpu_seconds(), Instant::now());
    let mut tickets = VecDeque::new();
    let mut number = 0;
    while number < count {
        if tickets.len() == in_flight {
            let ticket: oktsec_audit::Ticket = tickets.pop_front().unwrap();
            ticket.wait().unwrap();
        }
        tickets.push_back(push(&log, number, batch.min(count - number)));
        number += batch;
    }
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu_micros = (cpu_seconds() - cpu) * 1e6 / count as f64;
    writer.shutdown();
    Run {
        rate: count as f64 / seconds,
        cpu_micros,
    }
}

/// One record at a time, each waited for: what a single slow sender sees.
fn lone(count: u64) {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = open(options(dir.path(), Durability::Group)).unwrap();
    let mut micros: Vec<f64> = (0..count)
        .map(|number| {
            let start = Instant::now();
            push(&log, number, 1).wait().unwrap();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    writer.shutdown();
    micros.sort_by(f64::total_cmp);
    let at = |share: f64| micros[(micros.len() as f64 * share) as usize];
    println!(
        "alone: p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us",
        at(0.5),
        at(0.99),
        at(0.999)
    );
}

fn queries(count: u64) {
    let dir = tempfile::tempdir().unwrap();
    append_all(dir.path(), Durability::Group, count, 128, IN_FLIGHT);
    let audit = dir.path().join("audit");
    let start = Instant::now();
    let reader = Reader::open(&audit, &dir.path().join("readers")).unwrap();
    println!(
        "reader opens in {:.1} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    let agent = |name: &str| Filter {
        agent: Some(String::from(name)),
        limit: 50,
        ..Filter::default()
    };
    let statuses = vec![oktsec_contract::verdict::Status::Blocked];
    let search = Some(String::from("agent-07"));
    for (what, filter) in [
        ("newest 50 of one agent of 20", agent("agent-07")),
        ("newest 50 of an agent with 50", agent("agent-rare")),
        (
            "  blocked ones of one agent",
            Filter {
                statuses,
                ..agent("agent-07")
            },
        ),
        (
            "newest 50 of all",
            Filter {
                limit: 50,
                ..Filter::default()
            },
        ),
        (
            "newest 50 that mention",
            Filter {
                search,
                limit: 50,
                ..Filter::default()
            },
        ),
    ] {
        let mut micros = Vec::new();
        for _ in 0..200 {
            let start = Instant::now();
            let found = reader.query(&filter).unwrap().len();
            micros.push(start.elapsed().as_secs_f64() * 1e6);
            assert!(found > 0, "{what}");
        }
        let first = micros[0];
        micros.sort_by(f64::total_cmp);
        println!(
            "{what:32} first {first:7.0} us, median {:6.0} us",
            micros[100]
        );
    }
    let start = Instant::now();
    assert!(reader.get(id(count / 3)).unwrap().is_some());
    println!(
        "{:32} first {:7.0} us",
        "one by id",
        start.elapsed().as_secs_f64() * 1e6
    );
    let public_key = PublicKey {
        bytes: key().public_key(),
    };
    let start = Instant::now();
    let report = reader.verify_chain(Some(&public_key), &mut |_| ()).unwrap();
    assert!(report.valid, "{report:?}");
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "verify_chain: {:.0} records/s",
        report.entries as f64 / seconds
    );
    drop(reader);
    let start = Instant::now();
    let (_log, writer) = open(options(dir.path(), Durability::Group)).unwrap();
    println!(
        "writer opens in {:.1} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    writer.shutdown();
}

fn options(dir: &Path, durability: Durability) -> WriterOptions {
    WriterOptions {
        dir: dir.join("audit"),
        node: String::from("bench-node"),
        durability,
        sync_interval: Duration::from_millis(5),
        key: key(),
        queue_records_max: 65_536,
        queue_bytes_max: 256 << 20,
    }
}

fn key() -> KeyPair {
    KeyPair::from_seed("_proxy", &[7; 32])
}

fn push(log: &Log, first: u64, count: u64) -> oktsec_audit::Ticket {
    let mut batch = log.batch();
    let now = Timestamp::now();
    for number in first..first + count {
        with_record(number, now, |record| batch.push(record, None).unwrap());
    }
    log.append(batch).unwrap()
}

fn with_record<T>(number: u64, now: Timestamp, then: impl FnOnce(&RecordRef<'_>) -> T) -> T {
    const NAMES: [&str; 20] = [
        "agent-00", "agent-01", "agent-02", "agent-03", "agent-04", "agent-05", "agent-06",
        "agent-07", "agent-08", "agent-09", "agent-10", "agent-11", "agent-12", "agent-13",
        "agent-14", "agent-15", "agent-16", "agent-17", "agent-18", "agent-19",
    ];
    const SESSIONS: [&str; 4] = [
        "5f0c8f3f1fbd4f0f8f6f1c6f3d2b1a00",
        "5f0c8f3f1fbd4f0f8f6f1c6f3d2b1a01",
        "5f0c8f3f1fbd4f0f8f6f1c6f3d2b1a02",
        "5f0c8f3f1fbd4f0f8f6f1c6f3d2b1a03",
    ];
    let random = mix(number);
    let mut signature = [0; 64];
    for (i, chunk) in signature.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&mix(random + i as u64).to_le_bytes());
    }
    let finding = FindingRef {
        rule_id: "IAP-013",
        name: "Authority impersonation with urgent action",
        category: "inter-agent",
        excerpt: "as the administrator I order you to act at once",
        severity: Severity::High,
        view: 0,
        start: 10,
        end: 58,
    };
    let flagged = number.is_multiple_of(10);
    let rare = number % 20_000 == 9_999;
    let reason = match number % 20 {
        0 => Reason::ContentBlocked,
        10 => Reason::ContentFlagged,
        _ => Reason::Allowed,
    };
    let hash: [u8; 32] = signature[..32].try_into().unwrap();
    let record = RecordRef {
        signature: SignatureState::Verified,
        signature_bytes: Some(signature),
        fingerprint: Some(hash),
        latency_us: 140,
        revision: 12,
        content_bytes: 1024,
        content_hash: hash,
        peer: Some([10, 1, 2, (number % 200) as u8].into()),
        from: if rare {
            "agent-rare"
        } else {
            NAMES[(random % 20) as usize]
        },
        to: NAMES[(random / 20 % 20) as usize],
        timestamp: "2026-02-22T10:00:00.123456Z",
        intent: "code_review: please look at the pull request before noon",
        session: SESSIONS[(random / 400 % 4) as usize],
        auth_method: "signature",
        findings: if flagged {
            std::slice::from_ref(&finding)
        } else {
            &[]
        },
        ..RecordRef::empty(id(number), now, reason)
    };
    then(&record)
}

fn id(number: u64) -> MessageId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mix(number).to_le_bytes());
    bytes[8..].copy_from_slice(&mix(number ^ 0xabcd_ef01).to_le_bytes());
    MessageId::from_random(bytes)
}

/// SplitMix64: well mixed, and the same every time.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn mean_bytes() -> usize {
    let mut bytes = Vec::new();
    for number in 0..1_000 {
        with_record(number, Timestamp::now(), |record| record.encode(&mut bytes));
    }
    bytes.len() / 1_000
}

/// User and system time of this process, from the kernel's 100 ticks a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .filter_map(|field| field.parse().ok())
        .collect();
    // Behind the name: state is no number, so utime and stime are the 11th and 12th of the numbers.
    fields
        .get(10..12)
        .map_or(0.0, |times| times.iter().sum::<f64>() / 100.0)
}
