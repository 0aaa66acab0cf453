//! How a command ends: the documented exit codes, and what it says when it could not do its work.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// The exit codes of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done, nothing to complain about.
    Done,
    /// 1: done, and there are findings: a broken chain, a rule that fails its examples.
    Findings,
    /// 3: the message was blocked, rejected or held.
    Blocked,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Findings => Self::from(1),
            Exit::Blocked => Self::from(3),
        }
    }
}

/// What a command returns.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Why a command could not do its work, one line per problem.
#[derive(Debug)]
pub(crate) struct Failure {
    lines: Vec<String>,
    silent: bool,
    code: u8,
}

/// 2: could not be done: usage, configuration, no server. A [`Failure`], because it has something to say.
const FAILED: u8 = 2;

impl Failure {
    /// One problem.
    pub(crate) fn new(problem: impl fmt::Display) -> Self {
        Self {
            lines: vec![problem.to_string()],
            silent: false,
            code: FAILED,
        }
    }

    /// Several problems, said all at once.
    pub(crate) fn all(problems: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        let lines = problems.into_iter().map(|p| p.to_string()).collect();
        Self {
            lines,
            silent: false,
            code: FAILED,
        }
    }

    /// Someone closed our output (`oktsec logs | head`): there is nobody to tell.
    pub(crate) const fn closed() -> Self {
        Self {
            lines: Vec::new(),
            silent: true,
            code: FAILED,
        }
    }

    /// Puts a sentence in front.
    #[must_use]
    pub(crate) fn context(mut self, sentence: impl fmt::Display) -> Self {
        self.lines.insert(0, sentence.to_string());
        self
    }

    /// Ends with another code: what a supervisor should start again is no 2.
    #[must_use]
    pub(crate) const fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Tells the operator and gives the exit code: on stderr for people, on stdout with `--json`.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if self.silent {
            return Exit::Done.into();
        }
        if json {
            // Nothing is left to try when not even this can be written.
            let _ = crate::out::json(&serde_json::json!({
                "error": self.lines.first(),
                "problems": self.lines,
            }));
        }
        for (at, line) in self.lines.iter().enumerate() {
            let prefix = if at == 0 { "oktsec: " } else { "  " };
            crate::out::note(format_args!("{prefix}{line}"));
        }
        ExitCode::from(self.code)
    }
}

/// Tells how the command is used, or what was asked for (`--help`), and gives the exit code. What is wrong with the
/// arguments is said in JSON too where they ask for it.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let said = error.to_string();
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines: Vec<_> = lines
            .map(|line| line.strip_prefix("error: ").unwrap_or(line))
            .collect();
        let _ = crate::out::json(&serde_json::json!({
            "error": lines.first(),
            "problems": lines,
        }));
    }
    // Whoever closed our output hears nothing.
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::from(FAILED), ExitCode::from)
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::closed()
        } else {
            Self::new(error)
        }
    }
}
