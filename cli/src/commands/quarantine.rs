//! `oktsec quarantine list|detail|approve|reject`: messages that wait for an operator.

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::http::Call;
use crate::local;
use crate::out;
use crate::place::Place;
use crate::reader::Log;
use crate::table::Table;
use oktsec_audit::HeldStatus;
use oktsec_contract::id::MessageId;
use oktsec_controlplane::held_json;
use serde_json::{Value, json};

/// What to do with held messages.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List held messages
    List(List),
    /// Show one, with its content
    Detail(Id),
    /// Release one
    Approve(Review),
    /// Discard one
    Reject(Review),
}

/// Which ones.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// pending, approved, rejected, expired or all
    #[arg(long, default_value = "pending", value_parser = ["pending", "approved", "rejected", "expired", "all"])]
    status: String,
    /// The newest so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
}

/// Which one.
#[derive(Debug, clap::Args)]
pub(crate) struct Id {
    /// Id of the message
    #[arg(value_parser = parse_id)]
    id: MessageId,
}

/// Which one, and who decides.
#[derive(Debug, clap::Args)]
pub(crate) struct Review {
    /// Id of the message
    #[arg(value_parser = parse_id)]
    id: MessageId,
    /// Who decides; it stands in the record
    #[arg(long, default_value = "cli", value_name = "NAME")]
    reviewer: String,
}

fn parse_id(text: &str) -> Result<MessageId, String> {
    MessageId::parse(text)
        .ok_or_else(|| String::from("an id such as 550e8400-e29b-41d4-a716-446655440000"))
}

/// Lists, shows or decides.
pub(crate) fn execute(global: &Global, command: Command) -> Outcome {
    let place = Place::find(global.config.as_deref())?;
    match command {
        Command::List(args) => list(global, &place, &args),
        Command::Detail(args) => detail(global, &place, args.id),
        Command::Approve(args) => review(global, &place, &args, "approve"),
        Command::Reject(args) => review(global, &place, &args, "reject"),
    }
}

fn list(global: &Global, place: &Place, args: &List) -> Outcome {
    let status = HeldStatus::parse(&args.status);
    let items = match Log::open(&place.paths)? {
        Some(log) => log
            .reader()
            .held_list(status, args.limit)
            .map_err(Failure::new)?,
        None => Vec::new(),
    };
    if global.json {
        let items: Vec<Value> = items.iter().map(held_json).collect();
        out::json(&items.into())?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["ID", "FROM", "TO", "STATUS", "CREATED", "EXPIRES"]);
    for item in &items {
        let item = held_json(item);
        let text = |name: &str| item[name].as_str().unwrap_or("").to_owned();
        table.row([
            &text("id"),
            &text("from_agent"),
            &text("to_agent"),
            &text("status"),
            &text("created_at"),
            &text("expires_at"),
        ]);
    }
    table.print()?;
    Ok(Exit::Done)
}

fn detail(global: &Global, place: &Place, id: MessageId) -> Outcome {
    let item = match Log::open(&place.paths)? {
        Some(log) => log.reader().held(id).map_err(Failure::new)?,
        None => None,
    };
    let Some(item) = item else {
        return Err(no_such(id));
    };
    let item = held_json(&item);
    if global.json {
        out::json(&item)?;
        return Ok(Exit::Done);
    }
    for (name, value) in item.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => out::line(format_args!("{name:<16} {}", out::printable(text)))?,
            Value::Array(findings) => {
                for finding in findings {
                    let text = |name: &str| out::printable(finding[name].as_str().unwrap_or(""));
                    out::line(format_args!(
                        "{:<16} {} {} ({}): {}",
                        "finding",
                        text("rule_id"),
                        text("name"),
                        text("severity"),
                        text("match"),
                    ))?;
                }
            }
            other => out::line(format_args!("{name:<16} {other}"))?,
        }
    }
    Ok(Exit::Done)
}

fn no_such(id: MessageId) -> Failure {
    Failure::new(format_args!(
        "no held message {id}; `oktsec quarantine list --status all` shows them"
    ))
}

fn review(global: &Global, place: &Place, args: &Review, action: &str) -> Outcome {
    let path = format!("/v1/quarantine/{}/{action}", args.id);
    let body = json!({ "reviewer": args.reviewer })
        .to_string()
        .into_bytes();
    let Some(answer) = local::call(&place.paths, Call::post(&path, Some(body)))? else {
        return Err(Failure::new(
            "no server is running for this configuration; start it with `oktsec serve`: it alone writes records",
        ));
    };
    if answer.status == 404 {
        return Err(no_such(args.id));
    }
    if !answer.status.is_success() {
        return Err(Failure::new(answer.error()));
    }
    let item = answer.json().map_err(Failure::new)?;
    if global.json {
        out::json(&item)?;
    } else if action == "approve" {
        out::line(format_args!("Approved: {}", args.id))?;
    } else {
        out::line(format_args!("Rejected: {}", args.id))?;
    }
    Ok(Exit::Done)
}
