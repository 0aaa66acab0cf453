//! One HTTP request, whole answer: over TCP to an agent's endpoint, or over a Unix socket to our own server.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Bytes of an answer that we read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<serde_json::Value, String> {
        serde_json::from_slice(&self.body)
            .map_err(|error| format!("the answer ({}) is no JSON: {error}", self.status.as_u16()))
    }

    /// The `error` of a refused request, or its status.
    pub(crate) fn error(&self) -> String {
        let text = self
            .json()
            .ok()
            .and_then(|v| Some(v.get("error")?.as_str()?.to_owned()));
        text.unwrap_or_else(|| self.status.to_string())
    }
}

/// A request to be sent.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: &'a str,
    /// JSON, if any.
    pub(crate) body: Option<Vec<u8>>,
    /// More headers.
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl<'a> Call<'a> {
    /// Reads `path`.
    pub(crate) const fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            body: None,
            headers: Vec::new(),
        }
    }

    /// Posts to `path`.
    pub(crate) const fn post(path: &'a str, body: Option<Vec<u8>>) -> Self {
        Self {
            method: Method::POST,
            path,
            body,
            headers: Vec::new(),
        }
    }
}

/// Sends a request to a host and port.
pub(crate) async fn over_tcp(
    host: &str,
    port: u16,
    tls: Option<&TlsConnector>,
    call: Call<'_>,
    patience: Duration,
) -> Result<Answer, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let work = async {
        let stream = tokio::net::TcpStream::connect((bare, port))
            .await
            .map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
        let _ = stream.set_nodelay(true);
        let authority = format!("{host}:{port}");
        let Some(tls) = tls else {
            return exchange(stream, &authority, call).await;
        };
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| format!("{bare:?} is no name that a certificate could bear"))?;
        let stream = tls
            .connect(name, stream)
            .await
            .map_err(|error| format!("TLS with {authority}: {error}"))?;
        exchange(stream, &authority, call).await
    };
    within(work, patience).await
}

/// Sends a request to a Unix socket.
pub(crate) async fn over_socket(
    socket: &Path,
    call: Call<'_>,
    patience: Duration,
) -> Result<Answer, String> {
    let work = async {
        let stream = tokio::net::UnixStream::connect(socket)
            .await
            .map_err(|error| format!("cannot connect to {}: {error}", socket.display()))?;
        exchange(stream, "localhost", call).await
    };
    within(work, patience).await
}

async fn within(
    work: impl Future<Output = Result<Answer, String>>,
    patience: Duration,
) -> Result<Answer, String> {
    tokio::time::timeout(patience, work)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", patience.as_secs())))
}

async fn exchange<S>(stream: S, host: &str, call: Call<'_>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .header(header::HOST, host);
    if call.body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    for (name, value) in call.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(call.body.unwrap_or_default())))
        .map_err(|error| format!("cannot send this request: {error}"))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| failed(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| failed(&*error))?
        .to_bytes();
    drop(sender);
    driver.abort();
    Ok(Answer { status, body })
}

/// What went wrong, with what is behind it: hyper by itself says little more than that something did.
fn failed(error: &dyn std::error::Error) -> String {
    let mut text = format!("the connection failed: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
