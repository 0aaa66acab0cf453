//! `oktsec controlplane`: publishes the configuration and answers the API.

use super::{Global, plane};
use crate::exit::{Exit, Failure, Outcome};
use crate::{logging, parent};
use oktsec_contract::config;
use oktsec_controlplane::{Options, RunError};

/// Runs until asked to stop.
pub(crate) fn execute(global: &Global, args: plane::Args) -> Outcome {
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
            let failure = Failure::all(error.to_string().lines());
            let failure = failure.context(match error {
                RunError::Lost(_) => "the control plane cannot go on:",
                RunError::Config(_)
                | RunError::AlreadyRunning { .. }
                | RunError::State { .. }
                | RunError::System(_) => "the control plane cannot start:",
            });
            Err(failure.with_code(error.exit_code()))
        }
    }
}
