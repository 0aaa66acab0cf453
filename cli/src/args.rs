//! The command line as a whole; each command's own arguments stand with the command.

use crate::commands::{
    agent, audit, completions, env, explain, keygen, keys, logs, man, plane, quarantine, rules,
    run, secrets, send, serve, status, tls, tokens, verify,
};
use crate::examples;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Security gateway for AI agent fleets: every message between agents and every outbound request is authorised, scanned
/// and recorded.
#[derive(Debug, Parser)]
#[command(name = "oktsec", version, after_help = examples::OKTSEC, propagate_version = true, max_term_width = 100)]
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
    #[command(after_help = examples::RUN)]
    Run(run::Args),
    /// Start both processes and keep them running
    Serve(serve::Args),
    /// Start the data plane alone: it decides about messages
    Dataplane(plane::Args),
    /// Start the control plane alone: it publishes the configuration and answers the API
    Controlplane(plane::Args),
    /// Sign a message, send it and show the decision
    #[command(after_help = examples::SEND)]
    Send(send::Args),
    /// Show what is running and what is in force
    Status(status::Args),
    /// Show recorded decisions
    #[command(after_help = examples::LOGS)]
    Logs(logs::Args),
    /// Say what decided about a record or would about a URL, and which line of the configuration would change it
    #[command(after_help = examples::EXPLAIN)]
    Explain(explain::Args),
    /// List, suspend and unsuspend agents
    #[command(subcommand, after_help = examples::AGENT)]
    Agent(agent::Command),
    /// Make key pairs for agents
    #[command(after_help = examples::KEYGEN)]
    Keygen(keygen::Args),
    /// List, rotate and revoke keys
    #[command(subcommand, after_help = examples::KEYS)]
    Keys(keys::Command),
    /// Review messages that were held
    #[command(subcommand, after_help = examples::QUARANTINE)]
    Quarantine(quarantine::Command),
    /// Check the audit log
    #[command(subcommand, after_help = examples::AUDIT)]
    Audit(audit::Command),
    /// List, explain and check detection rules
    #[command(after_help = examples::RULES)]
    Rules(rules::Args),
    /// Check the configuration
    Verify(verify::Args),
    /// Make, list and revoke tokens of clients that cannot sign
    #[command(subcommand, after_help = examples::TOKENS)]
    Tokens(tokens::Command),
    /// Watch for values that must not leave, and plant canary tokens
    #[command(subcommand, after_help = examples::SECRETS)]
    Secrets(secrets::Command),
    /// Make and show the authority for intercepted connections
    #[command(subcommand, after_help = examples::TLS)]
    Tls(tls::Command),
    /// Print the variables that send a program's requests through the egress proxy
    #[command(after_help = examples::ENV)]
    Env(env::Env),
    /// Run a command with these variables
    #[command(after_help = examples::EXEC)]
    Exec(env::Exec),
    /// Print completions for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(completions::Args),
    /// Print the manual
    #[command(after_help = examples::MAN)]
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
