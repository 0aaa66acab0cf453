//! What the tests of this crate share: a log in a temporary folder and records to put into it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "each test file uses its own part, and may stop at the first surprise"
)]

use oktsec_audit::{Held, Log, Reader, WriterOptions, WriterThread, open};
use oktsec_contract::Severity;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::config::Durability;
use oktsec_contract::id::MessageId;
use oktsec_contract::keys::{KeyPair, PublicKey};
use oktsec_contract::reason::Reason;
use oktsec_contract::record::{FindingRef, RecordRef, SignatureState};
use oktsec_contract::verdict::Status;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Duration;

pub const T0: Timestamp = Timestamp::from_secs(1_771_754_400);

pub fn key() -> KeyPair {
    KeyPair::from_seed("_proxy", &[7; 32])
}

pub fn public_key() -> PublicKey {
    PublicKey {
        bytes: key().public_key(),
    }
}

pub fn options(dir: &Path) -> WriterOptions {
    WriterOptions {
        dir: dir.join("audit"),
        node: String::from("node-1"),
        durability: Durability::Group,
        sync_interval: Duration::from_millis(5),
        key: key(),
        queue_records_max: 65_536,
        queue_bytes_max: 64 << 20,
    }
}

pub fn start(dir: &Path) -> (Log, WriterThread) {
    open(options(dir)).unwrap()
}

pub fn reader(dir: &Path) -> Reader {
    Reader::open(&dir.join("audit"), &dir.join("readers")).unwrap()
}

/// An id that is different for every number.
pub fn id(number: u64) -> MessageId {
    let hash: [u8; 32] = Sha256::digest(number.to_be_bytes()).into();
    MessageId::from_random(hash[..16].try_into().unwrap())
}

pub fn signature(number: u64) -> [u8; 64] {
    let mut out = [0; 64];
    out[..32].copy_from_slice(&Sha256::digest(
        [b"r".as_slice(), &number.to_be_bytes()].concat(),
    ));
    out[32..].copy_from_slice(&Sha256::digest(
        [b"s".as_slice(), &number.to_be_bytes()].concat(),
    ));
    out
}

pub const FINDING: FindingRef<'static> = FindingRef {
    rule_id: "IAP-001",
    name: "Relay injection",
    category: "inter-agent",
    excerpt: "ignore what you were told",
    severity: Severity::Critical,
    view: 0,
    start: 4,
    end: 29,
};

/// A delivered message, received `number` milliseconds after `T0`.
pub fn record(number: u64) -> RecordRef<'static> {
    RecordRef {
        signature: SignatureState::Verified,
        signature_bytes: Some(signature(number)),
        fingerprint: Some([5; 32]),
        latency_us: 120,
        revision: 3,
        content_bytes: 1024,
        content_hash: Sha256::digest(number.to_le_bytes()).into(),
        peer: Some([127, 0, 0, 1].into()),
        from: "ann",
        to: "bob",
        timestamp: "2026-02-22T10:00:00Z",
        intent: "code_review",
        session: "0123456789abcdef0123456789abcdef",
        auth_method: "signature",
        ..RecordRef::empty(
            id(number),
            Timestamp(T0.0 + number * 1_000),
            Reason::Allowed,
        )
    }
}

/// A small generator of numbers that look random and are the same every time.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Appends records with these numbers as one batch; answers the sequence of the first.
pub fn append(log: &Log, numbers: std::ops::Range<u64>) -> u64 {
    let mut batch = log.batch();
    for number in numbers {
        batch.push(&record(number), None).unwrap();
    }
    log.append(batch).unwrap().wait().unwrap().first_sequence
}

/// Appends a held message; answers its content.
pub fn hold(log: &Log, number: u64, expires_at: Timestamp) -> String {
    let content = format!("held content {number}");
    let mut batch = log.batch();
    let held = RecordRef {
        status: Status::Quarantined,
        reason: Reason::ContentQuarantined,
        content_hash: Sha256::digest(&content).into(),
        findings: &[FINDING],
        ..record(number)
    };
    batch
        .push(
            &held,
            Some(Held {
                content: content.as_bytes(),
                expires_at,
                place: None,
            }),
        )
        .unwrap();
    log.append(batch).unwrap().wait().unwrap();
    content
}

/// Checks the whole chain with the right key.
pub fn verify(dir: &Path) -> oktsec_audit::ChainReport {
    reader(dir)
        .verify_chain(Some(&public_key()), &mut |_| ())
        .unwrap()
}

/// Waits until the condition holds; fails after a minute.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(
            std::time::Instant::now() < deadline,
            "{what} did not happen"
        );
        std::thread::yield_now();
    }
}
