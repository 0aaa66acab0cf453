//! Grants: who may send to whom (compat §4.2, with FIX-4 and FIX-5 mended).

use crate::state::gcra::Rate;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::config::Agent;
use oktsec_contract::reason::Reason;

/// The grants of one agent, ready to check.
#[derive(Debug)]
pub(crate) struct Grants {
    entries: Vec<Entry>,
    recipients: Recipients,
}

#[derive(Debug)]
enum Recipients {
    /// Neither `can_message` nor `acl_entries`: unrestricted.
    Everyone,
    /// `can_message`, possibly empty: then nobody.
    Listed(Vec<Box<str>>),
}

/// One of `acl_entries`: when its target fits, its constraints decide and nothing else.
#[derive(Debug)]
struct Entry {
    target: Box<str>,
    constraints: Vec<Constraint>,
}

#[derive(Debug)]
enum Constraint {
    Rate(Option<Rate>),
    /// Holds before this time; `None` (unreadable) never holds.
    Until(Option<Timestamp>),
    /// A type we do not know: cannot be checked, so it does not hold.
    Unknown,
}

impl Grants {
    /// `empty_is_everyone` is the Go version's reading of `can_message: []`.
    pub(crate) fn new(agent: &Agent, empty_is_everyone: bool) -> Self {
        let entries: Vec<Entry> = agent
            .acl_entries
            .iter()
            .flatten()
            .map(|entry| Entry {
                target: entry.target.as_str().into(),
                constraints: entry.constraints.iter().map(Constraint::new).collect(),
            })
            .collect();
        let listed = agent
            .can_message
            .iter()
            .flatten()
            .map(|name| name.as_str().into())
            .collect();
        let nothing_said = agent.can_message.is_none() && agent.acl_entries.is_none();
        let nothing_listed =
            agent.can_message.iter().flatten().next().is_none() && entries.is_empty();
        let recipients = if nothing_said || (empty_is_everyone && nothing_listed) {
            Recipients::Everyone
        } else {
            Recipients::Listed(listed)
        };
        Self {
            entries,
            recipients,
        }
    }

    /// Whether the agent may send to this recipient now, as far as the rates of the grant allow.
    pub(crate) fn check(&self, recipient: &str, now: Timestamp) -> Result<Rates<'_>, Reason> {
        let fits = |entry: &&Entry| *entry.target == *recipient || &*entry.target == "*";
        if let Some(entry) = self.entries.iter().find(fits) {
            let holds = entry.constraints.iter().all(|constraint| match constraint {
                Constraint::Rate(None) | Constraint::Unknown => false,
                Constraint::Rate(Some(_)) => true,
                Constraint::Until(until) => until.is_some_and(|until| now < until),
            });
            return if holds {
                Ok(Rates(&entry.constraints))
            } else {
                Err(Reason::GrantConstraint)
            };
        }
        match &self.recipients {
            Recipients::Everyone => Ok(Rates(&[])),
            Recipients::Listed(names) if names.iter().any(|n| &**n == "*" || **n == *recipient) => {
                Ok(Rates(&[]))
            }
            Recipients::Listed(_) => Err(Reason::GrantMissing),
        }
    }
}

/// What a grant allows how often. All of it is to be charged for one message, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates<'a>(&'a [Constraint]);

impl Rates<'_> {
    /// Each with its place among the grant's constraints.
    pub(crate) fn iter(self) -> impl Iterator<Item = (usize, Rate)> {
        self.0
            .iter()
            .enumerate()
            .filter_map(|(at, constraint)| match constraint {
                Constraint::Rate(rate) => rate.map(|rate| (at, rate)),
                Constraint::Until(_) | Constraint::Unknown => None,
            })
    }

    /// Whether there is none.
    pub(crate) fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl Constraint {
    fn new(constraint: &oktsec_contract::config::Constraint) -> Self {
        match constraint.kind.as_str() {
            "rate" => {
                let messages = i64::try_from(constraint.max_messages).unwrap_or(i64::MAX);
                Self::Rate(Rate::new(messages, constraint.window_secs))
            }
            "ttl" => Self::Until(
                constraint
                    .expires_at
                    .as_deref()
                    .and_then(Timestamp::parse_rfc3339),
            ),
            _ => Self::Unknown,
        }
    }
}
