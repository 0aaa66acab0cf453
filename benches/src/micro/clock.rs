//! Timing of small things.

use std::time::Instant;

/// Rounds of which the fastest counts: what disturbs a round only ever makes it slower.
const ROUNDS: u32 = 5;

/// Nanoseconds of one call, from `seconds` of calls.
pub(super) fn nanos(seconds: f64, mut call: impl FnMut()) -> f64 {
    let mut calls = 1_u64;
    // Doubles until a round is long enough to be measured.
    let round = seconds / f64::from(ROUNDS);
    let mut fastest = loop {
        let took = time(calls, &mut call);
        if took >= round || calls >= 1 << 40 {
            break took / calls as f64;
        }
        calls *= 2;
    };
    for _ in 1..ROUNDS {
        fastest = fastest.min(time(calls, &mut call) / calls as f64);
    }
    fastest * 1e9
}

/// Nanoseconds that all but one in a hundred of so many calls take at most.
pub(super) fn p99(calls: usize, mut call: impl FnMut()) -> u128 {
    let one = |_| {
        let begun = Instant::now();
        call();
        begun.elapsed().as_nanos()
    };
    let mut took: Vec<u128> = (0..calls.max(1)).map(one).collect();
    took.sort_unstable();
    took[(took.len() - 1) * 99 / 100]
}

fn time(calls: u64, call: &mut impl FnMut()) -> f64 {
    let begun = Instant::now();
    for _ in 0..calls {
        call();
    }
    begun.elapsed().as_secs_f64()
}
