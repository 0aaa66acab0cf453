//! Logs go to standard error, one line each; the level comes from the configuration.

use oktsec_contract::config::LogLevel;
use tracing_subscriber::EnvFilter;

/// Starts logging. `OKTSEC_LOG` (a filter such as `oktsec_proxy=debug,info`) wins over the level.
pub(crate) fn start(level: LogLevel, process: &'static str) {
    let default = match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    let filter = EnvFilter::try_from_env("OKTSEC_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(rustix::termios::isatty(std::io::stderr()))
        .with_target(false)
        // What cannot be written is lost. Saying so on the same broken pipe would panic, and a log reader that ended
        // must not end the gateway.
        .log_internal_errors(false)
        .try_init();
    if started.is_ok() {
        tracing::debug!(process, pid = std::process::id(), "logging");
    }
}
