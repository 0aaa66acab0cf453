//! The egress gateway beside proxies that decide nothing: what one request, one connection, one GiB and one event
//! cost (`oktsec-egress`).
//!
//! The origin, the agents and the clock are in this process, every proxy is a process of its own on another CPU. CPU
//! time of a proxy is read from `/proc`, so ratios hold on a machine that does other things as well.

mod bare;
mod cases;
mod contestant;
mod events;
mod origin;
mod requests;
mod tls;
mod tunnels;

pub use bare::{handshakes, relay};
pub use cases::{CASES, Case, Seen, measure};
pub use contestant::{Programs, Stand};

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// What a measurement gives, or why it could not be made.
pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// A port of this machine.
fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// CPU time of a process and the time of day, from one moment to another.
#[derive(Debug)]
struct Watch {
    pid: Option<u32>,
    cpu: Duration,
    begun: Instant,
}

impl Watch {
    /// Begins. Without a process only time passes.
    fn start(pid: Option<u32>) -> Outcome<Self> {
        let cpu = pid.map_or(Ok(Duration::ZERO), crate::process::cpu_time)?;
        Ok(Self {
            pid,
            cpu,
            begun: Instant::now(),
        })
    }

    /// CPU time and time since then.
    fn stop(&self) -> Outcome<(Duration, Duration)> {
        let took = self.begun.elapsed();
        let cpu = self
            .pid
            .map_or(Ok(Duration::ZERO), crate::process::cpu_time)?;
        Ok((cpu.saturating_sub(self.cpu), took))
    }
}
