//! What the egress surface is measured against: `bare proxy ADDRESS` is pingora as a forward proxy and nothing else,
//! `bare relay ADDRESS` answers CONNECT and copies with tokio's `copy_bidirectional`. One thread each.

use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (what, address) = (args.next(), args.next());
    let address: SocketAddr = address.ok_or("bare proxy|relay ADDRESS")?.parse()?;
    match what.as_deref() {
        Some("proxy") => oktsec_proxy::null::forward(address, 1)?,
        _ => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(relay(address))?,
    }
    Ok(())
}

async fn relay(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(tunnel(client));
    }
}

async fn tunnel(mut client: TcpStream) -> io::Result<()> {
    let mut head = Vec::with_capacity(1_024);
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let target = head.split(|&b| b == b' ').nth(1).unwrap_or_default();
    let mut host = TcpStream::connect(String::from_utf8_lossy(target).as_ref()).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional_with_sizes(&mut client, &mut host, 64 << 10, 64 << 10).await?;
    Ok(())
}
