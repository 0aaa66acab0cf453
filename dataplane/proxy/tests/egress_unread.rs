//! Answers to agents that still send what is refused: most clients read nothing before they have sent everything.

use crate::common::egress::{Host, ask, client, proxy_of, records, site, yaml};
use crate::common::eventually;
use crate::egress_inside::{Stand, run};
use crate::unread::{chunked, told_over_http2};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes: more than the buffers on the way hold.
const LARGE: usize = 12 << 20;

/// One whose first words are forbidden.
fn forbidden() -> Vec<u8> {
    let mut body = b"a forbidden-word and then ".to_vec();
    body.resize(LARGE, b'x');
    body
}

fn with_length(target: &str, host: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Sends everything, then reads: the status, and the reason.
async fn told_after(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> (u16, String) {
    stream.write_all(request).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.to_ascii_lowercase().contains("connection: close"));
    let said: serde_json::Value = serde_json::from_str(body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, said["reason"].as_str().unwrap().to_owned())
}

#[test]
fn whoever_asks_for_what_is_refused_is_told_so_after_sending_it() {
    let host = Host::answering("");
    let site = site(&yaml(""));
    let proxy = proxy_of(&site);
    let connect = || async { TcpStream::connect(proxy).await.unwrap() };
    let refused = "http://192.0.2.1/".to_owned();
    run(async {
        for (url, body, reason) in [
            (refused, vec![b'x'; LARGE], "egress_address_special"),
            (host.url("/"), forbidden(), "egress_request_content"),
        ] {
            let named = url.split('/').nth(2).unwrap();
            let expected = (403, reason.to_owned());
            for request in [with_length(&url, named, &body), chunked(&url, named, &body)] {
                assert_eq!(told_after(connect().await, &request).await, expected);
            }
            let told = told_over_http2(connect().await, &url, body).await;
            assert_eq!(told, expected);
        }
    });
    assert_eq!(records(&site).len(), 6);
}

#[test]
fn inside_of_a_tunnel_it_is_the_same() {
    let stand = Stand::new("");
    run(async {
        let host = stand.host(&stand.theirs, "hello").await;
        let port = host.port();
        let named = format!("localhost:{port}");
        for (host, body, status, reason) in [
            (
                "elsewhere.example",
                vec![b'x'; LARGE],
                403,
                "egress_name_mismatch",
            ),
            (&*named, forbidden(), 403, "egress_request_content"),
        ] {
            let expected = (status, reason.to_owned());
            for request in [with_length("/", host, &body), chunked("/", host, &body)] {
                let stream = stand.inside(port, "http/1.1").await;
                assert_eq!(told_after(stream, &request).await, expected);
            }
            let stream = stand.inside(port, "h2").await;
            let told = told_over_http2(stream, &format!("https://{host}/"), body).await;
            assert_eq!(told, expected);
        }
    });
}

#[test]
fn what_a_host_answers_before_it_was_asked_to_the_end_arrives() {
    let host = Host::serve(|mut visitor| {
        visitor.head();
        visitor.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\n\r\nno\n");
        visitor.rest();
    });
    let site = site(&yaml(""));
    let mut client = client(&site);
    client.send(&ask("POST", &host.url("/"), &[], &vec![b'x'; LARGE]));
    let answer = client.receive().unwrap();
    assert_eq!((answer.status, &*answer.text()), (413, "no\n"));
    assert!(client.is_closed());
}

#[test]
fn whoever_waits_to_be_invited_is_refused_without_waiting() {
    let site = site(&yaml(""));
    let mut client = client(&site);
    let head = "POST http://192.0.2.1/ HTTP/1.1\r\nHost: 192.0.2.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    client.send(head.as_bytes());
    let answer = client.receive().unwrap();
    assert_eq!(answer.status, 403);
    // Nobody could know whether what comes next is the body.
    assert_eq!(answer.header("connection"), Some("close"));
}

#[test]
fn a_small_body_does_not_end_the_connection() {
    let host = Host::answering(crate::common::egress::answer("fine"));
    let site = site(&yaml(""));
    let mut client = client(&site);
    client.send(&ask("POST", "http://192.0.2.1/", &[], &[b'x'; 60_000]));
    assert_eq!(client.receive().unwrap().status, 403);
    client.send(&ask("GET", &host.url("/"), &[], b""));
    assert_eq!(client.receive().unwrap().text(), "fine");
}

#[test]
fn whoever_sends_a_head_that_cannot_be_read_is_told_so_after_sending_it() {
    let site = site(&yaml(""));
    let mut client = client(&site);
    let mut bytes = b"GET http://a.example/ HTTP/1.1\r\nHost: a\r\nno field\r\n\r\n".to_vec();
    // More than the buffers on the way hold, and less than nobody would read.
    bytes.resize(1 << 20, b'x');
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_send_buffer_size(16 << 10).unwrap();
    client.send(&bytes);
    assert_eq!(client.receive().unwrap().status, 400);
    eventually("it is recorded", || records(&site).len() == 1);
}
