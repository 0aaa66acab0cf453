//! A configuration and keys for benches: no rate limits, replay protection on, everything else as delivered.

use oktsec_contract::keys::KeyPair;
use oktsec_contract::paths::StatePaths;
use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Agents that send.
pub const SENDERS: usize = 16;
/// The agent they write to.
pub const RECIPIENT: &str = "receiver";

/// The key of a sender. Anybody can compute it: good for benches and nothing else.
pub fn sender(number: usize) -> KeyPair {
    let mut seed = [0x5a; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    KeyPair::from_seed(&format!("sender-{number:02}"), &seed)
}

/// A folder with everything a server starts with.
#[derive(Clone, Debug)]
pub struct Site {
    /// The configuration.
    pub config: PathBuf,
    /// The keys of the senders.
    pub keys: PathBuf,
    /// The port in the configuration.
    pub port: u16,
}

impl Site {
    /// Writes configuration and keys into a folder.
    ///
    /// # Errors
    /// What the system says; an existing configuration is not overwritten.
    pub fn lay_out(
        dir: &Path,
        port: u16,
        workers: usize,
        require_signature: bool,
    ) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        std::fs::create_dir_all(&dir)?;
        let (config, keys) = (dir.join("oktsec.yaml"), dir.join("keys"));
        let mut file = std::fs::File::create_new(&config)?;
        io::Write::write_all(
            &mut file,
            text(&dir, &keys, port, workers, require_signature).as_bytes(),
        )?;
        for number in 0..SENDERS {
            sender(number).save(&keys).map_err(io::Error::other)?;
        }
        Ok(Self { config, keys, port })
    }

    /// Where a server on this site keeps its compiled patterns.
    pub fn rules_cache(&self) -> PathBuf {
        let folder = self.config.parent().unwrap_or_else(|| Path::new("/"));
        StatePaths::beside(&folder.join(DB), &std::env::temp_dir()).rules_cache
    }

    /// Takes over the compiled patterns of another site.
    ///
    /// # Errors
    /// What the system says.
    pub fn adopt_rules(&self, cache: &Path) -> io::Result<()> {
        let own = self.rules_cache();
        // For their owner only, as the server would make them.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&own)?;
        copy_files(cache, &own)
    }

    /// Leaves its compiled patterns for other sites.
    ///
    /// # Errors
    /// What the system says.
    pub fn leave_rules(&self, cache: &Path) -> io::Result<()> {
        copy_files(&self.rules_cache(), cache)
    }
}

const DB: &str = "oktsec.db";

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn text(dir: &Path, keys: &Path, port: u16, workers: usize, require_signature: bool) -> String {
    // A JSON string is a YAML string, whatever the path holds.
    let quoted = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
    let mut text = format!(
        "version: \"1\"\n\
         mode: enforce\n\
         server: {{bind: 127.0.0.1, port: {port}, workers: {workers}, log_level: warn}}\n\
         identity: {{keys_dir: {}, require_signature: {require_signature}, replay: reject}}\n\
         rate_limit: {{per_agent: 0, per_ip: -1}}\n\
         default_policy: deny\n\
         db_path: {}\n\
         agents:\n  {RECIPIENT}: {{can_message: [sender-00]}}\n",
        quoted(keys),
        quoted(&dir.join(DB)),
    );
    for number in 0..SENDERS {
        let _ = writeln!(
            text,
            "  {}: {{can_message: [{RECIPIENT}]}}",
            sender(number).name()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{SENDERS, Site};
    use oktsec_contract::config::{self, ReplayMode};

    #[test]
    fn the_configuration_loads_and_says_what_benches_need() {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::lay_out(&dir.path().join("it's new"), 8123, 1, true).unwrap();
        let loaded = config::load(&site.config).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let config = loaded.config;
        assert_eq!((config.server.port, config.server.workers), (8123, Some(1)));
        assert_eq!(
            (config.rate_limit.per_agent, config.rate_limit.per_ip),
            (0, -1)
        );
        assert_eq!(config.identity.replay, ReplayMode::Reject);
        assert!(config.identity.require_signature);
        assert_eq!(config.agents.len(), SENDERS + 1);
        assert!(Site::lay_out(&dir.path().join("it's new"), 8123, 1, true).is_err());
    }
}
