//! Scanners of one core for streams that outlive a snapshot: a body is scanned to its end with the rules it began
//! with.

use oktsec_contract::host::Host;
use oktsec_pipeline::Policy;
use oktsec_scanner::{Database, EngineError, Scanner};
use std::sync::Arc;

/// Rule sets whose scanners a core keeps. Streams of older ones get a new scanner for each step.
const KEPT_MAX: usize = 4;

/// The newest last.
#[derive(Default)]
pub(super) struct Scanners(Vec<Scanner>);

impl Scanners {
    /// The scanner of this policy's rules, looking for its known values.
    pub(super) fn of(&mut self, policy: &Policy) -> Result<&mut Scanner, EngineError> {
        let database = policy.database();
        let at = self
            .0
            .iter()
            .position(|scanner| Arc::ptr_eq(scanner.database(), database));
        let at = match at {
            Some(at) => at,
            None => {
                let scanner = Scanner::new(Arc::clone(database))?;
                if self.0.len() >= KEPT_MAX {
                    self.0.remove(0);
                }
                self.0.push(scanner);
                self.0.len() - 1
            }
        };
        let scanner = &mut self.0[at];
        scanner.set_secrets(policy.secrets());
        scanner.set_seen(None, "");
        scanner.set_host("");
        Ok(scanner)
    }

    /// A new rule set is in force: scanners that only this core still holds go.
    pub(super) fn tidy(&mut self, current: &Arc<Database>) {
        self.0
            .retain(|scanner| Arc::ptr_eq(scanner.database(), current) || is_shared(scanner));
    }
}

/// Says whom a content goes to or comes from, if any known value belongs to hosts.
pub(super) fn name_host(scanner: &mut Scanner, policy: &Policy, host: Option<&Host>) {
    if policy.secrets().is_some_and(|index| index.binds()) {
        scanner.set_host(&host.map(Host::to_string).unwrap_or_default());
    }
}

/// The site of a host: the last two labels of a name, or an address.
pub(crate) fn site_of(host: Option<&Host>) -> String {
    let Some(host) = host else {
        return String::new();
    };
    let name = host.to_string();
    match host.address() {
        Some(_) => name,
        None => {
            let at = name.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
            name[at..].to_owned()
        }
    }
}

/// Whether somebody besides the scanner itself holds its rule set.
fn is_shared(scanner: &Scanner) -> bool {
    Arc::strong_count(scanner.database()) > 1
}
