//! One YAML document: a single rule, or a `rules:` list.

use serde_yaml::{Mapping, Value};

use super::rule::Defaults;
use super::{LoadedRules, rule};
use crate::{ProblemSeverity, RuleProblem};

/// A document's text and the line of its file it starts on, counted from zero.
pub(super) struct Chunk<'a> {
    pub(super) text: &'a str,
    pub(super) first_line: u32,
}

/// Splits at `---`, so that a broken document leaves the next one readable.
pub(super) fn split(text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut chunks = Vec::new();
    let (mut start, mut first_line, mut at) = (0, 0, 0);
    for (line, content) in (0_u32..).zip(text.split_inclusive('\n')) {
        let marker = content.trim_end();
        if marker == "---" || marker.starts_with("--- ") {
            chunks.push(Chunk {
                text: &text[start..at],
                first_line,
            });
            start = at + 3;
            first_line = line;
        }
        at += content.len();
    }
    chunks.push(Chunk {
        text: &text[start..],
        first_line,
    });
    chunks
}

/// Where problems of one rule are reported.
pub(super) struct Place<'a> {
    pub(super) file: &'a str,
    pub(super) line: Option<u32>,
    pub(super) rule: Option<String>,
}

impl Place<'_> {
    pub(super) fn problem(
        &self,
        severity: ProblemSeverity,
        reason: impl Into<String>,
    ) -> RuleProblem {
        RuleProblem {
            file: self.file.to_owned(),
            line: self.line,
            rule: self.rule.clone(),
            reason: reason.into(),
            severity,
        }
    }
}

/// Adds the rules of a document, and what is wrong with it.
pub(super) fn load(file: &str, chunk: &Chunk<'_>, loaded: &mut LoadedRules) {
    if let Err(problem) = try_load(file, chunk, loaded) {
        loaded.problems.push(problem);
    }
}

/// Fails for what keeps the whole document from being read.
fn try_load(file: &str, chunk: &Chunk<'_>, loaded: &mut LoadedRules) -> Result<(), RuleProblem> {
    let place = |line| Place {
        file,
        line,
        rule: None,
    };
    let top = place(Some(chunk.first_line + 1));
    let error = |reason| top.problem(ProblemSeverity::Error, reason);
    let value: Value = serde_yaml::from_str(chunk.text).map_err(|error| {
        let line = error
            .location()
            .map(|location| chunk.first_line + u32::try_from(location.line()).unwrap_or(0));
        place(line).problem(ProblemSeverity::Error, error.to_string())
    })?;
    let map = match value {
        Value::Null => return Ok(()),
        Value::Mapping(map) => map,
        Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Sequence(_)
        | Value::Tagged(_) => {
            return Err(error("is neither a rule nor a list under `rules:`"));
        }
    };
    let Some(list) = map.get("rules") else {
        load_rule(file, chunk, &map, Defaults::default(), loaded);
        return Ok(());
    };
    let text = |key| map.get(key).and_then(Value::as_str);
    let defaults = Defaults {
        category: text("category"),
        in_code: text("in_code").and_then(rule::severity),
    };
    if map.contains_key("in_code") && defaults.in_code.is_none() {
        return Err(error(
            "`in_code` must be critical, high, medium, low or info",
        ));
    }
    for key in map.keys().filter_map(Value::as_str) {
        if ![
            "rules",
            "category",
            "in_code",
            "name",
            "description",
            "version",
        ]
        .contains(&key)
        {
            let line = line_of(chunk, &format!("{key}:"));
            let reason = format!("unknown key {key:?} beside `rules` has no effect");
            loaded
                .problems
                .push(place(line).problem(ProblemSeverity::Warn, reason));
        }
    }
    let Value::Sequence(rules) = list else {
        return Err(error("`rules` must be a list"));
    };
    for value in rules {
        if let Value::Mapping(map) = value {
            load_rule(file, chunk, map, defaults, loaded);
        } else {
            loaded
                .problems
                .push(error("an entry of `rules` is not a rule"));
        }
    }
    Ok(())
}

fn load_rule(
    file: &str,
    chunk: &Chunk<'_>,
    map: &Mapping,
    defaults: Defaults<'_>,
    loaded: &mut LoadedRules,
) {
    let id = map.get("id").and_then(Value::as_str);
    let place = Place {
        file,
        line: id
            .and_then(|id| line_of_id(chunk, id))
            .or(Some(chunk.first_line + 1)),
        rule: id.map(str::to_owned),
    };
    let mut problems = Vec::new();
    let rule = rule::parse(map, defaults, &place, &mut problems);
    let refused = problems
        .iter()
        .any(|problem| problem.severity == ProblemSeverity::Error);
    if let (Some(rule), false) = (rule, refused) {
        let repeated = loaded.rules.iter().any(|other| other.id == rule.id);
        if repeated && !rule.overrides {
            let reason = "this id appears twice in the file; the first rule stays";
            loaded
                .problems
                .push(place.problem(ProblemSeverity::Error, reason));
        } else {
            loaded.rules.push(rule);
        }
    }
    loaded.problems.extend(problems);
}

/// Line of the file (from one) that gives a rule this id.
fn line_of_id(chunk: &Chunk<'_>, id: &str) -> Option<u32> {
    let gives_it = |line: &str| {
        let rest = line
            .trim_start_matches([' ', '-', '{'])
            .strip_prefix("id")
            .map(|rest| rest.trim_start_matches([' ', ':', '"', '\'']));
        rest.and_then(|rest| rest.strip_prefix(id))
            .is_some_and(|after| {
                !after.starts_with(|c: char| c.is_alphanumeric() || "_-.".contains(c))
            })
    };
    (chunk.first_line + 1..)
        .zip(chunk.text.lines())
        .find_map(|(number, line)| gives_it(line).then_some(number))
}

/// Line of the file (from one) of the first `needle`.
fn line_of(chunk: &Chunk<'_>, needle: &str) -> Option<u32> {
    let at = chunk.text.find(needle)?;
    let line = chunk.text[..at].matches('\n').count();
    Some(chunk.first_line + 1 + u32::try_from(line).ok()?)
}
