//! `oktsec status`: what is running, what is in force, what needs an operator.

use super::Global;
use crate::duration;
use crate::exit::{Exit, Failure, Outcome};
use crate::http::Call;
use crate::local;
use crate::out;
use crate::place::{self, Place};
use oktsec_contract::config;
use serde_json::{Value, json};

/// Nothing to choose.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Shows the running server, or what would be served.
pub(crate) fn execute(global: &Global, _args: Args) -> Outcome {
    let config_path = config::resolve_path(global.config.as_deref());
    // A broken file says nothing about what runs: where that keeps its state can often still be read.
    let (place, paths) = match config::load(&config_path) {
        Ok(loaded) => {
            let place = Place::of(config_path, loaded);
            let paths = place.paths.clone();
            (Ok(place), Some(paths))
        }
        Err(failed) => {
            let paths = failed.state.clone().map(|paths| *paths);
            (Err(place::refused(&config_path, &failed)), paths)
        }
    };
    let answer = match &paths {
        Some(paths) => local::call(paths, Call::get("/v1/status"))?,
        None => None,
    };
    let Some(answer) = answer else {
        return not_running(global, &place?);
    };
    if !answer.status.is_success() {
        return Err(Failure::new(answer.error()));
    }
    let mut status = answer.json().map_err(Failure::new)?;
    status["running"] = Value::Bool(true);
    let configured = place.as_ref().ok().map(|place| place::url(&place.config));
    status["url"] = Value::from(place::live_url(&status).or(configured));
    if global.json {
        out::json(&status)?;
    } else {
        show(&status)?;
    }
    let current = status["config"]["state"] == "current";
    Ok(if current { Exit::Done } else { Exit::Findings })
}

fn not_running(global: &Global, place: &Place) -> Outcome {
    let starting = local::is_starting(&place.paths);
    // Its data plane decides on without it, and an operator must not take it for dead.
    let published = local::last_published(&place.paths).filter(local::listens);
    let alone = published.is_some();
    let url = place::url(published.as_ref().unwrap_or(&place.config));
    let exit = if alone { Exit::Findings } else { Exit::Done };
    if global.json {
        out::json(&json!({
            "running": false,
            "starting": starting,
            "data_plane_listens": alone,
            "url": url,
            "config": { "path": place.config_path, "warnings": place.warnings },
            "mode": place.config.mode.as_str(),
            "agents": place.config.agents.len(),
            "state": place.paths.root,
        }))?;
    } else {
        if alone {
            out::line(format_args!(
                "Server:     the control plane does not answer{}; the data plane listens at {url}",
                if starting { " yet" } else { "" }
            ))?;
            out::line(
                "            Messages are decided by the last snapshot, and no change takes effect.",
            )?;
        } else if starting {
            out::line("Server:     starting")?;
        } else {
            out::line("Server:     not running (start it with `oktsec serve`)")?;
        }
        out::line(format_args!("Config:     {}", place.config_path.display()))?;
        out::line(format_args!("Mode:       {}", place.config.mode.as_str()))?;
        out::line(format_args!("Agents:     {}", place.config.agents.len()))?;
        out::line(format_args!("State:      {}", place.paths.root.display()))?;
        place.warn();
    }
    Ok(exit)
}

fn show(status: &Value) -> Result<(), Failure> {
    let text = |value: &Value| match value {
        Value::String(text) => out::printable(text),
        other => other.to_string(),
    };
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(&text).collect()
    };
    let uptime = status["uptime_secs"].as_u64().unwrap_or(0);
    out::line(format_args!(
        "Server:     running, {} (version {}, control plane up {})",
        text(&status["url"]),
        text(&status["version"]),
        duration::rough(uptime),
    ))?;
    out::line(format_args!(
        "Config:     {} ({}), revision {}",
        text(&status["config"]["path"]),
        text(&status["config"]["state"]),
        status["revision"]
    ))?;
    for problem in list(&status["config"]["problems"]) {
        out::line(format_args!("  problem:  {problem}"))?;
    }
    for warning in list(&status["config"]["warnings"]) {
        out::line(format_args!("  warning:  {warning}"))?;
    }
    let modes = status["modes"].as_object().into_iter().flatten();
    let modes: Vec<_> = modes
        .map(|(surface, mode)| format!("{surface} {}", text(mode)))
        .collect();
    out::line(format_args!("Mode:       {}", modes.join(", ")))?;
    let required = if status["require_signature"] == true {
        "required"
    } else {
        "optional"
    };
    out::line(format_args!("Signatures: {required}"))?;
    let suspended = list(&status["suspended"]);
    let suspended = if suspended.is_empty() {
        String::new()
    } else {
        format!(", suspended: {}", suspended.join(", "))
    };
    out::line(format_args!("Agents:     {}{suspended}", status["agents"]))?;
    out::line(format_args!(
        "Keys:       {} accepted, {} revoked",
        status["keys"], status["revoked_keys"]
    ))?;
    let compiling = if status["rules_compiling"] == true {
        ", others are being compiled"
    } else {
        ""
    };
    out::line(format_args!("Rules:      {}{compiling}", status["rules"]))?;
    let planes = status["data_planes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if planes.is_empty() {
        out::line("Data plane: none connected; the last good snapshot decides")?;
    }
    for plane in &planes {
        out::line(format_args!(
            "Data plane: {} process {}, revision {}",
            text(&plane["node"]),
            plane["pid"],
            plane["revision"]
        ))?;
        if let Some(reason) = plane["refused"]["reason"].as_str() {
            out::line(format_args!(
                "  refused:  revision {}: {reason}",
                plane["refused"]["revision"]
            ))?;
        }
    }
    let audit = &status["audit"];
    let counts = audit["by_status"].as_object().into_iter().flatten();
    let counts: Vec<_> = counts
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(status, count)| format!("{status} {count}"))
        .collect();
    let counts = if counts.is_empty() {
        text(&audit["state"])
    } else {
        counts.join(", ")
    };
    out::line(format_args!("Records:    {counts}"))?;
    if let Some(pending) = audit["quarantine"]["pending"].as_u64().filter(|&n| n > 0) {
        out::line(format_args!(
            "Held:       {pending} wait for review: oktsec quarantine list"
        ))?;
    }
    Ok(())
}
