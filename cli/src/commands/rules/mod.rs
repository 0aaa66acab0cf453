//! `oktsec rules`: what we look for, why, what it costs, and whether your own rules are right.

mod bench;
mod convert;
mod corpus;
mod lint;
mod show;
mod test;
mod write;

use super::Global;
use crate::exit::{Failure, Outcome};
use crate::out;
use crate::place::Place;
use oktsec_rules::{LoadedRules, RuleProblem, RuleSet};
use oktsec_scanner::Database;
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

/// Checks and conversions of rule files.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Check rule files and say what the engine would make slow: exit code 1 if something is refused
    Lint(Files),
    /// Run every example through both engines, or a labelled file: exit code 1 if an example fails
    Test(test::Args),
    /// Measure what each rule costs: on ordinary text, and on the worst text found for it
    Bench(bench::Args),
    /// Write rules of another format in ours
    Import(convert::Import),
    /// Write rules to a file: ours, the Go version's, or JSON
    Export(convert::Export),
}

/// Which rules.
#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    /// A rule file or a folder of them [default: custom_rules_dir of the configuration, else the catalog]
    path: Option<PathBuf>,
    /// Every rule in force: the catalog and your own
    #[arg(long, conflicts_with = "path")]
    all: bool,
}

/// Lists, explains, checks or converts.
pub(crate) fn execute(global: &Global, args: Args) -> Outcome {
    match args.command {
        Some(Command::Lint(files)) => lint::execute(global, &files),
        Some(Command::Test(args)) => test::execute(global, &args),
        Some(Command::Bench(args)) => bench::execute(global, &args),
        Some(Command::Import(args)) => convert::import(global, &args),
        Some(Command::Export(args)) => convert::export(global, &args),
        None => {
            let Chosen {
                rules, problems, ..
            } = in_force(global);
            for problem in &problems {
                out::note(format_args!("oktsec: {problem}"));
            }
            match args.explain {
                Some(id) => show::explain(global, &rules, &id),
                None => show::list(global, &rules),
            }
        }
    }
}

/// Rules that a command works on.
struct Chosen {
    /// Where they come from, for people.
    name: String,
    rules: RuleSet,
    /// What was refused or has no effect.
    problems: Vec<RuleProblem>,
    /// Where compiled patterns of the running server are kept, if there is such a place.
    cache: Option<PathBuf>,
}

impl Files {
    fn choose(&self, global: &Global) -> Result<Chosen, Failure> {
        if self.all {
            return Ok(in_force(global));
        }
        if let Some(path) = &self.path {
            return own(path);
        }
        let configured = Place::find(global.config.as_deref())
            .ok()
            .and_then(|place| place.config.custom_rules_dir);
        match configured {
            Some(dir) => own(&dir),
            None => Ok(in_force(global)),
        }
    }
}

/// The catalog, and the rules of the configuration if there is one that loads.
fn in_force(global: &Global) -> Chosen {
    match Place::find_with_rules(global.config.as_deref()) {
        Ok(found) => Chosen {
            name: String::from("rules in force"),
            rules: found.rules,
            problems: found.problems,
            cache: Some(found.place.paths.rules_cache).filter(|folder| folder.is_dir()),
        },
        Err(_) => Chosen {
            name: String::from("catalog"),
            rules: RuleSet::builtin(),
            problems: RuleSet::builtin_problems(),
            cache: None,
        },
    }
}

/// The rules of a file or folder by themselves; ids that clash with the catalog's are problems.
fn own(path: &Path) -> Result<Chosen, Failure> {
    let LoadedRules {
        rules,
        mut problems,
    } = load(path)?;
    let (_, clashes) = RuleSet::builtin().with_custom(rules.clone());
    problems.extend(clashes);
    Ok(Chosen {
        name: path.display().to_string(),
        rules: RuleSet::new(rules),
        problems,
        cache: None,
    })
}

fn load(path: &Path) -> Result<LoadedRules, Failure> {
    if path.is_dir() {
        return Ok(oktsec_rules::load_dir(path));
    }
    let text = oktsec_contract::files::read_text(path, oktsec_rules::RULE_FILE_BYTES_MAX)
        .map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))?;
    Ok(oktsec_rules::load_text(&path.display().to_string(), &text))
}

impl Chosen {
    /// Compiled; hundreds of rules take a while unless a server has compiled them already.
    fn compile(&self) -> Result<Arc<Database>, Failure> {
        let database = match &self.cache {
            Some(folder) => {
                Database::load_or_compile(&self.rules, folder).map(|(database, _)| database)
            }
            None => Database::compile(&self.rules),
        };
        database.map(Arc::new).map_err(Failure::new)
    }
}
