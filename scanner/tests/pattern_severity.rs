//! A pattern that says its own severity: what it finds is worth less than what the others of its rule find.

use std::sync::Arc;

use oktsec_rules::{RuleSet, Severity, Surface, load_text};
use oktsec_scanner::{Database, Limit, NaiveScanner, Scanner};

const RULES: &str = r"
category: x
rules:
  - id: T-1
    name: n
    severity: critical
    patterns:
      - {regex: 'drop[a-z ]{1,20}table', severity: medium}
      - {contains: drop the table}
      - {contains: drop it, severity: low}
  - id: T-2
    name: n
    severity: high
    in_code: medium
    patterns:
      - {contains: wipe the disk}
      - {contains: wipe, severity: low}
";

const CODE: &str = "fn clean() {\n    // wipe the disk\n    run(1);\n}\n";

fn database() -> Arc<Database> {
    let rules = load_text("mine.yaml", RULES);
    assert!(rules.problems.is_empty(), "{:?}", rules.problems);
    Arc::new(Database::compile(&RuleSet::new(rules.rules)).expect("it compiles"))
}

/// What each finding is, worst first, and whether a limit of findings was reached.
fn findings(content: &str) -> (Vec<(String, Severity)>, bool) {
    let database = database();
    let mut scanner = Scanner::new(Arc::clone(&database)).expect("memory for one scratch");
    let scanned = scanner.scan(content.as_bytes(), Surface::Message);
    let scanned = scanned.expect("short");
    let findings = scanned.findings.to_vec();
    let limited = scanned.limits.contains(Limit::Findings);
    let mut naive = NaiveScanner::new(Arc::clone(&database));
    let judged = naive.scan(content.as_bytes(), Surface::Message);
    assert_eq!(judged.expect("short").findings, findings);
    let rule = |rule: u32| &database.rules()[rule as usize];
    let all = findings.iter().map(|finding| rule(finding.rule));
    (
        all.map(|rule| (rule.id.clone(), rule.severity)).collect(),
        limited,
    )
}

#[track_caller]
fn check(content: &str, expected: &[(&str, Severity)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(id, severity)| ((*id).to_owned(), *severity))
        .collect();
    assert_eq!(findings(content).0, expected, "{content}");
}

#[test]
fn each_pattern_is_worth_what_it_says() {
    check("please drop every old table", &[("T-1", Severity::Medium)]);
    check("please drop it", &[("T-1", Severity::Low)]);
}

#[test]
fn where_two_patterns_match_the_worse_one_counts_whichever_is_written_first() {
    check("please drop the table", &[("T-1", Severity::Critical)]);
    check("please wipe the disk", &[("T-2", Severity::High)]);
}

#[test]
fn what_only_a_view_shows_is_not_hidden_by_a_loose_finding_at_the_same_place() {
    // Only folded it reads as the tight pattern; as it is, the loose one matches a part of it.
    let (found, _) = findings("please wipe th\u{435} disk");
    assert!(
        found.contains(&("T-2".to_owned(), Severity::High)),
        "{found:?}"
    );
}

#[test]
fn among_source_code_the_lower_of_both_counts() {
    check(CODE, &[("T-2", Severity::Medium)]);
    check(
        &CODE.replace("wipe the disk", "wipe"),
        &[("T-2", Severity::Low)],
    );
}

#[test]
fn however_many_loose_ones_come_first_the_worst_is_found() {
    let content = format!("{}please drop the table", "drop any table. ".repeat(700));
    let (found, limited) = findings(&content);
    assert_eq!(found[0], ("T-1".to_owned(), Severity::Critical));
    assert!(limited, "{}", found.len());
}

#[test]
fn rules_are_counted_once() {
    assert_eq!(database().rule_count(), 2);
}
