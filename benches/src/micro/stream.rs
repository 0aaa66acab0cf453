//! A body scanned as it passes: what windows, their overlap and every pause cost beside one scan of the same bytes.

use super::Context;
use super::clock::nanos;
use crate::content::{Kind, Random, text};
use oktsec_contract::Surface;
use oktsec_rules::RuleSet;
use oktsec_scanner::{Database, OVERLAP_BYTES, Scanner, StreamState, WINDOW_BYTES};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of the body that is streamed.
const BODY_BYTES: usize = 1 << 20;

/// What may be spent on windows, as a factor of one scan of the whole.
const FACTOR_MAX: f64 = 1.25;

pub(super) fn measure(context: &mut Context<'_>) {
    let seconds = context.seconds();
    let database =
        Database::compile(&RuleSet::builtin()).expect("the built-in rules compile: a test says so");
    let mut scanner =
        Scanner::new(Arc::new(database)).expect("there is memory for one scratch space");
    context.say(format_args!(
        "windows of {WINDOW_BYTES} bytes, {OVERLAP_BYTES} shared with the one before"
    ));
    context.say(format_args!(
        "{:<6} {:>12} {:>12} {:>12} {:>7}",
        "kind", "whole MB/s", "64 KiB MB/s", "16 KiB MB/s", "factor"
    ));
    let mut worst = 0.0_f64;
    for kind in Kind::ALL {
        let body = body(kind);
        let whole = nanos(seconds, || {
            let scanned = scanner.scan(&body, Surface::Egress);
            black_box(scanned.expect("the content is short enough").findings.len());
        });
        let mut streamed = |chunk: usize, pause: bool| {
            let mut state = StreamState::new(Surface::Egress);
            nanos(seconds, || {
                state.restart(Surface::Egress);
                for bytes in body.chunks(chunk) {
                    black_box(
                        scanner
                            .feed(&mut state, bytes)
                            .expect("memory")
                            .findings
                            .len(),
                    );
                    if pause {
                        black_box(scanner.pause(&mut state).expect("memory").clear);
                    }
                }
                black_box(scanner.finish(&mut state).expect("memory").findings.len());
            })
        };
        let (windows, paused) = (streamed(64 << 10, false), streamed(16 << 10, true));
        let factor = windows / whole;
        worst = worst.max(factor);
        let rate = |nanos: f64| BODY_BYTES as f64 / nanos * 1e3;
        context.say(format_args!(
            "{:<6} {:>12.0} {:>12.0} {:>12.0} {:>7.2}",
            format!("{kind:?}").to_lowercase(),
            rate(whole),
            rate(windows),
            rate(paused),
            factor,
        ));
    }
    context.claim(
        worst <= FACTOR_MAX,
        format_args!("windows of a body cost at most {FACTOR_MAX} of one scan of it ({worst:.2})"),
    );
    events(context, &mut scanner);
    streams(context, &mut scanner);
    downloads(context, &mut scanner, seconds);
}

/// What is no text at all: it must pass at a bearable price, and without a bound of the scan being reached.
fn downloads(context: &mut Context<'_>, scanner: &mut Scanner, seconds: f64) {
    let mut random = Random::new(7);
    let bytes: Vec<u8> = (0..=255).collect();
    let noise: Vec<u8> = (0..BODY_BYTES).map(|_| random.pick(&bytes)).collect();
    let hex: String = noise[..BODY_BYTES / 2]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let ids: String = hex
        .as_bytes()
        .chunks(32)
        .fold(String::new(), |mut ids, id| {
            ids.push_str(std::str::from_utf8(id).expect("hex is ASCII"));
            ids.push('\n');
            ids
        });
    for (name, body) in [
        ("noise", &noise[..]),
        ("hex", hex.as_bytes()),
        ("ids", ids.as_bytes()),
    ] {
        let mut state = StreamState::new(Surface::Egress);
        let took = nanos(seconds, || {
            state.restart(Surface::Egress);
            scanner.feed(&mut state, body).expect("memory");
            black_box(scanner.finish(&mut state).expect("memory").findings.len());
        });
        let limits = scanner.finish(&mut state).expect("memory").limits;
        context.say(format_args!(
            "{name}: {:.0} MB/s, limits reached: {}",
            body.len() as f64 / took * 1e3,
            if limits.is_empty() {
                "none".to_owned()
            } else {
                limits.to_string()
            }
        ));
    }
}

/// What an event of a stream waits for its scan, with everything the overlap has it look at again.
fn events(context: &mut Context<'_>, scanner: &mut Scanner) {
    let body = body(Kind::ALL[0]);
    for bytes in [64, 256, 1_024] {
        let mut state = StreamState::new(Surface::Egress);
        scanner.feed(&mut state, &body[..32 << 10]).expect("memory");
        scanner.boundary(&mut state).expect("memory");
        let mut at = 0;
        let event = nanos(context.seconds(), || {
            at = (at + bytes) % (BODY_BYTES - bytes);
            scanner
                .feed(&mut state, &body[at..at + bytes])
                .expect("memory");
            black_box(scanner.boundary(&mut state).expect("memory").clear);
        });
        context.say(format_args!(
            "an event of {bytes} bytes is scanned in {:.1} us; a stream that waits keeps {} bytes",
            event / 1e3,
            state.memory_bytes()
        ));
        if bytes == 256 {
            context.claim(
                event < 100e3,
                format_args!(
                    "an event of 256 bytes waits less than 100 us for its scan ({:.1})",
                    event / 1e3
                ),
            );
        }
    }
}

/// What events of many streams wait for their scan, one stream after the other: memory of each is out of the cache by
/// the time it has its turn again.
fn streams(context: &mut Context<'_>, scanner: &mut Scanner) {
    const STREAMS: usize = 1_000;
    const BYTES: usize = 256;
    const ROUNDS: usize = 40;
    for kind in Kind::ALL {
        let body = body(kind);
        let mut states: Vec<_> = (0..STREAMS)
            .map(|_| StreamState::new(Surface::Egress))
            .collect();
        let (mut waits, mut behind) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            for (number, state) in states.iter_mut().enumerate() {
                let at = (number * 3_701 + round * BYTES) % (BODY_BYTES - BYTES);
                let begun = Instant::now();
                scanner.feed(state, &body[at..at + BYTES]).expect("memory");
                black_box(scanner.boundary(state).expect("memory").clear);
                let waited = begun.elapsed();
                let begun = Instant::now();
                let is_behind = state.is_behind();
                if is_behind {
                    scanner.catch_up(state).expect("memory");
                }
                // All of a stream is looked at while it is short.
                if round >= ROUNDS / 2 {
                    waits.push(waited);
                    behind.extend(is_behind.then(|| begun.elapsed()));
                }
            }
        }
        let micros = |all: &mut Vec<Duration>, part: f64| {
            all.sort_unstable();
            let at = (all.len() as f64 * part) as usize;
            all.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e6)
        };
        context.say(format_args!(
            "{STREAMS} streams of {} in turn: an event of {BYTES} bytes waits {:.0} us (p90 {:.0}, p99 {:.0}, p99.9 {:.0}); {:.0} us behind one in {}",
            format!("{kind:?}").to_lowercase(),
            micros(&mut waits, 0.5),
            micros(&mut waits, 0.9),
            micros(&mut waits, 0.99),
            micros(&mut waits, 0.999),
            micros(&mut behind, 0.5),
            waits.len() / behind.len().max(1),
        ));
    }
}

fn body(kind: Kind) -> Vec<u8> {
    let mut random = Random::new(BODY_BYTES as u64);
    let mut body = Vec::with_capacity(BODY_BYTES + 4_096);
    while body.len() < BODY_BYTES {
        body.extend_from_slice(text(&mut random, kind, 4_096).as_bytes());
    }
    body.truncate(BODY_BYTES);
    body
}
