//! What looking for known secrets costs: `secrets [VALUES] [TEXT_FILE]...`
//!
//! ```text
//! cargo run --release -p oktsec-scanner --example secrets -- 1000000 docs/architecture.md
//! ```
#![allow(
    clippy::print_stdout,
    reason = "a command-line tool answers on standard output"
)]

use std::sync::Arc;
use std::time::Instant;

use oktsec_scanner::secrets::{SecretFinder, SecretKey, SecretKind, SecretStore};

/// Best of so many passes.
const PASSES: usize = 9;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let values: usize = arguments.next().map_or(1_000_000, |count| {
        count.parse().expect("a number of values")
    });
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    let started = Instant::now();
    let mut store = SecretStore::new(SecretKey::from_bytes([7; 32]));
    for at in 0..values {
        let value = chance.token(20 + at % 21);
        store
            .add("bench", SecretKind::Value, value.as_bytes())
            .expect("random tokens are taken");
    }
    let added = started.elapsed();
    let started = Instant::now();
    let index = Arc::new(store.index());
    println!(
        "{values} values: added in {added:.1?}, indexed in {:.1?}, {} MiB",
        started.elapsed(),
        index.memory_bytes() >> 20
    );
    let mut finder = SecretFinder::new(index);
    for path in arguments {
        let text = std::fs::read(&path).expect("text is readable");
        measure(&mut finder, &path, &text);
    }
    let prose =
        "The agent reads the report, writes a summary and sends it to the reviewer. ".repeat(100);
    measure(&mut finder, "prose", prose.as_bytes());
    let tokens: String = (0..200).map(|_| chance.token(40) + " ").collect();
    measure(&mut finder, "tokens of 40", tokens.as_bytes());
    measure(
        &mut finder,
        "one token of 64 KiB",
        chance.token(64 << 10).as_bytes(),
    );
    let hex: String = (0..8192)
        .map(|_| format!("{:02x}", chance.next() as u8))
        .collect();
    measure(&mut finder, "hex of 16 KiB", hex.as_bytes());
}

fn measure(finder: &mut SecretFinder, name: &str, text: &[u8]) {
    let mut least = f64::MAX;
    let mut found = 0;
    for _ in 0..PASSES {
        let started = Instant::now();
        found = finder.find(text).findings.len();
        least = least.min(started.elapsed().as_secs_f64());
    }
    let kib = text.len() as f64 / 1024.0;
    println!(
        "{name}: {:.2} us/KiB, {:.0} MB/s, {found} found",
        least * 1e6 / kib,
        text.len() as f64 / least / 1e6
    );
}

/// A small generator: the same values on every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    fn token(&mut self, bytes: usize) -> String {
        const LETTERS: &[u8; 62] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        (0..bytes)
            .map(|_| char::from(LETTERS[(self.next() % 62) as usize]))
            .collect()
    }
}
