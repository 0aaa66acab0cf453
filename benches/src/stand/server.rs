//! A server as a process of its own, pinned, started and ended by a bench.

use super::site::Site;
use crate::affinity;
use crate::process;
use rustix::process::{Pid, Signal, kill_process};
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A first start compiles the patterns.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// From SIGTERM to SIGKILL.
const END_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// Why a server does not run.
#[derive(Debug)]
pub enum StandError {
    /// It could not be started.
    Start(io::Error),
    /// It ended at once, and what it said.
    Ended(ExitStatus, String),
    /// It did not get ready, and what it said.
    NotReady(String),
}

impl fmt::Display for StandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "the server could not be started: {error}"),
            Self::Ended(status, said) => write!(f, "the server ended with {status}: {said}"),
            Self::NotReady(said) => {
                write!(
                    f,
                    "the server was not ready within {} s: {said}",
                    READY_WITHIN.as_secs()
                )
            }
        }
    }
}

impl std::error::Error for StandError {}

impl From<io::Error> for StandError {
    fn from(error: io::Error) -> Self {
        Self::Start(error)
    }
}

/// A running server; ends with this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// The process that answers on the port.
    pub pid: u32,
    /// From starting the process to the first answer that says "ready".
    pub ready_after: Duration,
}

impl Server {
    /// `oktsec serve` or another command of the binary, on a site. No CPUs means all.
    ///
    /// # Errors
    /// [`StandError`].
    pub fn oktsec(
        binary: &Path,
        command: &str,
        site: &Site,
        cpus: &[usize],
    ) -> Result<Self, StandError> {
        let mut process = Command::new(binary);
        process.arg(command).arg("--config").arg(&site.config);
        // The operator's own environment must not reach into a bench.
        process
            .env_remove("OKTSEC_CONFIG")
            .env_remove("OKTSEC_API_KEY");
        process.current_dir(site.config.parent().unwrap_or_else(|| Path::new("/")));
        Self::start(process, site.port, Some("/readyz"), cpus)
    }

    /// The null server: this program again, as `program null`.
    ///
    /// # Errors
    /// [`StandError`].
    pub fn null(program: &Path, cores: usize, cpus: &[usize]) -> Result<Self, StandError> {
        let port = free_port()?;
        let mut process = Command::new(program);
        process.args([
            "null",
            "--port",
            &port.to_string(),
            "--cores",
            &cores.to_string(),
        ]);
        Self::start(process, port, None, cpus)
    }

    /// A data plane with one rule on a site: this program again, as `program around`.
    ///
    /// # Errors
    /// [`StandError`].
    pub fn around(program: &Path, site: &Site, cpus: &[usize]) -> Result<Self, StandError> {
        let mut process = Command::new(program);
        process.arg("around").arg("--config").arg(&site.config);
        Self::start(process, site.port, Some("/readyz"), cpus)
    }

    /// Any program that listens on this port of this machine. With a path, it is ready when that is answered with 200.
    ///
    /// # Errors
    /// [`StandError`].
    pub fn start(
        mut process: Command,
        port: u16,
        ready_path: Option<&str>,
        cpus: &[usize],
    ) -> Result<Self, StandError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // Into a file: a pipe nobody reads would stop the server one day.
        let said = tempfile::tempfile()?;
        process
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said.try_clone()?);
        let begun = Instant::now();
        let child = affinity::within(cpus, || process.spawn())??;
        let mut server = Self {
            pid: child.id(),
            child,
            address,
            ready_after: Duration::ZERO,
        };
        loop {
            if is_ready(address, ready_path) {
                server.ready_after = begun.elapsed();
                server.pid = process::listener(port).unwrap_or(server.pid);
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                return Err(StandError::Ended(status, tail(said)));
            }
            if begun.elapsed() > READY_WITHIN {
                return Err(StandError::NotReady(tail(said)));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn end(&mut self) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let begun = Instant::now();
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM)?;
        }
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > END_WITHIN {
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It has ended by itself, or there is nobody left to tell.
            let _ = self.end();
        }
    }
}

/// A port nobody uses now.
///
/// # Errors
/// What the system says.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Whether a GET of the path is answered with 200; without a path, whether somebody listens.
fn is_ready(address: SocketAddr, path: Option<&str>) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
        let Some(path) = path else { return Ok(true) };
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(&head == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

/// The end of what a server said.
fn tail(mut said: std::fs::File) -> String {
    let mut text = String::new();
    let _ = io::Seek::rewind(&mut said).and_then(|()| said.read_to_string(&mut text));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join(" | ")
}
