//! A run: connects, starts the threads, looks at clocks and CPU time, collects.

use super::connection::{Core, work};
use super::control::Control;
use super::pacer::Pacer;
use super::pool::{Pool, Share};
use super::report::{Cpu, Report};
use super::tally::Tally;
use crate::affinity;
use crate::process::{Machine, cpu_time, machine_time};
use monoio::utils::detect_uring;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From the end of a run until silent connections are cut.
const GRACE: Duration = Duration::from_secs(10);
/// Threads and connections get ready meanwhile.
const LEAD: Duration = Duration::from_millis(20);

/// How to send.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the server listens.
    pub address: SocketAddr,
    /// Threads of the generator; more than it has CPUs make no sense.
    pub threads: usize,
    /// CPUs of the threads, in turn; none leaves them to the scheduler.
    pub cpus: Vec<usize>,
    /// Connections of all threads together.
    pub connections: usize,
    /// What decides when a message is sent.
    pub shape: Shape,
    /// Sent before anything is measured.
    pub warmup: Duration,
    /// Measured.
    pub duration: Duration,
    /// Process whose CPU time is measured.
    pub pid: Option<u32>,
}

/// What decides when a message is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// The answers to the messages before.
    Closed {
        /// Requests written at once on a connection (pipelining).
        depth: usize,
    },
    /// The clock.
    Open {
        /// Messages a second, of all connections together.
        rate: f64,
    },
}

/// Why there is nothing to report.
#[derive(Debug)]
pub enum LoadError {
    /// A connection could not be made.
    Connect(SocketAddr, io::Error),
    /// A thread or its runtime could not be made, or CPU time not be read.
    System(io::Error),
    /// Everything was sent before measuring began.
    TooFewMessages(usize),
    /// Nothing was answered in the window; what was seen instead.
    NoAnswers(Vec<String>),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(address, error) => write!(f, "cannot connect to {address}: {error}"),
            Self::System(error) => write!(f, "the generator cannot run: {error}"),
            Self::TooFewMessages(count) => {
                write!(
                    f,
                    "{count} messages were sent before measuring began; make more of them (--messages)"
                )
            }
            Self::NoAnswers(seen) => {
                write!(f, "no answer in the measured time; {}", seen.join("; "))
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Sends and measures.
///
/// # Errors
/// [`LoadError`] if there is nothing to report. Wrong answers and broken connections are in the report.
pub fn run(plan: &Plan, pool: &Arc<Pool>) -> Result<Report, LoadError> {
    let threads = plan.threads.clamp(1, plan.connections.max(1));
    let (streams, cutters) = connect(plan, threads)?;
    let begin = Instant::now() + LEAD;
    let control = Arc::new(Control::new(begin, plan.warmup, plan.duration, threads));
    let mut running = Vec::with_capacity(threads);
    for (at, (streams, share)) in streams.into_iter().zip(pool.shares(threads)).enumerate() {
        let cpu = plan.cpus.get(at % plan.cpus.len().max(1)).copied();
        let pace = match plan.shape {
            Shape::Closed { depth } => Pace::Closed(depth),
            Shape::Open { rate } => Pace::Open {
                begin,
                rate: rate / threads as f64,
                offset: at as f64 / threads as f64,
            },
        };
        let control = Arc::clone(&control);
        running.push(
            std::thread::Builder::new()
                .name(format!("load-{at}"))
                .spawn(move || thread(cpu, streams, share, pace, control))?,
        );
    }

    control.wait_until(control.from);
    let before = Times::read(plan.pid)?;
    control.wait_until(control.until);
    let after = Times::read(plan.pid)?;
    if matches!(plan.shape, Shape::Closed { .. }) {
        control.stop();
    }
    if !control.wait_all_ended(Instant::now() + GRACE) {
        control.stop();
        // Whoever waits for an answer now reads the end of its connection.
        for stream in &cutters {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
    let mut tally = Tally::default();
    for thread in running {
        tally.add(
            thread
                .join()
                .map_err(|_| io::Error::other("a thread of the generator panicked"))??,
        );
    }
    if before.at < control.from {
        return Err(if tally.samples.is_empty() {
            LoadError::TooFewMessages(pool.len())
        } else {
            LoadError::NoAnswers(tally.samples)
        });
    }
    if tally.latency.is_empty() {
        return Err(LoadError::NoAnswers(tally.samples));
    }
    Ok(Report::new(
        plan,
        tally,
        after.at - before.at,
        &after.since(&before),
        if detect_uring() { "io_uring" } else { "epoll" },
    ))
}

/// CPU time spent until a moment.
struct Times {
    at: Instant,
    server: Option<Duration>,
    generator: Duration,
    machine: Machine,
}

impl Times {
    /// Of a server with this process id, of us and of the machine, now.
    fn read(server: Option<u32>) -> io::Result<Self> {
        Ok(Self {
            server: server.map(cpu_time).transpose()?,
            generator: cpu_time(std::process::id())?,
            at: Instant::now(),
            machine: machine_time()?,
        })
    }

    fn since(&self, before: &Self) -> Cpu {
        let server = before.server.zip(self.server);
        Cpu {
            server: server.map(|(before, after)| after.saturating_sub(before)),
            generator: self.generator.saturating_sub(before.generator),
            machine: self.machine.busy.saturating_sub(before.machine.busy),
            stolen: self.machine.stolen.saturating_sub(before.machine.stolen),
        }
    }
}

/// Connections for each thread, and a second handle to each of them.
fn connect(
    plan: &Plan,
    threads: usize,
) -> Result<(Vec<Vec<TcpStream>>, Vec<TcpStream>), LoadError> {
    let mut streams: Vec<Vec<TcpStream>> = (0..threads).map(|_| Vec::new()).collect();
    let mut cutters = Vec::new();
    for at in 0..plan.connections.max(1) {
        let made = (|| {
            let stream = TcpStream::connect_timeout(&plan.address, GRACE)?;
            stream.set_nodelay(true)?;
            // io_uring waits by itself, epoll must not be made to wait.
            stream.set_nonblocking(!detect_uring())?;
            Ok((stream.try_clone()?, stream))
        })();
        let (cutter, stream) = made.map_err(|error| LoadError::Connect(plan.address, error))?;
        cutters.push(cutter);
        streams[at % threads].push(stream);
    }
    Ok((streams, cutters))
}

enum Pace {
    Closed(usize),
    Open {
        begin: Instant,
        rate: f64,
        offset: f64,
    },
}

fn thread(
    cpu: Option<usize>,
    streams: Vec<TcpStream>,
    share: Share,
    pace: Pace,
    control: Arc<Control>,
) -> io::Result<Tally> {
    /// Tells the watcher however the thread ends.
    struct Ended(Arc<Control>);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.ended();
        }
    }
    let _ended = Ended(Arc::clone(&control));
    if let Some(cpu) = cpu {
        affinity::pin(&[cpu])?;
    }
    let (pacer, depth) = match pace {
        Pace::Closed(depth) => (None, depth.max(1)),
        Pace::Open {
            begin,
            rate,
            offset,
        } => (Some(Pacer::new(begin, rate, offset)), 1),
    };
    let core = Rc::new(Core {
        control,
        share: RefCell::new(share),
        tally: RefCell::default(),
        pacer,
        depth,
    });
    // Nothing is sent before the watcher counts.
    std::thread::sleep(core.control.begin.saturating_duration_since(Instant::now()));
    let mut runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new()
        .with_entries(4_096)
        .build()?;
    runtime.block_on(drive(Rc::clone(&core), streams))?;
    drop(runtime);
    let core = Rc::into_inner(core)
        .expect("the connections' tasks have ended, and with them their handles");
    Ok(core.tally.into_inner())
}

async fn drive(core: Rc<Core>, streams: Vec<TcpStream>) -> io::Result<()> {
    let mut tasks = Vec::with_capacity(streams.len());
    for stream in streams {
        let stream = monoio::net::TcpStream::from_std(stream)?;
        let core = Rc::clone(&core);
        tasks.push(monoio::spawn(async move { work(&core, stream).await }));
    }
    for _ in 0..if core.pacer.is_some() { 2 } else { 0 } {
        let core = Rc::clone(&core);
        tasks.push(monoio::spawn(async move {
            if let Some(pacer) = &core.pacer {
                pacer.beat(&core.control).await;
            }
        }));
    }
    for task in tasks {
        task.await;
    }
    Ok(())
}
