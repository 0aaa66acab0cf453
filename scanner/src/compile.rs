//! From rules to the engine's databases.

use std::ffi::CString;
use std::sync::Arc;

use oktsec_rules::{ExpressionError, Lane, Pattern, Rule, RuleSet};

use crate::dialect;
use crate::engine::{Engine, EngineError, PREFILTER, SINGLE_MATCH, Source};
use crate::gate::Gate;
use crate::sweep::{REVERSED_SIGN, REVERSED_WORDS, ROT13_SIGN, ROT13_WORDS};

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
    /// It reports the pattern or a part of it, and where the first match of that ends.
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

/// Patterns looked for together, in texts that pass the gate.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) gate: Gate,
    pub(crate) engine: Arc<Engine>,
}

pub(crate) struct Compiled {
    /// One for each active pattern.
    pub(crate) lookups: Vec<Lookup>,
    /// In order of their gates; the first is always open.
    pub(crate) groups: Vec<Group>,
}

/// The patterns of all rules that are not off, in order.
pub(crate) fn active_patterns(rules: &RuleSet) -> impl Iterator<Item = (&Rule, &Pattern)> {
    rules
        .rules
        .iter()
        .filter(|rule| rule.lane != Lane::Off)
        .flat_map(|rule| rule.patterns.iter().map(move |pattern| (rule, pattern)))
}

struct Asked {
    expression: CString,
    gate: Gate,
}

pub(crate) fn compile(rules: &RuleSet) -> Result<Compiled, CompileError> {
    let mut asked = Vec::new();
    for (rule, pattern) in active_patterns(rules) {
        let refuse = |reason| CompileError::Expression {
            rule: rule.id.clone(),
            reason,
        };
        let hir = pattern.expression.to_hir().map_err(refuse)?;
        for other in pattern.near.iter().chain(&rule.exclude) {
            other.to_hir().map_err(refuse)?;
        }
        asked.push(dialect::write(&hir).map(|written| Asked {
            expression: CString::new(written.expression).expect("bytes are written in hex"),
            gate: if written.has_long_literal {
                Gate::Always
            } else {
                Gate::of(&hir)
            },
        }));
    }
    let mut lookups: Vec<Lookup> = asked
        .iter()
        .map(|asked| {
            if asked.is_some() {
                Lookup::Exact
            } else {
                Lookup::Unindexed
            }
        })
        .collect();
    let mut groups = Vec::new();
    for gate in Gate::ALL {
        let members: Vec<usize> = (0..asked.len())
            .filter(|at| asked[*at].as_ref().is_some_and(|asked| asked.gate == gate))
            .collect();
        if members.is_empty() && gate != Gate::Always {
            continue;
        }
        let engine = Arc::new(compile_group(rules, gate, &members, &asked, &mut lookups)?);
        groups.push(Group { gate, engine });
    }
    Ok(Compiled { lookups, groups })
}

/// Compiles one group. What the engine refuses it is asked for as a prefilter, then not at all.
fn compile_group(
    rules: &RuleSet,
    gate: Gate,
    members: &[usize],
    asked: &[Option<Asked>],
    lookups: &mut [Lookup],
) -> Result<Engine, CompileError> {
    loop {
        let (mut sources, mut origin) = (Vec::new(), Vec::new());
        if gate == Gate::Always {
            // They ride along; they also make sure that this engine is never empty.
            sources.extend([
                sign(REVERSED_WORDS, REVERSED_SIGN),
                sign(ROT13_WORDS, ROT13_SIGN),
            ]);
            origin.extend([None, None]);
        }
        for at in members {
            let prefilter = match lookups[*at] {
                Lookup::Exact => 0,
                Lookup::Prefilter => PREFILTER,
                Lookup::Unindexed => continue,
            };
            let Some(asked) = &asked[*at] else { continue };
            origin.push(Some(*at));
            sources.push(Source {
                expression: asked.expression.clone(),
                flags: SINGLE_MATCH | prefilter,
                id: *at as u32,
            });
        }
        if sources.is_empty() {
            // Every member was refused: an expression that no text with a closed gate can match.
            sources.push(sign(REVERSED_WORDS, REVERSED_SIGN));
            origin.push(None);
        }
        let refused = match Engine::compile(&sources) {
            Ok(engine) => return Ok(engine),
            Err(refused) => refused,
        };
        let Some(at) = refused
            .index
            .and_then(|index| origin.get(index).copied().flatten())
        else {
            return Err(CompileError::Compile(refused.message));
        };
        lookups[at] = match lookups[at] {
            Lookup::Exact => Lookup::Prefilter,
            Lookup::Prefilter | Lookup::Unindexed => Lookup::Unindexed,
        };
        let unindexed = lookups
            .iter()
            .filter(|lookup| **lookup == Lookup::Unindexed)
            .count();
        if unindexed > UNINDEXED_PATTERNS_MAX {
            let rule = active_patterns(rules)
                .nth(at)
                .map(|(rule, _)| rule.id.clone());
            return Err(CompileError::Unindexed {
                rule: rule.unwrap_or_default(),
            });
        }
    }
}

/// An expression for words that ask for a view.
fn sign(words: &[&str], id: u32) -> Source {
    let words: Vec<String> = words.iter().map(|word| word.replace('.', "\\.")).collect();
    let expression = format!("(?i)(?:{})", words.join("|"));
    let expression = CString::new(expression).expect("words hold no zero byte");
    Source {
        expression,
        flags: SINGLE_MATCH,
        id,
    }
}
