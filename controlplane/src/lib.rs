//! The control plane: publishes the configuration to data planes and answers the API.
//!
//! It reads and checks the configuration file, keys, revocations and rules, makes a
//! [`Snapshot`](oktsec_contract::snapshot::Snapshot) of them and hands it to every data plane that connects to
//! `link.sock`; it does so again whenever one of them changes. The API (`/v1/agents`, `/v1/quarantine`,
//! `/v1/audit`, …) listens on `api.sock`, to which the data plane relays, and on `cli.sock`, which only
//! this machine's operator can open. No request of an agent ever waits for this process: it may crash,
//! restart or be absent.
//!
//! ```no_run
//! let options = oktsec_controlplane::Options::new("oktsec.yaml".into());
//! oktsec_controlplane::run(options)?;
//! # Ok::<(), oktsec_controlplane::RunError>(())
//! ```

mod api;
mod app;
mod audit;
pub mod edit;
mod held;
mod link;
mod names;
mod publish;
mod run;
mod signing_key;

pub use held::held_json;
pub use names::{WithRules, load_with_rules};
pub use run::{Options, RunError, local_socket, run};
pub use signing_key::{audit_public_key, public_key_in};
