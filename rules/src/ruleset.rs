//! Everything one snapshot looks for.

use std::collections::HashMap;
use std::io::BufWriter;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Examples, Expression, Known, Lane, MatchMode, Pattern, ProblemSeverity, Rule, RuleProblem,
    Severity, Surface, load_text,
};

include!(concat!(env!("OUT_DIR"), "/catalog.rs"));

/// The rules of a snapshot. Invariant: ids are unique, in any case of their letters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleSet {
    /// In catalog order, then custom rules in the order of their files.
    pub rules: Vec<Rule>,
}

impl RuleSet {
    /// A set of these rules; of rules that share an id the first one stays.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self::default().with_custom(rules).0
    }

    /// The catalog built into the program.
    pub fn builtin() -> Self {
        let mut rules = Vec::new();
        for (name, text) in CATALOG {
            rules.extend(load_text(name, text).rules);
        }
        Self::new(rules)
    }

    /// The problems of the built-in catalog: empty, and a test says so.
    pub fn builtin_problems() -> Vec<RuleProblem> {
        CATALOG
            .iter()
            .flat_map(|(name, text)| load_text(name, text).problems)
            .collect()
    }

    /// Adds an operator's rules. A rule whose id exists is refused, unless it says
    /// `override: true`; then it takes the other's place.
    pub fn with_custom(mut self, custom: Vec<Rule>) -> (Self, Vec<RuleProblem>) {
        let mut problems = Vec::new();
        let mut by_id: HashMap<String, usize> = self
            .rules
            .iter()
            .enumerate()
            .map(|(at, rule)| (rule.id.to_ascii_lowercase(), at))
            .collect();
        for rule in custom {
            let id = rule.id.to_ascii_lowercase();
            match by_id.get(&id) {
                None => {
                    by_id.insert(id, self.rules.len());
                    self.rules.push(rule);
                }
                Some(&at) if rule.overrides => self.rules[at] = rule,
                Some(_) => problems.push(RuleProblem {
                    file: "rules".to_owned(),
                    line: None,
                    reason: "this id is taken; choose another one, or write `override: true` \
                             to replace the existing rule"
                        .to_owned(),
                    rule: Some(rule.id),
                    severity: ProblemSeverity::Error,
                }),
            }
        }
        (self, problems)
    }

    /// The rules without what only people read: descriptions, references and examples, which are most of a
    /// catalog's bytes. What is decided, recorded and answered is the same, and so is [`Self::hash`].
    #[must_use]
    pub fn for_deciding(&self) -> Self {
        let rules = self.rules.iter().map(|rule| Rule {
            description: String::new(),
            references: Vec::new(),
            examples: Examples::default(),
            ..rule.clone()
        });
        Self {
            rules: rules.collect(),
        }
    }

    /// SHA-256 over everything that a decision, a record or an answer depends on: the same rules in the same
    /// order have the same hash.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = BufWriter::with_capacity(16 << 10, Sha256::new());
        for rule in &self.rules {
            // PERF: as JSON, which looks at every character, the catalog took 4.1 ms.
            postcard::to_io(&Deciding::of(rule), &mut hash)
                .expect("rules are plain data, and a hash takes every byte");
        }
        let hash = hash
            .into_inner()
            .unwrap_or_else(|_| unreachable!("a hash takes every byte"));
        hash.finalize().into()
    }

    /// The rule with this id, in any case.
    pub fn find(&self, id: &str) -> Option<&Rule> {
        self.rules
            .iter()
            .find(|rule| rule.id.eq_ignore_ascii_case(id))
    }
}

/// What of a rule is hashed.
#[derive(Serialize)]
struct Deciding<'r> {
    id: &'r str,
    name: &'r str,
    category: &'r str,
    severity: Severity,
    remediation: &'r str,
    surfaces: &'r [Surface],
    lane: Lane,
    match_mode: MatchMode,
    patterns: &'r [Pattern],
    known: Option<Known>,
    exclude: &'r [Expression],
    in_code: Option<Severity>,
    sensitive: bool,
}

impl<'r> Deciding<'r> {
    /// Names every field, so that a new one cannot be forgotten.
    fn of(rule: &'r Rule) -> Self {
        let Rule {
            id,
            name,
            category,
            severity,
            description: _,
            remediation,
            references: _,
            surfaces,
            lane,
            match_mode,
            patterns,
            known,
            exclude,
            in_code,
            sensitive,
            overrides: _,
            examples: _,
        } = rule;
        Self {
            id,
            name,
            category,
            severity: *severity,
            remediation,
            surfaces,
            lane: *lane,
            match_mode: *match_mode,
            patterns,
            known: *known,
            exclude,
            in_code: *in_code,
            sensitive: *sensitive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RuleSet;
    use crate::{Lane, Severity, load_text};

    fn one_rule() -> RuleSet {
        let text = "{id: T-1, name: N, severity: low, category: c, description: d, remediation: r, \
                    references: [CWE-1], patterns: [{contains: abc}], examples: {match: [abc], clean: [x]}}";
        RuleSet::new(load_text("t.yaml", text).rules)
    }

    #[test]
    fn texts_for_people_stay_behind_and_change_no_hash() {
        let whole = one_rule();
        let deciding = whole.for_deciding();
        assert_eq!(deciding.hash(), whole.hash());
        let (before, after) = (&whole.rules[0], &deciding.rules[0]);
        assert_ne!(before, after);
        assert!(after.description.is_empty() && after.references.is_empty());
        assert!(after.examples.matching.is_empty() && after.examples.clean.is_empty());
        // Answers hold the remediation.
        assert_eq!(after.remediation, before.remediation);
        assert_eq!(after.patterns, before.patterns);
    }

    #[test]
    fn whatever_decides_changes_the_hash() {
        let change: [fn(&mut crate::Rule); 8] = [
            |rule| rule.severity = Severity::High,
            |rule| rule.lane = Lane::Shadow,
            |rule| rule.patterns.clear(),
            |rule| rule.surfaces.clear(),
            |rule| rule.remediation.clear(),
            |rule| rule.sensitive = true,
            |rule| rule.in_code = Some(Severity::Info),
            |rule| rule.patterns[0].severity = Some(Severity::Info),
        ];
        for (at, change) in change.into_iter().enumerate() {
            let mut rules = one_rule();
            change(&mut rules.rules[0]);
            assert_ne!(rules.hash(), one_rule().hash(), "change {at}");
        }
        let mut twice = one_rule();
        twice.rules.extend(one_rule().rules);
        assert_ne!(twice.hash(), one_rule().hash());
    }
}
