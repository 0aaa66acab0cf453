//! One file per command: its arguments, and the one call behind it.

pub(crate) mod agent;
pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod controlplane;
pub(crate) mod dataplane;
pub(crate) mod env;
pub(crate) mod explain;
pub(crate) mod keygen;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod plane;
pub(crate) mod quarantine;
pub(crate) mod rules;
pub(crate) mod run;
pub(crate) mod secrets;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod tls;
pub(crate) mod tokens;
pub(crate) mod verify;
pub(crate) mod version;

use crate::args::{Cli, Command};
use crate::exit::{Failure, Outcome};
use std::path::PathBuf;

/// What every command gets.
pub(crate) struct Global {
    /// `--config`.
    pub(crate) config: Option<PathBuf>,
    /// `--json`.
    pub(crate) json: bool,
}

/// Runs what was asked for.
pub(crate) fn dispatch(cli: Cli) -> Outcome {
    let global = Global {
        config: cli.config,
        json: cli.json,
    };
    let Some(command) = cli.command else {
        return run::execute(&global, cli.run);
    };
    if !matches!(command, Command::Run(_)) && cli.run.is_given() {
        return Err(Failure::new(
            "options of `oktsec run` stand before another command; put options behind it",
        ));
    }
    match command {
        Command::Run(args) => run::execute(&global, args.over(cli.run)),
        Command::Serve(args) => serve::execute(&global, args),
        Command::Dataplane(args) => dataplane::execute(&global, args),
        Command::Controlplane(args) => controlplane::execute(&global, args),
        Command::Send(args) => send::execute(&global, args),
        Command::Status(args) => status::execute(&global, args),
        Command::Logs(args) => logs::execute(&global, args),
        Command::Agent(command) => agent::execute(&global, command),
        Command::Keygen(args) => keygen::execute(&global, args),
        Command::Keys(command) => keys::execute(&global, command),
        Command::Quarantine(command) => quarantine::execute(&global, command),
        Command::Audit(command) => audit::execute(&global, command),
        Command::Rules(args) => rules::execute(&global, args),
        Command::Verify(args) => verify::execute(&global, args),
        Command::Explain(args) => explain::execute(&global, &args),
        Command::Tokens(command) => tokens::execute(&global, command),
        Command::Secrets(command) => secrets::execute(&global, command),
        Command::Tls(command) => tls::execute(&global, command),
        Command::Env(args) => env::print(&global, &args),
        Command::Exec(args) => env::exec(&global, &args),
        Command::Completions(args) => completions::execute(args),
        Command::Man(args) => man::execute(args),
        Command::Version => version::execute(&global),
    }
}
