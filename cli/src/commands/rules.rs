//! `oktsec rules`: what we look for, why, and whether your own rules are right.

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use crate::place::Place;
use oktsec_rules::{Expression, LoadedRules, ProblemSeverity, Rule, RuleProblem, RuleSet};
use oktsec_scanner::{Database, Scanner};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All of them, one, or a check.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Explain one rule
    #[arg(long, value_name = "ID")]
    explain: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Checks of rule files.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Check rule files: exit code 1 if something is refused
    Lint(Files),
    /// Check rule files and run their examples through the real scanner: exit code 1 if one fails
    Test(Files),
}

/// Which files.
#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    /// A rule file or a folder of them [default: custom_rules_dir of the configuration]
    path: Option<PathBuf>,
}

/// Lists, explains or checks.
pub(crate) fn execute(global: &Global, args: Args) -> Outcome {
    match args.command {
        Some(Command::Lint(files)) => check(global, &files, false),
        Some(Command::Test(files)) => check(global, &files, true),
        None => {
            let (rules, problems) = in_force(global);
            for problem in &problems {
                out::note(format_args!("oktsec: {problem}"));
            }
            match args.explain {
                Some(id) => explain(global, &rules, &id),
                None => list(global, &rules),
            }
        }
    }
}

/// Built-in rules, and those of the configuration if there is one.
fn in_force(global: &Global) -> (RuleSet, Vec<RuleProblem>) {
    let builtin = RuleSet::builtin();
    let custom = Place::find(global.config.as_deref())
        .ok()
        .and_then(|p| p.config.custom_rules_dir);
    let Some(dir) = custom else {
        return (builtin, Vec::new());
    };
    let LoadedRules {
        rules,
        mut problems,
    } = oktsec_rules::load_dir(&dir);
    let (all, clashes) = builtin.with_custom(rules);
    problems.extend(clashes);
    (all, problems)
}

fn list(global: &Global, rules: &RuleSet) -> Outcome {
    if global.json {
        let rules: Vec<_> = rules
            .rules
            .iter()
            .map(|rule| {
                json!({
                    "id": rule.id,
                    "name": rule.name,
                    "severity": rule.severity.as_str(),
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

fn explain(global: &Global, rules: &RuleSet, id: &str) -> Outcome {
    let Some(rule) = rules.find(id) else {
        return Err(Failure::new(format_args!(
            "no rule {id:?}; `oktsec rules` lists them"
        )));
    };
    if global.json {
        out::json(&json!(rule))?;
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
    row("Description:", &rule.description)?;
    row("Remediation:", &rule.remediation)?;
    row("References:", &rule.references.join(", "))?;
    out::line("Patterns:")?;
    for pattern in &rule.patterns {
        let (kind, text) = match &pattern.expression {
            Expression::Regex(text) => ("regex", text),
            Expression::Contains(text) => ("contains", text),
        };
        out::line(format_args!("  [{kind}] {}", out::printable(text)))?;
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

fn check(global: &Global, files: &Files, run_examples: bool) -> Outcome {
    let path = match &files.path {
        Some(path) => path.clone(),
        None => Place::find(global.config.as_deref())?
            .config
            .custom_rules_dir
            .ok_or_else(|| {
                Failure::new("custom_rules_dir is not set; name a rule file or a folder of them")
            })?,
    };
    let loaded = load(&path)?;
    let mut problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    let mut refused = loaded
        .problems
        .iter()
        .any(|p| p.severity == ProblemSeverity::Error);
    // Ids may clash with ours.
    let (_, clashes) = RuleSet::builtin().with_custom(loaded.rules.clone());
    refused |= clashes.iter().any(|p| p.severity == ProblemSeverity::Error);
    problems.extend(clashes.iter().map(ToString::to_string));
    let mut examples = 0;
    if run_examples {
        for rule in &loaded.rules {
            let failed = failed_examples(rule)?;
            examples += rule.examples.matching.len() + rule.examples.clean.len();
            refused |= !failed.is_empty();
            problems.extend(failed);
        }
    }
    if global.json {
        out::json(&json!({
            "path": path,
            "ok": !refused,
            "rules": loaded.rules.len(),
            "examples": run_examples.then_some(examples),
            "problems": problems,
        }))?;
    } else {
        for problem in &problems {
            out::line(problem)?;
        }
        let tried = if run_examples {
            format!(", {examples} examples")
        } else {
            String::new()
        };
        let verdict = if refused {
            "there are problems"
        } else {
            "fine"
        };
        out::line(format_args!(
            "{} rules{tried}: {verdict}",
            loaded.rules.len()
        ))?;
    }
    Ok(if refused { Exit::Findings } else { Exit::Done })
}

fn load(path: &Path) -> Result<LoadedRules, Failure> {
    if path.is_dir() {
        return Ok(oktsec_rules::load_dir(path));
    }
    let text = oktsec_contract::files::read_text(path, oktsec_rules::RULE_FILE_BYTES_MAX)
        .map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))?;
    Ok(oktsec_rules::load_text(&path.display().to_string(), &text))
}

/// Runs a rule's examples through a database of this rule alone, on the surfaces it is for.
fn failed_examples(rule: &Rule) -> Result<Vec<String>, Failure> {
    let id = &rule.id;
    let database = match Database::compile(&RuleSet::new(vec![rule.clone()])) {
        Ok(database) => Arc::new(database),
        Err(error) => return Ok(vec![format!("rule {id}: {error}")]),
    };
    let mut scanner = Scanner::new(database).map_err(Failure::new)?;
    let Some(&surface) = rule.surfaces.first() else {
        return Ok(Vec::new());
    };
    let mut failed = Vec::new();
    let expected = [
        (true, &rule.examples.matching),
        (false, &rule.examples.clean),
    ];
    for (wanted, examples) in expected {
        for example in examples {
            let found = scanner
                .scan(example.as_bytes(), surface)
                .map(|scanned| !scanned.findings.is_empty())
                .map_err(Failure::new)?;
            if found != wanted {
                let word = if wanted { "is not found" } else { "is found" };
                failed.push(format!(
                    "rule {id}: example {word}: {}",
                    out::printable(example)
                ));
            }
        }
    }
    Ok(failed)
}
