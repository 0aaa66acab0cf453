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
use std::{fmt, io};

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
            let yet = if starting { " yet" } else { "" };
            row(
                "Server:",
                format_args!(
                    "the control plane does not answer{yet}; the data plane listens at {url}"
                ),
            )?;
            row(
                "",
                "Messages are decided by the last snapshot, and no change takes effect.",
            )?;
        } else if starting {
            row("Server:", "starting")?;
        } else {
            row("Server:", "not running (start it with `oktsec serve`)")?;
        }
        row("Config:", place.config_path.display())?;
        row("Mode:", place.config.mode.as_str())?;
        row("Agents:", place.config.agents.len())?;
        row("State:", place.paths.root.display())?;
        place.warn();
    }
    Ok(exit)
}

fn show(status: &Value) -> io::Result<()> {
    row(
        "Server:",
        format_args!(
            "running, {} (version {}, control plane up {})",
            text(&status["url"]),
            text(&status["version"]),
            duration::rough(status["uptime_secs"].as_u64().unwrap_or(0)),
        ),
    )?;
    show_configuration(status)?;
    show_data_planes(status)?;
    show_records(&status["audit"])
}

fn show_configuration(status: &Value) -> io::Result<()> {
    let config = &status["config"];
    let (path, state) = (text(&config["path"]), text(&config["state"]));
    row(
        "Config:",
        format_args!("{path} ({state}), revision {}", status["revision"]),
    )?;
    for problem in items(&config["problems"]) {
        row("  problem:", text(problem))?;
    }
    for warning in items(&config["warnings"]) {
        row("  warning:", text(warning))?;
    }
    let modes = status["modes"].as_object().into_iter().flatten();
    let modes = modes.map(|(surface, mode)| format!("{surface} {}", text(mode)));
    row("Mode:", modes.collect::<Vec<_>>().join(", "))?;
    let required = status["require_signature"] == true;
    row(
        "Signatures:",
        if required { "required" } else { "optional" },
    )?;
    let suspended: Vec<_> = items(&status["suspended"]).map(text).collect();
    let suspended = if suspended.is_empty() {
        String::new()
    } else {
        format!(", suspended: {}", suspended.join(", "))
    };
    row("Agents:", format_args!("{}{suspended}", status["agents"]))?;
    row(
        "Keys:",
        format_args!(
            "{} accepted, {} revoked",
            status["keys"], status["revoked_keys"]
        ),
    )?;
    let compiling = if status["rules_compiling"] == true {
        ", others are being compiled"
    } else {
        ""
    };
    row("Rules:", format_args!("{}{compiling}", status["rules"]))
}

fn show_data_planes(status: &Value) -> io::Result<()> {
    let mut planes = items(&status["data_planes"]).peekable();
    if planes.peek().is_none() {
        row(
            "Data plane:",
            "none connected; the last good snapshot decides",
        )?;
    }
    for plane in planes {
        row(
            "Data plane:",
            format_args!(
                "{} process {}, revision {}",
                text(&plane["node"]),
                plane["pid"],
                plane["revision"]
            ),
        )?;
        let refused = &plane["refused"];
        if let Some(reason) = refused["reason"].as_str() {
            row(
                "  refused:",
                format_args!("revision {}: {reason}", refused["revision"]),
            )?;
        }
    }
    Ok(())
}

fn show_records(audit: &Value) -> io::Result<()> {
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
    row("Records:", counts)?;
    if let Some(pending) = audit["quarantine"]["pending"].as_u64().filter(|&n| n > 0) {
        row(
            "Held:",
            format_args!("{pending} wait for review: oktsec quarantine list"),
        )?;
    }
    Ok(())
}

/// A line of the overview.
fn row(label: &str, value: impl fmt::Display) -> io::Result<()> {
    out::line(format_args!("{label:<11} {value}"))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => out::printable(text),
        other => other.to_string(),
    }
}
