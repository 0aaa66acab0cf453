//! `oktsec-egress`: measures the egress gateway beside proxies that decide nothing, on this machine.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it prints what it found"
)]

use clap::{Parser, Subcommand};
use oktsec_benches::affinity;
use oktsec_benches::egress::{self, CASES, Outcome, Programs, Seen, Stand};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// As the product has: the bare proxies must not lose by their allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the egress gateway beside bare pingora, a relay and squid.
#[derive(Debug, Parser)]
#[command(name = "oktsec-egress", version, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// Measure this only (may be repeated)
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(CASES.iter().map(|case| case.name)))]
    case: Vec<String>,
    /// The oktsec binary [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    oktsec: Option<PathBuf>,
    /// Squid, to be measured, too
    #[arg(long, value_name = "FILE")]
    squid: Option<PathBuf>,
    /// Seconds of each run
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    seconds: f64,
    /// Runs of each proxy, in turns
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Connections of agents
    #[arg(long, default_value_t = 16)]
    connections: usize,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Be pingora as a forward proxy
    #[command(hide = true)]
    Bare(Bare),
    /// Be a relay behind CONNECT
    #[command(hide = true)]
    Relay(Bare),
    /// Be the same with a TLS handshake on both sides
    #[command(hide = true)]
    Handshakes(Bare),
}

#[derive(Debug, clap::Args)]
struct Bare {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.mode {
        Some(Mode::Bare(bare)) => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, bare.port));
            oktsec_proxy::null::forward(address, 1).map_err(Into::into)
        }
        Some(Mode::Relay(bare)) => egress::relay(bare.port),
        Some(Mode::Handshakes(bare)) => egress::handshakes(bare.port, &bare.dir),
        None => measure(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oktsec-egress: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(options: &Options) -> Outcome {
    let this = std::env::current_exe()?;
    let beside = |name: &str| this.with_file_name(name);
    let oktsec = options.oktsec.clone().unwrap_or_else(|| beside("oktsec"));
    if !oktsec.is_file() {
        let missing = Path::display(&oktsec);
        return Err(
            format!("{missing} is not there; run `make build`, or name it with --oktsec").into(),
        );
    }
    let programs = Programs {
        oktsec: std::path::absolute(oktsec)?,
        this,
        squid: options.squid.clone(),
    };
    let seen = Seen {
        for_: Duration::from_secs_f64(options.seconds),
        rounds: options.rounds,
        connections: options.connections,
    };
    let cpus = affinity::allowed()?;
    let (theirs, mine) = match cpus[..] {
        [first, second, ..] => (vec![first], vec![second]),
        _ => (cpus.clone(), cpus),
    };
    affinity::pin(&mine)?;
    let wanted =
        |name: &str| options.case.is_empty() || options.case.iter().any(|case| case == name);
    for case in CASES.iter().filter(|case| wanted(case.name)) {
        println!("{}: {}", case.name, case.says);
        // Each has a runtime of its own, so that its hosts end with it.
        let stand = Stand::new(programs.clone(), theirs.clone())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        print!("{}", runtime.block_on(egress::measure(&stand, case, seen))?);
    }
    Ok(())
}
