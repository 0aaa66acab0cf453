//! One level of rules and lists: the whole surface's, or one agent's. A request must pass both.
//!
//! Within a level: blocked hosts, then rules (the first that fits decides), then ports, then allowed hosts. A level
//! that allows anything by name (`allowed_domains`, `integrations`, `scope`, a rule that allows) denies the rest.

use super::hosts::HostSet;
use super::path::Path;
use super::refusal::{Line, Refusal};
use super::target::Target;
use oktsec_contract::config::{EgressAction, EgressRule};
use oktsec_contract::host::{HostPattern, presets};
use oktsec_contract::reason::Reason;

/// What can be seen of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sight<'a> {
    /// All of it.
    Request { method: &'a str, path: &'a str },
    /// A tunnel that stays opaque: only the target, now and later.
    Opaque,
    /// A tunnel we will look into: the requests inside it are decided one by one.
    Opened,
}

/// Rules and lists of one level, compiled.
#[derive(Debug)]
pub(crate) struct Level {
    blocked: HostSet,
    rules: Vec<Rule>,
    ports: Option<(Vec<u16>, Line)>,
    /// `None` if nothing is allowed by name, so everything is.
    allowed: Option<Allowed>,
}

#[derive(Debug)]
struct Allowed {
    hosts: HostSet,
    /// The key that makes this level an allow list.
    because: Line,
    /// The scope, if it names nothing.
    empty_scope: Option<Line>,
}

#[derive(Debug)]
struct Rule {
    hosts: HostSet,
    ports: Vec<u16>,
    methods: Vec<String>,
    paths: Vec<String>,
    agents: Vec<String>,
    action: EgressAction,
    line: Line,
}

/// What makes a level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    /// The key of the section.
    pub(crate) key: &'a str,
    pub(crate) blocked: &'a [String],
    pub(crate) rules: &'a [EgressRule],
    pub(crate) allowed: &'a [String],
    pub(crate) integrations: &'a [String],
    pub(crate) scope: &'a str,
    pub(crate) internal: &'a [String],
    /// Empty: ports are not this level's matter.
    pub(crate) ports: &'a [u16],
}

impl Level {
    pub(crate) fn new(parts: Parts<'_>) -> Self {
        let key = |name: &str| format!("{}.{name}", parts.key);
        let mut blocked = HostSet::default();
        blocked.add_blocked(&key("blocked_domains"), parts.blocked);
        let rules: Vec<_> = parts
            .rules
            .iter()
            .enumerate()
            .map(|(index, rule)| Rule::new(rule, Line::item(&key("rules"), index)))
            .collect();
        let ports =
            (!parts.ports.is_empty()).then(|| (parts.ports.to_vec(), Line::new(&key("ports"))));
        Self {
            allowed: Allowed::new(parts, &rules),
            blocked,
            rules,
            ports,
        }
    }

    /// Whether this level lets a request go, and the key that decides (`None`: it has none for this).
    pub(crate) fn decide(
        &self,
        agent: Option<&str>,
        target: &Target,
        sight: Sight<'_>,
    ) -> Result<Option<&Line>, Refusal> {
        let host = target.host();
        if let Some(line) = self.blocked.find(host) {
            return Err(Refusal::new(Reason::EgressHostBlocked).at(line));
        }
        // A rule that would allow it, if a tunnel showed what is inside.
        let mut unseen = None;
        let mut path = None;
        for rule in self
            .rules
            .iter()
            .filter(|rule| rule.is_about(agent, target))
        {
            match (rule.fits(sight, &mut path), rule.action) {
                (Fit::No, _) => {}
                (Fit::Yes, EgressAction::Block) => {
                    return Err(Refusal::new(Reason::EgressRuleBlocked).at(&rule.line));
                }
                (Fit::Yes, EgressAction::Allow) => {
                    if rule.ports.is_empty() {
                        self.port(target)?;
                    }
                    return Ok(Some(&rule.line));
                }
                (Fit::Unseen, EgressAction::Block) => {
                    return Err(Refusal::new(Reason::EgressNotInspectable).at(&rule.line));
                }
                (Fit::Unseen, EgressAction::Allow) => {
                    unseen.get_or_insert(&rule.line);
                }
            }
        }
        self.port(target)?;
        let Some(allowed) = &self.allowed else {
            return Ok(None);
        };
        if let Some(line) = allowed.hosts.find(host) {
            return Ok(Some(line));
        }
        Err(match (unseen, &allowed.empty_scope) {
            (Some(line), _) => Refusal::new(Reason::EgressNotInspectable).at(line),
            (None, Some(scope)) => Refusal::new(Reason::EgressScopeEmpty).at(scope),
            (None, None) => Refusal::new(Reason::EgressHostNotAllowed).at(&allowed.because),
        })
    }

    /// The blocked network that holds an address a name resolved to.
    pub(crate) fn blocked_network(&self, address: std::net::IpAddr) -> Option<&Line> {
        self.blocked.find_network(address)
    }

    fn port(&self, target: &Target) -> Result<(), Refusal> {
        match &self.ports {
            Some((ports, line)) if !ports.contains(&target.port()) => {
                Err(Refusal::new(Reason::EgressPortNotAllowed).at(line))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Allowed {
    fn new(parts: Parts<'_>, rules: &[Rule]) -> Option<Self> {
        let key = |name: &str| format!("{}.{name}", parts.key);
        let mut hosts = HostSet::default();
        hosts.add(&key("allowed_domains"), parts.allowed);
        for (index, name) in parts.integrations.iter().enumerate() {
            add_preset(&mut hosts, name, &Line::item(&key("integrations"), index));
        }
        let scope = Line::new(&key("scope"));
        let in_scope = add_scope(&mut hosts, parts, &scope);
        let because = if !parts.allowed.is_empty() {
            key("allowed_domains")
        } else if !parts.integrations.is_empty() {
            key("integrations")
        } else if !parts.scope.is_empty() {
            key("scope")
        } else if rules.iter().any(|rule| rule.action == EgressAction::Allow) {
            key("rules")
        } else {
            return None;
        };
        Some(Self {
            hosts,
            because: Line::new(&because),
            empty_scope: (!parts.scope.is_empty() && in_scope == 0).then_some(scope),
        })
    }
}

fn add_preset(hosts: &mut HostSet, name: &str, line: &Line) -> usize {
    let entries = presets::find(name).map_or(&[][..], |preset| preset.hosts);
    for entry in entries {
        if let Ok(pattern) = HostPattern::parse(entry) {
            hosts.insert(pattern, line.clone());
        }
    }
    entries.len()
}

/// Adds what a scope names and says how much that is. As in the Go version, an agent that lists its own hosts needs
/// no scope, so there the scope adds nothing; unlike there, a scope that names nothing denies.
fn add_scope(hosts: &mut HostSet, parts: Parts<'_>, line: &Line) -> usize {
    let (word, more) = parts.scope.split_once('+').unwrap_or((parts.scope, ""));
    if parts.scope.is_empty() || !parts.allowed.is_empty() {
        return usize::from(!parts.allowed.is_empty());
    }
    let internal = match word.trim() {
        "internal" => parts.internal,
        _ => &[],
    };
    let internal = internal.iter().enumerate().map(|(index, entry)| {
        (
            entry.as_str(),
            Line::item("trust_boundaries.internal", index),
        )
    });
    let more = more
        .split(',')
        .map(|entry| (entry.trim(), line.clone()))
        .filter(|(entry, _)| !entry.is_empty());
    let mut named = 0;
    for (entry, line) in internal.chain(more) {
        if presets::find(entry).is_some() {
            named += add_preset(hosts, entry, &line);
        } else if let Ok(pattern) = HostPattern::parse(entry) {
            hosts.insert(pattern, line);
            named += 1;
        }
    }
    named
}

/// How a rule relates to what is seen.
enum Fit {
    Yes,
    No,
    /// It names methods or paths, and the tunnel shows neither.
    Unseen,
}

impl Rule {
    fn new(rule: &EgressRule, line: Line) -> Self {
        let mut hosts = HostSet::default();
        hosts.add(line.as_str(), &rule.hosts);
        Self {
            hosts,
            ports: rule.ports.clone(),
            methods: rule.methods.clone(),
            paths: rule.paths.clone(),
            agents: rule.agents.clone(),
            action: rule.action,
            line,
        }
    }

    fn is_about(&self, agent: Option<&str>, target: &Target) -> bool {
        let whose = self.agents.is_empty()
            || agent.is_some_and(|agent| self.agents.iter().any(|name| name == agent));
        let port = self.ports.is_empty() || self.ports.contains(&target.port());
        whose && port && self.hosts.find(target.host()).is_some()
    }

    /// `path` is read once for all rules.
    fn fits(&self, sight: Sight<'_>, read: &mut Option<Path>) -> Fit {
        let looks = !self.methods.is_empty() || !self.paths.is_empty();
        let (method, path) = match sight {
            _ if !looks => return Fit::Yes,
            Sight::Opaque => return Fit::Unseen,
            Sight::Opened => {
                // What is blocked inside will be refused inside; what is allowed inside needs the tunnel first.
                return match self.action {
                    EgressAction::Block => Fit::No,
                    EgressAction::Allow => Fit::Yes,
                };
            }
            Sight::Request { method, path } => (method, path),
        };
        let blocks = self.action == EgressAction::Block;
        let same_method =
            |named: &String| named == method || (blocks && named.eq_ignore_ascii_case(method));
        if !self.methods.is_empty() && !self.methods.iter().any(same_method) {
            return Fit::No;
        }
        if self.paths.is_empty() {
            return Fit::Yes;
        }
        let path = read.get_or_insert_with(|| Path::new(path));
        let below = |prefix: &String| {
            if blocks {
                path.may_be_below(prefix)
            } else {
                path.is_surely_below(prefix)
            }
        };
        if self.paths.iter().any(below) {
            Fit::Yes
        } else {
            Fit::No
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
