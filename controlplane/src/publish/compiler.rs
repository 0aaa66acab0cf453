//! Compiles rules into the folder from which data planes map them, in bounded time.

use oktsec_rules::RuleSet;
use oktsec_scanner::{CacheOutcome, Database};
use std::path::PathBuf;
use std::time::Duration;

/// Where compiled rules go, and how long one may take to compile them.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    pub(crate) cache: PathBuf,
    pub(crate) time_max: Duration,
}

impl Compiler {
    /// Compiles them unless they are there already.
    ///
    /// # Errors
    /// Why they cannot be compiled, for the operator.
    pub(crate) fn compile(&self, rules: &RuleSet) -> Result<(), String> {
        let compiled = Database::load_or_compile_within(rules, &self.cache, self.time_max);
        let (database, cached) =
            compiled.map_err(|error| format!("the rules cannot be compiled: {error}"))?;
        tracing::debug!(
            ?cached,
            size_bytes = database.size_bytes(),
            "pattern database"
        );
        if let CacheOutcome::NotWritten(error) = cached {
            tracing::warn!(%error, "the pattern database cannot be kept; every start compiles it anew");
        }
        Ok(())
    }
}
