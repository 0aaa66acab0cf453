//! Proxies that decide nothing: tokio's `copy_bidirectional` behind CONNECT, with both TLS handshakes of an interception
//! or without.

use super::{Outcome, local, tls};
use rustls::pki_types::ServerName;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const COPY_BYTES: usize = 64 << 10;

/// Answers CONNECT and copies, on one thread, until the process ends.
///
/// # Errors
/// If the port is not free.
pub fn relay(port: u16) -> Outcome {
    serve(port, None)
}

/// The same with the client's TLS ended here and another one begun to the host: what an interception cannot do
/// without. `dir` holds certificates as the bench has made them.
///
/// # Errors
/// If the port is not free, or the certificates cannot be read.
pub fn handshakes(port: u16, dir: &Path) -> Outcome {
    serve(
        port,
        Some((tls::acceptor(dir)?, tls::connector(dir, true)?)),
    )
}

fn serve(port: u16, tls: Option<(TlsAcceptor, TlsConnector)>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(local(port)).await?;
        loop {
            let (client, _) = listener.accept().await?;
            tokio::spawn(tunnel(client, tls.clone()));
        }
    })
}

async fn tunnel(mut client: TcpStream, tls: Option<(TlsAcceptor, TlsConnector)>) -> Outcome {
    client.set_nodelay(true)?;
    let mut head = Vec::with_capacity(1_024);
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let target = head.split(|&b| b == b' ').nth(1).unwrap_or_default();
    // Looking the name up is not what is measured.
    let target = String::from_utf8_lossy(target).replace(tls::HOST, "127.0.0.1");
    let mut host = TcpStream::connect(&target).await?;
    host.set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    match tls {
        None => {
            copy_bidirectional_with_sizes(&mut client, &mut host, COPY_BYTES, COPY_BYTES).await?
        }
        Some((acceptor, connector)) => {
            let mut client = acceptor.accept(client).await?;
            let mut host = connector
                .connect(ServerName::try_from(tls::HOST)?, host)
                .await?;
            copy_bidirectional_with_sizes(&mut client, &mut host, COPY_BYTES, COPY_BYTES).await?
        }
    };
    Ok(())
}
