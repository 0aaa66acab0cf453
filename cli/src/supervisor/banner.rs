//! What an operator sees once everything is ready.

use super::Plan;
use crate::out;
use crate::place;
use oktsec_contract::Surface;
use serde_json::json;
use std::io;

/// Agents named in the banner; more are counted.
const AGENTS_NAMED_MAX: usize = 6;

/// Prints it, or one JSON line.
pub(crate) fn print(plan: &Plan) -> io::Result<()> {
    let config = &plan.config;
    let url = place::url(config);
    let mode = config.surfaces.get(Surface::Message).mode;
    if plan.json {
        return out::json_line(&json!({
            "ready": true,
            "version": env!("CARGO_PKG_VERSION"),
            "url": url,
            "health": format!("{url}/health"),
            "mode": mode.as_str(),
            "state": plan.paths.root,
            "config": plan.config_path,
            "agents": config.agents.keys().collect::<Vec<_>>(),
            "api_key": !config.server.api_key.is_empty(),
        }));
    }
    let names: Vec<&str> = config
        .agents
        .keys()
        .take(AGENTS_NAMED_MAX)
        .map(String::as_str)
        .collect();
    let more = config.agents.len().saturating_sub(names.len());
    let mut agents = format!("{} ({})", config.agents.len(), names.join(", "));
    if more > 0 {
        agents.insert_str(agents.len() - 1, &format!(", {more} more"));
    }
    if config.agents.is_empty() {
        agents = String::from("none configured yet");
    }
    out::line(format_args!(
        "\noktsec {} · security gateway for AI agent fleets\n",
        env!("CARGO_PKG_VERSION")
    ))?;
    let row = |name: &str, value: &str| out::line(format_args!("  {name:<9} {value}"));
    row("API", &url)?;
    row("Health", &format!("{url}/health"))?;
    row("Mode", mode.as_str())?;
    row("Agents", &agents)?;
    row("Config", &plan.config_path.display().to_string())?;
    row("State", &plan.paths.root.display().to_string())?;
    row(
        "API key",
        if config.server.api_key.is_empty() {
            "none: /v1/* is open to everyone who reaches this port"
        } else {
            "required for /v1/*"
        },
    )?;
    out::line("\nReady. Ctrl-C drains and stops.\n")
}
