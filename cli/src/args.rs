//! The command line as a whole; each command's own arguments stand with the command.

use crate::commands::{
    agent, audit, completions, env, explain, keygen, keys, logs, man, plane, quarantine, rules,
    run, secrets, send, serve, status, tls, tokens, verify,
};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes: 0 done · 1 there are findings · 2 could not be done (usage, configuration, \
                          no server) · 3 the message was blocked, rejected or held";

/// Security gateway for AI agent fleets: every message between agents is signed, authorised, scanned and
/// recorded.
#[derive(Debug, Parser)]
#[command(name = "oktsec", version, after_help = EXIT_CODES, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Configuration file [default: $OKTSEC_CONFIG, ./oktsec.yaml, ~/.oktsec/config.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Answer in JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) run: run::Args,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do; nothing means `run`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve, and write a first configuration if there is none (what `oktsec` alone does)
    Run(run::Args),
    /// Start both processes and keep them running
    Serve(serve::Args),
    /// Start the data plane alone: it decides about messages
    Dataplane(plane::Args),
    /// Start the control plane alone: it publishes the configuration and answers the API
    Controlplane(plane::Args),
    /// Sign a message, send it and show the decision
    Send(send::Args),
    /// Show what is running and what is in force
    Status(status::Args),
    /// Show recorded decisions
    Logs(logs::Args),
    /// Say what decided about a record or would about a URL, and which line of the configuration would change it
    Explain(explain::Args),
    /// List, suspend and unsuspend agents
    #[command(subcommand)]
    Agent(agent::Command),
    /// Make key pairs for agents
    Keygen(keygen::Args),
    /// List, rotate and revoke keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Review messages that were held
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    /// Check the audit log
    #[command(subcommand)]
    Audit(audit::Command),
    /// List, explain and check detection rules
    Rules(rules::Args),
    /// Check the configuration
    Verify(verify::Args),
    /// Make, list and revoke tokens of clients that cannot sign
    #[command(subcommand)]
    Tokens(tokens::Command),
    /// Watch for values that must not leave, and plant canary tokens
    #[command(subcommand)]
    Secrets(secrets::Command),
    /// Make and show the authority for intercepted connections
    #[command(subcommand)]
    Tls(tls::Command),
    /// Print the variables that send a program's requests through the egress proxy
    Env(env::Env),
    /// Run a command with these variables
    Exec(env::Exec),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Print the manual
    Man(man::Args),
    /// Print the version
    Version,
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
