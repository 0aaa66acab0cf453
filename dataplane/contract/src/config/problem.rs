//! What is wrong in a configuration file, where, and what would be right.

use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// Whether a problem stops us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The file is refused.
    Error,
    /// The file is used, but probably does not mean what its author thinks.
    Warning,
}

/// One thing that is wrong, or probably wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as it was named.
    pub file: PathBuf,
    /// Line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column, from 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The key: `agents.a.can_message[2]`; empty if it is about the file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Whether it stops us.
    pub level: Level,
}

impl Problem {
    /// An error about the file as a whole.
    pub fn about_file(file: &Path, message: String, remedy: Option<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            column: None,
            key: String::new(),
            message,
            remedy,
            level: Level::Error,
        }
    }

    /// Place, key, message and remedy, for whoever says the level himself.
    pub fn unlevelled(&self) -> impl fmt::Display {
        Said {
            problem: self,
            level: false,
        }
    }
}

/// A problem in words.
struct Said<'p> {
    problem: &'p Problem,
    /// Whether a warning says that it is one.
    level: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Said {
            problem: self,
            level: true,
        }
        .fmt(f)
    }
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = self.problem;
        write!(f, "{}", problem.file.display())?;
        if let Some(line) = problem.line {
            write!(f, ":{line}")?;
            if let Some(column) = problem.column {
                write!(f, ":{column}")?;
            }
        }
        f.write_str(": ")?;
        if self.level && problem.level == Level::Warning {
            f.write_str("warning: ")?;
        }
        if !problem.key.is_empty() {
            write!(f, "{}: ", problem.key)?;
        }
        f.write_str(&problem.message)?;
        if let Some(remedy) = &problem.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}
