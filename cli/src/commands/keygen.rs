//! `oktsec keygen`: key pairs for agents. Never overwrites one.

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::local;
use crate::out;
use crate::place::{self, Place};
use oktsec_contract::config;
use oktsec_contract::keys::{self, KeyPair};
use serde_json::json;
use std::io;
use std::path::{Path, PathBuf};

/// For whom, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of an agent; may be repeated, or several with commas
    #[arg(long, required = true, value_delimiter = ',', value_name = "NAME")]
    agent: Vec<String>,
    /// Folder for the keys [default: identity.keys_dir of the configuration, else ~/.oktsec/keys]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Makes the keys, all or none.
pub(crate) fn execute(global: &Global, args: Args) -> Outcome {
    let place = place(global, args.out.is_some())?;
    let configured = place
        .as_ref()
        .and_then(|place| place.config.identity.keys_dir.clone());
    let dir = args
        .out
        .or_else(|| configured.clone())
        .or_else(|| place::home().map(|home| home.join("keys")))
        .ok_or_else(|| Failure::new("there is no home folder; name one with --out"))?;
    let problems: Vec<_> = args
        .agent
        .iter()
        .flat_map(|agent| obstacles(agent, &dir))
        .collect();
    if !problems.is_empty() {
        return Err(Failure::all(problems).context("no keys were made:"));
    }
    let mut made = Vec::new();
    for agent in &args.agent {
        let pair = KeyPair::generate(agent);
        pair.save(&dir).map_err(Failure::new)?;
        made.push(pair);
    }
    show(global, &made, &dir)?;
    if let Some(place) = place.filter(|_| configured.as_deref() == Some(&dir)) {
        let in_force = local::put_in_force(&place.paths);
        if !global.json {
            in_force.tell();
        }
    }
    Ok(Exit::Done)
}

/// The configuration, if there is one. Without one keys go to the home folder; one that cannot be read may name another
/// folder, so it is an error unless `--out` does.
fn place(global: &Global, out_is_given: bool) -> Result<Option<Place>, Failure> {
    let refused = match Place::find(global.config.as_deref()) {
        Ok(place) => return Ok(Some(place)),
        Err(refused) => refused,
    };
    let path = config::resolve_path(global.config.as_deref());
    if out_is_given || (global.config.is_none() && path.symlink_metadata().is_err()) {
        return Ok(None);
    }
    Err(refused.context(
        "no keys were made, for the configuration says where they go (--out names another folder):",
    ))
}

/// Why no key pair can be made for this agent.
fn obstacles(agent: &str, dir: &Path) -> Vec<String> {
    if let Err(problem) = keys::check_agent_name(agent) {
        return vec![format!("{agent:?}: {problem}")];
    }
    ["key", "pub"]
        .map(|suffix| dir.join(format!("{agent}.{suffix}")))
        .iter()
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| {
            format!(
                "{} exists and is not overwritten; `oktsec keys rotate --agent {agent}` replaces a key",
                path.display()
            )
        })
        .collect()
}

fn show(global: &Global, made: &[KeyPair], dir: &Path) -> io::Result<()> {
    let file = |pair: &KeyPair, suffix| dir.join(format!("{}.{suffix}", pair.name()));
    if global.json {
        let pairs: Vec<_> = made
            .iter()
            .map(|pair| {
                json!({
                    "agent": pair.name(),
                    "fingerprint": pair.fingerprint(),
                    "private": file(pair, "key"),
                    "public": file(pair, "pub"),
                })
            })
            .collect();
        return out::json(&pairs.into());
    }
    for pair in made {
        out::line(format_args!("Generated keypair for {}", pair.name()))?;
        out::line(format_args!("  Private: {}", file(pair, "key").display()))?;
        out::line(format_args!("  Public:  {}", file(pair, "pub").display()))?;
        let fingerprint = pair.fingerprint();
        out::line(format_args!("  Fingerprint: {}...\n", fingerprint.short()))?;
    }
    Ok(())
}
