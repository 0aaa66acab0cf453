//! Says what a new snapshot changes.

use super::Read;
use oktsec_contract::config;
use std::collections::HashSet;
use std::hash::Hash;

/// Says what changed, and loudly what weakens protection. Never a secret.
pub(super) fn log(cause: &'static str, revision: u64, old: &Read, new: &Read) {
    let changes = config::diff(&old.config, &new.config);
    tracing::info!(
        cause,
        revision,
        changes = changes.len(),
        "snapshot published"
    );
    for change in &changes {
        if change.weakens {
            tracing::warn!(
                revision,
                "PROTECTION WEAKENED: {}: {}",
                change.key,
                change.what
            );
        } else {
            tracing::info!(revision, "{}: {}", change.key, change.what);
        }
    }
    for key in only_in(&new.keys, &old.keys) {
        tracing::info!(revision, agent = %key.agent, fingerprint = %key.fingerprint, "key is accepted");
    }
    for key in only_in(&old.keys, &new.keys) {
        tracing::info!(revision, agent = %key.agent, fingerprint = %key.fingerprint, "key is no longer accepted");
    }
    for key in only_in(&new.revoked, &old.revoked) {
        tracing::info!(revision, agent = %key.agent_name, fingerprint = %key.fingerprint, "key is revoked");
    }
    for key in only_in(&old.revoked, &new.revoked) {
        tracing::warn!(
            revision,
            agent = %key.agent_name,
            fingerprint = %key.fingerprint,
            "PROTECTION WEAKENED: a revocation is gone"
        );
    }
    let ids = |read: &Read| -> Vec<String> {
        let rules = read.rules.rules.iter();
        rules.map(|rule| rule.id.clone()).collect()
    };
    let (before, after) = (ids(old), ids(new));
    for id in only_in(&after, &before) {
        tracing::info!(revision, rule = %id, "rule added");
    }
    for id in only_in(&before, &after) {
        tracing::warn!(revision, rule = %id, "PROTECTION WEAKENED: a rule is gone");
    }
    match (&old.secrets, &new.secrets) {
        (None, Some(_)) => tracing::info!(revision, "known secrets are looked for"),
        (Some(before), Some(now)) if before != now => {
            tracing::info!(revision, "the store of known secrets has changed");
        }
        (Some(_), None) => {
            tracing::warn!(
                revision,
                "PROTECTION WEAKENED: the store of known secrets is gone"
            );
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
}

/// What `these` have and `those` have not, in order.
pub(super) fn only_in<'t, T: Eq + Hash>(
    these: &'t [T],
    those: &[T],
) -> impl Iterator<Item = &'t T> {
    let those: HashSet<&T> = those.iter().collect();
    let new: Vec<&T> = these.iter().filter(|one| !those.contains(one)).collect();
    new.into_iter()
}
