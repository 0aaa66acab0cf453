//! Whether a second core does as much as the first.
//!
//! On a machine of two cores the generator has none of its own. So each core gets one worker *and* one thread of
//! the generator, once on one core and once on both: everything doubles, and what two cores lose to each other
//! shows in the server's CPU time per message.

use super::{Bench, BenchError, Outcome, Rounds, median, others, row};
use crate::load::{Report, Shape};

/// More than two cores of today answer while they make the load themselves.
const RATE_MAX_PER_CORE: f64 = 25_000.0;
const TIMES_MIN: f64 = 1.9;

pub(super) fn two_cores(bench: &Bench) -> Result<Vec<Outcome>, BenchError> {
    let (first, second) = bench.two_cpus()?;
    let Rounds {
        rounds,
        undisturbed,
    } = bench.quiet_rounds(|round| {
        let one = on(bench, &[first], round)?;
        let two = on(bench, &[first, second], round)?;
        let disturbed = others(&[&one, &two]);
        Ok(((one, two), disturbed))
    })?;
    let cpu = |report: &Report| report.server_cpu_micros.unwrap_or(f64::NAN);
    let by_cpu = rounds.iter().map(|(one, two)| 2.0 * cpu(one) / cpu(two));
    let by_rate = rounds.iter().map(|(one, two)| two.rate / one.rate);
    let (by_cpu, by_rate) = (median(by_cpu.collect()), median(by_rate.collect()));
    let details = rounds
        .iter()
        .flat_map(|(one, two)| [row("one core", one), row("two cores", two)])
        .collect();
    Ok(vec![Outcome {
        claim: "two_cores",
        measured: format!(
            "{by_cpu:.2} times by the server's CPU time per message ({by_rate:.2} by throughput, generator on the same cores)"
        ),
        target: format!(">= {TIMES_MIN} times"),
        holds: by_cpu >= TIMES_MIN,
        undisturbed,
        details,
    }])
}

fn on(bench: &Bench, cpus: &[usize], round: u64) -> Result<Report, BenchError> {
    let stand = bench.oktsec(cpus.len(), cpus)?;
    let count = bench.messages_for(RATE_MAX_PER_CORE * cpus.len() as f64);
    let pool = bench.pool(stand.server.address, true, count, 200 + round);
    let shape = Shape::Closed { depth: 1 };
    bench.send(
        &format!("{} cores", cpus.len()),
        &stand.server,
        &pool,
        cpus,
        shape,
    )
}
