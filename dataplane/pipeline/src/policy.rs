//! What the sender may do: rate, suspension, grants. Takes an identity, gives a [`Permitted`].

mod compiled;
mod grants;

use crate::identity::Identity;
use crate::parse::Message;
use crate::state::Shared;
use crate::state::peers::site;
use crate::state::senders::{SESSION_HEX, UNPROVEN};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::reason::Reason;
use std::net::IpAddr;

pub(crate) use compiled::{Key, RuleEffect};
pub use compiled::{Policy, PolicyError};
pub(crate) use grants::Rates;

/// A message that may go to its recipient, if its content allows. Only [`permit`] makes one.
#[derive(Debug)]
pub(crate) struct Permitted {
    pub(crate) identity: Identity,
    _permitted: (),
}

/// What [`permit`] learns on the way, also when it refuses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Session(pub(crate) Option<[u8; SESSION_HEX]>);

/// Charges the sender's rate and looks at suspensions and grants, in the order of compat §4.0.
pub(crate) fn permit(
    message: Message<'_>,
    identity: Identity,
    policy: &Policy,
    place: &mut Place<'_>,
) -> Result<Permitted, Reason> {
    let now = place.now;
    let agent = policy.agent(message.from);
    {
        let mut sender = place.shared.senders.get(place.sender, now);
        if let Some(rate) = policy.agent_rate()
            && !sender.take(rate, now)
            && place.enforces
        {
            return Err(Reason::AgentRateLimited);
        }
        if message.session.is_empty() {
            place.session.0 = Some(sender.session(place.random, now));
        }
    }
    if agent.is_some_and(|a| a.suspended) {
        return Err(Reason::AgentSuspended);
    }
    if policy.agent(message.to).is_some_and(|a| a.suspended) {
        return Err(Reason::RecipientSuspended);
    }
    match agent {
        None if policy.denies_strangers() => return Err(Reason::SenderUnknown),
        None => {}
        Some(agent) => {
            let rates = agent.grants.check(message.to, now)?;
            let shared = place.shared;
            let charge = || {
                let mut sender = shared.senders.get(place.sender, now);
                sender.take_grant(message.to, rates, now)
            };
            if !rates.is_empty() && !charge() {
                return Err(Reason::GrantConstraint);
            }
        }
    }
    Ok(Permitted {
        identity,
        _permitted: (),
    })
}

/// Where and when a message is decided.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) shared: &'a Shared,
    /// Key of the sender's state: its name if proven, else bound to the peer, so nobody can spoil another's.
    pub(crate) sender: &'a str,
    pub(crate) random: &'a [u8; 16],
    pub(crate) now: Timestamp,
    /// Whether the surface acts: observing, a message above its rate goes on to what it would have met.
    pub(crate) enforces: bool,
    pub(crate) session: Session,
}

/// Builds the key of a sender's state in `out`.
pub(crate) fn sender_key(from: &str, identity: &Identity, peer: Option<IpAddr>, out: &mut String) {
    use std::fmt::Write as _;
    out.clear();
    out.push_str(from);
    if !identity.is_verified() {
        out.push(UNPROVEN);
        if let Some(peer) = peer {
            write!(out, "{}", site(peer)).expect("writing to a String does not fail");
        }
    }
}
