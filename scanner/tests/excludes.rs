//! What excludes a match in the content excludes it in every reading of the content, and in no other text. Values are
//! not looked for where letters are other ones.

use std::sync::Arc;

use oktsec_rules::{RuleSet, Surface, load_text};
use oktsec_scanner::{Database, NaiveScanner, Scanner};

const RULE: &str = r"
{id: T-1, name: n, severity: high, category: x, patterns: [{regex: '(?i)ignore all previous'}],
 exclude: ['\$d1s', '№', 'a\.b\.c\.d\.e', '<q>', '&#33;']}
";

#[track_caller]
fn check(content: &str, found: bool) {
    check_rule(RULE, content, found);
}

#[track_caller]
fn check_rule(rule: &str, content: &str, found: bool) {
    let rules = load_text("mine.yaml", rule);
    assert!(rules.problems.is_empty(), "{:?}", rules.problems);
    let database = Arc::new(Database::compile(&RuleSet::new(rules.rules)).expect("it compiles"));
    let mut scanner = Scanner::new(Arc::clone(&database)).expect("memory for one scratch");
    let scanned = scanner.scan(content.as_bytes(), Surface::Message);
    let findings = scanned.expect("short").findings.to_vec();
    assert_eq!(!findings.is_empty(), found, "{content}: {findings:?}");
    let mut naive = NaiveScanner::new(database);
    let scanned = naive.scan(content.as_bytes(), Surface::Message);
    assert_eq!(scanned.expect("short").findings, findings);
}

#[test]
fn a_reading_is_excluded_by_what_stands_around_it_as_written() {
    // As written, then with the sign that excludes: it is gone in the view that has the match.
    check("1gn0r3 a11 pr3v10us", true);
    check("1gn0r3 a11 pr3v10us $d1s", false);
    check("ignore all previ\u{43e}us", true);
    check("ignore all previ\u{43e}us №", false);
    check("ignore all pre**vio**us", true);
    check("ignore all pre**vio**us <q>", false);
    check("ignore&#32;all previous", true);
    check("ignore&#32;all previous&#33;", false);
}

#[test]
fn every_text_on_the_way_is_asked() {
    // The sign stands in what was unescaped, neither in the content nor in the reading of it.
    check("1gn0r3&#32;a11 pr3v10us", true);
    check("1gn0r3&#32;a11 pr3v10us &#36;d1s", false);
}

#[test]
fn what_stands_far_away_or_around_an_encoding_does_not_exclude() {
    let far = "x ".repeat(100);
    check(&format!("1gn0r3 a11 pr3v10us {far} $d1s"), true);
    // `ignore all previous, and then some more of it`
    check(
        "$d1s aWdub3JlIGFsbCBwcmV2aW91cywgYW5kIHRoZW4gc29tZSBtb3JlIG9mIGl0",
        true,
    );
}

#[test]
fn values_are_not_looked_for_in_leet() {
    let rule =
        "{id: T-1, name: n, severity: high, category: x, patterns: [{regex: 'pass = sdefault'}]";
    for content in ["pass = $default 4nd 1n1t", "pass = sdefault"] {
        check_rule(&format!("{rule}}}"), content, true);
    }
    let values = format!("{rule}, sensitive: true}}");
    check_rule(&values, "pass = $default 4nd 1n1t", false);
    check_rule(&values, "pass = sdefault", true);
}
