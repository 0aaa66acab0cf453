//! `oktsec rules import|export`: rules between formats. Whatever a format has no words for is said.

use super::{Files, load, write};
use crate::commands::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use oktsec_contract::files;
use oktsec_rules::{ProblemSeverity, RuleProblem, RuleSet};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What is read, and where it goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// Rule files or folders of them: ours, the Go version's, or what its tools generated
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Let them report at first and not act: lane `alert`
    #[arg(long)]
    alert: bool,
}

/// What is written, how and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    files: Files,
    /// oktsec (everything), aguara (the Go version's; it has no words for checks, lanes and surfaces) or json
    #[arg(long, default_value = "oktsec", value_parser = ["oktsec", "aguara", "json"], value_name = "FORMAT")]
    format: String,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn import(global: &Global, args: &Import) -> Outcome {
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    for path in &args.paths {
        let loaded = load(path)?;
        rules.extend(loaded.rules);
        problems.extend(loaded.problems);
    }
    let read = rules.len();
    let (set, clashes) = RuleSet::default().with_custom(rules);
    problems.extend(clashes);
    let mut rules = set.rules;
    if args.alert {
        for rule in &mut rules {
            if rule.lane == oktsec_rules::Lane::Enforce {
                rule.lane = oktsec_rules::Lane::Alert;
            }
        }
    }
    deliver(args.out.as_deref(), &write::ours(&rules))?;
    report(global, args.out.as_deref(), rules.len(), &problems)?;
    let refused = rules.len() < read
        || problems
            .iter()
            .any(|problem| problem.severity == ProblemSeverity::Error);
    Ok(if refused { Exit::Findings } else { Exit::Done })
}

pub(super) fn export(global: &Global, args: &Export) -> Outcome {
    let chosen = args.files.choose(global)?;
    let rules = &chosen.rules.rules;
    let is_theirs = args.format == "aguara";
    let written = rules
        .iter()
        .filter(|rule| !is_theirs || rule.known.is_none());
    let (text, lost) = match args.format.as_str() {
        "aguara" => write::theirs(rules),
        "json" => (format!("{:#}\n", json!(rules)), Vec::new()),
        _ => (write::ours(rules), Vec::new()),
    };
    deliver(args.out.as_deref(), &text)?;
    for remark in &lost {
        out::note(format_args!("oktsec: {remark}"));
    }
    report(
        global,
        args.out.as_deref(),
        written.count(),
        &chosen.problems,
    )?;
    Ok(Exit::Done)
}

fn deliver(out: Option<&Path>, text: &str) -> Result<(), Failure> {
    match out {
        Some(path) => files::replace(path, text.as_bytes(), 0o644)
            .map_err(|error| Failure::new(format_args!("{}: {error}", path.display()))),
        None => Ok(out::line(text.trim_end())?),
    }
}

/// Remarks go beside the result; with `--json` they are the result of writing to a file.
fn report(
    global: &Global,
    out: Option<&Path>,
    rules: usize,
    problems: &[RuleProblem],
) -> Result<(), Failure> {
    for problem in problems {
        out::note(format_args!("oktsec: {problem}"));
    }
    let Some(path) = out else { return Ok(()) };
    if global.json {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        out::json(&json!({ "path": path, "rules": rules, "problems": problems }))?;
    } else {
        out::note(format_args!("{rules} rules written to {}", path.display()));
    }
    Ok(())
}
