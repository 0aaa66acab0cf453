//! Files this process may have open. A connection is one, so the usual soft limit of 1,024 would be the smallest of
//! all our bounds; the hard limit is what the operator meant.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this, connections and the tables of the audit log compete.
const FEW: u64 = 4_096;
/// Asked for where the system sets no limit at all.
const PLENTY: u64 = 1 << 20;

/// Raises the soft limit to the hard one, and says so if that is still little.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current else {
        return;
    };
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
            "few files may be open at once: connections above that wait; raise the limit (LimitNOFILE, ulimit -n)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::raise;
    use rustix::process::{Resource, getrlimit};

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
