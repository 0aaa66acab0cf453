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

    /// Whether the agent may send to this recipient now. `charge` takes one from the rate that stands in this place among
    /// the constraints of that pair.
    pub(crate) fn check(
        &self,
        recipient: &str,
        now: Timestamp,
        mut charge: impl FnMut(usize, Rate) -> bool,
    ) -> Result<(), Reason> {
        let fits = |entry: &&Entry| *entry.target == *recipient || &*entry.target == "*";
        if let Some(entry) = self.entries.iter().find(fits) {
            let mut constraints = entry.constraints.iter().enumerate();
            let holds = constraints.all(|(at, constraint)| match constraint {
                Constraint::Rate(None) | Constraint::Unknown => false,
                Constraint::Rate(Some(rate)) => charge(at, *rate),
                Constraint::Until(until) => until.is_some_and(|until| now < until),
            });
            return if holds {
                Ok(())
            } else {
                Err(Reason::GrantConstraint)
            };
        }
        match &self.recipients {
            Recipients::Everyone => Ok(()),
            Recipients::Listed(names) if names.iter().any(|n| &**n == "*" || **n == *recipient) => {
                Ok(())
            }
            Recipients::Listed(_) => Err(Reason::GrantMissing),
        }
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
