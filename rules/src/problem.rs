//! What was wrong with a rule file, said so that its author can mend it.

use std::fmt;

/// How much a problem costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemSeverity {
    /// The rule was loaded, but not all of what was written has an effect.
    Warn,
    /// The rule or the file was refused; the others stay.
    Error,
}

/// One thing wrong with a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleProblem {
    /// The file as it was named to us.
    pub file: String,
    /// Line in the file, counted from one, as exactly as we know it.
    pub line: Option<u32>,
    /// Id of the rule, if it has one.
    pub rule: Option<String>,
    /// What is wrong and what would be right.
    pub reason: String,
    /// Warning or refusal.
    pub severity: ProblemSeverity,
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(match self.severity {
            ProblemSeverity::Warn => ": warning: ",
            ProblemSeverity::Error => ": error: ",
        })?;
        if let Some(rule) = &self.rule {
            write!(f, "rule {rule}: ")?;
        }
        f.write_str(&self.reason)
    }
}
