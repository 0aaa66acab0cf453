//! What an authority is held to (RFC 5280 §4.2.1.10): the hosts that are looked into, and nothing else. A constraint covers a
//! name and everything below it, so it may allow more than a list of hosts says, and never less.

use crate::exit::Failure;
use oktsec_contract::host::HostPattern;
use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Names and networks; none of either is no constraint at all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    names: BTreeSet<String>,
    networks: BTreeSet<String>,
}

impl Held {
    /// Held to what an operator typed.
    pub(super) fn to_domains(domains: &[String]) -> Result<Self, Failure> {
        let mut held = Self::default();
        for domain in domains {
            // `*.example.com`, `.example.com` and `example.com` mean the same subtree.
            let name = domain.trim_start_matches("*.").trim_start_matches('.');
            let is_name = !name.is_empty()
                && name.len() <= 253
                && name.split('.').all(|label| {
                    (1..=63).contains(&label.len())
                        && label
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                });
            if !is_name || name.parse::<IpAddr>().is_ok() {
                return Err(Failure::new(format_args!(
                    "--domain {domain:?}: write a domain such as example.com"
                )));
            }
            held.names.insert(name.to_ascii_lowercase());
        }
        Ok(held)
    }

    /// Held to a list of `forward_proxy.interception.hosts`; to nothing if that means every host.
    pub(super) fn to_hosts(hosts: &[String]) -> Self {
        let mut held = Self::default();
        for entry in hosts {
            match HostPattern::parse(entry) {
                Ok(HostPattern::Any) => return Self::default(),
                Ok(HostPattern::Exact(host)) => match host.address() {
                    Some(address) => {
                        let bits = if address.is_ipv4() { 32 } else { 128 };
                        held.networks.insert(format!("{address}/{bits}"));
                    }
                    None => {
                        held.names.insert(host.to_string());
                    }
                },
                Ok(HostPattern::Below(name)) => {
                    held.names.insert(name.as_str().to_owned());
                }
                Ok(HostPattern::Network(network)) => {
                    held.networks.insert(network.to_string());
                }
                // It covers nothing; the configuration warned about it.
                Err(_) => {}
            }
        }
        held
    }

    /// As people read it; empty for any host.
    pub(super) fn words(&self) -> Vec<&str> {
        self.names
            .iter()
            .chain(&self.networks)
            .map(String::as_str)
            .collect()
    }

    /// What goes into the certificate. A kind of name of which nothing is allowed is ruled out: left out it would be free.
    pub(super) fn constraints(&self) -> Option<NameConstraints> {
        if self.names.is_empty() && self.networks.is_empty() {
            return None;
        }
        let names = self.names.iter().cloned().map(GeneralSubtree::DnsName);
        let networks = self.networks.iter().filter_map(|text| text.parse().ok());
        let mut excluded = Vec::new();
        if self.names.is_empty() {
            excluded.push(GeneralSubtree::DnsName(String::new()));
        }
        // Each family by itself: a constraint of one says nothing about the other.
        for (everywhere, is_v6) in [
            (CidrSubnet::V4([0; 4], [0; 4]), false),
            (CidrSubnet::V6([0; 16], [0; 16]), true),
        ] {
            if !self.networks.iter().any(|text| text.contains(':') == is_v6) {
                excluded.push(GeneralSubtree::IpAddress(everywhere));
            }
        }
        Some(NameConstraints {
            permitted_subtrees: names
                .chain(networks.map(GeneralSubtree::IpAddress))
                .collect(),
            excluded_subtrees: excluded,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Held;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, NameConstraints,
    };
    use std::sync::Arc;
    use tokio_rustls::rustls::RootCertStore;
    use tokio_rustls::rustls::client::WebPkiServerVerifier;
    use tokio_rustls::rustls::client::danger::ServerCertVerifier as _;
    use tokio_rustls::rustls::pki_types::{ServerName, UnixTime};

    /// Whether a client that trusts an authority with these constraints takes what it signs for a host.
    fn is_taken(constraints: Option<NameConstraints>, host: &str) -> bool {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.name_constraints = constraints;
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &ca).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        verifier
            .verify_server_cert(leaf.der(), &[], &name, &[], UnixTime::now())
            .is_ok()
    }

    #[test]
    fn what_is_listed_is_signed_for_and_nothing_else() {
        let list = |entries: &[&str]| -> Vec<String> {
            entries.iter().map(|entry| (*entry).to_owned()).collect()
        };
        for (hosts, taken, refused) in [
            (
                list(&["api.example.com", "*.internal.test"]),
                &["api.example.com", "a.b.internal.test", "internal.test"][..],
                &["example.com", "evil.test", "127.0.0.1", "::1"][..],
            ),
            (
                list(&["10.0.0.0/8", "192.0.2.7"]),
                &["10.1.2.3", "192.0.2.7"],
                &["192.0.2.8", "example.com", "::1"],
            ),
            (
                list(&["example.com", "2001:db8::/32"]),
                &["example.com", "2001:db8::1"],
                &["2001:db9::1", "10.0.0.1", "example.org"],
            ),
            (
                list(&["example.com", "*"]),
                &["example.org", "10.0.0.1"],
                &[],
            ),
        ] {
            let held = Held::to_hosts(&hosts);
            for host in taken {
                assert!(is_taken(held.constraints(), host), "{hosts:?}: {host}");
            }
            for host in refused {
                assert!(!is_taken(held.constraints(), host), "{hosts:?}: {host}");
            }
        }
        assert_eq!(Held::to_hosts(&list(&["*"])), Held::default());
    }

    #[test]
    fn a_domain_is_its_subtree_however_it_is_written() {
        let of = |text: &str| Held::to_domains(&[text.to_owned()]);
        let plain = of("example.com").unwrap();
        assert_eq!(of("*.Example.com").unwrap(), plain);
        assert_eq!(of(".example.com").unwrap(), plain);
        for bad in ["10.0.0.1", "a..b", "", "exa mple.com"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
