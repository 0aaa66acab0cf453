//! Compiles rules into the folder from which data planes map them, in bounded time.

use oktsec_rules::RuleSet;
use oktsec_scanner::{CacheOutcome, CompileError, Database};
use std::path::PathBuf;
use std::time::Duration;

/// Where compiled rules go, and how long one may take to compile them.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    pub(crate) cache: PathBuf,
    pub(crate) time_max: Duration,
    /// How long after a failure that may pass the same rules are tried again.
    pub(crate) again_after: Duration,
}

/// Why rules are not compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompileFailed {
    /// For the operator.
    pub(crate) why: String,
    /// The machine was too busy or its disk too full: the same rules may compile later.
    pub(crate) may_pass: bool,
}

/// Where the rules are after compiling them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Where data planes find them.
    InCache,
    /// Nowhere, and why: every data plane would compile them again, and do nothing else until then.
    Nowhere(String),
}

impl Compiler {
    /// Compiles them unless they are there already.
    ///
    /// # Errors
    /// See [`CompileFailed`].
    pub(crate) fn compile(&self, rules: &RuleSet) -> Result<Kept, CompileFailed> {
        let compiled = Database::load_or_compile_within(rules, &self.cache, self.time_max);
        let (database, cached) = compiled.map_err(|error| CompileFailed {
            why: format!("the rules cannot be compiled: {error}"),
            may_pass: matches!(error, CompileError::TooLong { .. }),
        })?;
        tracing::debug!(
            ?cached,
            size_bytes = database.size_bytes(),
            "pattern database"
        );
        Ok(match cached {
            CacheOutcome::NotWritten(error) => Kept::Nowhere(error),
            CacheOutcome::Loaded | CacheOutcome::Written | CacheOutcome::Replaced => Kept::InCache,
        })
    }

    /// [`Self::compile`] for data planes that decide already: what they would have to compile themselves must wait, for a
    /// suspension or a revocation would wait behind it.
    ///
    /// # Errors
    /// See [`CompileFailed`].
    pub(crate) fn compile_for_all(&self, rules: &RuleSet) -> Result<(), CompileFailed> {
        match self.compile(rules)? {
            Kept::InCache => Ok(()),
            Kept::Nowhere(error) => Err(CompileFailed {
                why: format!(
                    "the compiled rules cannot be written to {}: {error}",
                    self.cache.display()
                ),
                may_pass: true,
            }),
        }
    }
}
