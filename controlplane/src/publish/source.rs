//! Reads everything a snapshot is made of. What comes of it is all there is, every time: what is read partially cannot
//! be compared.

use crate::Options;
use crate::names::{WithRules, load_with_rules};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::config::{Config, Level};
use oktsec_contract::keys::{AgentKey, KeyReader, RevokedKey, revocations};
use oktsec_contract::paths::StatePaths;
use oktsec_rules::{ProblemSeverity, RuleSet};
use oktsec_scanner::secrets::{SecretKey, SecretStore};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a snapshot comes from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    options: Options,
    /// Locked while keys are read, which one task does.
    keys: Arc<Mutex<KeyReader>>,
}

/// What stood there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Read {
    pub(crate) config: Config,
    pub(crate) keys: Vec<AgentKey>,
    pub(crate) revoked: Vec<RevokedKey>,
    pub(crate) rules: RuleSet,
    /// The seal of the store of known secrets.
    pub(crate) secrets: Option<String>,
    /// What an operator should mend, though it does not stop us.
    pub(crate) warnings: Vec<String>,
}

impl Source {
    /// From these options.
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            keys: Arc::default(),
        }
    }

    /// Reads it all.
    ///
    /// # Errors
    /// Every error in the configuration at once, or why revocations cannot be read: a key that may have been
    /// revoked must not be trusted, so that is no warning.
    pub(crate) fn read(&self) -> Result<Read, Vec<String>> {
        let WithRules {
            loaded,
            rules,
            problems,
        } = load_with_rules(&self.options.config_path).map_err(|failed| {
            let errors = failed.problems.iter();
            let errors = errors.filter(|problem| problem.level == Level::Error);
            errors.map(ToString::to_string).collect::<Vec<_>>()
        })?;
        let mut config = loaded.config;
        if let Some(port) = self.options.port {
            config.server.port = port;
        }
        if let Some(bind) = &self.options.bind {
            config.server.bind.clone_from(bind);
        }
        let warnings = loaded.warnings.iter();
        let mut warnings: Vec<String> = warnings
            .map(|warning| warning.unlevelled().to_string())
            .collect();

        let mut agent_keys = Vec::new();
        let mut revoked = Vec::new();
        if let Some(dir) = &config.identity.keys_dir {
            let found = self.keys.lock().read(dir, Timestamp::now());
            warnings.extend(found.problems.iter().map(ToString::to_string));
            agent_keys = found.keys;
            revoked = revocations::load(dir).map_err(|error| {
                vec![format!(
                    "{error}; a key that may be revoked is not trusted, so nothing is published"
                )]
            })?;
        }

        warnings.extend(problems.iter().map(ToString::to_string));
        let refused = problems
            .iter()
            .any(|problem| problem.severity == ProblemSeverity::Error);
        if let Some(dir) = config.custom_rules_dir.as_ref().filter(|_| refused) {
            warnings.push(format!(
                "some rules of {} were refused; the others are in force",
                dir.display()
            ));
        }
        let secrets = seal(&config).map_err(|why| vec![why])?;
        Ok(Read {
            config,
            keys: agent_keys,
            revoked,
            rules,
            secrets,
            warnings,
        })
    }

    /// Files and folders whose change means that [`Self::read`] may find something new.
    pub(crate) fn watched(&self, config: Option<&Config>) -> Vec<PathBuf> {
        let path = &self.options.config_path;
        let mut watched = vec![path.clone(), path.with_file_name(".env")];
        if let Some(config) = config {
            if let Some(dir) = &config.identity.keys_dir {
                watched.push(dir.clone());
                watched.push(dir.join("revoked"));
            }
            watched.extend(config.custom_rules_dir.clone());
            let paths = StatePaths::for_config(config);
            watched.extend([paths.secrets_store, paths.secrets_key]);
        }
        watched
    }
}

/// The seal of the store of known secrets, `None` if there is none. One that cannot be used is an error: what should
/// be looked for and is not must not pass.
fn seal(config: &Config) -> Result<Option<String>, String> {
    let paths = StatePaths::for_config(config);
    let (store, key) = (&paths.secrets_store, &paths.secrets_key);
    let unusable = |why: &dyn std::fmt::Display| {
        format!(
            "the store of known secrets {} (key {}) cannot be used, so nothing is published: {why}",
            store.display(),
            key.display()
        )
    };
    if !store.exists() {
        return match &config.secrets.store {
            None => Ok(None),
            Some(_) => Err(unusable(
                &"there is no such file; `oktsec secrets add` makes it",
            )),
        };
    }
    let key = SecretKey::load(key).map_err(|error| unusable(&error))?;
    SecretStore::verify(store, &key)
        .map(|seal| seal.map(hex::encode))
        .map_err(|error| unusable(&error))
}

impl Read {
    /// Whether a data plane would decide differently by the other one.
    pub(crate) fn means_the_same(&self, other: &Self) -> bool {
        self.config == other.config
            && self.keys == other.keys
            && self.revoked == other.revoked
            && self.rules == other.rules
            && self.secrets == other.secrets
    }
}
