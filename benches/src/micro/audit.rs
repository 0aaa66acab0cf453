//! The audit log: records a second by batch size, and how fast the newest of one agent are found among many.

use super::Context;
use crate::content::Random;
use oktsec_audit::{Filter, Log, Reader, Ticket, WriterOptions, open};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::config::Durability;
use oktsec_contract::id::MessageId;
use oktsec_contract::keys::KeyPair;
use oktsec_contract::reason::Reason;
use oktsec_contract::record::{RecordRef, SignatureState};
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

const APPENDS_PER_SECOND_MIN: f64 = 500_000.0;
const QUERY_MICROS_MAX: f64 = 1_000.0;
/// Batches on their way at once, as from a few cores.
const IN_FLIGHT: usize = 8;
const QUERIES: usize = 201;
const NEWEST: usize = 50;
const AGENTS: [&str; 8] = [
    "planner",
    "researcher",
    "writer",
    "reviewer",
    "translator",
    "archivist",
    "scheduler",
    "courier",
];
/// Sends one message in twenty thousand.
const RARE: &str = "auditor";

pub(super) fn measure(context: &mut Context<'_>) {
    let records: u64 = if context.smoke { 20_000 } else { 1_000_000 };
    for batch in [1, 16, 128, 1_024] {
        let count = if batch == 1 { records / 20 } else { records };
        let dir = tempfile::tempdir().expect("there is a temporary folder");
        let (log, writer) = open(options(dir.path())).expect("a new log opens");
        let rate = append_all(&log, count, batch);
        writer.shutdown();
        let line = format!(
            "batches of {batch:4}: {rate:>9.0} records/s, answered when written ({count} records)"
        );
        if batch >= 128 {
            context.claim(rate >= APPENDS_PER_SECOND_MIN, format_args!("{line}"));
        } else {
            context.say(format_args!("{line}"));
        }
        if batch == 1_024 {
            queries(context, dir.path(), count);
        }
    }
}

fn queries(context: &mut Context<'_>, dir: &Path, records: u64) {
    let reader =
        Reader::open(&dir.join("audit"), &dir.join("readers")).expect("a log opens for reading");
    for (agent, what) in [(AGENTS[3], "one of eight agents"), (RARE, "a rare agent")] {
        let filter = Filter {
            agent: Some(String::from(agent)),
            limit: NEWEST,
            ..Filter::default()
        };
        let mut micros: Vec<f64> = (0..QUERIES)
            .map(|_| {
                let begun = Instant::now();
                let found = reader.query(&filter).expect("the log is readable").len();
                assert!(found > 0, "{agent} has records");
                begun.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        let first = micros[0];
        micros.sort_by(f64::total_cmp);
        let middle = micros[QUERIES / 2];
        context.claim(
            middle <= QUERY_MICROS_MAX,
            format_args!("newest {NEWEST} of {what} among {records}: {middle:.0} us (the first time {first:.0} us)"),
        );
    }
}

fn options(dir: &Path) -> WriterOptions {
    WriterOptions {
        dir: dir.join("audit"),
        node: String::from("bench"),
        durability: Durability::Group,
        sync_interval: Duration::from_millis(5),
        key: KeyPair::from_seed("_proxy", &[7; 32]),
        queue_records_max: 65_536,
        queue_bytes_max: 256 << 20,
    }
}

fn append_all(log: &Log, count: u64, batch: u64) -> f64 {
    let begun = Instant::now();
    let mut tickets: VecDeque<Ticket> = VecDeque::new();
    let mut next = 0;
    while next < count {
        if tickets.len() == IN_FLIGHT {
            settle(&mut tickets);
        }
        let end = count.min(next + batch);
        let mut records = log.batch();
        for number in next..end {
            push(&mut records, number);
        }
        tickets.push_back(
            log.append(records)
                .expect("the queue is longer than what is on its way"),
        );
        next = end;
    }
    while !tickets.is_empty() {
        settle(&mut tickets);
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

fn settle(tickets: &mut VecDeque<Ticket>) {
    if let Some(ticket) = tickets.pop_front() {
        ticket.wait().expect("the disk takes the records");
    }
}

fn push(batch: &mut oktsec_audit::Batch, number: u64) {
    let mut random = Random::new(number);
    let mut bytes = [0_u8; 64];
    bytes
        .chunks_exact_mut(8)
        .for_each(|part| part.copy_from_slice(&random.bits().to_le_bytes()));
    let (mut hash, mut id) = ([0; 32], [0; 16]);
    hash.copy_from_slice(&bytes[..32]);
    id.copy_from_slice(&bytes[32..48]);
    let from = if number % 20_000 == 777 {
        RARE
    } else {
        random.pick(&AGENTS)
    };
    let record = RecordRef {
        signature: SignatureState::Verified,
        signature_bytes: Some(bytes),
        fingerprint: Some(hash),
        latency_us: 90,
        revision: 3,
        content_bytes: 1_024,
        content_hash: hash,
        from,
        to: random.pick(&AGENTS),
        timestamp: "2026-02-22T10:00:00.000001Z",
        session: "00112233445566778899aabbccddeeff",
        ..RecordRef::empty(
            MessageId::from_random(id),
            Timestamp::now(),
            Reason::Allowed,
        )
    };
    batch
        .push(&record, None)
        .expect("a record is shorter than a batch may be");
}
