//! `oktsec keygen`: key pairs for agents. Never overwrites one.

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::local;
use crate::out;
use crate::place::{self, Place};
use oktsec_contract::config;
use oktsec_contract::keys::{self, KeyPair};
use serde_json::json;
use std::path::PathBuf;

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
    // Without a configuration keys go to the home folder; one that cannot be read may name another folder.
    let place = match Place::find(global.config.as_deref()) {
        Ok(place) => Some(place),
        Err(_) if args.out.is_some() => None,
        Err(refused) => {
            let path = config::resolve_path(global.config.as_deref());
            if global.config.is_some() || path.symlink_metadata().is_ok() {
                return Err(refused.context("no keys were made, for the configuration says where they go (--out names another folder):"));
            }
            None
        }
    };
    let configured = place
        .as_ref()
        .and_then(|place| place.config.identity.keys_dir.clone());
    let dir = args
        .out
        .or_else(|| configured.clone())
        .or_else(|| place::home().map(|home| home.join("keys")))
        .ok_or_else(|| Failure::new("there is no home folder; name one with --out"))?;

    let mut problems = Vec::new();
    for agent in &args.agent {
        if let Err(problem) = keys::check_agent_name(agent) {
            problems.push(format!("{agent:?}: {problem}"));
            continue;
        }
        for suffix in ["key", "pub"] {
            let path = dir.join(format!("{agent}.{suffix}"));
            if path.symlink_metadata().is_ok() {
                problems.push(format!(
                    "{} exists and is not overwritten; `oktsec keys rotate --agent {agent}` replaces a key",
                    path.display()
                ));
            }
        }
    }
    if !problems.is_empty() {
        return Err(Failure::all(problems).context("no keys were made:"));
    }

    let mut made = Vec::new();
    for agent in &args.agent {
        let pair = KeyPair::generate(agent);
        pair.save(&dir).map_err(Failure::new)?;
        made.push(pair);
    }
    if global.json {
        let pairs: Vec<_> = made
            .iter()
            .map(|pair| {
                json!({
                    "agent": pair.name(),
                    "fingerprint": pair.fingerprint(),
                    "private": dir.join(format!("{}.key", pair.name())),
                    "public": dir.join(format!("{}.pub", pair.name())),
                })
            })
            .collect();
        out::json(&pairs.into())?;
    } else {
        for pair in &made {
            let name = pair.name();
            out::line(format_args!("Generated keypair for {name}"))?;
            out::line(format_args!(
                "  Private: {}",
                dir.join(format!("{name}.key")).display()
            ))?;
            out::line(format_args!(
                "  Public:  {}",
                dir.join(format!("{name}.pub")).display()
            ))?;
            out::line(format_args!(
                "  Fingerprint: {}...\n",
                pair.fingerprint().short()
            ))?;
        }
    }
    if let Some(place) = place.filter(|_| configured.as_deref() == Some(&dir)) {
        let in_force = local::put_in_force(&place.paths);
        if !global.json {
            in_force.tell();
        }
    }
    Ok(Exit::Done)
}
