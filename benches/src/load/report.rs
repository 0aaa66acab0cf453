//! What a run found, for people and for programs.

use super::run::{Plan, Shape};
use super::tally::Tally;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Half of the answers came within.
    pub p50: f64,
    /// 90 of 100.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// All.
    pub max: f64,
}

/// CPU time spent during the measured window.
pub(super) struct Cpu {
    pub(super) server: Option<Duration>,
    pub(super) generator: Duration,
    /// Of everybody, server and generator included.
    pub(super) machine: Duration,
    pub(super) stolen: Duration,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// What decided when messages were sent.
    pub shape: Shape,
    /// Connections.
    pub connections: usize,
    /// `io_uring` or `epoll`.
    pub driver: &'static str,
    /// Length of the measured window.
    pub seconds: f64,
    /// Answers inside it.
    pub answered: u64,
    /// Answers a second.
    pub rate: f64,
    /// From sending (closed loop) or from the intended time (open loop) to the whole answer.
    pub latency: Latency,
    /// CPU time of the server for one message, in microseconds.
    pub server_cpu_micros: Option<f64>,
    /// CPUs the server used on average.
    pub server_cpus: Option<f64>,
    /// CPUs the generator used on average; near its number of threads it is the bottleneck.
    pub generator_cpus: f64,
    /// CPUs that everybody else on this machine used on average, or that its host took away: what disturbed us.
    pub others_cpus: Option<f64>,
    /// All answers by status, also those of the warm-up.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers that were not what they had to be.
    pub wrong: u64,
    /// Connections that broke.
    pub broken: u64,
    /// The first wrong answers and causes.
    pub samples: Vec<String>,
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        tally: Tally,
        window: Duration,
        cpu: &Cpu,
        driver: &'static str,
    ) -> Self {
        let seconds = window.as_secs_f64();
        let answered = tally.latency.len();
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let at = |share: f64| micros(tally.latency.value_at_quantile(share));
        Self {
            shape: plan.shape,
            connections: plan.connections,
            driver,
            seconds,
            answered,
            rate: answered as f64 / seconds,
            latency: Latency {
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: micros(tally.latency.max()),
            },
            server_cpu_micros: cpu
                .server
                .map(|time| time.as_secs_f64() * 1e6 / answered as f64),
            server_cpus: cpu.server.map(|time| time.as_secs_f64() / seconds),
            generator_cpus: cpu.generator.as_secs_f64() / seconds,
            others_cpus: cpu.server.map(|server| {
                let others = cpu.machine.saturating_sub(server + cpu.generator);
                (others + cpu.stolen).as_secs_f64() / seconds
            }),
            statuses: tally.statuses,
            wrong: tally.wrong,
            broken: tally.broken,
            samples: tally.samples,
        }
    }

    /// Whether every answer was what it had to be.
    pub const fn is_right(&self) -> bool {
        self.wrong == 0 && self.broken == 0
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let (shape, parameter) = match self.shape {
            Shape::Closed { depth } => ("closed", json!(depth)),
            Shape::Open { rate } => ("open", json!(rate)),
        };
        let statuses: BTreeMap<String, u64> = self
            .statuses
            .iter()
            .map(|(status, count)| (status.to_string(), *count))
            .collect();
        json!({
            "loop": shape,
            "depth_or_rate": parameter,
            "connections": self.connections,
            "driver": self.driver,
            "seconds": self.seconds,
            "answered": self.answered,
            "rate": self.rate,
            "latency_us": {
                "p50": self.latency.p50,
                "p90": self.latency.p90,
                "p99": self.latency.p99,
                "p99.9": self.latency.p999,
                "max": self.latency.max,
            },
            "server_cpu_us_per_message": self.server_cpu_micros,
            "server_cpus": self.server_cpus,
            "generator_cpus": self.generator_cpus,
            "others_cpus": self.others_cpus,
            "statuses": statuses,
            "wrong": self.wrong,
            "broken": self.broken,
            "samples": self.samples,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = match self.shape {
            Shape::Closed { depth: 1 } => String::from("closed loop"),
            Shape::Closed { depth } => format!("closed loop, {depth} at once"),
            Shape::Open { rate } => format!("open loop, {rate} a second"),
        };
        writeln!(
            f,
            "{shape}, {} connections, {}, {:.2} s",
            self.connections, self.driver, self.seconds
        )?;
        writeln!(
            f,
            "  throughput   {:.0} messages/s ({} answered)",
            self.rate, self.answered
        )?;
        let Latency {
            p50,
            p90,
            p99,
            p999,
            max,
        } = self.latency;
        writeln!(
            f,
            "  latency      p50 {p50:.0} us, p90 {p90:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us, max {max:.0} us"
        )?;
        if let (Some(micros), Some(cpus)) = (self.server_cpu_micros, self.server_cpus) {
            writeln!(f, "  server CPU   {micros:.1} us/message ({cpus:.2} CPUs)")?;
        }
        writeln!(f, "  generator    {:.2} CPUs", self.generator_cpus)?;
        if let Some(others) = self.others_cpus {
            writeln!(f, "  others       {others:.2} CPUs")?;
        }
        let statuses: Vec<String> = self
            .statuses
            .iter()
            .map(|(status, count)| format!("{status}: {count}"))
            .collect();
        write!(
            f,
            "  answers      {}; {} wrong, {} connections broke",
            statuses.join(", "),
            self.wrong,
            self.broken
        )?;
        for sample in &self.samples {
            write!(f, "\n    {sample}")?;
        }
        Ok(())
    }
}
