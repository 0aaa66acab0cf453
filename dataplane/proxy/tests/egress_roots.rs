//! The authorities that vouch for hosts (`interception.extra_roots`) are others while the data plane runs: real TLS.

use crate::common::control::publish;
use crate::common::egress::{Host, answer, get};
use crate::common::{Response, eventually, snapshot};
use crate::egress_inside::{Authority, Stand};
use std::path::PathBuf;

const READY: &str = "oktsec_egress_roots_ready";

/// A host behind TLS whose authority is trusted at the start.
struct Site {
    stand: Stand,
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Site {
    fn new() -> Self {
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let stand = Stand::new("");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address = runtime.block_on(stand.host(&stand.theirs, "hello"));
        Self {
            url: format!("https://localhost:{}/", address.port()),
            stand,
            _runtime: runtime,
        }
    }

    fn get(&self) -> Response {
        get(&self.stand.site, &self.url)
    }

    fn passes(&self) -> bool {
        let response = self.get();
        response.status == 200 && response.text() == "hello"
    }

    /// Refused because of the TLS to the host, with these words.
    fn is_refused(&self, says: &str) -> bool {
        let response = self.get();
        response.status == 502
            && response.header("x-oktsec-reason") == Some("egress_upstream_tls")
            && response.text().contains(says)
    }

    fn reused(&self) -> f64 {
        let name = "oktsec_egress_connections_reused_total";
        self.stand.site.metric(name)
    }

    /// Puts a configuration in force that names these files.
    fn name(&self, revision: u64, files: &[PathBuf]) {
        let mut config = self.stand.site.config.clone();
        config.forward_proxy.interception.extra_roots = files.to_vec();
        // Whatever else listens may be reached, too.
        config.forward_proxy.ports.clear();
        publish(&self.stand.site, &snapshot(revision, config));
    }
}

#[test]
fn files_that_change_count_and_no_kept_connection_outlives_its_trust() {
    let site = Site::new();
    let (stand, another) = (&site.stand, Authority::new());
    assert!(site.passes());
    assert!(site.passes());
    assert_eq!(site.reused(), 1.0);
    assert_eq!(stand.site.metric(READY), 1.0);

    stand.trust(&[&another]);
    eventually("the host is trusted no more", || {
        site.is_refused("between us and the host")
    });
    assert_eq!(stand.site.metric(READY), 1.0);

    stand.trust(&[&another, &stand.theirs]);
    eventually("the host is trusted again", || site.passes());
    let reused = site.reused();
    assert!(site.passes());
    assert_eq!(site.reused(), reused + 1.0, "connections are kept again");
}

#[test]
fn a_file_that_cannot_be_used_lets_nothing_out_over_tls_and_everything_else() {
    let site = Site::new();
    let stand = &site.stand;
    let plain = Host::answering(answer("plain"));
    site.name(2, &[stand.roots_file()]);
    assert!(site.passes());
    std::fs::write(stand.roots_file(), "-----BEGIN CERTIFICATE-----\n").unwrap();
    eventually("a refusal that names the file", || {
        site.is_refused("hosts.pem")
    });
    assert_eq!(stand.site.metric(READY), 0.0);
    assert_eq!(get(&stand.site, &plain.url("/")).text(), "plain");
    std::fs::remove_file(stand.roots_file()).unwrap();
    assert!(site.is_refused("hosts.pem"));
    stand.trust(&[&stand.theirs]);
    eventually("the host is trusted again", || site.passes());
    assert_eq!(stand.site.metric(READY), 1.0);
}

#[test]
fn a_configuration_that_names_other_files_counts_at_once() {
    let site = Site::new();
    let stand = &site.stand;
    let named = stand.roots_file();
    assert!(site.passes());
    site.name(2, &[]);
    assert!(site.is_refused("between us and the host"));
    site.name(3, std::slice::from_ref(&named));
    assert!(site.passes());
    site.name(4, &[named.clone(), named.with_file_name("missing.pem")]);
    assert!(site.is_refused("missing.pem"));
    site.name(5, &[named]);
    assert!(site.passes());
}
