//! `oktsec completions <shell>`.

use crate::args::Cli;
use crate::exit::{Exit, Outcome};
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::io::Write as _;

/// Which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell to complete for
    shell: Shell,
}

/// Prints the script that a shell loads.
pub(crate) fn execute(args: Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "oktsec", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}
