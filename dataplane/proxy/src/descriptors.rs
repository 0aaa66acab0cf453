//! Files this process may have open. A connection is one, so the usual soft limit of 1,024 would be the smallest of
//! all our bounds; the hard limit is what the operator meant. Peers get what we do not need ourselves.

use crate::limits::{RELAYS_MAX, UPSTREAM_IDLE_MAX};
use crate::run::DataplaneOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this, connections and the tables of the audit log compete.
const FEW: u64 = 4_096;
/// Asked for where the system sets no limit at all.
const PLENTY: u64 = 1 << 20;

/// Kept for what is not a connection of a peer: tables and logs of the audit log, the line to the control plane.
const OURS: u64 = 512;
/// Kept by each core for requests that it passes on to the control plane.
const RELAYS: u64 = RELAYS_MAX as u64;
/// An agent's connection to the egress listener takes another one, to its host.
const PER_OUTBOUND: u64 = 2;
/// Connections to hosts that wait for their next request: of three files for egress at most one.
const IDLE: u64 = UPSTREAM_IDLE_MAX as u64;
/// Of four files for peers of both, so many are for egress.
const OUTBOUND_OF_FOUR: u64 = 3;

/// Raises the soft limit to the hard one, and says so if that is still little. Answers how many files may be open;
/// `None` if there is no limit.
pub(crate) fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current?;
    let wanted = limit.maximum.unwrap_or(PLENTY);
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    let allowed = match wanted > current && setrlimit(Resource::Nofile, raised).is_ok() {
        true => wanted,
        false => current,
    };
    if allowed < FEW {
        tracing::warn!(
            allowed,
            "few files may be open at once: connections are refused when they are used up; raise the limit (LimitNOFILE, ulimit -n)"
        );
    }
    Some(allowed)
}

/// Bounds the connections of each core by what files there are: without one the audit log cannot go on, and nothing is
/// decided any more.
pub(crate) fn fit(options: &mut DataplaneOptions, allowed: u64, cores: usize) {
    let cores = u64::try_from(cores).unwrap_or(u64::MAX).max(1);
    let each = allowed.saturating_sub(OURS.min(allowed / 2)) / cores;
    let theirs = each - RELAYS.min(each / 2);
    let bound = |max: &mut usize, files: u64| {
        *max = (*max).min(usize::try_from(files).unwrap_or(usize::MAX).max(1));
    };
    match &mut options.egress {
        None => bound(&mut options.connections_per_core_max, theirs),
        Some(egress) => {
            let outbound = theirs / 4 * OUTBOUND_OF_FOUR;
            bound(&mut options.connections_per_core_max, theirs - outbound);
            let tunnels = (outbound - IDLE.min(outbound / 3)) / PER_OUTBOUND;
            bound(&mut egress.connections_per_core_max, tunnels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DataplaneOptions, fit, raise};
    use oktsec_contract::config::{Config, ForwardProxy};
    use oktsec_contract::paths::StatePaths;
    use rustix::process::{Resource, getrlimit};

    #[test]
    fn connections_of_peers_leave_files_for_the_log() {
        let options = |enabled| {
            let config = Config {
                forward_proxy: ForwardProxy {
                    enabled,
                    ..ForwardProxy::default()
                },
                ..Config::default()
            };
            DataplaneOptions::from_config(&config, StatePaths::beside("o".as_ref(), "t".as_ref()))
        };
        for (allowed, cores, messages, beside, outbound) in [
            (1 << 20, 2, 16_384, 16_384, 16_384),
            (20_000, 1, 16_384, 4_808, 6_700),
            (4_096, 2, 1_536, 384, 384),
            (1_024, 1, 256, 64, 64),
            (256, 2, 32, 8, 8),
            (8, 64, 1, 1, 1),
        ] {
            let mut plain = options(false);
            fit(&mut plain, allowed, cores);
            assert_eq!(plain.connections_per_core_max, messages, "{allowed}");
            let mut both = options(true);
            fit(&mut both, allowed, cores);
            let egress = both.egress.expect("it is enabled");
            assert_eq!(egress.connections_per_core_max, outbound, "{allowed}");
            assert_eq!(both.connections_per_core_max, beside, "{allowed}");
        }
    }

    #[test]
    fn as_many_files_may_be_open_as_the_operator_allows() {
        let before = getrlimit(Resource::Nofile);
        raise();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.maximum, before.maximum);
        match (after.current, before.maximum) {
            (Some(current), Some(maximum)) => assert_eq!(current, maximum),
            (current, None) => {
                assert!(current.is_none_or(|current| before.current.is_some_and(|b| current >= b)))
            }
            (None, Some(_)) => {}
        }
    }
}
