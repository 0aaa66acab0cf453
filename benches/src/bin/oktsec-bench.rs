//! `oktsec-bench`: measures the claims on the real binary, beside the null server, and prints a table.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it prints what it found"
)]

use clap::{Parser, Subcommand};
use oktsec_benches::affinity;
use oktsec_benches::claims::{Bench, CLAIMS, Outcome};
use oktsec_benches::stand::around_the_scanner;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

/// As the product has: the null server must not lose by its allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what oktsec claims about its speed, on this machine, beside a server that decides nothing.
#[derive(Debug, Parser)]
#[command(name = "oktsec-bench", version, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// Measure this claim only (may be repeated); --list names them
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(CLAIMS.iter().map(|claim| claim.name)))]
    claim: Vec<String>,
    /// Name the claims and end
    #[arg(long)]
    list: bool,
    /// Short runs that check answers; numbers are shown, and no claim fails
    #[arg(long)]
    smoke: bool,
    /// The oktsec binary [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    oktsec: Option<PathBuf>,
    /// Seconds measured in each run
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    seconds: f64,
    /// Runs of each server, in turns; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Bytes of a message's content
    #[arg(long, default_value_t = 1_024, value_name = "BYTES")]
    size: usize,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Say what is being measured
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Be the null server
    #[command(hide = true)]
    Null {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        cores: usize,
    },
    /// Be a data plane with one rule
    #[command(hide = true)]
    Around {
        #[arg(long)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(mode) = &options.mode {
        return match be(mode) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("oktsec-bench: {error}");
                ExitCode::from(2)
            }
        };
    }
    if options.list {
        CLAIMS
            .iter()
            .for_each(|claim| println!("{:<14} {}", claim.name, claim.says));
        return ExitCode::SUCCESS;
    }
    match measure(&options) {
        Ok(outcomes) => {
            print(&options, &outcomes);
            let holds = options.smoke || outcomes.iter().all(|outcome| outcome.holds);
            if holds {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(cause) => {
            eprintln!("oktsec-bench: {cause}");
            ExitCode::from(2)
        }
    }
}

/// Runs one of the servers that others are measured against.
fn be(mode: &Mode) -> Result<(), String> {
    match mode {
        Mode::Null { port, cores } => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            oktsec_proxy::null::run(address, *cores).map_err(|error| error.to_string())
        }
        Mode::Around { config } => around_the_scanner(config),
    }
}

fn measure(options: &Options) -> Result<Vec<Outcome>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let oktsec = options
        .oktsec
        .clone()
        .unwrap_or_else(|| program.with_file_name("oktsec"));
    if !oktsec.is_file() {
        return Err(format!(
            "{} is not there; run `make build`, or name it with --oktsec",
            oktsec.display()
        ));
    }
    let bench = Bench {
        oktsec: std::path::absolute(oktsec).map_err(|error| error.to_string())?,
        program,
        seconds: if options.smoke { 1.0 } else { options.seconds },
        warmup: if options.smoke { 0.3 } else { 1.0 },
        rounds: if options.smoke {
            1
        } else {
            options.rounds.max(1)
        },
        connections: options.connections,
        content_bytes: options.size,
        cpus: affinity::allowed()
            .map_err(|error| error.to_string())?
            .into_iter()
            .take(2)
            .collect(),
        rules_cache: tempfile::tempdir().map_err(|error| error.to_string())?,
        note: if options.verbose {
            |text| eprintln!("{text}")
        } else {
            |_| ()
        },
    };
    let mut outcomes = Vec::new();
    for claim in CLAIMS {
        if options.claim.is_empty() || options.claim.iter().any(|name| name == claim.name) {
            (bench.note)(format_args!("== {}: {}", claim.name, claim.says));
            let measured =
                (claim.measure)(&bench).map_err(|error| format!("{}: {error}", claim.name))?;
            outcomes.extend(measured);
        }
    }
    Ok(outcomes)
}

fn print(options: &Options, outcomes: &[Outcome]) {
    let verdict = |outcome: &Outcome| match (outcome.holds, options.smoke) {
        (true, _) => "PASS",
        (false, false) => "FAIL",
        (false, true) => "low",
    };
    if options.json {
        let outcomes: Vec<_> = outcomes.iter().map(Outcome::to_json).collect();
        println!(
            "{}",
            serde_json::json!({ "smoke": options.smoke, "claims": outcomes })
        );
        return;
    }
    for outcome in outcomes {
        println!(
            "{:<4}  {:<18} {}",
            verdict(outcome),
            outcome.claim,
            outcome.measured
        );
        println!("      {:<18} {}", "target", outcome.target);
        if !outcome.undisturbed {
            println!(
                "      {:<18} others used this machine meanwhile; measure again when it is quiet",
                "DISTURBED"
            );
        }
        outcome
            .details
            .iter()
            .for_each(|line| println!("        {line}"));
    }
    if options.smoke {
        println!("A smoke run is too short for verdicts; every answer was what it had to be.");
    }
}
