//! `oktsec rules lint`: what is refused, and what the engine would make slow.

use super::Files;
use crate::commands::Global;
use crate::exit::{Exit, Outcome};
use crate::out;
use oktsec_rules::{ProblemSeverity, Rule};
use oktsec_scanner::estimate;
use serde_json::json;

/// From here on a pattern is said to be dear. Eight hundred of them would take half of what a message may cost.
const NANOS_PER_KIB_MAX: f64 = 25.0;

pub(super) fn execute(global: &Global, files: &Files) -> Outcome {
    let chosen = files.choose(global)?;
    let refused = chosen
        .problems
        .iter()
        .any(|problem| problem.severity == ProblemSeverity::Error);
    let mut problems: Vec<String> = chosen.problems.iter().map(ToString::to_string).collect();
    let mut remarks = Vec::new();
    for rule in &chosen.rules.rules {
        remarks.extend(remarks_about(rule));
    }
    if global.json {
        out::json(&json!({
            "path": chosen.name,
            "ok": !refused,
            "rules": chosen.rules.rules.len(),
            "problems": problems,
            "remarks": remarks,
        }))?;
    } else {
        problems.extend(remarks);
        for problem in &problems {
            out::line(problem)?;
        }
        let verdict = if refused {
            "there are problems"
        } else {
            "fine"
        };
        out::line(format_args!(
            "{} rules: {verdict}",
            chosen.rules.rules.len()
        ))?;
    }
    Ok(if refused { Exit::Findings } else { Exit::Done })
}

/// What an author should know although the rule works.
fn remarks_about(rule: &Rule) -> Vec<String> {
    let mut remarks = Vec::new();
    for (at, pattern) in rule.patterns.iter().enumerate() {
        let number = at + 1;
        let Ok(estimate) = estimate(&pattern.expression) else {
            continue;
        };
        if estimate.asked.is_none() {
            remarks.push(format!(
                "rule {}: pattern {number} uses what the engine has no index for (half word boundaries, \\r\\n anchors); every text is searched for it one by one",
                rule.id
            ));
        } else if estimate.nanos_per_kib > NANOS_PER_KIB_MAX {
            remarks.push(format!(
                "rule {}: pattern {number} costs about {:.0} ns for each KiB of ordinary text; a literal of four bytes or more in every match, or a narrower first class, makes it cheap",
                rule.id, estimate.nanos_per_kib
            ));
        }
    }
    let unproven = rule.examples.matching.is_empty() || rule.examples.clean.is_empty();
    for (at, pattern) in rule.patterns.iter().enumerate() {
        let Some(severity) = pattern.severity else {
            continue;
        };
        if !rule
            .examples
            .expected
            .iter()
            .any(|one| one.severity == severity)
        {
            remarks.push(format!(
                "rule {}: pattern {} is only {}, and no example proves it: {{text: …, severity: {}}}",
                rule.id,
                at + 1,
                severity.as_str(),
                severity.as_str()
            ));
        }
    }
    if unproven && rule.known.is_none() {
        remarks.push(format!(
            "rule {}: nothing proves it: give examples that it must and must not find",
            rule.id
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::remarks_about;
    use oktsec_rules::load_text;

    fn remarks(pattern: &str) -> Vec<String> {
        let text = format!(
            "id: A\nseverity: low\ncategory: c\npatterns: [{{regex: '{pattern}'}}]\nexamples: {{match: [x], clean: [y]}}\n"
        );
        load_text("a.yaml", &text)
            .rules
            .iter()
            .flat_map(remarks_about)
            .collect()
    }

    #[test]
    fn a_pattern_worth_less_than_its_rule_asks_for_an_example() {
        let remarks = |example: &str| {
            let text = format!(
                "{{id: A, severity: high, category: c, patterns: [tight-one, {{contains: loose-one, severity: medium}}], \
                 examples: {{match: [tight-one, {example}], clean: [y]}}}}"
            );
            let rules = load_text("a.yaml", &text).rules;
            rules.iter().flat_map(remarks_about).collect::<Vec<_>>()
        };
        assert_eq!(remarks("{text: loose-one, severity: medium}"), [""; 0]);
        let [said] = &remarks("loose-one")[..] else {
            panic!("one remark")
        };
        assert!(said.contains("pattern 2 is only medium"), "{said}");
    }

    #[test]
    fn what_the_engine_cannot_index_is_said_and_a_plain_literal_is_fine() {
        assert_eq!(remarks("vault\\.acme\\.internal"), [""; 0]);
        assert!(
            remarks("\\b{start-half}[a-z]{3}")
                .iter()
                .any(|r| r.contains("no index"))
        );
        assert!(
            remarks("[a-z].{3}[a-z0-9]")
                .iter()
                .any(|r| r.contains("costs about"))
        );
    }
}
