//! How many messages a core does, beside how many requests a server does that decides nothing.

use super::{Bench, BenchError, Outcome, Rounds, Stand, median, others, row};
use crate::load::{Report, Shape};
use crate::process;
use std::sync::Arc;

/// More than any core of today answers, so that signed messages do not run out.
const RATE_MAX: f64 = 45_000.0;
/// Unsigned messages are sent again and again.
const UNSIGNED_MESSAGES: usize = 20_000;
/// 20,000 messages a second and core.
const CPU_MICROS_MAX: f64 = 50.0;
const CLOSED: Shape = Shape::Closed { depth: 1 };

pub(super) fn signed(bench: &Bench) -> Result<Vec<Outcome>, BenchError> {
    let pairs = pairs(bench, true, |cpus| bench.oktsec(1, cpus))?;
    let cpu = pairs.cpu_micros();
    let rate = median(pairs.rounds.iter().map(|(_, ours)| ours.rate).collect());
    let rate = Outcome {
        claim: "signed_1k rate",
        measured: format!(
            "{cpu:.1} us CPU/msg = {:.0} msg/s and core ({rate:.0} msg/s on one CPU)",
            1e6 / cpu
        ),
        target: format!("<= {CPU_MICROS_MAX:.0} us CPU/msg"),
        holds: cpu <= CPU_MICROS_MAX,
        undisturbed: pairs.undisturbed,
        details: Vec::new(),
    };
    Ok(vec![rate, pairs.ratio("signed_1k ratio", 0.40)])
}

pub(super) fn unsigned(bench: &Bench) -> Result<Vec<Outcome>, BenchError> {
    let pairs = pairs(bench, false, |cpus| bench.oktsec(1, cpus))?;
    Ok(vec![pairs.ratio("unsigned_1k ratio", 0.60)])
}

/// What stays when every rule but one is taken away: the budget of everything but the scanner.
pub(super) fn around_scanner(bench: &Bench) -> Result<Vec<Outcome>, BenchError> {
    let mut outcomes = Vec::new();
    for (claim, signed, micros_max) in [
        ("around, signed", true, 40.0),
        ("around, unsigned", false, 25.0),
    ] {
        let pairs = pairs(bench, signed, |cpus| bench.around(cpus))?;
        let cpu = pairs.cpu_micros();
        let ratio = pairs.ratio(claim, 0.0);
        outcomes.push(Outcome {
            measured: format!("{cpu:.1} us CPU/msg, {}", ratio.measured),
            target: format!("<= {micros_max:.0} us CPU/msg"),
            holds: cpu <= micros_max,
            ..ratio
        });
    }
    Ok(outcomes)
}

struct Pairs {
    /// Null server and ours, with the same messages.
    rounds: Vec<(Report, Report)>,
    undisturbed: bool,
    details: Vec<String>,
}

impl Pairs {
    fn cpu_micros(&self) -> f64 {
        let ours = self.rounds.iter().map(|(_, ours)| ours.server_cpu_micros);
        median(ours.flatten().collect())
    }

    fn ratio(self, claim: &'static str, at_least: f64) -> Outcome {
        let by_rate = median(
            self.rounds
                .iter()
                .map(|(null, ours)| ours.rate / null.rate)
                .collect(),
        );
        let cpu = |(null, ours): &(Report, Report)| {
            Some(null.server_cpu_micros? / ours.server_cpu_micros?)
        };
        let by_cpu = median(self.rounds.iter().filter_map(cpu).collect());
        // Where the generator holds the null server back, the rates alone would flatter us.
        let ratio = by_rate.min(by_cpu);
        Outcome {
            claim,
            measured: format!(
                "{ratio:.2} of null ({by_rate:.2} by throughput, {by_cpu:.2} by CPU time)"
            ),
            target: format!(">= {at_least:.2} of null"),
            holds: ratio >= at_least,
            undisturbed: self.undisturbed,
            details: self.details,
        }
    }
}

fn pairs(
    bench: &Bench,
    signed: bool,
    ours: impl FnOnce(&[usize]) -> Result<Stand, BenchError>,
) -> Result<Pairs, BenchError> {
    let (server, generator) = bench.two_cpus()?;
    let null = bench.null(1, &[server])?;
    let ours = ours(&[server])?;
    let Rounds {
        rounds,
        undisturbed,
    } = bench.quiet_rounds(|round| {
        let count = if signed {
            bench.messages_for(RATE_MAX)
        } else {
            UNSIGNED_MESSAGES
        };
        let pool = bench.pool(ours.server.address, signed, count, round);
        let again = Arc::new(pool.to_reusable());
        let before = bench.send("null", &null, &again, &[generator], CLOSED)?;
        let after = bench.send("oktsec", &ours.server, &pool, &[generator], CLOSED)?;
        let disturbed = others(&[&before, &after]);
        Ok(((before, after), disturbed))
    })?;
    let memory = process::memory(ours.server.pid)?;
    let mut details: Vec<String> = rounds
        .iter()
        .flat_map(|(null, ours)| [row("null", null), row("oktsec", ours)])
        .collect();
    details.push(format!(
        "data plane after the load: {:.1} MB resident, {:.1} MB of it anonymous",
        memory.resident_kib as f64 / 1e3,
        memory.anonymous_kib as f64 / 1e3
    ));
    Ok(Pairs {
        rounds,
        undisturbed,
        details,
    })
}
