//! A list of host patterns, looked up in the time a name has labels, and the key of the entry that fits.

use super::refusal::Line;
use ahash::RandomState;
use oktsec_contract::config::Cidr;
use oktsec_contract::host::{Host, HostPattern};
use std::collections::HashMap;
use std::net::IpAddr;

/// Patterns and where they stand.
#[derive(Debug, Default)]
pub(crate) struct HostSet {
    any: Option<Line>,
    exact: HashMap<Host, Line, RandomState>,
    below: HashMap<Box<str>, Line, RandomState>,
    networks: Vec<(Cidr, Line)>,
}

impl HostSet {
    /// Adds the entries of a list. What is no pattern covers nothing; the configuration warned about it.
    pub(crate) fn add(&mut self, key: &str, entries: &[String]) {
        for (index, entry) in entries.iter().enumerate() {
            if let Ok(pattern) = HostPattern::parse(entry) {
                self.insert(pattern, Line::item(key, index));
            }
        }
    }

    /// Adds a list that blocks: an entry that is a URL blocks its host.
    pub(crate) fn add_blocked(&mut self, key: &str, entries: &[String]) {
        for (index, entry) in entries.iter().enumerate() {
            let pattern = HostPattern::parse(entry).ok();
            if let Some(pattern) = pattern.or_else(|| HostPattern::parse_host_of(entry)) {
                self.insert(pattern, Line::item(key, index));
            }
        }
    }

    /// Adds a pattern; the first of two equal ones stays.
    pub(crate) fn insert(&mut self, pattern: HostPattern, line: Line) {
        match pattern {
            HostPattern::Any => {
                self.any.get_or_insert(line);
            }
            HostPattern::Exact(host) => {
                self.exact.entry(host).or_insert(line);
            }
            HostPattern::Below(name) => {
                self.below.entry(name.as_str().into()).or_insert(line);
            }
            HostPattern::Network(network) => self.networks.push((network, line)),
        }
    }

    /// The entry that covers a host: the host itself, else the closest name above it, else a network, else `*`.
    pub(crate) fn find(&self, host: &Host) -> Option<&Line> {
        if let Some(line) = self.exact.get(host) {
            return Some(line);
        }
        let line = match host {
            Host::Name(name) => name
                .and_above()
                .skip(1)
                .find_map(|above| self.below.get(above)),
            Host::Address(address) => self.find_network(*address),
        };
        line.or(self.any.as_ref())
    }

    /// The network that holds an address.
    pub(crate) fn find_network(&self, address: IpAddr) -> Option<&Line> {
        self.networks
            .iter()
            .find(|(network, _)| network.contains(address))
            .map(|(_, line)| line)
    }
}
