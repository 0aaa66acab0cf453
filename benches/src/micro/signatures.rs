//! Ed25519: what a batch saves, as the pipeline verifies it. Beside it, ed25519-dalek by itself, one by one.

use super::Context;
use super::pipeline::{Plane, sign_bodies};
use crate::content::{Random, message};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use oktsec_contract::clock::Timestamp;
use oktsec_pipeline::SignatureBatch;
use oktsec_rules::{RuleSet, load_text};
use std::time::{Duration, Instant};

const TIMES_MIN: f64 = 2.0;
const SIGNATURES: usize = 4_096;
/// As many agents as a batch has places: nothing to share. And as many as leave four places to each.
const AGENTS: [usize; 2] = [64, 16];

pub(super) fn measure(context: &mut Context<'_>) {
    let strict = strict_micros();
    context.say(format_args!(
        "one by one, ed25519-dalek's verify_strict: {strict:.1} us for each signature over 1 KiB"
    ));
    for agents in AGENTS {
        let mut plane = Plane::new(one_rule(), agents);
        let bodies = sign_bodies(SIGNATURES, agents, Timestamp::now());
        for size in [1, 2, 4, 8, 16, 32, 64] {
            let each = batch_micros(&mut plane, &bodies, size);
            let line = format!(
                "{agents} agents, batch of {size:2}: {each:.1} us each, {:.2} times as fast",
                strict / each
            );
            if size >= 16 {
                context.claim(strict / each >= TIMES_MIN, format_args!("{line}"));
            } else {
                context.say(format_args!("{line}"));
            }
        }
    }
}

/// The median batch, for each signature in it.
fn batch_micros(plane: &mut Plane, bodies: &[Bytes], size: usize) -> f64 {
    let mut batch = SignatureBatch::new();
    let times = bodies.chunks_exact(size).map(|bodies| {
        bodies.iter().for_each(|body| batch.push(plane.check(body)));
        let begun = Instant::now();
        batch.verify();
        let took = begun.elapsed();
        batch
            .finish()
            .for_each(|proof| assert!(proof.is_held(), "it was signed so"));
        took
    });
    median_micros(times.collect()) / size as f64
}

/// The median call of the library, on as many different signatures.
fn strict_micros() -> f64 {
    let mut random = Random::new(1);
    let times = (0..SIGNATURES).map(|number| {
        let key = SigningKey::from_bytes(&[(number % 64) as u8 + 1; 32]);
        let text = message(&mut random, 1_024);
        let (verifying, signature) = (key.verifying_key(), key.sign(text.as_bytes()));
        let begun = Instant::now();
        verifying
            .verify_strict(text.as_bytes(), &signature)
            .expect("it was signed so");
        begun.elapsed()
    });
    median_micros(times.collect())
}

fn median_micros(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// Signatures are measured, not the scanner.
fn one_rule() -> RuleSet {
    let text = "category: bench\nrules:\n  - {id: BENCH-1, name: One word, severity: low, category: bench, \
                description: d, remediation: r, patterns: [{contains: zyzzogeton-never-said}]}\n";
    RuleSet::new(load_text("bench.yaml", text).rules)
}
