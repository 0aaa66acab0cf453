//! What `oktsec dataplane` and `oktsec controlplane` both take: what wins over the configuration, and what a supervisor
//! adds.

use std::path::PathBuf;

/// Arguments of a process that is started alone or by the supervisor.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port of data planes instead of server.port
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<u16>,
    /// Address of data planes instead of server.bind
    #[arg(long, value_name = "ADDRESS")]
    pub(super) bind: Option<String>,
    /// End when standard input does
    #[arg(long, hide = true)]
    pub(super) supervised: bool,
    /// Go on with this snapshot when the configuration cannot be used
    #[arg(long, hide = true, value_name = "FILE")]
    pub(super) fallback_snapshot: Option<PathBuf>,
}
