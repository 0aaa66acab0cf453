//! One thing that decided, and where in the configuration it stands.

use crate::place::Place;
use oktsec_contract::config::{self, Step};
use serde_json::{Value, json};

/// One thing that decided: a rule, a key of the configuration, or neither.
pub(super) struct Cause {
    /// What decided, in a sentence.
    pub(super) what: String,
    /// The key that would change it.
    pub(super) key: Option<Vec<Step>>,
    /// How.
    pub(super) remedy: String,
}

impl Cause {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            key: None,
            remedy: remedy.into(),
        }
    }

    pub(super) fn at<const N: usize>(mut self, path: [&str; N]) -> Self {
        self.key = Some(path.iter().map(|&key| key.into()).collect());
        self
    }

    pub(super) fn place(&self, place: &Place, text: &str) -> Option<String> {
        self.key.as_ref().map(|key| place_of(key, place, text))
    }

    pub(super) fn to_json(&self, place: &Place, text: &str) -> Value {
        let located = self.key.as_ref().and_then(|key| config::locate(text, key));
        json!({
            "what": self.what,
            "key": self.key.as_deref().map(name_of),
            "file": self.key.as_ref().map(|_| &place.config_path),
            "line": located.map(|at| at.line),
            "present": located.is_some_and(|at| at.whole),
            "remedy": self.remedy,
        })
    }
}

/// `file:line: key`, or where the key would have to be added.
pub(super) fn place_of(key: &[Step], place: &Place, text: &str) -> String {
    let file = place.config_path.display();
    let name = name_of(key);
    match config::locate(text, key) {
        Some(at) if at.whole => format!("{file}:{}: {name}", at.line),
        Some(at) => format!(
            "{file}:{}: {name} is not there yet; add it below this line",
            at.line
        ),
        None => format!("{file}: {name} is not there yet"),
    }
}

/// `agents.a.egress.ports[0]` as steps. Names of agents hold dots; below `agents` everything up to a key we know
/// belongs to the name.
pub(super) fn steps_of(line: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = line;
    if let Some((agent, below)) = line
        .strip_prefix("agents.")
        .and_then(|l| l.split_once(".egress").or_else(|| l.rsplit_once('.')))
    {
        steps.extend([Step::from("agents"), Step::from(agent)]);
        rest = below;
        if line.contains(".egress") {
            steps.push("egress".into());
        }
    }
    for part in rest.split('.').filter(|part| !part.is_empty()) {
        let (key, items) = part.split_once('[').unwrap_or((part, ""));
        if !key.is_empty() {
            steps.push(key.into());
        }
        for item in items.split('[').filter(|item| !item.is_empty()) {
            if let Ok(at) = item.trim_end_matches(']').parse() {
                steps.push(Step::Item(at));
            }
        }
    }
    steps
}

pub(super) fn name_of(key: &[Step]) -> String {
    let mut name = String::new();
    for step in key {
        match step {
            Step::Key(key) => {
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(key);
            }
            Step::Item(at) => name.push_str(&format!("[{at}]")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::{name_of, steps_of};

    #[test]
    fn a_line_of_the_policy_is_found_in_the_file_whatever_an_agent_is_called() {
        for line in [
            "agents.a.egress.blocked_domains[2]",
            "agents.team.a-1.egress.rules[0].ports[1]",
            "agents.a.b.suspended",
            "forward_proxy.allowed_domains",
            "forward_proxy.rules[3]",
        ] {
            assert_eq!(name_of(&steps_of(line)), line);
        }
        assert_eq!(steps_of("agents.team.a.egress.scope").len(), 4);
    }
}
