//! One sentence that overrides instructions, in every disguise of `testdata/evasions.jsonl`.
//!
//! Each is found by the built-in rules, and by both engines alike.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use oktsec_rules::{RuleSet, Severity, Surface};
use oktsec_scanner::{Database, NaiveScanner, Scanner};
use serde_json::Value;

#[test]
fn a_known_attack_is_found_in_every_disguise() {
    let cases: Vec<Value> = include_str!("../testdata/evasions.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(cases.len() > 70);
    let database = Arc::new(Database::compile(&RuleSet::builtin()).unwrap());
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
