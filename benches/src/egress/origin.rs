//! What the agents of the bench ask: a host that answers every request with JSON, with and without TLS, one
//! that sends zeros for ever, and one that speaks in events.

use super::{Outcome, local};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Bytes that are sent, and whether they are others each time: what comes again may cost less.
#[derive(Clone)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    /// Where its digits are that change; none if it stays as it is.
    digits: Vec<usize>,
    chance: u64,
}

/// No two texts of this process change alike.
static SEEDS: AtomicU64 = AtomicU64::new(1);

impl Text {
    /// A head, and a JSON text of about so many bytes behind it.
    pub(super) fn new(head: &str, json: &[u8], changes: bool) -> Self {
        let at = head.len();
        let digits = json.iter().enumerate().filter(|_| changes);
        let digits = digits.filter(|(_, byte)| byte.is_ascii_digit());
        Self {
            digits: digits.map(|(place, _)| at + place).collect(),
            bytes: [head.as_bytes(), json].concat(),
            chance: SEEDS.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed),
        }
    }

    /// The next one: of the same length, with other numbers.
    pub(super) fn next(&mut self) -> &[u8] {
        for at in &self.digits {
            self.chance ^= self.chance << 13;
            self.chance ^= self.chance >> 7;
            self.chance ^= self.chance << 17;
            self.bytes[*at] = b'1' + (self.chance >> 32) as u8 % 9;
        }
        &self.bytes
    }
}

/// A JSON text of about so many bytes, like what agents send.
pub(super) fn json(bytes: usize) -> Vec<u8> {
    let mut text = String::from("{\"items\":[");
    let mut n = 0;
    while text.len() + 70 < bytes {
        text += &format!("{{\"id\":{n},\"name\":\"entry number {n}\",\"state\":\"open\"}},");
        n += 1;
    }
    (text + "0]}").into_bytes()
}

/// Answers every request on this port with so much JSON, until the runtime ends; with another text each time if it `changes`.
pub(super) async fn answers(
    port: u16,
    bytes: usize,
    changes: bool,
    tls: Option<TlsAcceptor>,
) -> Outcome {
    let listener = TcpListener::bind(local(port)).await?;
    let body = json(bytes);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let (answer, tls) = (Text::new(&head, &body, changes), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => serve(stream, answer).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, answer).await;
                        }
                    }
                }
            });
        }
    });
    Ok(())
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, mut answer: Text) {
    let mut reader = Reader::default();
    while reader.message(&mut stream).await.is_ok() {
        if stream.write_all(answer.next()).await.is_err() {
            return;
        }
    }
}

/// Sends zeros to whoever connects, on a thread of its own.
pub(super) fn zeros(port: u16) -> Outcome {
    let listener = std::net::TcpListener::bind(local(port))?;
    std::thread::spawn(move || {
        let zeros = vec![0; 256 << 10];
        for mut stream in listener.incoming().flatten() {
            let zeros = zeros.clone();
            std::thread::spawn(
                move || {
                    while std::io::Write::write_all(&mut stream, &zeros).is_ok() {}
                },
            );
        }
    });
    Ok(())
}

/// Reads messages with a length.
#[derive(Default)]
pub(super) struct Reader(Vec<u8>);

impl Reader {
    /// The status line or request line of the next message, in lower case; its body is read away.
    pub(super) async fn message(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Outcome<String> {
        let end = loop {
            if let Some(at) = memchr::memmem::find(&self.0, b"\r\n\r\n") {
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

    async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Outcome {
        self.0.reserve(32 << 10);
        match stream.read_buf(&mut self.0).await? {
            0 => Err("the connection was closed".into()),
            _ => Ok(()),
        }
    }
}

/// Opens a tunnel by CONNECT to this authority.
pub(super) async fn tunnel(proxy: std::net::SocketAddr, authority: &str) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.set_nodelay(true)?;
    let head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await?);
    }
    match answer.starts_with(b"HTTP/1.1 200") {
        true => Ok(stream),
        false => Err(String::from_utf8_lossy(&answer).into_owned().into()),
    }
}
