//! Where values come from: a file, a variable of the environment, what a command prints, or standard input.

use crate::exit::Failure;
use oktsec_contract::files;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Bytes of a source: a million values of 200 bytes fit.
const SOURCE_BYTES_MAX: u64 = 256 << 20;

/// One of them, and how it is read.
#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// Read the value from a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["env", "command"])]
    file: Option<PathBuf>,
    /// Read the value from a variable of the environment
    #[arg(long, value_name = "VARIABLE", conflicts_with = "command")]
    env: Option<String>,
    /// Read the value from what a shell command prints
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// Each line is a value by itself; empty ones are left out
    #[arg(long)]
    lines: bool,
}

impl Source {
    /// The values. With none of the options they come from standard input.
    pub(super) fn read(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let bytes = match (&self.file, &self.env, &self.command) {
            (Some(path), ..) => files::read(path, SOURCE_BYTES_MAX)
                .map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))?,
            (None, Some(variable), _) => of_variable(variable)?,
            (None, None, Some(command)) => printed_by(command)?,
            (None, None, None) => standard_input()?,
        };
        let values = values(&bytes, self.lines);
        match values.is_empty() {
            true => Err(Failure::new("every line is empty; nothing was added")),
            false => Ok(values),
        }
    }
}

/// The one value, or each line; a line end behind a value is none of it.
fn values(bytes: &[u8], lines: bool) -> Vec<Vec<u8>> {
    if !lines {
        return vec![without_line_end(bytes).to_vec()];
    }
    bytes
        .split(|byte| *byte == b'\n')
        .map(without_line_end)
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

fn of_variable(name: &str) -> Result<Vec<u8>, Failure> {
    std::env::var_os(name)
        .map(OsStringExt::into_vec)
        .ok_or_else(|| Failure::new(format_args!("the variable {name} is not set")))
}

/// What a command prints, if it succeeds. Its complaints go where ours go.
fn printed_by(command: &str) -> Result<Vec<u8>, Failure> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::new(format_args!("/bin/sh: {error}")))?;
    let mut bytes = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        bytes = whole(stdout)?;
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(Failure::new(format_args!(
            "the command failed ({status}); nothing was added"
        )));
    }
    Ok(bytes)
}

/// Everything on standard input, which must not be a terminal: it would show the value while it is typed.
pub(super) fn standard_input() -> Result<Vec<u8>, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::new(
            "standard input is a terminal, which would show the value; use --file, --env or --command, or a pipe",
        ));
    }
    whole(stdin.lock())
}

/// All that comes. More than a source may hold is an error: half a value would be another one.
fn whole(source: impl io::Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    source.take(SOURCE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > SOURCE_BYTES_MAX {
        true => Err(Failure::new(format_args!(
            "more than {SOURCE_BYTES_MAX} bytes came; nothing was added"
        ))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::{SOURCE_BYTES_MAX, values, whole};

    #[test]
    fn a_source_that_is_too_large_is_refused_and_not_cut() {
        assert_eq!(whole(&b"value"[..]).ok(), Some(b"value".to_vec()));
        assert!(
            whole(std::io::Read::take(
                std::io::repeat(b'x'),
                SOURCE_BYTES_MAX + 1
            ))
            .is_err()
        );
    }

    #[test]
    fn only_the_line_end_behind_a_value_is_cut_off() {
        assert_eq!(values(b" two words \r\n", false), [b" two words ".to_vec()]);
        assert_eq!(values(b"a\nb\n", false), [b"a\nb".to_vec()]);
        assert_eq!(
            values(b"one\r\n\ntwo \nthree", true),
            [b"one".to_vec(), b"two ".to_vec(), b"three".to_vec()]
        );
    }
}
