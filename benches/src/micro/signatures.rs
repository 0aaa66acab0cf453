//! Ed25519: what a batch saves. The same calls as `pipeline/src/identity/batch.rs` makes.

use super::Context;
use super::clock::nanos;
use crate::content::{Random, message};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey, verify_batch};
use std::hint::black_box;

const TIMES_MIN: f64 = 2.0;

pub(super) fn measure(context: &mut Context<'_>) {
    let seconds = context.seconds();
    let keys: Vec<SigningKey> = (0..64)
        .map(|n| SigningKey::from_bytes(&[n + 1; 32]))
        .collect();
    let mut random = Random::new(1);
    let payloads: Vec<String> = (0..64).map(|_| message(&mut random, 1_024)).collect();
    let messages: Vec<&[u8]> = payloads.iter().map(String::as_bytes).collect();
    let signatures: Vec<Signature> = keys
        .iter()
        .zip(&messages)
        .map(|(key, message)| key.sign(message))
        .collect();
    let verifying: Vec<VerifyingKey> = keys.iter().map(SigningKey::verifying_key).collect();

    let mut at = 0;
    let single = nanos(seconds, || {
        verifying[at]
            .verify_strict(messages[at], &signatures[at])
            .expect("it was signed so");
        at = (at + 1) % 64;
    }) / 1e3;
    context.say(format_args!(
        "one by one, strict: {single:.1} us for each signature over 1 KiB"
    ));
    for size in [1, 2, 4, 8, 16, 32, 64] {
        let each = nanos(seconds, || {
            verify_batch(
                black_box(&messages[..size]),
                &signatures[..size],
                &verifying[..size],
            )
            .expect("they were signed so");
        }) / 1e3
            / size as f64;
        let line = format!(
            "batch of {size:2}: {each:.1} us each, {:.2} times as fast",
            single / each
        );
        if size >= 16 {
            context.claim(single / each >= TIMES_MIN, format_args!("{line}"));
        } else {
            context.say(format_args!("{line}"));
        }
    }
}
