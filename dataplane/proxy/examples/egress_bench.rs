//! Measures forward proxies: `egress_bench requests|bulk|idle|transfer|events PROXY PID [options]`, with an origin of
//! its own.
//!
//! * `requests`: keep-alive POSTs with `--up` bytes of JSON, answered with `--down` bytes, over `--connections`, for
//!   `--secs`; prints requests a second and the proxy's CPU time for each.
//! * `bulk`: `--gib` through one CONNECT tunnel; prints Gbit/s and CPU time for each GiB.
//! * `idle`: opens `--tunnels` and prints how much the proxy's memory grew.
//! * `transfer`: one response of `--gib` of JSON; prints how much the proxy's memory grew, at most.
//! * `events`: `--streams` of server-sent events of `--bytes`, one each second and stream for `--secs`; prints how long events
//!   take from host to agent, through the proxy and beside it (`--direct 1`).
//!
//! CPU time is that of the process PID, so the numbers hold on a machine that does other things as well.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, proxy, pid, rest @ ..] = &args[..] else {
        return Err(
            "egress_bench requests|bulk|idle|transfer|events PROXY PID [--name value]…".into(),
        );
    };
    let proxy: SocketAddr = proxy.parse()?;
    let options: HashMap<&str, u64> = rest
        .chunks_exact(2)
        .filter_map(|pair| Some((pair[0].trim_start_matches('-'), pair[1].parse().ok()?)))
        .collect();
    let option = |name: &str, usual: u64| options.get(name).copied().unwrap_or(usual);
    let process = Process(pid.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match what.as_str() {
            "requests" => {
                let up = json(option("up", 1_024));
                let down = json(option("down", 1_024));
                let origin = origin(down).await?;
                let for_ = Duration::from_secs(option("secs", 5));
                requests(proxy, origin, &up, option("connections", 32), for_, process).await
            }
            "transfer" => transfer(proxy, option("gib", 10) << 30, process).await,
            "events" => {
                let shape = Events {
                    streams: option("streams", 1_000),
                    bytes: usize::try_from(option("bytes", 256))?,
                    for_: Duration::from_secs(option("secs", 10)),
                    direct: option("direct", 0) == 1,
                };
                events(proxy, shape, process).await
            }
            "bulk" => bulk(proxy, option("gib", 8) << 30, process).await,
            _ => idle(proxy, option("tunnels", 10_000), process).await,
        }
    })
}

/// A JSON text of about so many bytes, like what agents send.
fn json(bytes: u64) -> Vec<u8> {
    let mut text = String::from("{\"items\":[");
    let mut n = 0;
    while (text.len() as u64) + 70 < bytes {
        text += &format!("{{\"id\":{n},\"name\":\"entry number {n}\",\"state\":\"open\"}},");
        n += 1;
    }
    (text + "0]}").into_bytes()
}

/// Answers every request with the same body.
async fn origin(body: Vec<u8>) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = Arc::new([head.into_bytes(), body].concat());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut reader = Reader::default();
                while reader.message(&mut stream).await.is_ok() {
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

/// Reads messages with a length.
#[derive(Default)]
struct Reader(Vec<u8>);

impl Reader {
    /// The status line or request line of the next message, its body read away.
    async fn message(&mut self, stream: &mut TcpStream) -> Outcome<String> {
        let end = loop {
            if let Some(at) = self.0.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill(stream).await?;
        };
        let head = String::from_utf8_lossy(&self.0[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
            .unwrap_or(0);
        while self.0.len() < end + length {
            self.fill(stream).await?;
        }
        self.0.drain(..end + length);
        Ok(head.lines().next().unwrap_or_default().to_owned())
    }

    async fn fill(&mut self, stream: &mut TcpStream) -> Outcome {
        self.0.reserve(32 << 10);
        match stream.read_buf(&mut self.0).await? {
            0 => Err("closed".into()),
            _ => Ok(()),
        }
    }
}

async fn requests(
    proxy: SocketAddr,
    origin: SocketAddr,
    body: &[u8],
    connections: u64,
    for_: Duration,
    process: Process,
) -> Outcome {
    let head = format!(
        "POST http://{origin}/v1/things HTTP/1.1\r\nHost: {origin}\r\nContent-Type: application/json\r\nAccept: */*\r\nUser-Agent: bench\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let request = Arc::new([head.as_bytes(), body].concat());
    let (done, wrong) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for _ in 0..connections {
        let mut stream = TcpStream::connect(proxy).await?;
        stream.set_nodelay(true)?;
        let (request, done, wrong) = (Arc::clone(&request), Arc::clone(&done), Arc::clone(&wrong));
        tokio::spawn(async move {
            let mut reader = Reader::default();
            loop {
                if stream.write_all(&request).await.is_err() {
                    break;
                }
                match reader.message(&mut stream).await {
                    Ok(line) if line.contains(" 200 ") => done.fetch_add(1, Ordering::Relaxed),
                    Ok(_) => wrong.fetch_add(1, Ordering::Relaxed),
                    Err(_) => break,
                };
            }
            wrong.fetch_add(1, Ordering::Relaxed);
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, cpu, begun) = (done.load(Ordering::Relaxed), process.cpu()?, Instant::now());
    tokio::time::sleep(for_).await;
    let count = done.load(Ordering::Relaxed) - before;
    let (cpu, took) = (process.cpu()? - cpu, begun.elapsed());
    println!(
        "{:.0} requests/s, {:.1} us CPU each, {} wrong",
        count as f64 / took.as_secs_f64(),
        cpu * 1e6 / count.max(1) as f64,
        wrong.load(Ordering::Relaxed)
    );
    Ok(())
}

/// Opens a tunnel to a host that sends zeros for ever, or to one that keeps silent.
async fn tunnel(proxy: SocketAddr, host: SocketAddr) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    let head = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await?;
        answer.push(byte);
    }
    match answer.starts_with(b"HTTP/1.1 200") {
        true => Ok(stream),
        false => Err(String::from_utf8_lossy(&answer).into_owned().into()),
    }
}

async fn bulk(proxy: SocketAddr, bytes: u64, process: Process) -> Outcome {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let host = listener.local_addr()?;
    std::thread::spawn(move || {
        let zeros = vec![0; 256 << 10];
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            while std::io::Write::write_all(&mut stream, &zeros).is_ok() {}
        }
    });
    let mut stream = tunnel(proxy, host).await?;
    let mut piece = vec![0; 256 << 10];
    let (cpu, begun) = (process.cpu()?, Instant::now());
    let mut came = 0;
    while came < bytes {
        came += stream.read(&mut piece).await? as u64;
    }
    let (cpu, took) = (process.cpu()? - cpu, begun.elapsed().as_secs_f64());
    let gib = came as f64 / f64::from(1 << 30);
    println!(
        "{:.1} Gbit/s, {:.0} ms CPU each GiB",
        came as f64 * 8.0 / took / 1e9,
        cpu * 1e3 / gib
    );
    Ok(())
}

async fn transfer(proxy: SocketAddr, bytes: u64, process: Process) -> Outcome {
    let piece = json(256 << 10);
    let count = bytes / piece.len() as u64;
    let length = count * piece.len() as u64;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let host = listener.local_addr()?;
    std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        // A socket that is closed before it was read resets what it still sends.
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut piece = [0; 4 << 10];
            let read = std::io::Read::read(&mut stream, &mut piece)?;
            request.extend_from_slice(&piece[..read]);
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        std::io::Write::write_all(&mut stream, head.as_bytes())?;
        (0..count).try_for_each(|_| std::io::Write::write_all(&mut stream, &piece))
    });
    let mut stream = TcpStream::connect(proxy).await?;
    let ask = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let (before, cpu, begun) = (process.resident_kib()?, process.cpu()?, Instant::now());
    stream.write_all(ask.as_bytes()).await?;
    let mut buffer = vec![0; 256 << 10];
    let (mut came, mut most, mut next) = (0, before, Instant::now());
    while came < length {
        match stream.read(&mut buffer).await? {
            0 => return Err(format!("closed after {came} bytes").into()),
            read => came += read as u64,
        }
        if Instant::now() >= next {
            most = most.max(process.resident_kib()?);
            next = Instant::now() + Duration::from_millis(200);
        }
    }
    let (cpu, took) = (process.cpu()? - cpu, begun.elapsed().as_secs_f64());
    println!(
        "{:.1} GiB in {took:.0} s, {:.0} ms CPU each GiB; memory {} MB before, {} MB at most",
        came as f64 / f64::from(1 << 30),
        cpu * 1e3 / (came as f64 / f64::from(1 << 30)),
        before >> 10,
        most >> 10
    );
    Ok(())
}

/// What is streamed.
#[derive(Clone, Copy)]
struct Events {
    streams: u64,
    bytes: usize,
    for_: Duration,
    direct: bool,
}

async fn events(proxy: SocketAddr, shape: Events, process: Process) -> Outcome {
    let begun = Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?;
    // What is said does not repeat within reach of a scan.
    let text: Arc<Vec<u8>> = Arc::new(json(64 << 10));
    tokio::spawn(async move {
        let mut at = 0_u64;
        while let Ok((mut stream, _)) = listener.accept().await {
            at += 1;
            let (text, offset) = (Arc::clone(&text), at);
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                let _ = stream.write_all(answer).await;
                // Streams speak one after the other, not all at once.
                let first = Duration::from_micros(1_000_000 * (offset % 1_000) / 1_000);
                let mut tick = tokio::time::interval_at(
                    tokio::time::Instant::now() + first,
                    Duration::from_secs(1),
                );
                let mut said = usize::try_from(offset).unwrap_or(0) * 37;
                loop {
                    tick.tick().await;
                    said = (said + shape.bytes) % (text.len() - shape.bytes);
                    let words = String::from_utf8_lossy(&text[said..said + shape.bytes - 30]);
                    let event = format!("data: {:020} {words}\n\n", begun.elapsed().as_nanos());
                    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                    if stream.write_all(chunk.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let latencies = Arc::new(std::sync::Mutex::new(Vec::new()));
    for _ in 0..shape.streams {
        let mut stream = TcpStream::connect(if shape.direct { host } else { proxy }).await?;
        stream.set_nodelay(true)?;
        let ask = format!(
            "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n"
        );
        stream.write_all(ask.as_bytes()).await?;
        let latencies = Arc::clone(&latencies);
        tokio::spawn(async move {
            let mut buffer = Vec::new();
            while stream.read_buf(&mut buffer).await.unwrap_or(0) > 0 {
                let now = begun.elapsed().as_nanos();
                while let Some(at) = buffer.windows(6).position(|six| six == b"data: ") {
                    let Some(stamp) = buffer.get(at + 6..at + 26) else {
                        break;
                    };
                    let sent: u128 = String::from_utf8_lossy(stamp).parse().unwrap_or(now);
                    if let Ok(mut all) = latencies.lock() {
                        all.push(u64::try_from(now.saturating_sub(sent)).unwrap_or(u64::MAX));
                    }
                    buffer.drain(..at + 26);
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    if let Ok(mut all) = latencies.lock() {
        all.clear();
    }
    let (cpu, begun) = (process.cpu()?, Instant::now());
    tokio::time::sleep(shape.for_).await;
    let (cpu, took) = (process.cpu()? - cpu, begun.elapsed().as_secs_f64());
    let mut all = latencies.lock().map_err(|_| "a reader panicked")?.clone();
    all.sort_unstable();
    let of = |part: f64| {
        all.get((all.len() as f64 * part) as usize)
            .copied()
            .unwrap_or(0)
            / 1_000
    };
    println!(
        "{} streams, {:.0} events/s: p50 {} us, p90 {} us, p99 {} us; {:.0} us CPU each event; {} MB",
        shape.streams,
        all.len() as f64 / took,
        of(0.5),
        of(0.9),
        of(0.99),
        cpu * 1e6 / all.len().max(1) as f64,
        process.resident_kib()? >> 10
    );
    Ok(())
}

async fn idle(proxy: SocketAddr, tunnels: u64, process: Process) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?;
    let keeping = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    drop(tunnel(proxy, host).await?);
    let before = process.resident_kib()?;
    let mut open = Vec::new();
    for _ in 0..tunnels {
        open.push(tunnel(proxy, host).await?);
    }
    let grown = process.resident_kib()? - before;
    println!(
        "{tunnels} tunnels: {} MB, {:.1} KiB each",
        grown >> 10,
        grown as f64 / tunnels as f64
    );
    keeping.abort();
    Ok(())
}

/// The process that is measured.
#[derive(Clone, Copy)]
struct Process(u32);

impl Process {
    /// Seconds of CPU time so far.
    fn cpu(self) -> Outcome<f64> {
        const TICKS_PER_SEC: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = |at: usize| -> Outcome<f64> {
            Ok(fields.split_whitespace().nth(at).ok_or("stat")?.parse()?)
        };
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SEC)
    }

    fn resident_kib(self) -> Outcome<i64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next());
        Ok(kib.ok_or("status")?.parse()?)
    }
}
