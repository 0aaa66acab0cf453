//! `oktsec agent list|suspend|unsuspend`.

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::local;
use crate::out;
use crate::place::Place;
use crate::table::Table;
use oktsec_contract::keys::{self, Fingerprint};
use oktsec_controlplane::edit;
use serde_json::json;
use std::collections::HashMap;

/// What to do with agents.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the configured agents
    List,
    /// Refuse everything an agent sends and everything sent to it
    Suspend(Name),
    /// Let an agent take part again
    Unsuspend(Name),
}

/// Which one.
#[derive(Debug, clap::Args)]
pub(crate) struct Name {
    /// Name of the agent
    name: String,
}

/// Lists or changes agents.
pub(crate) fn execute(global: &Global, command: Command) -> Outcome {
    let place = Place::find(global.config.as_deref())?;
    match command {
        Command::List => list(global, &place),
        Command::Suspend(agent) => suspend(global, &place, &agent.name, true),
        Command::Unsuspend(agent) => suspend(global, &place, &agent.name, false),
    }
}

fn list(global: &Global, place: &Place) -> Outcome {
    let known = place
        .config
        .identity
        .keys_dir
        .as_deref()
        .map(keys::load_dir);
    let known = known.iter().flat_map(|found| &found.keys);
    let known: HashMap<&str, Fingerprint> = known
        .map(|key| (key.agent.as_str(), key.fingerprint))
        .collect();
    let fingerprint = |name: &str| known.get(name).copied();
    if global.json {
        let agents: Vec<_> = place
            .config
            .agents
            .iter()
            .map(|(name, agent)| {
                json!({
                    "name": name,
                    "suspended": agent.suspended,
                    "can_message": agent.can_message,
                    "fingerprint": fingerprint(name),
                    "key_version": agent.key_version,
                    "description": agent.description,
                })
            })
            .collect();
        out::json(&agents.into())?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["AGENT", "STATUS", "KEY", "MAY MESSAGE"]);
    for (name, agent) in &place.config.agents {
        let grants = match (&agent.can_message, &agent.acl_entries) {
            (None, None) => String::from("everyone"),
            (grants, entries) => {
                let entries = entries
                    .iter()
                    .flatten()
                    .map(|e| format!("{} (with constraints)", e.target));
                let all: Vec<_> = entries.chain(grants.iter().flatten().cloned()).collect();
                if all.is_empty() {
                    String::from("nobody")
                } else {
                    all.join(", ")
                }
            }
        };
        let key = fingerprint(name).map_or_else(|| String::from("none"), |f| f.short());
        table.row([
            name,
            if agent.suspended {
                "suspended"
            } else {
                "active"
            },
            &key,
            &grants,
        ]);
    }
    table.print()?;
    Ok(Exit::Done)
}

fn suspend(global: &Global, place: &Place, name: &str, suspended: bool) -> Outcome {
    let mut locked = edit::open(&place.config_path).map_err(Failure::new)?;
    let Some(agent) = locked.config.agents.get(name) else {
        let known: Vec<_> = locked.config.agents.keys().map(String::as_str).collect();
        return Err(Failure::new(format_args!(
            "no agent {name:?} in {}; there are: {}",
            place.config_path.display(),
            known.join(", ")
        )));
    };
    let changed = agent.suspended != suspended;
    if changed {
        locked
            .editor
            .set_suspended(name, suspended)
            .map_err(Failure::new)?;
        locked.editor.save().map_err(Failure::new)?;
    }
    drop(locked);
    let in_force = local::put_in_force(&place.paths);
    if global.json {
        out::json(&json!({
            "agent": name,
            "suspended": suspended,
            "changed": changed,
            "in_force": in_force.to_json(),
        }))?;
    } else {
        let word = if suspended { "suspended" } else { "active" };
        let already = if changed { "" } else { " already" };
        out::line(format_args!("{name} is{already} {word}."))?;
        in_force.tell();
    }
    Ok(Exit::Done)
}
