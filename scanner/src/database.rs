//! Every active rule of a snapshot, compiled: immutable, shared by `Arc`.

use std::ffi::CString;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use oktsec_rules::{Check, Expression, ExpressionError, Lane, MatchMode, Rule, RuleSet, Surface};

use crate::cache::{self, CacheOutcome};
use crate::confirm::Matcher;
use crate::dialect;
use crate::engine::{Engine, EngineError, PREFILTER, SINGLE_MATCH, Source};
use crate::sweep::{RESERVED_HITS, REVERSED_SIGN, REVERSED_WORDS, ROT13_SIGN, ROT13_WORDS};

/// Patterns the engine takes in no form; they are searched one by one, so they must stay few.
const UNINDEXED_PATTERNS_MAX: usize = 32;

/// Why a rule set has no database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A rule's expression is not usable; loaders refuse such rules before.
    #[error("rule {rule}: {reason}")]
    Expression {
        /// Its id.
        rule: String,
        /// What is wrong with it.
        reason: ExpressionError,
    },
    /// Too many patterns only a plain search could find.
    #[error("rule {rule}: the pattern engine cannot index its pattern, and too many are like that")]
    Unindexed {
        /// The rule that was one too many.
        rule: String,
    },
    /// The engine failed on all of them together.
    #[error("the pattern engine cannot compile the rules: {0}")]
    Compile(String),
    /// The engine cannot run here.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// How the engine finds a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Lookup {
    /// It reports exactly the pattern, and where its first match ends.
    Exact = 0,
    /// It reports more than the pattern; the confirm searches the whole text.
    Prefilter = 1,
    /// It does not know the pattern; the confirm always searches.
    Unindexed = 2,
}

impl Lookup {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Exact, Self::Prefilter, Self::Unindexed]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

pub(crate) struct PatternInfo {
    /// Index into the rules.
    pub(crate) rule: u32,
    pub(crate) lookup: Lookup,
    pub(crate) matcher: u32,
    pub(crate) near: Option<u32>,
    pub(crate) checks: Vec<Check>,
}

pub(crate) struct RuleInfo {
    pub(crate) patterns: Range<u32>,
    pub(crate) excludes: Range<u32>,
    pub(crate) all: bool,
    surfaces: u8,
}

impl RuleInfo {
    pub(crate) fn applies_to(&self, surface: Surface) -> bool {
        self.surfaces & (1 << surface as u8) != 0
    }
}

struct MatcherCell {
    expression: Expression,
    matcher: OnceLock<Matcher>,
}

/// The compiled rules. Memory: the engine's database, and a matcher for each pattern that ever
/// matched.
pub struct Database {
    rules: Vec<Rule>,
    hash: [u8; 32],
    infos: Vec<RuleInfo>,
    patterns: Vec<PatternInfo>,
    unindexed: Vec<u32>,
    matchers: Vec<MatcherCell>,
    engine: Arc<Engine>,
}

impl Database {
    /// Compiles all rules whose lane is not `off`. Takes seconds for hundreds of rules: call it
    /// away from traffic.
    pub fn compile(rules: &RuleSet) -> Result<Self, CompileError> {
        let (engine, lookups) = compile_engine(rules)?;
        Ok(Self::assemble(rules, engine, &lookups))
    }

    /// Takes the compiled form from `cache_dir` if it is there, whole, and made for these rules,
    /// this engine and this CPU; otherwise compiles, and writes it there. The directory must be
    /// writable by the operator's own account only.
    pub fn load_or_compile(
        rules: &RuleSet,
        cache_dir: &Path,
    ) -> Result<(Self, CacheOutcome), CompileError> {
        let key = cache::Key::new(rules)?;
        let expected = active_patterns(rules).count();
        let found = cache::read(cache_dir, &key);
        let why = match found {
            Ok(cached) if cached.lookups.len() == expected => {
                match Engine::deserialize(&cached.engine) {
                    Ok(engine) => {
                        let database = Self::assemble(rules, engine, &cached.lookups);
                        return Ok((database, CacheOutcome::Loaded));
                    }
                    Err(_) => CacheOutcome::Replaced,
                }
            }
            Ok(_) => CacheOutcome::Replaced,
            Err(outcome) => outcome,
        };
        let (engine, lookups) = compile_engine(rules)?;
        let outcome = match cache::write(cache_dir, &key, &lookups, &engine.serialize()?) {
            Ok(()) => why,
            Err(error) => CacheOutcome::NotWritten(error.to_string()),
        };
        Ok((Self::assemble(rules, engine, &lookups), outcome))
    }

    /// The rules, as [`Finding::rule`](crate::Finding::rule) numbers them.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// [`RuleSet::hash`] of the rules compiled.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Memory of the engine's part.
    pub fn size_bytes(&self) -> usize {
        self.engine.size_bytes()
    }

    /// Rules with a pattern the engine cannot index exactly: slower than others.
    pub fn slow_rules(&self) -> impl Iterator<Item = &Rule> {
        self.patterns
            .iter()
            .filter(|pattern| pattern.lookup != Lookup::Exact)
            .map(|pattern| &self.rules[pattern.rule as usize])
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn infos(&self) -> &[RuleInfo] {
        &self.infos
    }

    pub(crate) fn patterns(&self) -> &[PatternInfo] {
        &self.patterns
    }

    pub(crate) fn unindexed(&self) -> &[u32] {
        &self.unindexed
    }

    pub(crate) fn matcher_count(&self) -> usize {
        self.matchers.len()
    }

    pub(crate) fn matcher(&self, index: u32) -> &Matcher {
        let cell = &self.matchers[index as usize];
        cell.matcher.get_or_init(|| Matcher::new(&cell.expression))
    }

    fn assemble(rules: &RuleSet, engine: Engine, lookups: &[Lookup]) -> Self {
        let mut patterns = Vec::new();
        let mut matchers = Vec::new();
        let mut add = |expression: &Expression| {
            matchers.push(MatcherCell {
                expression: expression.clone(),
                matcher: OnceLock::new(),
            });
            (matchers.len() - 1) as u32
        };
        let mut infos = Vec::with_capacity(rules.rules.len());
        for (at, rule) in rules.rules.iter().enumerate() {
            let first = patterns.len() as u32;
            for pattern in rule.patterns.iter().filter(|_| rule.lane != Lane::Off) {
                patterns.push(PatternInfo {
                    rule: at as u32,
                    lookup: lookups[patterns.len()],
                    matcher: add(&pattern.expression),
                    near: pattern.near.as_ref().map(&mut add),
                    checks: pattern.checks.clone(),
                });
            }
            let excludes: Vec<u32> = rule.exclude.iter().map(&mut add).collect();
            infos.push(RuleInfo {
                patterns: first..patterns.len() as u32,
                excludes: excludes
                    .first()
                    .map_or(0..0, |first| *first..first + excludes.len() as u32),
                all: rule.match_mode == MatchMode::All,
                surfaces: rule
                    .surfaces
                    .iter()
                    .fold(0, |mask, surface| mask | 1 << *surface as u8),
            });
        }
        let unindexed = (0..patterns.len() as u32)
            .filter(|at| patterns[*at as usize].lookup == Lookup::Unindexed)
            .collect();
        Self {
            hash: rules.hash(),
            rules: rules.rules.clone(),
            infos,
            patterns,
            unindexed,
            matchers,
            engine: Arc::new(engine),
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("rules", &self.rules.len())
            .field("patterns", &self.patterns.len())
            .field("bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}

fn active_patterns(rules: &RuleSet) -> impl Iterator<Item = (&Rule, &oktsec_rules::Pattern)> {
    rules
        .rules
        .iter()
        .filter(|rule| rule.lane != Lane::Off)
        .flat_map(|rule| rule.patterns.iter().map(move |pattern| (rule, pattern)))
}

fn compile_engine(rules: &RuleSet) -> Result<(Engine, Vec<Lookup>), CompileError> {
    let mut expressions = Vec::new();
    let mut lookups = Vec::new();
    for (rule, pattern) in active_patterns(rules) {
        let refuse = |reason| CompileError::Expression {
            rule: rule.id.clone(),
            reason,
        };
        let text = dialect::write(&pattern.expression.to_hir().map_err(refuse)?);
        for other in pattern.near.iter().chain(&rule.exclude) {
            other.to_hir().map_err(refuse)?;
        }
        lookups.push(if text.is_some() {
            Lookup::Exact
        } else {
            Lookup::Unindexed
        });
        expressions.push(text.map(|text| CString::new(text).expect("bytes are written in hex")));
    }
    loop {
        // Signs of turned letters ride along; they also make sure that the engine is never empty.
        let mut sources = Vec::with_capacity(expressions.len() + RESERVED_HITS);
        let mut origin = Vec::with_capacity(expressions.len() + RESERVED_HITS);
        for (words, id) in [(REVERSED_WORDS, REVERSED_SIGN), (ROT13_WORDS, ROT13_SIGN)] {
            let words = words
                .iter()
                .map(|word| word.replace('.', "\\."))
                .collect::<Vec<_>>();
            sources.push(Source {
                expression: CString::new(format!("(?i)(?:{})", words.join("|")))
                    .expect("words hold no zero byte"),
                flags: SINGLE_MATCH,
                id,
            });
            origin.push(usize::MAX);
        }
        for (at, (expression, lookup)) in expressions.iter().zip(&lookups).enumerate() {
            let (Some(expression), false) = (expression, *lookup == Lookup::Unindexed) else {
                continue;
            };
            let prefilter = if *lookup == Lookup::Prefilter {
                PREFILTER
            } else {
                0
            };
            origin.push(at);
            sources.push(Source {
                expression: expression.clone(),
                flags: SINGLE_MATCH | prefilter,
                id: at as u32,
            });
        }
        let refused = match Engine::compile(&sources) {
            Ok(engine) => return Ok((engine, lookups)),
            Err(refused) => refused,
        };
        let Some(at) = refused
            .index
            .and_then(|index| origin.get(index))
            .filter(|at| **at != usize::MAX)
        else {
            return Err(CompileError::Compile(refused.message));
        };
        lookups[*at] = match lookups[*at] {
            Lookup::Exact => Lookup::Prefilter,
            Lookup::Prefilter | Lookup::Unindexed => Lookup::Unindexed,
        };
        let unindexed = lookups
            .iter()
            .filter(|lookup| **lookup == Lookup::Unindexed)
            .count();
        if unindexed > UNINDEXED_PATTERNS_MAX {
            let rule = active_patterns(rules)
                .nth(*at)
                .map(|(rule, _)| rule.id.clone());
            return Err(CompileError::Unindexed {
                rule: rule.unwrap_or_default(),
            });
        }
    }
}
