//! The process `oktsec dataplane`: from its options to its end.

use crate::bootstrap::Bootstrap;
use crate::connection::Patience;
use crate::core;
use crate::cores::{self, Serving};
use crate::error::{READY_WITHIN, RunError};
use crate::gate::Gate;
use crate::limits::CONNECTIONS_PER_CORE_MAX;
use crate::link::Link;
use crate::listen::{self, TlsFiles};
use crate::plane::Plane;
use oktsec_audit::WriterThread;
use oktsec_contract::config::{Audit, Config, Server};
use oktsec_contract::limits::{AUDIT_QUEUE_BYTES_MAX, AUDIT_QUEUE_RECORDS_MAX};
use oktsec_contract::paths::StatePaths;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What a data plane starts with. Everything else comes with snapshots and changes while it runs.
#[derive(Clone, Debug)]
pub struct DataplaneOptions {
    /// Where its state lives.
    pub paths: StatePaths,
    /// Name of this machine in records; a log keeps the one it was created with.
    pub node: String,
    /// Address, port, TLS and cores; the API key counts until the first snapshot brings its own.
    pub server: Server,
    /// How records are kept.
    pub audit: Audit,
    /// Folder of the key that signs the audit log; created there if missing.
    pub proxy_key_dir: PathBuf,
    /// Signatures remembered against replay.
    pub replay_signatures_max: usize,
    /// Times peers get.
    pub patience: Patience,
    /// Connections of one core.
    pub connections_per_core_max: usize,
    /// Records and bytes that may wait for the audit writer.
    pub audit_queue_max: (usize, usize),
    /// From the signal to the end, for requests that are being answered.
    pub drain: Duration,
    /// Pin each core's thread.
    pub pin: bool,
}

impl DataplaneOptions {
    /// Options as a configuration says.
    pub fn from_config(config: &Config, paths: StatePaths) -> Self {
        Self {
            node: config.node.clone(),
            server: config.server.clone(),
            audit: config.audit.clone(),
            proxy_key_dir: config
                .identity
                .keys_dir
                .clone()
                .unwrap_or_else(|| paths.root.clone()),
            replay_signatures_max: config.identity.replay_signatures_max,
            patience: Patience::default(),
            connections_per_core_max: CONNECTIONS_PER_CORE_MAX,
            audit_queue_max: (AUDIT_QUEUE_RECORDS_MAX, AUDIT_QUEUE_BYTES_MAX),
            drain: Duration::from_secs(10),
            pin: true,
            paths,
        }
    }
}

/// Runs a data plane until SIGTERM, SIGINT or SIGQUIT, and drains it then. SIGHUP is the control plane's.
///
/// # Errors
/// [`RunError`], from which [`RunError::exit_code`] follows.
pub fn run(options: DataplaneOptions) -> Result<(), RunError> {
    let (events, happened) = mpsc::channel();
    let signals = Signals::watch(events.clone())?;
    let dataplane = Dataplane::start_reporting(options, events)?;
    tracing::info!(address = %dataplane.address(), "data plane ready");
    let event = happened.recv().unwrap_or(Event::CoreEnded);
    signals.close();
    match event {
        Event::Signal(signal) => {
            tracing::info!(signal, "data plane stops");
            dataplane.stop();
            Ok(())
        }
        Event::CoreEnded => {
            dataplane.stop();
            Err(RunError::CoreEnded)
        }
    }
}

/// What ends a data plane.
enum Event {
    Signal(i32),
    CoreEnded,
}

/// A running data plane.
#[derive(Debug)]
pub struct Dataplane {
    address: SocketAddr,
    plane: Arc<Plane>,
    shutdown: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    link: Link,
    writer: WriterThread,
}

impl Dataplane {
    /// Starts one; it serves when this returns.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn start(options: DataplaneOptions) -> Result<Self, RunError> {
        let (events, _) = mpsc::channel();
        Self::start_reporting(options, events)
    }

    fn start_reporting(
        options: DataplaneOptions,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, RunError> {
        let begun = Instant::now();
        let address = listen::claim(&options.server.bind, options.server.port)?;
        let tls = options
            .server
            .tls
            .as_ref()
            .map(TlsFiles::load)
            .transpose()?;
        let cpus = cores::allowed_cpus();
        let count = options
            .server
            .workers
            .map_or(cpus.len(), usize::from)
            .max(1);
        let Bootstrap { plane, writer } = Bootstrap::load(&options, count)?;
        let (shutdown, watching) = watch::channel(false);
        let serving = Serving {
            address,
            tls,
            patience: options.patience,
            connections_max: options.connections_per_core_max,
            shutdown: watching,
            drain: options.drain,
        };
        let mut threads = Vec::with_capacity(count);
        for (at, counters) in plane.cores.iter().enumerate() {
            let cpu = if options.pin {
                cpus.get(at % cpus.len()).copied()
            } else {
                None
            };
            let enter = {
                let (plane, counters) = (Arc::clone(&plane), Arc::clone(counters));
                move || {
                    core::start(Arc::clone(&plane), Arc::clone(&counters));
                    Gate::new(plane, counters)
                }
            };
            let report = Report(events.clone());
            let enter = move || {
                // Told when the thread ends, however it ends.
                REPORT.set(Some(report));
                enter()
            };
            let counters = Arc::clone(counters);
            let thread = cores::spawn(
                cpu,
                serving.clone(),
                counters,
                enter,
                core::is_idle,
                core::stop,
            )
            .map_err(RunError::Thread)?;
            threads.push(thread);
        }
        drop(serving);
        let link = Link::start(Arc::clone(&plane), &options.paths).map_err(RunError::Thread)?;
        let dataplane = Self {
            address,
            plane,
            shutdown,
            threads,
            link,
            writer,
        };
        dataplane.await_listening()?;
        tracing::info!(
            cores = count,
            revision = dataplane.plane.revision(),
            millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "data plane started"
        );
        Ok(dataplane)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Revision of the snapshot it decides by; 0 is none.
    pub fn revision(&self) -> u64 {
        self.plane.revision()
    }

    /// Stops accepting, answers what is being asked, writes every record and ends.
    pub fn stop(self) {
        self.plane.stopping.store(true, Ordering::Relaxed);
        // Nobody listens any more only if every core has ended already.
        let _ = self.shutdown.send(true);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a core panicked");
            }
        }
        self.link.stop();
        self.writer.shutdown();
    }

    /// pingora binds on the cores and does not tell; a connection does.
    fn await_listening(&self) -> Result<(), RunError> {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let address = SocketAddr::new(ip, self.address.port());
        let begun = Instant::now();
        while begun.elapsed() < READY_WITHIN {
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            if self.threads.iter().any(JoinHandle::is_finished) {
                return Err(RunError::CoreEnded);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(RunError::NotListening(self.address))
    }
}

thread_local! {
    static REPORT: std::cell::RefCell<Option<Report>> = const { std::cell::RefCell::new(None) };
}

/// Lives as long as a core's thread.
struct Report(mpsc::Sender<Event>);

impl Drop for Report {
    fn drop(&mut self) {
        let _ = self.0.send(Event::CoreEnded);
    }
}

/// The signals that end us, turned into events.
struct Signals {
    handle: signal_hook::iterator::Handle,
    thread: JoinHandle<()>,
}

impl Signals {
    fn watch(events: mpsc::Sender<Event>) -> Result<Self, RunError> {
        // SIGHUP asks the control plane to reload; without a handler it would end this process.
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP])
            .map_err(RunError::Thread)?;
        let handle = signals.handle();
        let thread = std::thread::Builder::new()
            .name(String::from("signals"))
            .spawn(move || {
                for signal in signals.forever().filter(|&signal| signal != SIGHUP) {
                    if events.send(Event::Signal(signal)).is_err() {
                        return;
                    }
                }
            })
            .map_err(RunError::Thread)?;
        Ok(Self { handle, thread })
    }

    fn close(self) {
        self.handle.close();
        let _ = self.thread.join();
    }
}
