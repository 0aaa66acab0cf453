//! `oktsec rules test`: every example through both engines, or a labelled file through the real one.

use super::{Chosen, Files, corpus};
use crate::commands::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use oktsec_rules::{Lane, ProblemSeverity, Rule, RuleSet, Severity};
use oktsec_scanner::{Database, Finding, NaiveScanner, Scanner};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Which rules, on what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Labelled texts instead of examples, JSON lines with source, id and text, perhaps gzipped
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Where the verdicts about them are written, one a line [default: standard output]
    #[arg(long, value_name = "FILE", requires = "corpus")]
    out: Option<PathBuf>,
}

pub(super) fn execute(global: &Global, args: &Args) -> Outcome {
    if let Some(corpus) = &args.corpus {
        let chosen = match &args.files.path {
            Some(path) => super::own(path)?,
            // Verdicts of a part of the rules would be nobody's.
            None => super::in_force(global),
        };
        return corpus::score(global, &chosen, corpus, args.out.as_deref());
    }
    let chosen = args.files.choose(global)?;
    let mut problems: Vec<String> = chosen.problems.iter().map(ToString::to_string).collect();
    let mut wrong = chosen
        .problems
        .iter()
        .any(|problem| problem.severity == ProblemSeverity::Error);
    let (examples, failed) = run(&chosen)?;
    wrong |= !failed.is_empty();
    problems.extend(failed);
    let rules = chosen.rules.rules.len();
    if global.json {
        out::json(&json!({
            "path": chosen.name,
            "ok": !wrong,
            "rules": rules,
            "examples": examples,
            "problems": problems,
        }))?;
    } else {
        for problem in &problems {
            out::line(problem)?;
        }
        let verdict = if wrong { "there are problems" } else { "fine" };
        out::line(format_args!(
            "{rules} rules, {examples} examples: {verdict}"
        ))?;
    }
    Ok(if wrong { Exit::Findings } else { Exit::Done })
}

/// How many examples there are, and what is wrong with them.
fn run(chosen: &Chosen) -> Result<(usize, Vec<String>), Failure> {
    // All rules together, as they are served: a rule that only works alone does not work.
    let database = chosen.compile()?;
    let mut scanner = Scanner::new(Arc::clone(&database)).map_err(Failure::new)?;
    let (mut examples, mut failed) = (0, Vec::new());
    for rule in &chosen.rules.rules {
        if rule.lane == Lane::Off {
            continue;
        }
        examples += rule.examples.matching.len() + rule.examples.clean.len();
        failed.extend(failed_examples(rule, &database, &mut scanner)?);
    }
    Ok((examples, failed))
}

/// Runs a rule's examples on the first surface it is for. The naive engine judges with this rule alone: it takes
/// each pattern one by one, and what it says about one rule does not depend on the others.
fn failed_examples(
    rule: &Rule,
    database: &Database,
    scanner: &mut Scanner,
) -> Result<Vec<String>, Failure> {
    let Some(&surface) = rule.surfaces.first() else {
        return Ok(Vec::new());
    };
    let alone = Database::compile(&RuleSet::new(vec![rule.clone()])).map_err(Failure::new)?;
    let alone = Arc::new(alone);
    let mut naive = NaiveScanner::new(Arc::clone(&alone));
    let mut failed = Vec::new();
    let examples = &rule.examples;
    let expected = (0..).map(|at| examples.expected_of(at));
    let wanted = examples.matching.iter().zip(expected);
    let wanted = wanted.map(|(text, expected)| (text, true, expected));
    let unwanted = examples.clean.iter().map(|text| (text, false, None));
    for (example, wanted, expected) in wanted.chain(unwanted) {
        let mut say = |what: &str| {
            failed.push(format!(
                "rule {}: example {what}: {}",
                rule.id,
                out::printable(example)
            ));
        };
        let seen = scanner
            .scan(example.as_bytes(), surface)
            .map_err(Failure::new)?;
        let worst = worst(seen.findings, database, rule);
        let seen = places(seen.findings, database, rule);
        let judged = naive
            .scan(example.as_bytes(), surface)
            .map_err(Failure::new)?;
        let judged = places(judged.findings, &alone, rule);
        match (wanted, seen.is_empty()) {
            (true, true) => say("is not found"),
            (false, false) => say("is found"),
            (true, false) | (false, true) => {}
        }
        if let (Some(expected), Some(worst)) = (expected, worst)
            && expected != worst
        {
            say(&format!("is {}, not {}", worst.as_str(), expected.as_str()));
        }
        if seen != judged {
            say(&format!(
                "is seen differently by the two engines ({} and {} findings)",
                seen.len(),
                judged.len()
            ));
        }
    }
    Ok(failed)
}

/// The findings of a rule, and how bad each is.
fn of_rule<'a>(
    findings: &'a [Finding],
    database: &'a Database,
    rule: &'a Rule,
) -> impl Iterator<Item = (&'a Finding, Severity)> {
    findings.iter().filter_map(|finding| {
        let at = usize::try_from(finding.rule).unwrap_or(usize::MAX);
        let of = database.rules().get(at).filter(|of| of.id == rule.id)?;
        Some((finding, of.severity))
    })
}

fn worst(findings: &[Finding], database: &Database, rule: &Rule) -> Option<Severity> {
    let all = of_rule(findings, database, rule);
    all.map(|(_, severity)| severity).max()
}

/// Where a rule was found, in which view, and how bad that is.
fn places(findings: &[Finding], database: &Database, rule: &Rule) -> Vec<(u32, u32, u8, Severity)> {
    let place = |(finding, severity): (&Finding, Severity)| {
        let span = &finding.span;
        (span.start, span.end, finding.view as u8, severity)
    };
    let mut places: Vec<_> = of_rule(findings, database, rule).map(place).collect();
    places.sort_unstable();
    places
}
