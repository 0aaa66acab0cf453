//! The claims, each with its number from the issue that made it, its measurement and its verdict.

mod idle;
mod latency;
mod ready;
mod scaling;
mod throughput;

use crate::load::{LoadError, Plan, Pool, Recipe, Report, Shape, run};
use crate::stand::{RECIPIENT, SENDERS, Server, Site, StandError, free_port, sender};
use serde_json::{Value, json};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// How claims are measured.
#[derive(Debug)]
pub struct Bench {
    /// The `oktsec` binary.
    pub oktsec: PathBuf,
    /// This program, which is the null server when called with `null`.
    pub program: PathBuf,
    /// Seconds measured in each run.
    pub seconds: f64,
    /// Seconds before that.
    pub warmup: f64,
    /// Runs of each server, in turns.
    pub rounds: usize,
    /// Connections of a closed loop.
    pub connections: usize,
    /// Bytes of a message's content.
    pub content_bytes: usize,
    /// CPUs to use; the server gets the first, the generator the second.
    pub cpus: Vec<usize>,
    /// Compiled patterns of the first server, for those after it: compiling takes a while.
    pub rules_cache: TempDir,
    /// Says what is being done.
    pub note: fn(fmt::Arguments<'_>),
}

/// What became of a claim.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it is about.
    pub claim: &'static str,
    /// What was measured.
    pub measured: String,
    /// What it has to reach.
    pub target: String,
    /// Whether it did.
    pub holds: bool,
    /// Whether nobody else used this machine meanwhile, as far as that matters.
    pub undisturbed: bool,
    /// The numbers behind it.
    pub details: Vec<String>,
}

impl Outcome {
    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "claim": self.claim,
            "measured": self.measured,
            "target": self.target,
            "holds": self.holds,
            "undisturbed": self.undisturbed,
            "details": self.details,
        })
    }
}

/// Why a claim could not be measured.
#[derive(Debug)]
pub enum BenchError {
    /// A server did not run.
    Stand(StandError),
    /// The generator did not run.
    Load(LoadError),
    /// The server gave wrong answers: speed does not matter then.
    Wrong(Box<Report>),
    /// The system refused something.
    System(std::io::Error),
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stand(error) => error.fmt(f),
            Self::Load(error) => error.fmt(f),
            Self::Wrong(report) => write!(f, "answers were wrong:\n{report}"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl From<StandError> for BenchError {
    fn from(error: StandError) -> Self {
        Self::Stand(error)
    }
}

impl From<LoadError> for BenchError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl From<std::io::Error> for BenchError {
    fn from(error: std::io::Error) -> Self {
        Self::System(error)
    }
}

/// A claim and how it is measured.
pub struct Claim {
    /// For `--claim`.
    pub name: &'static str,
    /// What it says.
    pub says: &'static str,
    /// Measures it.
    pub measure: fn(&Bench) -> Result<Vec<Outcome>, BenchError>,
}

/// All of them, in the order of the table.
pub const CLAIMS: &[Claim] = &[
    Claim {
        name: "signed_1k",
        says: "signed, scanned, recorded 1 KiB messages: 20,000 a second and core, 0.40 of the null server",
        measure: throughput::signed,
    },
    Claim {
        name: "unsigned_1k",
        says: "unsigned 1 KiB messages: 0.60 of the null server",
        measure: throughput::unsigned,
    },
    Claim {
        name: "around_scanner",
        says: "everything but the scanner: 40 us CPU for a signed 1 KiB message, 25 us for an unsigned one",
        measure: throughput::around_scanner,
    },
    Claim {
        name: "added_p99",
        says: "at 1,000 messages a second, p99 is at most 0.4 ms above the null server's",
        measure: latency::added_p99,
    },
    Claim {
        name: "two_cores",
        says: "two cores do at least 1.9 times the work of one",
        measure: scaling::two_cores,
    },
    Claim {
        name: "idle_memory",
        says: "an idle data plane holds at most 40 MB",
        measure: idle::memory,
    },
    Claim {
        name: "ready_cached",
        says: "ready within 300 ms with a cached database",
        measure: ready::cached,
    },
];

/// A server on a site that goes away with it.
struct Stand {
    server: Server,
    site: Site,
    /// Goes when nobody needs the site any more.
    _dir: TempDir,
}

impl Bench {
    fn oktsec(&self, workers: usize, cpus: &[usize]) -> Result<Stand, BenchError> {
        let dir = tempfile::tempdir()?;
        let site = Site::lay_out(dir.path(), free_port()?, workers, false)?;
        if std::fs::read_dir(self.rules_cache.path())?.next().is_none() {
            // On all CPUs, and away from what is measured.
            drop(self.fresh_oktsec(workers)?);
        }
        site.adopt_rules(self.rules_cache.path())?;
        let server = self.start(&site, cpus)?;
        Ok(Stand {
            server,
            site,
            _dir: dir,
        })
    }

    /// A server that has never compiled its patterns.
    fn fresh_oktsec(&self, workers: usize) -> Result<Stand, BenchError> {
        let dir = tempfile::tempdir()?;
        let site = Site::lay_out(dir.path(), free_port()?, workers, false)?;
        let server = self.start(&site, &[])?;
        site.leave_rules(self.rules_cache.path())?;
        Ok(Stand {
            server,
            site,
            _dir: dir,
        })
    }

    fn start(&self, site: &Site, cpus: &[usize]) -> Result<Server, BenchError> {
        (self.note)(format_args!(
            "starting oktsec serve on CPUs {cpus:?} (none: all)"
        ));
        Ok(Server::oktsec(&self.oktsec, "serve", site, cpus)?)
    }

    /// A data plane with one rule.
    fn around(&self, cpus: &[usize]) -> Result<Stand, BenchError> {
        let dir = tempfile::tempdir()?;
        let site = Site::lay_out(dir.path(), free_port()?, 1, false)?;
        let server = Server::around(&self.program, &site, cpus)?;
        Ok(Stand {
            server,
            site,
            _dir: dir,
        })
    }

    fn null(&self, cores: usize, cpus: &[usize]) -> Result<Server, BenchError> {
        Ok(Server::null(&self.program, cores, cpus)?)
    }

    /// The CPU of a server with one worker, and that of the generator beside it.
    fn two_cpus(&self) -> Result<(usize, usize), BenchError> {
        match self.cpus[..] {
            [server, generator, ..] => Ok((server, generator)),
            [_] | [] => Err(BenchError::System(std::io::Error::other(
                "server and load generator need a CPU each, and there are fewer than two",
            ))),
        }
    }

    fn pool(
        &self,
        address: std::net::SocketAddr,
        signed: bool,
        count: usize,
        seed: u64,
    ) -> Arc<Pool> {
        let recipe = Recipe {
            senders: (0..SENDERS).map(sender).collect(),
            recipient: String::from(RECIPIENT),
            content_bytes: self.content_bytes,
            signed,
            attacks_percent: 0,
            api_key: None,
            host: address.to_string(),
            seed,
        };
        Arc::new(Pool::make(&recipe, count, !signed))
    }

    /// Messages for one run at no more than this rate.
    fn messages_for(&self, rate: f64) -> usize {
        ((self.warmup + self.seconds) * rate * 1.05) as usize + 1_000
    }

    fn send(
        &self,
        what: &str,
        server: &Server,
        pool: &Arc<Pool>,
        cpus: &[usize],
        shape: Shape,
    ) -> Result<Report, BenchError> {
        let plan = Plan {
            address: server.address,
            threads: cpus.len(),
            cpus: cpus.to_vec(),
            connections: self.connections,
            shape,
            warmup: Duration::from_secs_f64(self.warmup),
            duration: Duration::from_secs_f64(self.seconds),
            pid: Some(server.pid),
        };
        let report = run(&plan, pool)?;
        (self.note)(format_args!("{what}: {report}"));
        if report.is_right() {
            Ok(report)
        } else {
            Err(BenchError::Wrong(Box::new(report)))
        }
    }
}

/// CPUs that others may use before a run says nothing about us.
const OTHERS_CPUS_MAX: f64 = 0.10;
/// Runs made for each that counts, until enough of them were undisturbed.
const ATTEMPTS_MAX: usize = 4;

/// Runs that count.
struct Rounds<T> {
    rounds: Vec<T>,
    undisturbed: bool,
}

impl Bench {
    /// Measures until enough rounds were undisturbed. Where that does not come about, the quietest count, and
    /// the outcome says so. `measure` gets a number that no other round has.
    fn quiet_rounds<T>(
        &self,
        mut measure: impl FnMut(u64) -> Result<(T, f64), BenchError>,
    ) -> Result<Rounds<T>, BenchError> {
        let mut all: Vec<(T, f64)> = Vec::new();
        for attempt in 0..self.rounds * ATTEMPTS_MAX {
            let (round, others) = measure(attempt as u64)?;
            if others > OTHERS_CPUS_MAX {
                (self.note)(format_args!("disturbed: others used {others:.2} CPUs"));
            }
            all.push((round, others));
            let quiet = all.iter().filter(|(_, others)| *others <= OTHERS_CPUS_MAX);
            if quiet.count() >= self.rounds {
                break;
            }
        }
        all.sort_by(|a, b| a.1.total_cmp(&b.1));
        all.truncate(self.rounds);
        Ok(Rounds {
            undisturbed: all.iter().all(|(_, others)| *others <= OTHERS_CPUS_MAX),
            rounds: all.into_iter().map(|(round, _)| round).collect(),
        })
    }
}

/// The largest disturbance of several runs; one that is unknown counts as large.
fn others(reports: &[&Report]) -> f64 {
    reports
        .iter()
        .map(|report| report.others_cpus.unwrap_or(f64::INFINITY))
        .fold(0.0, f64::max)
}

impl Stand {
    /// Ends the server and starts a command of the binary on the same site.
    fn restart(self, bench: &Bench, command: &str) -> Result<Self, BenchError> {
        let Self { server, site, _dir } = self;
        drop(server);
        let server = Server::oktsec(&bench.oktsec, command, &site, &[])?;
        Ok(Self { server, site, _dir })
    }
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The numbers of a report in a row of a table.
fn row(who: &str, report: &Report) -> String {
    format!(
        "{who:<12} {:>8.0} msg/s  {:>6.1} us CPU/msg  {:>5.2} CPUs  p50 {:>6.0} us  p99 {:>6.0} us  generator {:.2} CPUs  others {:.2}",
        report.rate,
        report.server_cpu_micros.unwrap_or(f64::NAN),
        report.server_cpus.unwrap_or(f64::NAN),
        report.latency.p50,
        report.latency.p99,
        report.generator_cpus,
        report.others_cpus.unwrap_or(f64::NAN),
    )
}
