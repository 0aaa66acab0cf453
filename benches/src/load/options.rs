//! The command line of the load generator.

use super::pool::{Pool, Recipe};
use super::report::Report;
use super::run::{LoadError, Plan, Shape, run};
use crate::process;
use crate::stand::Site;
use clap::Parser;
use oktsec_contract::keys::KeyPair;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Sends messages to a data plane, asserts every answer, prints throughput, latencies and CPU time.
#[derive(Clone, Debug, Parser)]
#[command(name = "oktsec-load", version, max_term_width = 100)]
pub struct Options {
    /// Host and port of the data plane (plain HTTP)
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    pub address: String,
    /// Folder with the private keys of the senders (NAME.key)
    #[arg(long, value_name = "FOLDER", required_unless_present_any = ["unsigned", "prepare"])]
    pub keys: Option<PathBuf>,
    /// Agents that send, in turn
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "sender-00",
        value_name = "AGENTS"
    )]
    pub from: Vec<String>,
    /// The agent they write to
    #[arg(long, default_value = "receiver", value_name = "AGENT")]
    pub to: String,
    /// Send unsigned messages
    #[arg(long)]
    pub unsigned: bool,
    /// Of a hundred messages, how many are attacks and must be stopped
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=100), value_name = "PERCENT")]
    pub attacks: u64,
    /// Bytes of a message's content
    #[arg(long, default_value_t = 1_024, value_name = "BYTES")]
    pub size: usize,
    /// Messages a second at fixed times (open loop); without it every connection is kept busy (closed loop)
    #[arg(long, value_name = "MESSAGES_PER_SECOND")]
    pub rate: Option<f64>,
    /// Connections
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Requests written at once on a connection, in a closed loop
    #[arg(long, default_value_t = 1)]
    pub depth: usize,
    /// Threads of the generator
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// CPUs of these threads, in turn
    #[arg(long, value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// Seconds sent before anything is measured
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    pub warmup: f64,
    /// Seconds measured; less if the messages run out
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub duration: f64,
    /// Messages made and signed before sending [default: enough for 40,000 a second, or for the rate]
    #[arg(long)]
    pub messages: Option<usize>,
    /// API key
    #[arg(
        long,
        env = "OKTSEC_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub api_key: Option<String>,
    /// Process whose CPU time counts [default: the one that listens on the port, if it is on this machine]
    #[arg(long)]
    pub pid: Option<u32>,
    /// Decides the content
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Write a configuration and keys for benches into this folder, and send nothing
    #[arg(long, value_name = "FOLDER")]
    pub prepare: Option<PathBuf>,
    /// Workers in the configuration that --prepare writes
    #[arg(long, default_value_t = 1, requires = "prepare")]
    pub workers: usize,
}

/// Unsigned messages are few and sent again and again.
const UNSIGNED_MESSAGES: usize = 20_000;

impl Options {
    /// Makes the messages, sends them, measures.
    ///
    /// # Errors
    /// What is wrong with the options, the keys or the run, for the person who asked.
    pub fn execute(&self) -> Result<Report, String> {
        let address = self.socket_address()?;
        let recipe = self.recipe()?;
        let count = self.messages.unwrap_or_else(|| self.messages_needed());
        let pool = Arc::new(Pool::make(&recipe, count.max(self.threads), self.unsigned));
        let local = address
            .ip()
            .is_loopback()
            .then(|| process::listener(address.port()))
            .flatten();
        run(&self.plan(address, self.pid.or(local)), &pool)
            .map_err(|error: LoadError| error.to_string())
    }

    /// Writes a configuration and keys that fit these options.
    ///
    /// # Errors
    /// What is wrong with the address or the folder.
    pub fn prepare(&self, dir: &Path) -> Result<Site, String> {
        let port = self.socket_address()?.port();
        Site::lay_out(dir, port, self.workers, !self.unsigned)
            .map_err(|error| format!("{}: {error}", dir.display()))
    }

    fn socket_address(&self) -> Result<SocketAddr, String> {
        let cannot = |cause: String| format!("--address {}: {cause}", self.address);
        let plain = self
            .address
            .trim_start_matches("http://")
            .trim_end_matches('/');
        let mut found = plain
            .to_socket_addrs()
            .map_err(|error| cannot(error.to_string()))?;
        found
            .next()
            .ok_or_else(|| cannot(String::from("names no address")))
    }

    fn recipe(&self) -> Result<Recipe, String> {
        let senders =
            self.from
                .iter()
                .map(|name| match (&self.keys, self.unsigned) {
                    (Some(dir), false) => KeyPair::load(dir, name)
                        .map_err(|error| format!("{}: {error}", dir.display())),
                    (None, _) | (_, true) => Ok(KeyPair::from_seed(name, &[1; 32])),
                })
                .collect::<Result<_, String>>()?;
        Ok(Recipe {
            senders,
            recipient: self.to.clone(),
            content_bytes: self.size,
            signed: !self.unsigned,
            attacks_percent: self.attacks,
            api_key: self.api_key.clone().filter(|key| !key.is_empty()),
            host: self.address.clone(),
            seed: self.seed,
        })
    }

    fn plan(&self, address: SocketAddr, pid: Option<u32>) -> Plan {
        Plan {
            address,
            threads: self.threads,
            cpus: self.cpus.clone(),
            connections: self.connections,
            shape: match self.rate {
                Some(rate) => Shape::Open { rate },
                None => Shape::Closed { depth: self.depth },
            },
            warmup: Duration::from_secs_f64(self.warmup.clamp(0.0, 3_600.0)),
            duration: Duration::from_secs_f64(self.duration.clamp(0.01, 3_600.0)),
            pid,
        }
    }

    fn messages_needed(&self) -> usize {
        if self.unsigned {
            return UNSIGNED_MESSAGES;
        }
        let rate = self.rate.unwrap_or(40_000.0);
        // Threads share them evenly, so a few more than the exact number.
        (rate * (self.warmup + self.duration) * 1.05) as usize + 100 * self.threads
    }
}

#[cfg(test)]
mod tests {
    use super::Options;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
