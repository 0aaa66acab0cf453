//! One rule out of a YAML mapping, whichever of the known formats it is written in.

use serde_yaml::{Mapping, Value};

use super::document::Place;
use crate::{Known, Lane, MatchMode, ProblemSeverity, Rule, RuleProblem, Severity, Surface};

/// Keys that mean something, in any of the formats.
const KEYS: &[&str] = &[
    "id",
    "name",
    "category",
    "severity",
    "description",
    "remediation",
    "references",
    "surfaces",
    "lane",
    "match",
    "patterns",
    "known",
    "exclude",
    "in_code",
    "sensitive",
    "override",
    "examples",
    // The Go version's.
    "targets",
    "match_mode",
    "exclude_patterns",
    // Written by its dashboard and its generators; nothing to do for us.
    "target",
    "source",
    "generated_by",
    "generated_at",
    "confidence",
    "status",
    "tags",
    "version",
    "author",
    "created_at",
];

/// The name under which the Go version scanned everything that was not a file.
const MESSAGE_FILE: &str = "message.md";

/// What the dashboard of the Go version wrote under `target` for everything that is scanned.
const MESSAGE_WORDS: &[&str] = &["message", "messages", "content", "all", "any"];

const ID_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 8192;

/// A severity by its word, in any case.
pub(super) fn severity(word: &str) -> Option<Severity> {
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "critical" => Severity::Critical,
        "high" => Severity::High,
        "medium" => Severity::Medium,
        "low" => Severity::Low,
        "info" => Severity::Info,
        _ => return None,
    })
}

pub(super) struct Reader<'a> {
    pub(super) map: &'a Mapping,
    place: &'a Place<'a>,
    problems: &'a mut Vec<RuleProblem>,
}

/// What the rules of a document share, unless they say otherwise.
#[derive(Clone, Copy, Default)]
pub(super) struct Defaults<'a> {
    pub(super) category: Option<&'a str>,
    /// Of those whose severity is high: what is critical says so itself.
    pub(super) in_code: Option<Severity>,
}

/// `None` or an error among `problems`: the rule is refused.
pub(super) fn parse(
    map: &Mapping,
    defaults: Defaults<'_>,
    place: &Place<'_>,
    problems: &mut Vec<RuleProblem>,
) -> Option<Rule> {
    let mut reader = Reader {
        map,
        place,
        problems,
    };
    reader.warn_unknown_keys();
    let id = reader.id()?;
    let severity = reader.severity()?;
    let in_code = reader.in_code(severity, defaults.in_code)?;
    let (surfaces, lane) = (reader.surfaces(), reader.lane());
    let (known, match_mode) = (reader.known()?, reader.match_mode());
    let name = reader.text("name").unwrap_or_else(|| id.clone());
    Some(Rule {
        name,
        category: reader
            .text("category")
            .or(defaults.category.map(str::to_owned))
            .unwrap_or_else(|| {
                reader.warn("no category; `custom` is used");
                "custom".to_owned()
            }),
        severity,
        description: reader.text("description").unwrap_or_default(),
        remediation: reader.text("remediation").unwrap_or_default(),
        references: reader.strings("references"),
        surfaces,
        lane,
        match_mode,
        patterns: match known {
            Some(_) => Vec::new(),
            None => reader.patterns(severity, match_mode)?,
        },
        known,
        exclude: reader.excludes(),
        in_code,
        sensitive: reader.flag("sensitive"),
        overrides: reader.flag("override"),
        examples: reader.examples(severity),
        id,
    })
}

impl Reader<'_> {
    pub(super) fn warn(&mut self, reason: impl Into<String>) {
        self.problems
            .push(self.place.problem(ProblemSeverity::Warn, reason));
    }

    pub(super) fn refuse(&mut self, reason: impl Into<String>) {
        self.problems
            .push(self.place.problem(ProblemSeverity::Error, reason));
    }

    fn warn_unknown_keys(&mut self) {
        for key in self.map.keys() {
            match key.as_str() {
                Some(key) if KEYS.contains(&key) => {}
                Some(key) => self.warn(format!("unknown key {key:?} has no effect")),
                None => self.warn("a key that is no text has no effect"),
            }
        }
    }

    fn id(&mut self) -> Option<String> {
        let id = self.text("id").filter(|id| !id.is_empty());
        let Some(id) = id else {
            self.refuse("a rule needs an `id`");
            return None;
        };
        let fits = id.len() <= ID_BYTES_MAX
            && id.starts_with(|c: char| c.is_ascii_alphanumeric())
            && id
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.:-".contains(c));
        if !fits {
            self.refuse("`id` must be 1 to 64 letters, digits, `_`, `-`, `.` or `:`");
            return None;
        }
        Some(id)
    }

    fn severity(&mut self) -> Option<Severity> {
        let word = self.text("severity").unwrap_or_default();
        self.severity_of("`severity`", &word)
    }

    /// `None` if the rule is refused.
    fn in_code(
        &mut self,
        severity: Severity,
        default: Option<Severity>,
    ) -> Option<Option<Severity>> {
        let lower = match self.text("in_code") {
            Some(word) => Some(self.severity_of("`in_code`", &word)?),
            None => default.filter(|_| severity == Severity::High),
        };
        Some(lower.filter(|lower| *lower < severity))
    }

    pub(super) fn severity_of(&mut self, what: &str, word: &str) -> Option<Severity> {
        let severity = severity(word);
        if severity.is_none() {
            self.refuse(format!(
                "{what} is {word:?}; it must be critical, high, medium, low or info"
            ));
        }
        severity
    }

    fn surfaces(&mut self) -> Vec<Surface> {
        let mut surfaces = Vec::new();
        for word in self.strings("surfaces") {
            match Surface::ALL
                .into_iter()
                .find(|surface| surface.as_str() == word)
            {
                Some(surface) if surfaces.contains(&surface) => {}
                Some(surface) => surfaces.push(surface),
                None => self.refuse(format!(
                    "unknown surface {word:?}; known: message egress gateway stdio hook"
                )),
            }
        }
        if surfaces.is_empty() {
            surfaces.extend(Surface::ALL);
        }
        surfaces
    }

    fn lane(&mut self) -> Lane {
        let named = match self.text("lane").as_deref() {
            None | Some("enforce") => Lane::Enforce,
            Some("alert") => Lane::Alert,
            Some("shadow") => Lane::Shadow,
            Some("off") => Lane::Off,
            Some(other) => {
                self.refuse(format!(
                    "`lane` is {other:?}; it must be enforce, alert, shadow or off"
                ));
                Lane::Off
            }
        };
        let mut targets = self.strings("targets");
        targets.extend(self.strings("target"));
        if targets.is_empty() || self.map.contains_key("lane") || targets_message(&targets) {
            return named;
        }
        self.warn(
            "its targets name files that are no messages, so it never acted on traffic; it is \
             loaded in lane `shadow`; write `lane: enforce` to let it act",
        );
        Lane::Shadow
    }

    fn match_mode(&mut self) -> MatchMode {
        match self.text("match").or_else(|| self.text("match_mode")) {
            Some(word) if word.eq_ignore_ascii_case("all") => MatchMode::All,
            Some(word) if !word.eq_ignore_ascii_case("any") && !word.eq_ignore_ascii_case("or") => {
                self.warn(format!(
                    "match mode {word:?} is neither any nor all; `any` is used"
                ));
                MatchMode::Any
            }
            Some(_) | None => MatchMode::Any,
        }
    }

    /// `None` if the rule is refused. What the store holds is no pattern, so a rule has one or the other.
    fn known(&mut self) -> Option<Option<Known>> {
        let known = match self.text("known").as_deref() {
            None => return Some(None),
            Some("value") => Known::Value,
            Some("canary") => Known::Canary,
            Some("seen") => Known::Seen,
            Some(other) => {
                self.refuse(format!(
                    "`known` is {other:?}; it must be value, canary or seen"
                ));
                return None;
            }
        };
        for key in [
            "patterns",
            "exclude",
            "exclude_patterns",
            "in_code",
            "match",
            "match_mode",
        ] {
            if self.map.contains_key(key) {
                self.refuse(format!(
                    "`{key}` means nothing beside `known`: the store of known secrets says what is found"
                ));
                return None;
            }
        }
        Some(Some(known))
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.map.get(key)? {
            Value::String(text) if text.len() <= TEXT_BYTES_MAX => Some(text.trim().to_owned()),
            Value::String(_) => {
                self.refuse(format!("`{key}` is longer than {TEXT_BYTES_MAX} bytes"));
                None
            }
            Value::Null => None,
            Value::Bool(value) => Some(value.to_string()),
            Value::Number(value) => Some(value.to_string()),
            Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => {
                if key != "target" {
                    self.refuse(format!("`{key}` must be text"));
                }
                None
            }
        }
    }

    fn strings(&mut self, key: &str) -> Vec<String> {
        strings(self.map.get(key))
    }

    fn flag(&mut self, key: &str) -> bool {
        match self.map.get(key) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(value)) => *value,
            Some(_) => {
                self.refuse(format!("`{key}` must be true or false"));
                false
            }
        }
    }
}

pub(super) fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Sequence(list)) => list
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether a list of globs, exclusions with `!` among them, covers what the Go version called
/// every message.
fn targets_message(targets: &[String]) -> bool {
    let (excluded, wanted): (Vec<&String>, Vec<&String>) =
        targets.iter().partition(|target| target.starts_with('!'));
    let covers =
        |target: &&String| MESSAGE_WORDS.contains(&target.as_str()) || glob(target, MESSAGE_FILE);
    (wanted.is_empty() || wanted.iter().any(covers))
        && !excluded
            .iter()
            .any(|target| glob(&target[1..], MESSAGE_FILE))
}

/// `*` and `?` within a base name; directories in front are any.
fn glob(pattern: &str, name: &str) -> bool {
    fn matches(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                matches(rest, name) || (!name.is_empty() && matches(pattern, &name[1..]))
            }
            ([b'?', rest @ ..], [_, tail @ ..]) => matches(rest, tail),
            ([first, rest @ ..], [other, tail @ ..]) => {
                first.eq_ignore_ascii_case(other) && matches(rest, tail)
            }
            _ => false,
        }
    }
    let base = pattern.rsplit('/').next().unwrap_or(pattern);
    base.len() <= 64 && base.matches('*').count() <= 4 && matches(base.as_bytes(), name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_follow_real_globs() {
        let covers = |targets: &[&str]| {
            targets_message(
                &targets
                    .iter()
                    .map(|target| (*target).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert!(covers(&["*"]));
        assert!(covers(&["*.json", "*.MD"]));
        assert!(covers(&["**/*.md"]));
        assert!(!covers(&["*.json"]));
        assert!(!covers(&["*", "!*.md"]));
    }
}
