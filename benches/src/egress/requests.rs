//! Keep-alive requests over some connections, in the clear or inside of TLS that the proxy looks into; and connections
//! that are opened for one request each.

use super::origin::{Reader, Text, json, tunnel};
use super::tls::HOST;
use super::{Outcome, Watch, local};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// What goes over a connection.
#[derive(Clone)]
pub(super) enum How {
    /// Absolute-form requests.
    Plain,
    /// Requests inside of TLS inside of one tunnel.
    Inside(TlsConnector),
    /// A new tunnel and a new handshake for every request.
    Anew(TlsConnector),
}

/// How much of it.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) proxy: SocketAddr,
    pub(super) pid: u32,
    pub(super) origin: u16,
    pub(super) up: usize,
    pub(super) connections: usize,
    pub(super) for_: Duration,
    pub(super) how: How,
    /// Every request is another one.
    pub(super) changes: bool,
}

/// Requests a second, and CPU time of the proxy for each. A wrong answer is an error.
pub(super) async fn run(load: Load) -> Outcome<(f64, Duration)> {
    let origin = local(load.origin);
    let (target, host) = match load.how {
        How::Plain => (format!("http://{origin}/v1/things"), origin.to_string()),
        How::Inside(_) | How::Anew(_) => {
            ("/v1/things".to_owned(), format!("{HOST}:{}", load.origin))
        }
    };
    let body = json(load.up);
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: */*\r\nUser-Agent: bench\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let done = Arc::new(AtomicU64::new(0));
    let mut agents = JoinSet::new();
    for _ in 0..load.connections {
        let (load, host) = (load.clone(), host.clone());
        let request = Text::new(&head, &body, load.changes);
        let done = Arc::clone(&done);
        agents.spawn(async move { converse(&load, &host, request, &done).await });
    }
    let measured = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = done.load(Ordering::Relaxed);
        let watch = Watch::start(Some(load.pid))?;
        tokio::time::sleep(load.for_).await;
        let (cpu, took) = watch.stop()?;
        let count = u32::try_from(done.load(Ordering::Relaxed) - before)?.max(1);
        Ok((f64::from(count) / took.as_secs_f64(), cpu / count))
    };
    tokio::select! {
        biased;
        Some(ended) = agents.join_next() => match ended? {
            Ok(()) => Err("an agent gave up".into()),
            Err(error) => Err(error),
        },
        measured = measured => measured,
    }
}

/// Asks again and again; ends with what went wrong.
async fn converse(load: &Load, host: &str, mut request: Text, done: &AtomicU64) -> Outcome {
    let name = ServerName::try_from(HOST)?;
    match &load.how {
        How::Plain => {
            let stream = TcpStream::connect(load.proxy).await?;
            stream.set_nodelay(true)?;
            exchange(stream, &mut request, u64::MAX, done).await
        }
        How::Inside(tls) => {
            let stream = tunnel(load.proxy, host).await?;
            let stream = tls.connect(name, stream).await?;
            exchange(stream, &mut request, u64::MAX, done).await
        }
        How::Anew(tls) => loop {
            let stream = tunnel(load.proxy, host).await?;
            let stream = tls.connect(name.clone(), stream).await?;
            exchange(stream, &mut request, 1, done).await?;
        },
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &mut Text,
    times: u64,
    done: &AtomicU64,
) -> Outcome {
    let mut reader = Reader::default();
    for _ in 0..times {
        stream.write_all(request.next()).await?;
        stream.flush().await?;
        let line = reader.message(&mut stream).await?;
        if !line.contains(" 200 ") {
            return Err(format!("answered with {line}").into());
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
