//! The list of rules, and everything about one.

use crate::commands::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use oktsec_rules::{Expression, Known, RuleSet, Severity};
use oktsec_scanner::guarantee;
use serde_json::json;
use std::collections::BTreeSet;

pub(super) fn list(global: &Global, rules: &RuleSet) -> Outcome {
    if global.json {
        let rules: Vec<_> = rules
            .rules
            .iter()
            .map(|rule| {
                let lower = rule.patterns.iter().filter_map(|pattern| pattern.severity);
                let lower: BTreeSet<_> = lower.collect();
                let lower: Vec<_> = lower.iter().map(|severity| severity.as_str()).collect();
                json!({
                    "id": rule.id,
                    "name": rule.name,
                    "severity": rule.severity.as_str(),
                    // Of some of its patterns.
                    "lower_severities": lower,
                    "category": rule.category,
                    "lane": rule.lane.as_str(),
                })
            })
            .collect();
        out::json(&rules.into())?;
        return Ok(Exit::Done);
    }
    out::line(format_args!(
        "Loaded {} detection rules:\n",
        rules.rules.len()
    ))?;
    for rule in &rules.rules {
        out::line(format_args!(
            "  {:<16} {:<10} {:<22} {}",
            rule.id,
            rule.severity.as_wire(),
            rule.category,
            out::printable(&rule.name)
        ))?;
    }
    Ok(Exit::Done)
}

pub(super) fn explain(global: &Global, rules: &RuleSet, id: &str) -> Outcome {
    let Some(rule) = rules.find(id) else {
        return Err(Failure::new(format_args!(
            "no rule {id:?}; `oktsec rules` lists them"
        )));
    };
    if global.json {
        let mut value = json!(rule);
        value["guarantee"] = guarantee(rule).as_str().into();
        out::json(&value)?;
        return Ok(Exit::Done);
    }
    let surfaces: Vec<_> = rule
        .surfaces
        .iter()
        .map(|surface| surface.as_str())
        .collect();
    let row = |name: &str, value: &str| {
        if value.is_empty() {
            Ok(())
        } else {
            out::line(format_args!("{name:<13} {}", out::printable(value)))
        }
    };
    row("Rule:", &rule.id)?;
    row("Name:", &rule.name)?;
    row("Severity:", rule.severity.as_wire())?;
    row("Category:", &rule.category)?;
    row("Surfaces:", &surfaces.join(", "))?;
    row("Lane:", rule.lane.as_str())?;
    // What scanning a body as it passes promises for it.
    row("In streams:", guarantee(rule).as_str())?;
    row("Description:", &rule.description)?;
    row("Remediation:", &rule.remediation)?;
    row("References:", &rule.references.join(", "))?;
    if let Some(known) = rule.known {
        row(
            "Finds:",
            match known {
                Known::Value => "what `oktsec secrets add` put into the store of known secrets",
                Known::Canary => "tokens planted with `oktsec secrets plant`",
                Known::Seen => "secrets that the sender was given lately, by somebody else",
            },
        )?;
        return Ok(Exit::Done);
    }
    out::line("Patterns:")?;
    for pattern in &rule.patterns {
        let (kind, text) = match &pattern.expression {
            Expression::Regex(text) => ("regex", text),
            Expression::Contains(text) => ("contains", text),
        };
        let lower = pattern.severity.map_or("", Severity::as_wire);
        let space = if lower.is_empty() { "" } else { " " };
        out::line(format_args!(
            "  [{kind}]{space}{lower} {}",
            out::printable(text)
        ))?;
    }
    for (title, examples) in [
        ("Found:", &rule.examples.matching),
        ("Not found:", &rule.examples.clean),
    ] {
        if !examples.is_empty() {
            out::line(title)?;
            for example in examples {
                out::line(format_args!("  {}", out::printable(example)))?;
            }
        }
    }
    Ok(Exit::Done)
}
