//! The data plane's outside: it accepts, hands every message through the pipeline, has the decision recorded and
//! answers. The only user of pingora.
//!
//! ```text
//! listen ─► front ─► gate ─┬─► routes/message ─► core (pipeline, signatures, appends) ─► answer
//!  port     clocks   head  ├─► routes/messages
//!                    key   ├─► routes/health
//!                          └─► routes/relay ─► control plane
//! ```
//!
//! What agents send to the internet comes to ports of its own and goes through `egress`.
//!
//! One thread for each core, pinned, with its own socket on the shared port: see `cores`. What a core owns is in
//! `core`; what cores share is in `plane`; what changes while we run comes through `link`.
//!
//! ```no_run
//! # use oktsec_contract::{config::Config, paths::StatePaths};
//! # fn main() -> Result<(), oktsec_proxy::RunError> {
//! # let config = Config::default();
//! let options = oktsec_proxy::DataplaneOptions::from_config(&config, StatePaths::for_config(&config));
//! oktsec_proxy::run(options)
//! # }
//! ```

mod listen;

mod connection;
mod crowd;
mod front;
mod h2_refusals;
mod linger;
mod refused_head;
mod waiting;

mod body;
mod door;
mod framing;
mod gate;
mod room;
mod routes;

mod core;

mod egress;

mod answer;
mod json;
mod respond;

mod bootstrap;
mod cores;
mod descriptors;
mod ending;
mod error;
mod link;
mod plane;
mod presence;
mod run;
mod startup;
mod terminator;

mod chance;
pub mod limits;
mod metrics;
mod throttle;
mod tidy;
mod visit;

pub mod null;

pub use connection::Patience;
pub use error::RunError;
pub use run::{Dataplane, DataplaneOptions, EgressOptions, run};
