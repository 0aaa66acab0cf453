//! Why a data plane does not run.

use oktsec_audit::OpenError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long the cores may take until they listen.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(10);

/// Why a data plane does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Somebody else listens there.
    #[error(
        "port {port} on {bind} is in use: stop what listens there, or set {key} to another one"
    )]
    PortBusy {
        /// The address.
        bind: String,
        /// The port.
        port: u16,
        /// The key that names it.
        key: &'static str,
    },
    /// The address is none of ours.
    #[error("cannot listen on {bind} port {port}: {source}")]
    Address {
        /// The address.
        bind: String,
        /// The port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{key}: {path}: {cause}")]
    Tls {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// What looking into TLS needs is not there.
    #[error("forward_proxy.interception: {0}")]
    Interception(String),
    /// A folder of ours cannot be made.
    #[error("{path}: {source}")]
    State {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The key that signs the audit log cannot be read or made.
    #[error("the signing key in {path}: {cause}")]
    SigningKey {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The audit log cannot be opened.
    #[error("the audit log: {0}")]
    Audit(#[from] OpenError),
    /// The system gives no thread.
    #[error("no thread: {0}")]
    Thread(io::Error),
    /// The cores were started and nothing listens.
    #[error("nothing listens on {0}, long after the cores were started")]
    NotListening(SocketAddr),
    /// A thread ended, or a task panicked, without which nothing or not everything would be checked.
    #[error("{0} ended unexpectedly")]
    Lost(&'static str),
}

impl RunError {
    /// The exit code of the process: 2 for what no restart will mend.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::PortBusy { .. }
            | Self::Address { .. }
            | Self::Tls { .. }
            | Self::Interception(_)
            | Self::State { .. }
            | Self::SigningKey { .. } => 2,
            Self::Audit(OpenError::Symlink(_)) => 2,
            Self::Audit(OpenError::Io { error, .. })
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                2
            }
            Self::Audit(_) | Self::Thread(_) | Self::NotListening(_) | Self::Lost(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RunError;
    use oktsec_audit::OpenError;
    use std::io::{Error, ErrorKind};
    use std::path::PathBuf;

    #[test]
    fn what_no_restart_will_mend_is_told_from_what_one_may() {
        let io = |kind: ErrorKind| OpenError::Io {
            path: PathBuf::from("audit"),
            error: Error::from(kind),
        };
        for (error, code) in [
            (io(ErrorKind::PermissionDenied), 2),
            (io(ErrorKind::ReadOnlyFilesystem), 2),
            (OpenError::Symlink(PathBuf::from("audit")), 2),
            (io(ErrorKind::StorageFull), 1),
            (OpenError::Locked(PathBuf::from("audit")), 1),
        ] {
            assert_eq!(RunError::from(error).exit_code(), code);
        }
    }
}
