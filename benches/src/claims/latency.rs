//! What deciding adds to the latency of a message while there is time enough.

use super::{Bench, BenchError, Outcome, Rounds, median, others, row};
use crate::load::Shape;
use std::sync::Arc;

const RATE: f64 = 1_000.0;
const ADDED_MICROS_MAX: f64 = 400.0;

pub(super) fn added_p99(bench: &Bench) -> Result<Vec<Outcome>, BenchError> {
    let (server, generator) = bench.two_cpus()?;
    let null = bench.null(1, &[server])?;
    let ours = bench.oktsec(1, &[server])?;
    let shape = Shape::Open { rate: RATE };
    let Rounds {
        rounds,
        undisturbed,
    } = bench.quiet_rounds(|round| {
        let pool = bench.pool(
            ours.server.address,
            true,
            bench.messages_for(RATE),
            100 + round,
        );
        let again = Arc::new(pool.to_reusable());
        let before = bench.send("null", &null, &again, &[generator], shape)?;
        let after = bench.send("oktsec", &ours.server, &pool, &[generator], shape)?;
        let disturbed = others(&[&before, &after]);
        Ok(((before, after), disturbed))
    })?;
    let added = rounds
        .iter()
        .map(|(null, ours)| ours.latency.p99 - null.latency.p99);
    let added = median(added.collect());
    let details = rounds
        .iter()
        .flat_map(|(null, ours)| [row("null", null), row("oktsec", ours)])
        .collect();
    Ok(vec![Outcome {
        claim: "added_p99",
        measured: format!("{added:.0} us added at p99"),
        target: format!("<= {ADDED_MICROS_MAX:.0} us"),
        holds: added <= ADDED_MICROS_MAX,
        undisturbed,
        details,
    }])
}
