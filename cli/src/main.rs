//! The `oktsec` command: arguments in, one call, text out.
//!
//! Exit codes: 0 done, 1 there are findings, 2 it could not be done (usage, configuration, no server),
//! 3 the message was not delivered. See [`exit`].

mod args;
mod commands;
mod duration;
mod examples;
mod exit;
mod http;
mod local;
mod logging;
mod out;
mod parent;
mod place;
mod reader;
mod secured;
mod supervisor;
mod table;
mod trust;

use clap::Parser;
use std::process::ExitCode;

/// The pipeline itself does not allocate per message; what is around it does, and this one keeps it small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    let json = cli.json;
    match commands::dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(json),
    }
}
