//! `forward_proxy:` and `agents.<n>.egress:` what agents may reach on the internet, and how we get there.
//!
//! The first keys of each section are those of the Go version (compat §5, §7); ours follow.

use super::period::Period;
use super::read;
use super::secret::Secret;
use super::section::{section, words};
use super::server::Tls;
use super::tools::RequireAuth;
use std::path::PathBuf;

section! {
    /// `forward_proxy:` outbound requests.
    pub struct ForwardProxy {
        /// Whether it listens.
        enabled: bool = false;
        /// Its port.
        port: u16 = 8083, via read::proxy_port;
        /// Its address.
        bind: String = String::from("127.0.0.1"), via read::bind;
        /// Hosts that may be reached; see [`crate::host::HostPattern`]. Nothing that allows by name means all.
        allowed_domains: Vec<String> = Vec::new();
        /// Hosts that may not be reached, whatever else is said.
        blocked_domains: Vec<String> = Vec::new();
        /// Scan what is sent.
        scan_requests: bool = false;
        /// Scan what comes back.
        scan_responses: bool = false;
        /// The Go version's bound on bodies; ours are scanned as they stream.
        max_body_size: u64 = 0, via read::max_body_size;
        /// Whether callers prove who they are.
        require_auth: RequireAuth = RequireAuth::Auto, via read::require_auth;
        /// Accepted proofs; empty means all.
        auth_methods: Vec<String> = Vec::new();
        /// Believe `X-Oktsec-Agent` from this machine; absent follows `deployment.profile`.
        trusted_loopback_headers: Option<bool> = None;

        /// Named sets of hosts that may be reached; see [`crate::host::presets`].
        integrations: Vec<String> = Vec::new();
        /// Ports that may be reached, unless a rule that allows names others.
        ports: Vec<u16> = vec![80, 443], via read::ports;
        /// Looked at before the lists of hosts; the first that fits decides.
        rules: Vec<EgressRule> = Vec::new();
        /// Private addresses that may be reached after all.
        private_targets: Vec<PrivateTarget> = Vec::new();
        /// What a finding does that would hold a message: a request cannot wait for an operator.
        quarantine: OnQuarantine = OnQuarantine::Block;
        /// Replace secrets by placeholders instead of refusing.
        redact: Redact = Redact::Off;
        /// What becomes of a request with files in an archive that cannot be read: encrypted ones, say.
        sealed_archives: OnSealed = OnSealed::Block;
        /// How long we wait.
        timeouts: EgressTimeouts = EgressTimeouts::default();
        /// Limits of every agent that has none of its own, and of callers without a name, by address.
        limits: EgressLimits = EgressLimits::default();
        /// The proxy we go through.
        upstream_proxy: Option<UpstreamProxy> = None;
        /// Networks whose connections begin with a PROXY protocol header; others must not send one.
        proxy_protocol_from: Vec<String> = Vec::new(), via read::cidrs;
        /// More listeners, each for one agent.
        listeners: Vec<EgressListener> = Vec::new();
        /// Agents by the address they connect from.
        sources: Vec<SourceBinding> = Vec::new();
        /// Agents by the name in their certificate.
        certificates: Vec<CertificateBinding> = Vec::new();
        /// TLS between agents and us; absent means plain.
        tls: Option<Tls> = None;
        /// Looking into TLS.
        interception: Interception = Interception::default();
        /// While this file exists, nothing goes out.
        kill_switch: Option<PathBuf> = None;
    }
}

section! {
    /// `agents.<n>.egress:` outbound requests of one agent. It narrows what `forward_proxy` allows and never widens it.
    pub struct Egress {
        /// Hosts it may reach.
        allowed_domains: Vec<String> = Vec::new();
        /// Hosts it may not reach.
        blocked_domains: Vec<String> = Vec::new();
        /// `internal` for `trust_boundaries.internal`, or `internal+` and more hosts or integrations.
        scope: String = String::new();
        /// Hosts by tool.
        tool_restrictions: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
        /// Scan what it sends; absent follows `forward_proxy`.
        scan_requests: Option<bool> = None;
        /// Scan what comes back; absent follows `forward_proxy`.
        scan_responses: Option<bool> = None;
        /// Categories of findings that block its requests.
        blocked_categories: Vec<String> = Vec::new();
        /// Requests in a window; 0 is unlimited.
        rate_limit: u64 = 0;
        /// Seconds of the window; 0 means 60.
        rate_window: u64 = 0;
        /// Named sets of hosts it may reach.
        integrations: Vec<String> = Vec::new();

        /// Ports it may reach; empty follows `forward_proxy`.
        ports: Vec<u16> = Vec::new(), via read::ports;
        /// Looked at before its lists of hosts; the first that fits decides.
        rules: Vec<EgressRule> = Vec::new();
        /// Its own limits; absent follows `forward_proxy.limits`.
        limits: Option<EgressLimits> = None;
    }
}

section! {
    /// A rule about requests. Everything it names must fit; what it does not name fits.
    pub struct EgressRule {
        /// Hosts, `*` for all; at least one.
        hosts: Vec<String> = Vec::new();
        /// Ports. A rule that allows opens the ports it names.
        ports: Vec<u16> = Vec::new(), via read::ports;
        /// Methods.
        methods: Vec<String> = Vec::new(), via read::methods;
        /// Beginnings of paths, each from `/`; whole segments.
        paths: Vec<String> = Vec::new(), via read::path_prefixes;
        /// Agents it is about (`forward_proxy.rules` only); empty means everybody.
        agents: Vec<String> = Vec::new();
        /// What it does.
        action: EgressAction = EgressAction::Block;
    }
}

words! {
    /// What an egress rule does.
    pub enum EgressAction {
        /// The request is refused.
        #[default]
        Block = "block",
        /// The request may go, as far as this level is concerned.
        Allow = "allow",
    }
}

section! {
    /// A private address that may be reached after all. Narrow on purpose: whoever, by which name, where, on which port.
    pub struct PrivateTarget {
        /// Whose requests; empty means everybody's.
        agent: String = String::new();
        /// The host as the request names it.
        host: String = String::new();
        /// The network its addresses must lie in.
        network: String = String::new();
        /// Ports; empty means those that are allowed anyway.
        ports: Vec<u16> = Vec::new(), via read::ports;
    }
}

words! {
    /// What a finding does that would hold a message.
    pub enum OnQuarantine {
        /// The request is refused.
        #[default]
        Block = "block",
        /// It goes through and is recorded.
        Forward = "forward",
    }
}

words! {
    /// What becomes of a request with files in an archive that cannot be read.
    pub enum OnSealed {
        /// It is refused.
        #[default]
        Block = "block",
        /// It goes through, and the bytes of these files are counted as unscanned.
        Forward = "forward",
    }
}

words! {
    /// Where secrets are replaced by placeholders.
    pub enum Redact {
        /// Nowhere: they are refused.
        #[default]
        Off = "off",
        /// In requests.
        Requests = "requests",
        /// In responses.
        Responses = "responses",
        /// In both.
        Both = "both",
    }
}

section! {
    /// How long we wait. `0` is for ever where that is allowed.
    pub struct EgressTimeouts {
        /// For the head of a request, and for a TLS handshake with an agent.
        head: Period = Period::from_secs(30), via read::period_above_zero;
        /// For a name to resolve, a connection and its TLS handshake.
        connect: Period = Period::from_secs(10), via read::period_above_zero;
        /// From the end of a request to the first byte of its response.
        first_byte: Period = Period::from_secs(300);
        /// Without a byte in either direction.
        idle: Period = Period::from_secs(600);
        /// For a whole exchange or tunnel.
        total: Period = Period(0);
    }
}

section! {
    /// Limits of one agent; 0 is unlimited.
    pub struct EgressLimits {
        /// Connections and requests at the same time.
        connections: u64 = 0;
        /// Requests in a window.
        requests: u64 = 0;
        /// Bytes sent in a window.
        bytes_up: u64 = 0;
        /// Bytes received in a window.
        bytes_down: u64 = 0;
        /// The window.
        window: Period = Period::from_secs(3_600), via read::period_above_zero;
    }
}

section! {
    /// The proxy we go through.
    pub struct UpstreamProxy {
        /// `http://host:port` or `https://host:port`.
        url: String = String::new();
        /// User name it asks for.
        username: String = String::new();
        /// Password it asks for.
        password: Secret = Secret::default();
        /// Hosts we reach without it.
        direct: Vec<String> = Vec::new();
        /// Who resolves names.
        resolve: NameResolution = NameResolution::Local;
    }
}

words! {
    /// Who resolves the names of targets behind an upstream proxy.
    pub enum NameResolution {
        /// We do, and ask the upstream proxy for the address we checked.
        #[default]
        Local = "local",
        /// The upstream proxy does; we only check names and addresses that are written out.
        Upstream = "upstream",
    }
}

section! {
    /// A listener for one agent: whoever reaches it is that agent.
    pub struct EgressListener {
        /// Its address.
        bind: String = String::from("127.0.0.1"), via read::bind;
        /// Its port.
        port: u16 = 0, via read::proxy_port;
        /// The agent.
        agent: String = String::new();
    }
}

section! {
    /// Whoever connects from this network is this agent.
    pub struct SourceBinding [label = network] {
        /// The network.
        network: String = String::new();
        /// The agent.
        agent: String = String::new();
    }
}

section! {
    /// Whoever shows a certificate with this name is this agent.
    pub struct CertificateBinding [label = name] {
        /// A DNS or URI name, or the common name.
        name: String = String::new();
        /// The agent.
        agent: String = String::new();
    }
}

section! {
    /// Looking into TLS, for chosen agents and hosts.
    pub struct Interception {
        /// Whether we do.
        enabled: bool = false;
        /// Hosts we look into.
        hosts: Vec<String> = vec![String::from("*")];
        /// Agents whose connections we look into; empty means everybody's.
        agents: Vec<String> = Vec::new();
        /// Hosts that stay opaque, whatever stands above.
        passthrough: Vec<String> = Vec::new();
        /// PEM files with authorities of upstream servers, in addition to the system's.
        extra_roots: Vec<PathBuf> = Vec::new();
        /// Folder of our authority; absent means `tls` in the state folder.
        ca_dir: Option<PathBuf> = None;
        /// Certificates kept ready.
        certificates_max: usize = 10_000, via read::certificates_max;
    }
}
