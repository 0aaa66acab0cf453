//! `oktsec explain`: why a recorded decision is what it is, or what would become of a request, and which line of the
//! configuration would change it.

mod cause;
mod causes;
mod outbound;

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use crate::place::Place;
use crate::reader::Log;
use cause::{place_of, steps_of};
use causes::causes;
use oktsec_contract::config;
use oktsec_contract::id::MessageId;
use oktsec_pipeline::egress::{self, EgressPolicy, Question};
use serde_json::{Value, json};
use std::net::IpAddr;

/// Which decision, or which request.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of a record (`message_id` of an answer, `id` of `oktsec logs --json`), or a URL or host:port that an
    /// agent would ask the egress proxy for
    #[arg(value_name = "RECORD|URL")]
    what: String,
    /// The agent that would ask
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Its method [default: GET for http://, CONNECT for https:// and host:port]
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// What the host resolves to (may be repeated); nobody is asked
    #[arg(long, value_name = "IP")]
    address: Vec<IpAddr>,
}

/// Explains a record or a request.
pub(crate) fn execute(global: &Global, args: &Args) -> Outcome {
    match MessageId::parse(&args.what) {
        Some(id) => record(global, id),
        None => request(global, args),
    }
}

/// What the configuration says about a request that nobody makes.
fn request(global: &Global, args: &Args) -> Outcome {
    let place = Place::find(global.config.as_deref())?;
    let policy = EgressPolicy::build(&place.config, 0);
    let opaque = !args.what.contains("://") || args.what.starts_with("https://");
    let method = args
        .method
        .as_deref()
        .unwrap_or(if opaque { "CONNECT" } else { "GET" });
    let question = Question {
        agent: args.agent.as_deref(),
        method,
        url: &args.what,
        addresses: &args.address,
    };
    let explained = egress::explain(&policy, question).map_err(|error| {
        Failure::new(format_args!(
            "{:?} is no id of a record, and as a URL or host:port: {error}",
            args.what
        ))
    })?;
    let text = std::fs::read_to_string(&place.config_path).unwrap_or_default();
    let line = |line: &egress::Line| place_of(&steps_of(line.as_str()), &place, &text);
    let refused = explained.reason.http_status() >= 400;
    if global.json {
        let steps = explained.steps.iter().map(|step| {
            json!({
                "what": step.what,
                "outcome": step.outcome,
                "key": step.line.as_ref().map(egress::Line::as_str),
            })
        });
        out::json(&json!({
            "enabled": place.config.forward_proxy.enabled,
            "method": method,
            "reason": explained.reason.as_str(),
            "refused": refused,
            "detail": explained.detail,
            "key": explained.line.as_ref().map(egress::Line::as_str),
            "line": explained.line.as_ref().and_then(|line| {
                config::locate(&text, &steps_of(line.as_str())).map(|at| at.line)
            }),
            "steps": steps.collect::<Vec<_>>(),
            "change": explained.change,
            "not_evaluated": explained.not_evaluated,
        }))?;
        return Ok(if refused { Exit::Blocked } else { Exit::Done });
    }
    let verdict = if refused { "refused" } else { "allowed" };
    out::line(format_args!(
        "{method} {}: {verdict} ({})",
        out::printable(&args.what),
        explained.reason.as_str()
    ))?;
    if !explained.detail.is_empty() {
        out::line(format_args!("  {}", out::printable(&explained.detail)))?;
    }
    for step in &explained.steps {
        let by = step.line.as_ref().map(&line);
        let by = by.map_or_else(String::new, |by| format!("  {by}"));
        out::line(format_args!("  {:<24} {}{by}", step.what, step.outcome))?;
    }
    for change in &explained.change {
        out::line(format_args!("  change: {}", out::printable(change)))?;
    }
    out::line(format_args!(
        "  not looked at: {}",
        explained.not_evaluated.join(", ")
    ))?;
    if !place.config.forward_proxy.enabled {
        out::note("The egress proxy is not enabled: forward_proxy.enabled.");
    }
    Ok(if refused { Exit::Blocked } else { Exit::Done })
}

fn record(global: &Global, id: MessageId) -> Outcome {
    let found = Place::find_with_rules(global.config.as_deref())?;
    let place = &found.place;
    let none = || Failure::new(format_args!("there is no record {id}"));
    let log = Log::open(&place.paths)?.ok_or_else(none)?;
    let stored = log
        .reader()
        .get(id)
        .map_err(Failure::new)?
        .ok_or_else(none)?;
    let mut findings = Vec::new();
    let record = stored
        .record(&mut findings)
        .map_err(|error| Failure::new(format_args!("the record is damaged: {error}")))?;
    let text = std::fs::read_to_string(&place.config_path).unwrap_or_default();
    let mut causes = causes(&record, &place.config, &found.rules);
    if let Some(exact) = outbound::exact(&record, &place.config) {
        exact.narrow(&mut causes);
    }
    if global.json {
        let causes: Vec<Value> = causes
            .iter()
            .map(|cause| cause.to_json(place, &text))
            .collect();
        let record = stored
            .to_json()
            .map_err(|error| Failure::new(format_args!("the record is damaged: {error}")))?;
        out::json(&json!({ "record": record, "causes": causes }))?;
        return Ok(Exit::Done);
    }
    // The exact cause, where the decision's word covers several.
    let exactly = match record.reason.as_str() {
        same if same == record.reason.decision() => String::new(),
        exactly => format!(": {exactly}"),
    };
    out::line(format_args!(
        "{}  {} -> {}  {} ({}{exactly})",
        record.received_at.to_rfc3339(),
        out::printable(record.from),
        out::printable(record.to),
        record.status.as_str(),
        record.reason.decision(),
    ))?;
    if !record.detail.is_empty() {
        out::line(format_args!("  {}", out::printable(record.detail)))?;
    }
    if record.status != record.reason.status() {
        out::line("  The surface observes: this is what would have been done.")?;
    }
    for cause in &causes {
        out::line(format_args!("\n{}", out::printable(&cause.what)))?;
        if let Some(line) = cause.place(place, &text) {
            out::line(format_args!("  where:  {line}"))?;
        }
        if !cause.remedy.is_empty() {
            out::line(format_args!("  change: {}", out::printable(&cause.remedy)))?;
        }
    }
    Ok(Exit::Done)
}
