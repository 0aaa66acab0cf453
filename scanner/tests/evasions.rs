//! One sentence that overrides instructions, in every disguise of `testdata/evasions.jsonl`.
//!
//! Each is found by the built-in rules, and by both engines alike.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::{Arc, LazyLock};

use oktsec_rules::{RuleSet, Severity, Surface};
use oktsec_scanner::{Database, Finding, NaiveScanner, Scanner};
use serde_json::Value;

static DATABASE: LazyLock<Arc<Database>> =
    LazyLock::new(|| Arc::new(Database::compile(&RuleSet::builtin()).unwrap()));

#[test]
fn what_spans_a_border_is_found_by_looking_at_the_border_only() {
    let rules = RuleSet::builtin();
    let database = Arc::clone(&DATABASE);
    let mut scanner = Scanner::new(database).unwrap();
    let mut spanning = 0;
    let examples = rules.rules.iter().flat_map(|rule| &rule.examples.matching);
    for text in examples.filter(|text| text.len() < 1024) {
        let text = text.as_bytes();
        for border in [text.len() / 3, text.len() / 2, text.len() * 3 / 4] {
            let spans = |finding: &&Finding| {
                let span = finding.span.start as usize..finding.span.end as usize;
                span.start < border && border < span.end
            };
            let whole = scanner.scan(text, Surface::Message).unwrap();
            let whole: Vec<Finding> = whole.findings.iter().filter(spans).cloned().collect();
            let across = scanner.scan_across(text, border..border, Surface::Message);
            let across = across.unwrap().findings;
            for finding in &whole {
                let text = String::from_utf8_lossy(text);
                assert!(
                    across.contains(finding),
                    "{finding:?} in {text:?} at {border}"
                );
            }
            spanning += whole.len();
        }
    }
    assert!(spanning > 3000, "{spanning}");
}

#[test]
fn a_known_attack_is_found_in_every_disguise() {
    let cases: Vec<Value> = include_str!("../testdata/evasions.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(cases.len() > 70);
    let database = Arc::clone(&DATABASE);
    let mut scanner = Scanner::new(Arc::clone(&database)).unwrap();
    let mut naive = NaiveScanner::new(Arc::clone(&database));
    let mut missed = Vec::new();
    for case in &cases {
        let (name, text) = (
            case["name"].as_str().unwrap(),
            case["text"].as_str().unwrap(),
        );
        let scanned = scanner.scan(text.as_bytes(), Surface::Message).unwrap();
        let acts = |rule: u32| {
            let rule = &database.rules()[rule as usize];
            rule.severity >= Severity::High && rule.category == "prompt-injection"
        };
        if !scanned.findings.iter().any(|finding| acts(finding.rule)) {
            missed.push(name);
        }
        let slow = naive.scan(text.as_bytes(), Surface::Message).unwrap();
        assert_eq!(scanned.findings, slow.findings, "{name}");
    }
    assert!(missed.is_empty(), "{missed:?}");
}
