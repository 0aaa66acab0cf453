//! Tunnels of bytes that nobody looks into: one that is full, and many that are idle. And one response that is long.

use super::origin::{Text, json, tunnel};
use super::{Outcome, Watch, local};
use rustix::process::{Resource, getrlimit};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const GIB: f64 = (1 << 30) as f64;

/// Reads so many bytes through a tunnel to a host that sends for ever: CPU time of the proxy for each GiB, and the
/// bytes of a second.
pub(super) async fn bulk(
    proxy: SocketAddr,
    pid: u32,
    host: u16,
    bytes: u64,
) -> Outcome<(f64, Duration)> {
    let mut stream = tunnel(proxy, &local(host).to_string()).await?;
    let mut piece = vec![0; 256 << 10];
    let watch = Watch::start(Some(pid))?;
    let mut came = 0;
    while came < bytes {
        came += match stream.read(&mut piece).await? {
            0 => return Err(format!("the tunnel ended after {came} bytes").into()),
            read => read as u64,
        };
    }
    let (cpu, took) = watch.stop()?;
    let gib = came as f64 / GIB;
    Ok((came as f64 / took.as_secs_f64(), cpu.div_f64(gib)))
}

/// 10,000 tunnels, or as many as files may be open: the proxy has two of each tunnel, and so have we, being both ends. It
/// keeps a third of its files for other things.
pub(super) fn possible() -> u32 {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let tunnels = files / 3;
    u32::try_from(tunnels).map_or(10_000, |tunnels| tunnels.min(10_000))
}

/// Opens tunnels and keeps them: by how many bytes the proxy grew for each.
pub(super) async fn idle(proxy: SocketAddr, pid: u32, port: u16, tunnels: u32) -> Outcome<f64> {
    let listener = TcpListener::bind(local(port)).await?;
    let keeping = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    let host = local(port).to_string();
    drop(tunnel(proxy, &host).await?);
    let before = crate::process::memory(pid)?.resident_kib;
    let mut open = Vec::new();
    for _ in 0..tunnels {
        open.push(tunnel(proxy, &host).await?);
    }
    let grown = crate::process::memory(pid)?
        .resident_kib
        .saturating_sub(before);
    keeping.abort();
    Ok((grown << 10) as f64 / f64::from(tunnels))
}

/// One scanned response of so many bytes: CPU time of the proxy for each GiB, and by how many KiB it grew at most.
pub(super) async fn transfer(
    proxy: SocketAddr,
    pid: u32,
    port: u16,
    bytes: u64,
) -> Outcome<(Duration, u64)> {
    let mut piece = Text::new("", &json(256 << 10), true);
    let count = bytes / piece.bytes.len() as u64;
    let length = count * piece.bytes.len() as u64;
    let listener = std::net::TcpListener::bind(local(port))?;
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
        (0..count).try_for_each(|_| std::io::Write::write_all(&mut stream, piece.next()))
    });
    let mut stream = TcpStream::connect(proxy).await?;
    let host = local(port);
    let ask = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let before = crate::process::memory(pid)?.resident_kib;
    let watch = Watch::start(Some(pid))?;
    stream.write_all(ask.as_bytes()).await?;
    let mut buffer = vec![0; 256 << 10];
    let (mut came, mut most, mut looked) = (0, before, 0);
    while came < length {
        came += match stream.read(&mut buffer).await? {
            0 => return Err(format!("closed after {came} bytes").into()),
            read => read as u64,
        };
        if came >= looked {
            most = most.max(crate::process::memory(pid)?.resident_kib);
            looked = came + (64 << 20);
        }
    }
    let (cpu, _) = watch.stop()?;
    Ok((cpu.div_f64(came as f64 / GIB), most - before))
}
