//! `docs/detection.md` names what the catalog holds, and its example of a rule loads.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use oktsec_rules::{Check, RuleSet, load_text};
use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../docs/detection.md");

/// What stands between back quotes in the first cells of the tables below a heading.
fn named_below(heading: &str) -> BTreeSet<&'static str> {
    let (_, section) = DOCUMENT.split_once(heading).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let first_cells = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    first_cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .flat_map(|quoted| quoted.split(' '))
        .collect()
}

#[test]
fn the_table_of_categories_is_complete_and_names_no_other() {
    let rules = RuleSet::builtin().rules;
    let categories: BTreeSet<&str> = rules.iter().map(|rule| rule.category.as_str()).collect();
    assert_eq!(named_below("\n## The catalog\n"), categories);
}

#[test]
fn every_check_that_a_rule_of_the_catalog_asks_for_is_documented_and_no_other_is() {
    let documented = named_below("\n| check | passes |\n");
    for word in &documented {
        let known = word.replace("<bits>", "3").parse::<Check>();
        assert!(known.is_ok(), "{word}");
    }
    for rule in RuleSet::builtin().rules {
        for check in rule.patterns.iter().flat_map(|pattern| &pattern.checks) {
            let word = check.to_string();
            let word = match word.starts_with("entropy:") {
                true => "entropy:<bits>",
                false => &word,
            };
            assert!(documented.contains(word), "{}: {word}", rule.id);
        }
    }
}

#[test]
fn the_example_of_a_rule_loads() {
    let (_, example) = DOCUMENT.split_once("```yaml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let loaded = load_text("example.yaml", example);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    assert_eq!(loaded.rules.len(), 1);
}
