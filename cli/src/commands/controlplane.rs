//! `oktsec controlplane`: publishes the configuration and answers the API.

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::{logging, parent};
use oktsec_contract::config;
use oktsec_controlplane::Options;
use std::path::PathBuf;

/// What wins over the configuration, and what a supervisor adds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port that data planes listen on instead of server.port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Address that data planes listen on instead of server.bind
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
    /// End when standard input does
    #[arg(long, hide = true)]
    supervised: bool,
    /// Go on with this snapshot when the configuration cannot be used
    #[arg(long, hide = true, value_name = "FILE")]
    fallback_snapshot: Option<PathBuf>,
}

/// Runs until asked to stop.
pub(crate) fn execute(global: &Global, args: Args) -> Outcome {
    let config_path = config::resolve_path(global.config.as_deref());
    // What is wrong with the file is said by the control plane itself, all of it.
    let level = config::load(&config_path).map(|loaded| loaded.config.server.log_level);
    logging::start(level.unwrap_or_default(), "controlplane");
    if args.supervised {
        parent::follow();
    }
    let options = Options {
        port: args.port,
        bind: args.bind,
        fallback_snapshot: args.fallback_snapshot,
        ..Options::new(config_path)
    };
    match oktsec_controlplane::run(options) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            Err(Failure::all(error.to_string().lines()).context("the control plane cannot start:"))
        }
    }
}
