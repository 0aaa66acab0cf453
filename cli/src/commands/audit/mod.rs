//! `oktsec audit verify-chain`: was the log changed? Reads all of it, in constant memory.

mod go_log;

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use crate::place::Place;
use crate::reader::{self, Log};
use oktsec_audit::{ChainReport, SignatureReport};
use oktsec_contract::keys::PublicKey;
use serde_json::json;
use std::path::PathBuf;

/// What to check.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Check every record's hash, their order and the signed checkpoints
    VerifyChain(VerifyChain),
}

/// Which log, with which key.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyChain {
    /// The log: a configuration's db_path, its .d folder, or the log's own folder
    /// [default: of the configuration]
    #[arg(long, value_name = "PATH")]
    db: Option<PathBuf>,
    /// Public key that signed the checkpoints [default: _proxy.pub in identity.keys_dir]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Check rows of a log of the Go version instead: audit_log as JSON, oldest first, a list or one a line, perhaps
    /// gzipped
    #[arg(long, value_name = "FILE", conflicts_with = "db")]
    go_log: Option<PathBuf>,
    /// Accepted for scripts of the Go version; the whole log is always read
    #[arg(long, hide = true)]
    limit: Option<u64>,
}

/// Checks.
pub(crate) fn execute(global: &Global, command: Command) -> Outcome {
    match command {
        Command::VerifyChain(args) => verify_chain(global, &args),
    }
}

fn verify_chain(global: &Global, args: &VerifyChain) -> Outcome {
    if let Some(path) = &args.go_log {
        return go_log::verify(global, args, path);
    }
    // With both named by hand no configuration is needed, and a broken one is in nobody's way.
    let place = match (&args.db, &args.key) {
        (Some(_), Some(_)) => None,
        (Some(_), None) => Place::find(global.config.as_deref()).ok(),
        (None, _) => Some(Place::find(global.config.as_deref())?),
    };
    let key = find_key(args, place.as_ref())?;
    let paths = match (&args.db, place) {
        (Some(db), _) => reader::paths_of(db),
        (None, Some(place)) => place.paths,
        (None, None) => return Err(Failure::new("name the log with --db")),
    };
    let Some(log) = Log::open(&paths)? else {
        return Err(Failure::new(format_args!(
            "there is no audit log in {}",
            paths.audit.display()
        )));
    };
    let mut progress = progress(global.json);
    let report = log
        .reader()
        .verify_chain(key.as_ref(), &mut progress)
        .map_err(Failure::new)?;
    show(global, &report)?;
    let signature_broken = report.signature == SignatureReport::Invalid;
    Ok(if report.valid && !signature_broken {
        Exit::Done
    } else {
        Exit::Findings
    })
}

fn find_key(args: &VerifyChain, place: Option<&Place>) -> Result<Option<PublicKey>, Failure> {
    if let Some(path) = &args.key {
        let key = oktsec_controlplane::public_key_in(path);
        return key
            .map(Some)
            .map_err(|error| Failure::new(format_args!("{}: {error}", path.display())));
    }
    Ok(place.and_then(|place| oktsec_controlplane::audit_public_key(&place.config, &place.paths)))
}

/// Tells people that something happens; a million records take about a second.
fn progress(json: bool) -> impl FnMut(u64) {
    const EVERY: u64 = 1_000_000;
    let mut next = EVERY;
    move |records| {
        if !json && records >= next {
            next = records + EVERY;
            out::note(format_args!("{} records checked", grouped(records)));
        }
    }
}

fn show(global: &Global, report: &ChainReport) -> Result<(), Failure> {
    let signature = match report.signature {
        SignatureReport::Valid => "valid",
        SignatureReport::Invalid => "invalid",
        SignatureReport::Skipped => "skipped",
    };
    if global.json {
        out::json(&json!(report))?;
        return Ok(());
    }
    match report.broken_at {
        None if report.valid => {
            out::line(format_args!(
                "Chain: VALID ({} entries)",
                grouped(report.entries)
            ))?;
        }
        at => {
            out::line(format_args!(
                "Chain: BROKEN at entry {}",
                grouped(at.unwrap_or(0))
            ))?;
            if let Some(id) = &report.broken_id {
                out::line(format_args!("  Record: {id}"))?;
            }
            if let Some(reason) = &report.reason {
                out::line(format_args!("  Reason: {reason}"))?;
            }
        }
    }
    out::line(format_args!("Signature: {}", signature.to_uppercase()))?;
    if report.signature == SignatureReport::Skipped {
        out::note(
            "No public key was found; name it with --key to check who signed the checkpoints.",
        );
    }
    Ok(())
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn large_numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
