//! `oktsec rules bench`: what each rule adds to a scan, on ordinary text and on the worst text we find for it.
//!
//! A rule is measured alone: the time of a scan with it, less that of a scan with a rule that never matches. Its
//! ordinary text are the harmless examples of all rules; its worst text is built of its own examples, whole and
//! cut short, because what nearly matches is dearest. Times are the least of several runs.

use super::Files;
use crate::commands::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use crate::table::Table;
use oktsec_rules::{Lane, Rule, RuleSet, Surface, load_text};
use oktsec_scanner::{Database, Scanner};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

/// Bytes of each text.
const TEXT_BYTES: usize = 16 << 10;
/// Ordinary texts measured.
const TEXTS_MAX: usize = 12;
/// Runs of which the least counts.
const RUNS: usize = 5;
/// What no text holds.
const NEVER: &str = "{id: NEVER, severity: low, category: none, patterns: [{contains: \"\\x01\\x02never\\x03\\x04\"}]}";

/// Which rules, which part of the list.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Only this rule
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// The dearest so many
    #[arg(long, default_value_t = 40, value_name = "N")]
    limit: usize,
}

struct Cost<'a> {
    rule: &'a Rule,
    ordinary_ns: f64,
    worst_ns: f64,
    kib: usize,
    compile_ms: f64,
}

pub(super) fn execute(global: &Global, args: &Args) -> Outcome {
    let chosen = args.files.choose(global)?;
    let rules: Vec<&Rule> = match &args.rule {
        None => chosen
            .rules
            .rules
            .iter()
            .filter(|rule| rule.lane != Lane::Off)
            .collect(),
        Some(id) => vec![chosen.rules.find(id).ok_or_else(|| {
            Failure::new(format_args!("no rule {id:?} among the {}", chosen.name))
        })?],
    };
    let ordinary = ordinary_texts(&RuleSet::builtin());
    let never = load_text("never", NEVER).rules;
    let mut base = scanner(RuleSet::new(never))?;
    let base_ordinary = least(&mut base, &ordinary)?;
    let mut costs = Vec::with_capacity(rules.len());
    for rule in rules {
        let begun = Instant::now();
        let mut scanner = scanner(RuleSet::new(vec![rule.clone()]))?;
        let compile_ms = begun.elapsed().as_secs_f64() * 1e3;
        let spent = least(&mut scanner, &ordinary)?;
        let mut worst_ns: f64 = 0.0;
        for text in worst_texts(rule) {
            let text = [text];
            let with = least(&mut scanner, &text)?;
            worst_ns = worst_ns.max(with - least(&mut base, &text)?);
        }
        let ordinary_ns = (spent - base_ordinary).max(0.0);
        costs.push(Cost {
            rule,
            ordinary_ns,
            worst_ns: worst_ns.max(ordinary_ns),
            kib: scanner.database().size_bytes() >> 10,
            compile_ms,
        });
    }
    costs.sort_by(|a, b| b.worst_ns.total_cmp(&a.worst_ns));
    show(global, &costs, args.limit)?;
    Ok(Exit::Done)
}

fn show(global: &Global, costs: &[Cost<'_>], limit: usize) -> Result<(), Failure> {
    if global.json {
        let costs: Vec<_> = costs
            .iter()
            .map(|cost| {
                json!({
                    "id": cost.rule.id,
                    "ns_per_kib": cost.ordinary_ns,
                    "worst_ns_per_kib": cost.worst_ns,
                    "database_kib": cost.kib,
                    "compile_ms": cost.compile_ms,
                })
            })
            .collect();
        out::json(&costs.into())?;
        return Ok(());
    }
    let mut table = Table::new(&[
        "RULE",
        "NS/KIB",
        "WORST NS/KIB",
        "DATABASE KIB",
        "COMPILE MS",
    ]);
    for cost in costs.iter().take(limit) {
        table.row([
            &cost.rule.id,
            &format!("{:.1}", cost.ordinary_ns),
            &format!("{:.1}", cost.worst_ns),
            &cost.kib.to_string(),
            &format!("{:.1}", cost.compile_ms),
        ]);
    }
    table.print()?;
    let sum: f64 = costs.iter().map(|cost| cost.ordinary_ns).sum();
    out::note(format_args!(
        "{} rules, {sum:.0} ns/KiB one by one; together they share most of the work",
        costs.len()
    ));
    Ok(())
}

fn scanner(rules: RuleSet) -> Result<Scanner, Failure> {
    let database = Database::compile(&rules).map_err(Failure::new)?;
    Scanner::new(Arc::new(database)).map_err(Failure::new)
}

/// Nanoseconds for each KiB: the least of several runs over all texts.
fn least(scanner: &mut Scanner, texts: &[String]) -> Result<f64, Failure> {
    let mut least = f64::MAX;
    for _ in 0..RUNS {
        let begun = Instant::now();
        for text in texts {
            scanner
                .scan(text.as_bytes(), Surface::Message)
                .map_err(Failure::new)?;
        }
        least = least.min(begun.elapsed().as_secs_f64());
    }
    let bytes: usize = texts.iter().map(String::len).sum();
    Ok(least * 1e9 / (bytes as f64 / 1_024.0))
}

/// The harmless examples of all rules, dealt out to a few texts: prose, code, logs and configuration in turn.
fn ordinary_texts(rules: &RuleSet) -> Vec<String> {
    let mut texts = vec![String::new(); TEXTS_MAX];
    let examples = rules.rules.iter().flat_map(|rule| &rule.examples.clean);
    for (at, example) in examples.enumerate() {
        let text = &mut texts[at % TEXTS_MAX];
        if text.len() + example.len() < TEXT_BYTES {
            text.push_str(example);
            text.push('\n');
        }
    }
    texts.retain(|text| !text.is_empty());
    texts
}

/// Texts that keep the rule busy: its examples again and again, whole, without their ends, and a letter changed.
fn worst_texts(rule: &Rule) -> Vec<String> {
    let mut texts = Vec::new();
    for example in rule.examples.matching.iter().take(3) {
        let chars: Vec<char> = example.chars().collect();
        let cut: String = chars[..chars.len() - chars.len() / 4].iter().collect();
        let mut bent = chars.clone();
        if let Some(middle) = bent.get_mut(chars.len() / 2) {
            *middle = '~';
        }
        for part in [example.clone(), cut, bent.iter().collect()] {
            if part.is_empty() {
                continue;
            }
            let mut text = String::with_capacity(TEXT_BYTES + part.len());
            while text.len() < TEXT_BYTES {
                text.push_str(&part);
                text.push(' ');
            }
            texts.push(text);
        }
    }
    texts
}
