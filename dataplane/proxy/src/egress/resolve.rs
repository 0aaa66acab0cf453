//! From a name to its addresses: the hosts file, a small memory, then DNS. One for each core.
//!
//! A name is looked up once for a request; what it gives is vetted and only that is connected to ([`super::dial`]),
//! so a name that changes between looking and connecting changes nothing. Changes of the system's resolver files
//! are noticed within [`FILES_LOOKED_AT_EVERY`].

use crate::limits::{RESOLVE_SECS_MAX, RESOLVED_NAMES_MAX};
use crate::throttle::throttled;
use ahash::AHashMap;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use oktsec_contract::reason::Reason;
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];
const FILES_LOOKED_AT_EVERY: Duration = Duration::from_secs(5);

/// Addresses of a name, in the order to try them.
pub(crate) type Addresses = Arc<[IpAddr]>;

/// Looks names up for one core.
pub(crate) struct Resolver {
    /// Servers to ask instead of the system's.
    servers: Vec<SocketAddr>,
    /// Held for moments, never while waiting.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hickory: Option<TokioResolver>,
    looked_at: Option<Instant>,
    stamps: [Option<SystemTime>; FILES.len()],
    known: AHashMap<Box<str>, Known>,
}

struct Known {
    addresses: Addresses,
    until: Instant,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver")
            .field("known", &self.state.lock().known.len())
            .finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver that asks `servers`, or the system's if there are none.
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers,
            state: Mutex::default(),
        }
    }

    /// The addresses of a name. Never empty.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Addresses, Reason> {
        match self.known(name) {
            Some(addresses) => Ok(addresses),
            // Boxed: the room it needs would be moved about with every request.
            None => Box::pin(self.look_up(name)).await,
        }
    }

    /// The addresses of a name that was looked up not long ago.
    fn known(&self, name: &str) -> Option<Addresses> {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.notice_changes(now);
        let known = state.known.get(name).filter(|known| known.until > now)?;
        Some(Arc::clone(&known.addresses))
    }

    async fn look_up(&self, name: &str) -> Result<Addresses, Reason> {
        let now = Instant::now();
        let hickory = {
            let mut state = self.state.lock();
            match &state.hickory {
                Some(hickory) => hickory.clone(),
                None => {
                    let hickory = build(&self.servers).ok_or(Reason::EgressNameUnresolved)?;
                    state.hickory.insert(hickory).clone()
                }
            }
        };
        let patience = Duration::from_secs(RESOLVE_SECS_MAX);
        let Ok(Ok(found)) = tokio::time::timeout(patience, hickory.lookup_ip(name)).await else {
            return Err(Reason::EgressNameUnresolved);
        };
        let addresses: Addresses = interleaved(found.iter());
        if addresses.is_empty() {
            return Err(Reason::EgressNameUnresolved);
        }
        self.state
            .lock()
            .remember(name, Arc::clone(&addresses), found.valid_until(), now);
        Ok(addresses)
    }

    /// This address of the name took a connection: it is tried first from now on.
    pub(crate) fn prefer(&self, name: &str, address: IpAddr) {
        let mut state = self.state.lock();
        if let Some(known) = state.known.get_mut(name)
            && known.addresses.first() != Some(&address)
        {
            let others = known.addresses.iter().copied().filter(|a| *a != address);
            known.addresses = std::iter::once(address).chain(others).collect();
        }
    }
}

impl State {
    /// Forgets everything when a file it may come from has changed.
    fn notice_changes(&mut self, now: Instant) {
        if self
            .looked_at
            .is_some_and(|at| now - at < FILES_LOOKED_AT_EVERY)
        {
            return;
        }
        self.looked_at = Some(now);
        let stamps = FILES.map(|file| {
            let metadata = std::fs::metadata(Path::new(file)).ok()?;
            metadata.modified().ok()
        });
        if stamps != self.stamps {
            self.stamps = stamps;
            self.hickory = None;
            self.known.clear();
        }
    }

    fn remember(&mut self, name: &str, addresses: Addresses, until: Instant, now: Instant) {
        if self.known.len() >= RESOLVED_NAMES_MAX {
            self.known.retain(|_, known| known.until > now);
        }
        if self.known.len() >= RESOLVED_NAMES_MAX {
            // All of them are current; hickory still has them.
            self.known.clear();
        }
        self.known.insert(name.into(), Known { addresses, until });
    }
}

fn build(servers: &[SocketAddr]) -> Option<TokioResolver> {
    let provider = TokioRuntimeProvider::default();
    let builder = if servers.is_empty() {
        match Hickory::builder(provider.clone()) {
            Ok(builder) => builder,
            Err(error) => {
                throttled!(warn, %error, "the system's resolver configuration cannot be read; only the hosts file counts");
                Hickory::builder_with_config(
                    ResolverConfig::from_name_servers(Vec::new()),
                    provider,
                )
            }
        }
    } else {
        let servers = servers.iter().map(name_server).collect();
        Hickory::builder_with_config(ResolverConfig::from_name_servers(servers), provider)
    };
    let mut builder = builder;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.use_hosts_file = ResolveHosts::Always;
    options.cache_size = RESOLVED_NAMES_MAX as u64;
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    options.negative_max_ttl = Some(Duration::from_secs(30));
    match builder.build() {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            throttled!(error, %error, "there is no resolver");
            None
        }
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

/// One of each family in turn, the first family first (RFC 8305 §4).
fn interleaved(addresses: impl Iterator<Item = IpAddr>) -> Addresses {
    let all: Vec<IpAddr> = addresses.collect();
    let first_is_v6 = all.first().is_some_and(IpAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    first.reverse();
    second.reverse();
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    while let Some(address) = first.pop() {
        mixed.push(address);
        mixed.extend(second.pop());
    }
    second.reverse();
    mixed.extend(second);
    mixed.into()
}

#[cfg(test)]
mod tests {
    use super::{Resolver, interleaved};
    use oktsec_contract::reason::Reason;
    use std::net::IpAddr;

    fn ips(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|a| a.parse().expect("an address")).collect()
    }

    #[test]
    fn families_take_turns_and_nothing_is_lost() {
        let found = ips(&["::1", "::2", "::3", "192.0.2.1"]);
        let mixed = interleaved(found.into_iter());
        assert_eq!(mixed[..], ips(&["::1", "192.0.2.1", "::2", "::3"])[..]);
        let found = ips(&["192.0.2.1", "::1", "::2", "::3"]);
        let mixed = interleaved(found.into_iter());
        assert_eq!(mixed[..], ips(&["192.0.2.1", "::1", "::2", "::3"])[..]);
        assert!(interleaved(std::iter::empty()).is_empty());
    }

    #[tokio::test]
    async fn localhost_needs_no_server_and_what_nobody_knows_is_unresolved() {
        let nobody = "127.0.0.1:1".parse().expect("an address");
        let resolver = Resolver::new(vec![nobody]);
        let found = resolver
            .resolve("localhost")
            .await
            .expect("it is in the hosts file");
        assert!(found.iter().all(IpAddr::is_loopback));
        let last = *found.last().expect("never empty");
        resolver.prefer("localhost", last);
        let again = resolver.known("localhost").expect("it was looked up");
        assert_eq!(again.first(), Some(&last));
        assert!(resolver.known("nothing.invalid").is_none());
        assert_eq!(
            resolver.resolve("nothing.invalid").await,
            Err(Reason::EgressNameUnresolved)
        );
    }
}
