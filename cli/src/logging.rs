//! Logs go to standard error, one line each; the level comes from the configuration.

use oktsec_contract::config::LogLevel;
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use tracing_subscriber::EnvFilter;

/// Starts logging. `OKTSEC_LOG` (a filter such as `oktsec_proxy=debug,info`) wins over the level.
pub(crate) fn start(level: LogLevel, process: &'static str) {
    // HTTP/2 warns of what peers do, as often as they do it.
    let default = match level {
        LogLevel::Debug => "debug,h2=error",
        LogLevel::Info => "info,h2=error",
        LogLevel::Warn => "warn,h2=error",
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
        std::panic::set_hook(Box::new(|panic| {
            let at = panic.location().map(ToString::to_string);
            let at = at.unwrap_or_default();
            tracing::error!(at, "panic: {}", words_of(panic.payload()));
            let trace = Backtrace::capture();
            if trace.status() == BacktraceStatus::Captured {
                tracing::error!("{trace}");
            }
        }));
        tracing::debug!(process, pid = std::process::id(), "logging");
    }
}

/// What a panic says, if those are words of the program. Words that were put together can quote what was being read, as
/// those of a text that is cut inside a character do; the place in the program says enough then.
fn words_of(panic: &(dyn Any + Send)) -> &'static str {
    let words = panic.downcast_ref::<&'static str>();
    words.copied().unwrap_or("its words may quote content")
}

#[cfg(test)]
mod tests {
    use super::words_of;

    #[test]
    fn a_panic_does_not_quote_what_was_read() {
        let content = String::from("s\u{e9}cret");
        let panic = std::panic::catch_unwind(|| content[..2].len());
        let panic = panic.expect_err("a character is cut");
        let quoted = panic.downcast_ref::<String>();
        assert!(quoted.is_some_and(|words| words.contains("cret")));
        assert_eq!(words_of(&*panic), "its words may quote content");
        let panic = std::panic::catch_unwind(|| panic!("a bug of ours"));
        let panic = panic.expect_err("it panics");
        assert_eq!(words_of(&*panic), "a bug of ours");
    }
}
