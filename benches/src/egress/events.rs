//! Streams of server-sent events: how long each takes from host to agent.

use super::origin::json;
use super::{Outcome, Watch, local};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::interval_at;

/// Bytes of an event.
const EVENT_BYTES: usize = 256;

/// What was seen of some streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latencies {
    pub(super) median: Duration,
    pub(super) p99: Duration,
    /// CPU time of the proxy for each event; zero without one.
    pub(super) cpu: Duration,
}

/// Begins a host whose streams say one thing a second, one stream after the other.
pub(super) async fn host(port: u16, streams: u32) -> Outcome {
    let listener = TcpListener::bind(local(port)).await?;
    // What is said does not repeat within reach of a scan.
    let text: Arc<Vec<u8>> = Arc::new(json(64 << 10));
    let begun = Instant::now();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            number += 1;
            let _ = stream.set_nodelay(true);
            let turn = Duration::from_secs(1) * (number % streams) / streams;
            tokio::spawn(speak(stream, Arc::clone(&text), begun, turn, number));
        }
    });
    EPOCH.get_or_init(|| begun);
    Ok(())
}

/// What times in events count from.
static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

async fn speak(
    mut stream: TcpStream,
    text: Arc<Vec<u8>>,
    begun: Instant,
    turn: Duration,
    number: u32,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let answer =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(answer).await.ok()?;
    // Its turn in a second that is the same for all of them, whenever they were accepted.
    let seconds = Duration::from_secs(begun.elapsed().as_secs() + 1);
    let first = tokio::time::Instant::from_std(begun + seconds + turn);
    let mut tick = interval_at(first, Duration::from_secs(1));
    let mut at = usize::try_from(number).ok()? * 37;
    loop {
        tick.tick().await;
        at = (at + EVENT_BYTES) % (text.len() - EVENT_BYTES);
        let words = String::from_utf8_lossy(&text[at..at + EVENT_BYTES - 30]);
        let event = format!("data: {:020} {words}\n\n", begun.elapsed().as_nanos());
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        stream.write_all(chunk.as_bytes()).await.ok()?;
    }
}

/// Listens to so many streams of the host, through a proxy or beside it.
pub(super) async fn listen(
    proxy: Option<(SocketAddr, u32)>,
    host: u16,
    streams: u32,
    for_: Duration,
) -> Outcome<Latencies> {
    let host = local(host);
    let begun = *EPOCH.get().ok_or("there is no host of events")?;
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let mut listeners = tokio::task::JoinSet::new();
    for _ in 0..streams {
        let mut stream = TcpStream::connect(proxy.map_or(host, |(address, _)| address)).await?;
        stream.set_nodelay(true)?;
        let ask = format!(
            "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n"
        );
        stream.write_all(ask.as_bytes()).await?;
        listeners.spawn(hear(stream, Arc::clone(&latencies), begun));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let lock = || latencies.lock().map_err(|_| "a listener panicked");
    lock()?.clear();
    let watch = Watch::start(proxy.map(|(_, pid)| pid))?;
    tokio::time::sleep(for_).await;
    let (cpu, _) = watch.stop()?;
    let mut all = std::mem::take(&mut *lock()?);
    all.sort_unstable();
    let of = |part: f64| all.get((all.len() as f64 * part) as usize).copied();
    Ok(Latencies {
        median: of(0.5).ok_or("no event came")?,
        p99: of(0.99).ok_or("no event came")?,
        cpu: cpu / u32::try_from(all.len())?,
    })
}

async fn hear(mut stream: TcpStream, latencies: Arc<Mutex<Vec<Duration>>>, begun: Instant) {
    const MARK: &[u8] = b"data: ";
    let mut buffer = Vec::new();
    while stream.read_buf(&mut buffer).await.unwrap_or(0) > 0 {
        let now = begun.elapsed();
        while let Some(at) = memchr::memmem::find(&buffer, MARK) {
            let Some(stamp) = buffer.get(at + MARK.len()..at + MARK.len() + 20) else {
                break;
            };
            let sent = std::str::from_utf8(stamp)
                .ok()
                .and_then(|stamp| stamp.parse().ok());
            if let (Some(sent), Ok(mut all)) = (sent, latencies.lock()) {
                all.push(now.saturating_sub(Duration::from_nanos(sent)));
            }
            buffer.drain(..at + MARK.len() + 20);
        }
    }
}
