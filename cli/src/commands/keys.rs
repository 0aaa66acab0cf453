//! `oktsec keys list|rotate|revoke|list-revoked`.

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::local;
use crate::out;
use crate::place::Place;
use crate::table::Table;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::keys::{self, RevokedKey, revocations};
use oktsec_controlplane::edit;
use serde_json::json;
use std::path::PathBuf;

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the keys that are accepted, and those that were revoked
    List(Dir),
    /// Make a new key for an agent and revoke the one it has
    Rotate(Rotate),
    /// Revoke the key of an agent without a new one
    Revoke(Revoke),
    /// List revoked keys with their time and reason
    ListRevoked(Dir),
}

/// Where the keys are.
#[derive(Debug, clap::Args)]
pub(crate) struct Dir {
    /// Folder of the keys [default: identity.keys_dir of the configuration]
    #[arg(long, value_name = "FOLDER")]
    keys: Option<PathBuf>,
}

/// Whose.
#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// Name of the agent
    #[arg(long, value_name = "NAME")]
    agent: String,
}

/// Whose, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// Name of the agent
    #[arg(long, value_name = "NAME")]
    agent: String,
    /// Why, for the list of revoked keys
    #[arg(long, default_value = "manually revoked")]
    reason: String,
}

/// Lists or changes keys.
pub(crate) fn execute(global: &Global, command: Command) -> Outcome {
    match command {
        Command::List(dir) => list(global, &dir.find(global)?),
        Command::ListRevoked(dir) => list_revoked(global, &dir.find(global)?),
        Command::Rotate(args) => rotate(global, &args.agent),
        Command::Revoke(args) => revoke(global, &args),
    }
}

impl Dir {
    fn find(self, global: &Global) -> Result<PathBuf, Failure> {
        match self.keys {
            Some(dir) => Ok(dir),
            None => Ok(Place::find(global.config.as_deref())?
                .keys_dir()?
                .to_owned()),
        }
    }
}

fn list(global: &Global, dir: &std::path::Path) -> Outcome {
    let found = keys::load_dir(dir);
    let revoked = read_revoked(dir)?;
    for problem in &found.problems {
        out::note(format_args!("oktsec: warning: {problem}"));
    }
    let is_revoked = |fingerprint| revoked.iter().any(|key| key.fingerprint == fingerprint);
    if global.json {
        let active = found.keys.iter().map(|key| {
            let status = if is_revoked(key.fingerprint) {
                "revoked"
            } else {
                "active"
            };
            json!({ "agent": key.agent, "fingerprint": key.fingerprint, "status": status })
        });
        let gone = revoked
            .iter()
            .filter(|r| !found.keys.iter().any(|k| k.fingerprint == r.fingerprint));
        let gone = gone.map(|key| {
            json!({ "agent": key.agent_name, "fingerprint": key.fingerprint, "status": "revoked" })
        });
        out::json(&active.chain(gone).collect::<Vec<_>>().into())?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["AGENT", "FINGERPRINT", "STATUS"]);
    for key in &found.keys {
        let status = if is_revoked(key.fingerprint) {
            "revoked"
        } else {
            "active"
        };
        table.row([
            &key.agent,
            &format!("{}...", key.fingerprint.short()),
            status,
        ]);
    }
    for key in revoked
        .iter()
        .filter(|r| !found.keys.iter().any(|k| k.fingerprint == r.fingerprint))
    {
        table.row([
            &key.agent_name,
            &format!("{}...", key.fingerprint.short()),
            "revoked",
        ]);
    }
    table.print()?;
    Ok(Exit::Done)
}

fn read_revoked(dir: &std::path::Path) -> Result<Vec<RevokedKey>, Failure> {
    let found = revocations::load(dir).map_err(Failure::new)?;
    if let Some(torn) = &found.torn {
        out::note(format_args!("oktsec: warning: {torn}"));
    }
    Ok(found.keys)
}

fn list_revoked(global: &Global, dir: &std::path::Path) -> Outcome {
    let revoked = read_revoked(dir)?;
    if global.json {
        out::json(&json!(revoked))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["FINGERPRINT", "AGENT", "REVOKED AT", "REASON"]);
    for key in &revoked {
        let text = key.fingerprint.to_string();
        let short = format!("{}...{}...", &text[..4], &text[text.len() - 4..]);
        table.row([&short, &key.agent_name, &key.revoked_at, &key.reason]);
    }
    table.print()?;
    Ok(Exit::Done)
}

fn rotate(global: &Global, agent: &str) -> Outcome {
    keys::check_agent_name(agent)
        .map_err(|problem| Failure::new(format_args!("{agent:?}: {problem}")))?;
    let place = Place::find(global.config.as_deref())?;
    let dir = place.keys_dir()?;
    // The lock covers both, so that two rotations cannot take the same version.
    let mut locked = edit::open(&place.config_path).map_err(Failure::new)?;
    if !locked.config.agents.contains_key(agent) && !has_key(dir, agent) {
        // A slip of the pen must not look like a key that was replaced.
        return Err(Failure::new(format_args!(
            "{agent} has no key in {} and is not configured; `oktsec keygen` makes a first key, `oktsec keys list` names those there are",
            dir.display()
        )));
    }
    let pair = keys::rotate(dir, agent, Timestamp::now())
        .map_err(Failure::new)?
        .pair;
    let mut key_version = None;
    if let Some(configured) = locked.config.agents.get(agent) {
        let next = configured.key_version.saturating_add(1);
        locked
            .editor
            .set_key_version(agent, next)
            .map_err(Failure::new)?;
        locked.editor.save().map_err(Failure::new)?;
        key_version = Some(next);
    }
    drop(locked);
    let in_force = local::put_in_force(&place.paths);
    if global.json {
        out::json(&json!({
            "agent": agent,
            "fingerprint": pair.fingerprint(),
            "key_version": key_version,
            "in_force": in_force.to_json(),
        }))?;
    } else {
        out::line(format_args!("New key for {agent}: {}", pair.fingerprint()))?;
        if let Some(version) = key_version {
            out::line(format_args!(
                "New key_version: {version} (clients that send X-Oktsec-Key-Version must send this one)"
            ))?;
        }
        in_force.tell();
    }
    Ok(Exit::Done)
}

/// Whether there is a key to rotate, readable or not.
fn has_key(dir: &std::path::Path, agent: &str) -> bool {
    ["key", "pub"].iter().any(|half| {
        dir.join(format!("{agent}.{half}"))
            .symlink_metadata()
            .is_ok()
    })
}

fn revoke(global: &Global, args: &Revoke) -> Outcome {
    let agent = args.agent.as_str();
    keys::check_agent_name(agent)
        .map_err(|problem| Failure::new(format_args!("{agent:?}: {problem}")))?;
    let place = Place::find(global.config.as_deref())?;
    let dir = place.keys_dir()?;
    let revoked = keys::revoke(dir, agent, Timestamp::now(), &args.reason).map_err(Failure::new)?;
    let in_force = local::put_in_force(&place.paths);
    if global.json {
        out::json(&json!({ "revoked": revoked, "in_force": in_force.to_json() }))?;
    } else {
        out::line(format_args!("The key of {agent} is revoked."))?;
        in_force.tell();
    }
    Ok(Exit::Done)
}
