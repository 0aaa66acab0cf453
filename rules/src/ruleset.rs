//! Everything one snapshot looks for.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ProblemSeverity, Rule, RuleProblem, load_text};

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

    /// SHA-256 over everything in the set: the same rules in the same order have the same hash.
    pub fn hash(&self) -> [u8; 32] {
        let text = serde_json::to_vec(self).expect("rules are plain data: strings, lists, enums");
        Sha256::digest(&text).into()
    }

    /// The rule with this id, in any case.
    pub fn find(&self, id: &str) -> Option<&Rule> {
        self.rules
            .iter()
            .find(|rule| rule.id.eq_ignore_ascii_case(id))
    }
}
