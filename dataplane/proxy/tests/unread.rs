//! Answers to peers that still send. Most clients read nothing before they have sent everything, and a connection that is
//! closed before that takes its answer with it.

use crate::common::{Client, PLAIN, Site, Wish, request, signed};
use oktsec_contract::limits::BODY_BYTES_MAX;
use std::io::Write as _;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

const TOO_LARGE: usize = BODY_BYTES_MAX + (1 << 20);

/// Sends everything, then reads: as Python's http.client does.
fn told_after(client: &mut Client, bytes: &[u8]) -> (u16, String) {
    client.send(bytes);
    let answer = client.receive().unwrap();
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(client.is_closed());
    let said = answer.json();
    let why = said["reason"].as_str().or(said["error"].as_str());
    (answer.status, why.unwrap().to_owned())
}

/// A POST to `target` whose length nobody knows before its end.
pub(crate) fn chunked(target: &str, host: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut bytes = head.into_bytes();
    for piece in body.chunks(64 << 10) {
        write!(bytes, "{:x}\r\n", piece.len()).unwrap();
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[test]
fn whoever_sends_too_much_is_told_so_after_sending_it() {
    let site = Site::plain();
    let body = vec![b' '; TOO_LARGE];
    for bytes in [
        request("/v1/message", &[], &body),
        chunked("/v1/message", "t", &body),
    ] {
        let told = told_after(&mut site.client(), &bytes);
        assert_eq!(told, (400, String::from("body_too_large")));
    }
}

#[test]
fn whoever_brings_no_key_is_told_so_after_sending_a_large_body() {
    let site = Site::with(&format!("server: {{api_key: k}}\n{PLAIN}"));
    for path in ["/v1/message", "/v1/messages", "/v1/agents"] {
        let large = request(path, &[], &vec![b' '; TOO_LARGE]);
        let told = told_after(&mut site.client(), &large);
        assert_eq!(told, (401, String::from("unauthorized")), "{path}");
    }
}

#[test]
fn what_is_too_large_for_the_control_plane_is_told_after_it_was_sent() {
    let site = Site::plain();
    let _ = std::fs::remove_file(&site.paths.api_socket);
    let listener = std::os::unix::net::UnixListener::bind(&site.paths.api_socket).unwrap();
    // One that says nothing, and ends with the process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = std::io::copy(&mut stream.unwrap(), &mut std::io::sink());
        }
    });
    let body = vec![b' '; TOO_LARGE];
    for bytes in [
        request("/v1/agents", &[], &body),
        chunked("/v1/agents", "t", &body),
    ] {
        let told = told_after(&mut site.client(), &bytes);
        assert_eq!(told, (413, String::from("body_too_large")));
    }
    over_http2(&site, "/v1/agents", 413);
}

#[test]
fn over_http2_whoever_sends_too_much_may_send_all_of_it() {
    over_http2(&Site::plain(), "/v1/message", 400);
}

fn over_http2(site: &Site, path: &str, status: u16) {
    let address = site.address();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let url = format!("http://t{path}");
        let told = told_over_http2(stream, &url, vec![b' '; TOO_LARGE]).await;
        assert_eq!(told, (status, String::from("body_too_large")), "{path}");
    });
}

/// Sends everything, then reads: the status, and the reason.
pub(crate) async fn told_over_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &str,
    body: Vec<u8>,
) -> (u16, String) {
    let (mut h2, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(url).body(()).unwrap();
    let (answer, mut sender) = h2.send_request(request, false).unwrap();
    let mut left = bytes::Bytes::from(body);
    while !left.is_empty() {
        sender.reserve_capacity(left.len().min(64 << 10));
        let room = std::future::poll_fn(|cx| sender.poll_capacity(cx)).await;
        let room = room.expect("the stream is open").unwrap();
        let piece = left.split_to(room.min(left.len()));
        sender.send_data(piece, left.is_empty()).unwrap();
    }
    let mut answer = answer.await.unwrap();
    let said = answer.body_mut().data().await.unwrap().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
    let why = said["reason"].as_str().unwrap().to_owned();
    (answer.status().as_u16(), why)
}

#[test]
fn a_process_that_stops_takes_no_answer_with_it() {
    let mut site = Site::new(Wish {
        tune: Box::new(|options| options.drain = Duration::from_secs(30)),
        ..Wish::default()
    });
    let mut client = site.client();
    client.send(b"POST /v1/messages HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.receive_head().unwrap().status, 200);
    let mut sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let line = signed("alice", "bob", &"x".repeat(1_000)).to_string() + "\n";
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        // Until nobody reads any more.
        while sender.write_all(chunk.as_bytes()).is_ok() {}
    });
    let mut answered = 0;
    let mut stopping = None;
    while let Some(chunk) = client.chunk() {
        answered += String::from_utf8(chunk).unwrap().lines().count();
        if answered > 50 && stopping.is_none() {
            let dataplane = site.dataplane.take().unwrap();
            stopping = Some(std::thread::spawn(move || dataplane.stop()));
        }
    }
    stopping.unwrap().join().unwrap();
    drop(client);
    sending.join().unwrap();
    assert_eq!(
        site.message_records().len().min(10_000),
        answered.min(10_000)
    );
}
