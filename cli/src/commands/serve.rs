//! `oktsec serve`: both processes, supervised.

use super::Global;
use crate::exit::Outcome;
use crate::logging;
use crate::place::Place;
use crate::supervisor::{self, Plan};

/// What wins over the configuration.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct Args {
    /// Port to listen on instead of server.port
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Address to listen on instead of server.bind
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) bind: Option<String>,
    /// Accepted for scripts of the Go version; nothing opens a browser
    #[arg(long, hide = true)]
    pub(crate) no_browser: bool,
}

/// Serves until asked to stop.
pub(crate) fn execute(global: &Global, args: Args) -> Outcome {
    let place = Place::find(global.config.as_deref())?;
    place.warn();
    serve(global, place, args)
}

/// Serves a configuration that loaded.
pub(crate) fn serve(global: &Global, place: Place, args: Args) -> Outcome {
    let Place {
        config_path,
        mut config,
        paths,
        ..
    } = place;
    logging::start(config.server.log_level, "supervisor");
    // 0 and "" mean "as configured": that is how the Go version writes its defaults.
    let port = args.port.filter(|&port| port != 0);
    let bind = args.bind.filter(|bind| !bind.is_empty());
    if let Some(port) = port {
        config.server.port = port;
    }
    if let Some(bind) = &bind {
        config.server.bind.clone_from(bind);
    }
    let config_path = std::path::absolute(&config_path).unwrap_or(config_path);
    supervisor::run(Plan {
        config_path,
        config,
        paths,
        port,
        bind,
        json: global.json,
    })
}
