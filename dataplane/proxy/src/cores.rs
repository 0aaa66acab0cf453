//! Threads: one for each core, pinned to it, with its own runtime, its own socket on the shared port and its own
//! pingora service. Nothing of a connection ever leaves its thread.

use crate::connection::Patience;
use crate::front::Front;
use crate::limits::STREAMS_MAX;
use crate::listen::{self, TlsFiles};
use crate::metrics::Counters;
use oktsec_contract::limits::HEADER_BYTES_MAX;
use pingora::apps::HttpServerOptions;
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::proxy::{HttpProxy, ProxyHttp};
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::Instant;

/// What every core serves with.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) patience: Patience,
    pub(crate) connections_max: usize,
    pub(crate) shutdown: ShutdownWatch,
    /// From the signal to the end, for requests that are being answered.
    pub(crate) drain: Duration,
}

/// CPUs this process may run on.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    let all = 0..CpuSet::MAX_CPU;
    let cpus: Vec<usize> = sched_getaffinity(None)
        .map(|set| all.filter(|&cpu| set.is_set(cpu)).collect())
        .unwrap_or_default();
    if cpus.is_empty() {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        return (0..count).collect();
    }
    cpus
}

/// Starts the thread of one core. `enter` runs on it first and makes the application, `idle` says when nothing is
/// on its way any more, `leave` runs last.
pub(crate) fn spawn<A>(
    cpu: Option<usize>,
    serving: Serving,
    counters: Arc<Counters>,
    enter: impl FnOnce() -> A + Send + 'static,
    idle: fn() -> bool,
    leave: fn(),
) -> io::Result<JoinHandle<()>>
where
    A: ProxyHttp + Send + Sync + 'static,
    A::CTX: Send + Sync,
{
    let name = cpu.map_or_else(|| String::from("core"), |cpu| format!("core-{cpu}"));
    std::thread::Builder::new().name(name).spawn(move || {
        if let Some(cpu) = cpu {
            pin(cpu);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build()
            .expect("the system has file descriptors for one more runtime");
        runtime.block_on(serve(serving, counters, enter, idle));
        leave();
    })
}

async fn serve<A>(
    serving: Serving,
    counters: Arc<Counters>,
    enter: impl FnOnce() -> A,
    idle: fn() -> bool,
) where
    A: ProxyHttp + Send + Sync + 'static,
    A::CTX: Send + Sync,
{
    let app = Arc::new(http(enter()));
    let front = Front {
        app,
        patience: serving.patience,
        connections_max: serving.connections_max,
        counters: Arc::clone(&counters),
    };
    let mut service = Service::new(String::from("oktsec"), front);
    let endpoint = listen::endpoint(serving.address, serving.tls.as_ref())
        .expect("port and certificates were tried before any core started");
    service.endpoints().add_listener(endpoint);
    // Without a table of descriptors pingora binds anew: each core has its own socket on the port.
    service.start_service(None, serving.shutdown, 1).await;
    let deadline = Instant::now() + serving.drain;
    while Instant::now() < deadline {
        if idle() && counters.connections_open.load(Ordering::Relaxed) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// pingora's HTTP around an application of ours.
fn http<A>(app: A) -> HttpProxy<A>
where
    A: ProxyHttp + Send + Sync + 'static,
    A::CTX: Send + Sync,
{
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        // Upstream is a Unix socket: no authorities are needed, and reading them takes tens of milliseconds.
        ca_file: Some(String::from("/dev/null")),
        upstream_keepalive_pool_size: 32,
        max_retries: 1,
        ..ServerConf::default()
    };
    let mut proxy = HttpProxy::new(app, Arc::new(conf));
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(Duration::from_secs(60));
    proxy.server_options = Some(options);
    let mut h2 = default_h2_options();
    h2.max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(32)
        .max_concurrent_reset_streams(32)
        .initial_window_size(256 << 10)
        .initial_connection_window_size(1 << 20);
    proxy.h2_options = Some(h2);
    proxy.handle_init_modules();
    proxy
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    // A container may forbid it: then the scheduler decides, and everything still works.
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(cpu, %error, "a core's thread could not be pinned");
    }
}
