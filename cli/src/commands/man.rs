//! `oktsec man`.

use crate::args::Cli;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use clap::CommandFactory as _;
use std::io::Write as _;
use std::path::PathBuf;

/// Where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write one page per command into this folder instead of printing the first
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Prints the manual page, or writes all of them.
pub(crate) fn execute(args: Args) -> Outcome {
    if let Some(folder) = args.out {
        std::fs::create_dir_all(&folder)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &folder))
            .map_err(|error| Failure::new(format_args!("{}: {error}", folder.display())))?;
        out::note(format_args!("manual pages are in {}", folder.display()));
        return Ok(Exit::Done);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    std::io::stdout().lock().write_all(&page)?;
    Ok(Exit::Done)
}
