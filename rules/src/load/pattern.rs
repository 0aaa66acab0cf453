//! What a rule finds: its patterns, what excludes them, and the examples that prove it.

use serde_yaml::{Mapping, Value};

use super::rule::{Reader, strings};
use crate::context;
use crate::{Check, Examples, Expression, Pattern};

/// Patterns of one rule.
const PATTERNS_MAX: usize = 512;

impl Reader<'_> {
    pub(super) fn patterns(&mut self) -> Option<Vec<Pattern>> {
        let empty = Vec::new();
        let list = match self.map.get("patterns") {
            Some(Value::Sequence(list)) => list,
            Some(_) => {
                self.refuse("`patterns` must be a list");
                return None;
            }
            None => &empty,
        };
        if list.is_empty() || list.len() > PATTERNS_MAX {
            self.refuse(format!(
                "a rule needs 1 to {PATTERNS_MAX} patterns, this has {}",
                list.len()
            ));
            return None;
        }
        let mut patterns = Vec::with_capacity(list.len());
        for (at, value) in list.iter().enumerate() {
            let at = at + 1;
            let Some(expression) = self.expression(value, &format!("pattern {at}")) else {
                continue;
            };
            let mut pattern = Pattern {
                expression,
                checks: Vec::new(),
                near: None,
            };
            if let Value::Mapping(map) = value {
                for word in strings(map.get("check")) {
                    match word.parse::<Check>() {
                        Ok(check) => pattern.checks.push(check),
                        Err(error) => self.refuse(format!("pattern {at}: {error}")),
                    }
                }
                if let Some(near) = map.get("near") {
                    pattern.near = self.expression(near, &format!("`near` of pattern {at}"));
                }
                for key in map.keys().filter_map(Value::as_str) {
                    if !["regex", "contains", "type", "value", "check", "near"].contains(&key) {
                        self.warn(format!("pattern {at}: unknown key {key:?} has no effect"));
                    }
                }
            }
            patterns.push(pattern);
        }
        Some(patterns)
    }

    pub(super) fn excludes(&mut self) -> Vec<Expression> {
        let mut excludes = Vec::new();
        for key in ["exclude", "exclude_patterns"] {
            match self.map.get(key) {
                None | Some(Value::Null) => {}
                Some(Value::Sequence(list)) => {
                    for (at, value) in list.iter().enumerate() {
                        let what = format!("`{key}` {}", at + 1);
                        match value.get("context").and_then(Value::as_str) {
                            Some(name) => match context::named(name) {
                                Some(expressions) => excludes.extend(
                                    expressions
                                        .iter()
                                        .map(|text| Expression::Regex((*text).to_owned())),
                                ),
                                None => self.refuse(format!(
                                    "{what}: no context {name:?}; there is {}",
                                    context::NAMES
                                )),
                            },
                            None => excludes.extend(self.expression(value, &what)),
                        }
                    }
                }
                Some(_) => self.refuse(format!("`{key}` must be a list")),
            }
        }
        excludes
    }

    /// A string is a regex; a mapping names its kind in one of two ways.
    fn expression(&mut self, value: &Value, what: &str) -> Option<Expression> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let expression = match value {
            Value::String(text) => Expression::Regex(text.clone()),
            Value::Mapping(_) => match (text("regex"), text("contains"), text("type")) {
                (Some(regex), None, None) => Expression::Regex(regex),
                (None, Some(literal), None) => Expression::Contains(literal),
                (None, None, Some(kind)) => match (kind.as_str(), text("value")) {
                    ("regex", Some(value)) => Expression::Regex(value),
                    ("contains", Some(value)) => Expression::Contains(value),
                    (_, None) => {
                        self.refuse(format!("{what} has no text under `value`"));
                        return None;
                    }
                    (kind, Some(_)) => {
                        self.refuse(format!(
                            "{what}: type {kind:?} is neither regex nor contains"
                        ));
                        return None;
                    }
                },
                _ => {
                    self.refuse(format!(
                        "{what} needs exactly one of `regex` and `contains`"
                    ));
                    return None;
                }
            },
            _ => {
                self.refuse(format!("{what} is neither text nor a mapping"));
                return None;
            }
        };
        match expression.to_hir() {
            Ok(_) => Some(expression),
            Err(error) => {
                self.refuse(format!("{what}: {error}"));
                None
            }
        }
    }

    pub(super) fn examples(&mut self) -> Examples {
        let Some(value) = self.map.get("examples") else {
            return Examples::default();
        };
        let keys = value.as_mapping().into_iter().flat_map(Mapping::keys);
        for key in keys.filter_map(Value::as_str) {
            if !["match", "clean", "true_positive", "false_positive"].contains(&key) {
                self.warn(format!(
                    "examples: unknown key {key:?} has no effect; `match` lists what must be found, `clean` what must not"
                ));
            }
        }
        if !value.is_mapping() && !value.is_null() {
            self.warn("examples: lists `match` and `clean` are expected; nothing was read");
        }
        let list = |ours, theirs| {
            let mut list = strings(value.get(ours));
            list.extend(strings(value.get(theirs)));
            list
        };
        Examples {
            matching: list("match", "true_positive"),
            clean: list("clean", "false_positive"),
        }
    }
}
