//! A labelled file, text by text, to one verdict a line: what a rule set is worth on texts its authors never saw.
//!
//! Verdicts are those of severities and lanes, without a configuration's overrides. Holding counts as blocking.

use super::Chosen;
use crate::commands::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use flate2::read::MultiGzDecoder;
use oktsec_rules::{Lane, Severity, Surface};
use oktsec_scanner::{Database, Finding, Scanner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

/// Two bytes that every gzip file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

pub(super) fn score(
    global: &Global,
    chosen: &Chosen,
    corpus: &Path,
    out: Option<&Path>,
) -> Outcome {
    let named =
        |error: &dyn std::fmt::Display| Failure::new(format_args!("{}: {error}", corpus.display()));
    let database = chosen.compile()?;
    let mut scanner = Scanner::new(database.clone()).map_err(Failure::new)?;
    let mut verdicts: Box<dyn Write> = match out {
        Some(path) => {
            Box::new(BufWriter::new(File::create(path).map_err(|error| {
                Failure::new(format_args!("{}: {error}", path.display()))
            })?))
        }
        None => Box::new(BufWriter::new(std::io::stdout().lock())),
    };
    let mut tally = Tally::default();
    let mut lines = open(corpus).map_err(|error| named(&error))?;
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        if lines
            .read_until(b'\n', &mut line)
            .map_err(|error| named(&error))?
            == 0
        {
            break;
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let row: Value = serde_json::from_slice(&line)
            .map_err(|error| named(&format_args!("line {number}: {error}")))?;
        let Some(text) = row["text"].as_str() else {
            return Err(named(&format_args!("line {number}: no `text`")));
        };
        let surface = surface(row["channel"].as_str().unwrap_or_default());
        let begun = Instant::now();
        let scanned = scanner
            .scan(text.as_bytes(), surface)
            .map_err(|error| named(&format_args!("line {number}: {error}")))?;
        let us = begun.elapsed().as_secs_f64() * 1e6;
        let (verdict, categories, rules) = judge(&database, scanned.findings);
        tally.add(&row, verdict);
        let verdict = json!({
            "source": row["source"],
            "id": row["id"],
            "verdict": verdict.as_str(),
            "categories": categories,
            "us": (us * 10.0).round() / 10.0,
            "rules": rules,
        });
        writeln!(verdicts, "{verdict}")?;
    }
    verdicts.flush()?;
    drop(verdicts);
    if out.is_some() {
        if global.json {
            out::json(&tally.to_json())?;
        } else {
            tally.print()?;
        }
    }
    Ok(Exit::Done)
}

fn open(path: &Path) -> std::io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let is_gzip = file.fill_buf()?.starts_with(&GZIP);
    Ok(if is_gzip {
        Box::new(BufReader::with_capacity(1 << 20, MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    })
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Allow,
    Flag,
    Block,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Flag => "flag",
            Self::Block => "block",
        }
    }
}

/// Verdict, labels and rules of a text's findings. Only what acts counts.
fn judge<'a>(
    database: &'a Database,
    findings: &[Finding],
) -> (Verdict, Vec<&'a str>, Vec<&'a str>) {
    let mut verdict = Verdict::Allow;
    let (mut categories, mut rules) = (Vec::new(), Vec::new());
    for finding in findings {
        let at = usize::try_from(finding.rule).unwrap_or(usize::MAX);
        let Some(rule) = database.rules().get(at).filter(|r| r.lane == Lane::Enforce) else {
            continue;
        };
        let this = match rule.severity {
            Severity::Critical | Severity::High => Verdict::Block,
            Severity::Medium => Verdict::Flag,
            Severity::Low | Severity::Info => Verdict::Allow,
        };
        verdict = verdict.max(this);
        let label = label(&rule.category);
        if this > Verdict::Allow && !categories.contains(&label) {
            categories.push(label);
        }
        if !rules.contains(&rule.id.as_str()) {
            rules.push(&rule.id);
        }
    }
    (verdict, categories, rules)
}

/// Where a text of this channel would arrive.
fn surface(channel: &str) -> Surface {
    match channel {
        "tool_description" | "tool_args" | "tool_result" => Surface::Gateway,
        "http_body" | "url" => Surface::Egress,
        _ => Surface::Message,
    }
}

/// The word that labelled corpora use for a category of the catalog; others are their own.
fn label(category: &str) -> &str {
    match category {
        "credential-leak" | "crypto-wallet" => "credential",
        "prompt-injection" | "indirect-injection" | "inter-agent" | "memory-poisoning" => {
            "prompt_injection"
        }
        "command-execution" | "container-escape" | "tool-call" | "external-download"
        | "overeager" | "openclaw-config" | "supply-chain" => "command",
        "supply-chain-exfil" | "third-party-content" => "exfiltration",
        "ssrf-cloud" => "ssrf",
        "mcp-attack" | "mcp-config" => "tool_poisoning",
        "unicode-attack" => "unicode",
        other => other,
    }
}

/// How many texts of each label were flagged and blocked.
#[derive(Default)]
struct Tally(BTreeMap<(String, String), [u64; 3]>);

impl Tally {
    fn add(&mut self, row: &Value, verdict: Verdict) {
        let word = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        let group = if row["group"].is_string() {
            word("group")
        } else {
            word("category")
        };
        let counts = self.0.entry((word("label"), group)).or_default();
        counts[0] += 1;
        counts[1] += u64::from(verdict >= Verdict::Flag);
        counts[2] += u64::from(verdict >= Verdict::Block);
    }

    fn to_json(&self) -> Value {
        let rows: Vec<Value> = self
            .0
            .iter()
            .map(|((label, group), [texts, flagged, blocked])| {
                json!({"label": label, "group": group, "texts": texts, "flagged": flagged, "blocked": blocked})
            })
            .collect();
        rows.into()
    }

    fn print(&self) -> std::io::Result<()> {
        let mut table =
            crate::table::Table::new(&["LABEL", "GROUP", "TEXTS", "FLAGGED OR MORE", "BLOCKED"]);
        for ((label, group), [texts, flagged, blocked]) in &self.0 {
            table.row([
                label,
                group,
                &texts.to_string(),
                &flagged.to_string(),
                &blocked.to_string(),
            ]);
        }
        table.print()
    }
}
