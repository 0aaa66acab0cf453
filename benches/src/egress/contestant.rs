//! The proxies that are measured, and everything they need: each a process of its own on the first CPU, all of them
//! started once and idle while another has its turn.

use super::{Outcome, tls};
use crate::stand::{Server, StandError, free_port};
use std::fmt::Write as _;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs to measure.
#[derive(Clone, Debug)]
pub struct Programs {
    /// This program: it can be the bare ones.
    pub this: PathBuf,
    /// The `oktsec` binary.
    pub oktsec: PathBuf,
    /// Squid, where it is installed.
    pub squid: Option<PathBuf>,
}

/// Ports of the hosts that agents of the bench ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) short: u16,
    pub(super) long: u16,
    pub(super) short_same: u16,
    pub(super) long_same: u16,
    pub(super) plain: u16,
    pub(super) tls: u16,
    pub(super) anew: u16,
    pub(super) zeros: u16,
    pub(super) events: u16,
    pub(super) spare: u16,
}

impl Ports {
    fn free() -> Outcome<Self> {
        Ok(Self {
            short: free_port()?,
            long: free_port()?,
            short_same: free_port()?,
            long_same: free_port()?,
            plain: free_port()?,
            tls: free_port()?,
            anew: free_port()?,
            zeros: free_port()?,
            events: free_port()?,
            spare: free_port()?,
        })
    }

    const fn all(self) -> [u16; 10] {
        [
            self.short,
            self.long,
            self.short_same,
            self.long_same,
            self.plain,
            self.tls,
            self.anew,
            self.zeros,
            self.events,
            self.spare,
        ]
    }
}

/// A folder with configurations and certificates, and the programs.
#[derive(Debug)]
pub struct Stand {
    dir: tempfile::TempDir,
    programs: Programs,
    cpus: Vec<usize>,
    pub(super) ports: Ports,
}

/// A proxy that runs.
#[derive(Debug)]
pub(super) struct Contestant {
    server: Server,
    /// Where it takes requests; `Server::address` is where it says that it is ready.
    pub(super) address: SocketAddr,
}

impl Contestant {
    pub(super) const fn pid(&self) -> u32 {
        self.server.pid
    }
}

impl Stand {
    /// Makes the folder. Proxies run on `cpus`.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(programs: Programs, cpus: Vec<usize>) -> Outcome<Self> {
        let dir = tempfile::tempdir()?;
        tls::lay_out(dir.path())?;
        Ok(Self {
            dir,
            programs,
            cpus,
            ports: Ports::free()?,
        })
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The gateway with everything on: policy, scanning both ways, audit; TLS of one host is looked into.
    pub(super) fn ours(&self) -> Outcome<Contestant> {
        self.gateway("oktsec", true)
    }

    /// The same without scanning: what policy, audit and being a proxy cost.
    pub(super) fn unscanned(&self) -> Outcome<Contestant> {
        self.gateway("unscanned", false)
    }

    fn gateway(&self, name: &str, scans: bool) -> Outcome<Contestant> {
        let (port, egress) = (free_port()?, free_port()?);
        let site = self.dir().join(name);
        std::fs::create_dir(&site)?;
        let config = site.join("oktsec.yaml");
        let text = configuration(self.dir(), &site, (port, egress), self.ports, scans)?;
        std::fs::write(&config, text)?;
        let mut process = Command::new(&self.programs.oktsec);
        process.arg("serve").arg("--config").arg(&config);
        process
            .env_remove("OKTSEC_CONFIG")
            .env_remove("OKTSEC_API_KEY")
            .current_dir(&site);
        let server = Server::start(process, port, Some("/readyz"), &self.cpus)?;
        Ok(Contestant {
            address: super::local(egress),
            server,
        })
    }

    /// One of the proxies that decide nothing: `mode` of this program.
    pub(super) fn bare(&self, mode: &str) -> Outcome<Contestant> {
        let port = free_port()?;
        let mut process = Command::new(&self.programs.this);
        process.args([mode, "--port", &port.to_string(), "--dir"]);
        process.arg(self.dir());
        Ok(self.start(process, port)?)
    }

    /// Squid without a cache; nothing where there is none.
    pub(super) fn squid(&self) -> Outcome<Option<Contestant>> {
        let Some(squid) = &self.programs.squid else {
            return Ok(None);
        };
        let port = free_port()?;
        let config = self.dir().join("squid.conf");
        let run = self.dir().join("squid");
        std::fs::create_dir(&run)?;
        // Started by root it becomes somebody else.
        for (path, mode) in [(self.dir(), 0o755), (&run, 0o777)] {
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        let text = format!(
            "http_port 127.0.0.1:{port}\nhttp_access allow all\ncache deny all\naccess_log none\ncache_log {run}/cache.log\n\
             pid_filename {run}/pid\ncoredump_dir {run}\nshutdown_lifetime 0 seconds\nnetdb_filename none\npinger_enable off\n",
            run = run.display()
        );
        std::fs::write(&config, text)?;
        let mut process = Command::new(squid);
        // Its shared memory is named so, and two would share it.
        let name = format!("bench{port}");
        process.args(["-N", "-n", &name, "-f"]).arg(&config);
        Ok(Some(self.start(process, port)?))
    }

    fn start(&self, process: Command, port: u16) -> Result<Contestant, StandError> {
        let server = Server::start(process, port, None, &self.cpus)?;
        Ok(Contestant {
            address: server.address,
            server,
        })
    }
}

/// What a stranger would write to repeat it.
fn configuration(
    dir: &Path,
    site: &Path,
    (port, egress): (u16, u16),
    ports: Ports,
    scans: bool,
) -> Outcome<String> {
    // A JSON string is a YAML string, whatever the path holds.
    let quoted = |path: PathBuf| serde_json::Value::from(path.display().to_string());
    // A gateway that neither scans nor refuses anything is a mistake, it says.
    let refused = match scans {
        true => "",
        false => "  blocked_domains: [nobody.invalid]\n",
    };
    let mut listed = String::new();
    for port in ports.all() {
        write!(listed, "{port}, ")?;
    }
    Ok(format!(
        "version: \"1\"
server: {{bind: 127.0.0.1, port: {port}, workers: 1, log_level: warn}}
identity: {{keys_dir: {keys}, require_signature: false}}
rate_limit: {{per_agent: 0, per_ip: -1}}
db_path: {db}
agents: {{alice: {{}}}}
forward_proxy:
  enabled: true
  port: {egress}
  scan_requests: {scans}
  scan_responses: {scans}
{refused}  ports: [{listed}80, 443]
  private_targets:
    - {{host: \"*\", network: 127.0.0.0/8}}
    - {{host: \"*\", network: \"::1/128\"}}
  interception:
    enabled: true
    hosts: [{host}]
    ca_dir: {ca}
    extra_roots: [{roots}]
",
        keys = quoted(site.join("keys")),
        db = quoted(site.join("oktsec.db")),
        host = tls::HOST,
        ca = quoted(dir.to_owned()),
        roots = quoted(dir.join("hosts.pem")),
    ))
}

#[cfg(test)]
mod tests {
    use super::{Ports, configuration};
    use crate::egress::tls;
    use oktsec_contract::config;

    #[test]
    fn the_configuration_loads_and_scans_everything() {
        let dir = tempfile::tempdir().unwrap();
        tls::lay_out(dir.path()).unwrap();
        let ports = Ports::free().unwrap();
        let file = dir.path().join("oktsec.yaml");
        let text = configuration(dir.path(), dir.path(), (1, 2), ports, true).unwrap();
        std::fs::write(&file, text).unwrap();
        let loaded = config::load(&file).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let proxy = loaded.config.forward_proxy;
        assert!(proxy.enabled && proxy.scan_requests && proxy.scan_responses);
        assert!(proxy.interception.enabled);
        assert!(ports.all().iter().all(|port| proxy.ports.contains(port)));
    }
}
