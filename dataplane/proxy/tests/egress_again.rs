//! Requests that are sent once more: whole, or not at all.

use crate::common::egress::{self, ask, client, records, site, yaml};
use crate::common::{Client, eventually};
use crate::egress_https::{self, echo};
use h2::Reason;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A host that answers the first request of each connection, and whose connection then ends during the second when
/// `ends` returns.
fn impatient(ends: impl Fn(&mut egress::Visitor) + Send + Sync + 'static) -> egress::Host {
    egress::Host::serve(move |mut visitor| {
        visitor.head();
        visitor.send(egress::answer("first").as_bytes());
        if visitor.head().is_some() {
            ends(&mut visitor);
        }
    })
}

/// One whose connection to the host has carried a request.
fn known(site: &crate::common::Site, host: &egress::Host) -> Client {
    let mut client = client(site);
    client.send(&ask("GET", &host.url("/"), &[], b""));
    assert_eq!(client.receive().unwrap().text(), "first");
    client
}

fn chunk(client: &mut Client, bytes: usize) -> std::io::Result<()> {
    let mut chunk = format!("{bytes:x}\r\n").into_bytes();
    chunk.resize(chunk.len() + bytes, b'x');
    chunk.extend_from_slice(b"\r\n");
    client.stream.write_all(&chunk)
}

fn put_in_chunks(client: &mut Client, host: &egress::Host) {
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        host.url("/"),
        host.address
    );
    client.send(head.as_bytes());
}

#[test]
fn a_request_whose_beginning_is_gone_is_not_sent_again() {
    let host = impatient(|visitor| {
        visitor.until(b"0\r\n\r\n");
    });
    let site = site(&yaml(""));
    let mut client = known(&site, &host);
    put_in_chunks(&mut client, &host);
    chunk(&mut client, 256 << 10).unwrap();
    let reached = || host.reached.text().contains("xxxx");
    eventually("the first part is with the host", reached);
    chunk(&mut client, 1 << 10).unwrap();
    client.send(b"0\r\n\r\n");
    let answer = client.receive().unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["reason"], "egress_upstream_invalid");
    assert_eq!(host.reached.connections(), 1);
    assert_eq!(records(&site).len(), 2);
}

#[test]
fn nor_is_one_that_the_host_stopped_reading() {
    // More than is read before the first of it goes out.
    let host = impatient(|visitor| {
        visitor.body(512 << 10);
    });
    let site = site(&yaml(""));
    let mut client = known(&site, &host);
    put_in_chunks(&mut client, &host);
    for _ in 0..64 {
        chunk(&mut client, 128 << 10).unwrap();
    }
    client.send(b"0\r\n\r\n");
    assert_eq!(client.receive().unwrap().status, 502);
    assert_eq!(host.reached.connections(), 1);
}

#[test]
fn one_that_is_still_whole_is_sent_again_if_that_is_as_good_as_once() {
    let site = site(&yaml(""));
    for (method, status) in [("PUT", 200), ("DELETE", 200), ("POST", 502)] {
        let host = impatient(|visitor| {
            visitor.body(5);
        });
        let mut client = known(&site, &host);
        client.send(&ask(method, &host.url("/"), &[], b"hello"));
        assert_eq!(client.receive().unwrap().status, status, "{method}");
        let whole = host.reached.text().matches("\r\n\r\nhello").count();
        assert_eq!(whole, if status == 200 { 2 } else { 1 }, "{method}");
    }
}

/// A host over HTTP/2 that does not begin with the first so many requests.
fn busy(refuses: usize) -> (egress_https::Host, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let host = egress_https::Host::over_h2(move |request, mut answer| {
        let at = count.fetch_add(1, Ordering::SeqCst);
        async move {
            match at < refuses {
                true => answer.send_reset(Reason::REFUSED_STREAM),
                false => echo(request, answer).await,
            }
        }
    });
    (host, asked)
}

#[test]
fn what_a_host_did_not_begin_with_is_sent_again_whatever_it_asks_for() {
    let (host, asked) = busy(2);
    let mut client = host.client();
    client.send(&ask("POST", &host.url, &[], b"hello"));
    let answer = client.receive().unwrap();
    assert_eq!((answer.status, &*answer.text()), (200, "hello"));
    assert_eq!(asked.load(Ordering::SeqCst), 3);

    let (host, asked) = busy(usize::MAX);
    let mut client = host.client();
    client.send(&ask("POST", &host.url, &[], b"hello"));
    let answer = client.receive().unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["reason"], "egress_upstream_invalid");
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[test]
fn what_a_host_wants_to_hear_over_http1_is_told_so() {
    let host = egress_https::Host::new(&["h2", "http/1.1"], |mut stream| async move {
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut answer))) = connection.accept().await {
                answer.send_reset(Reason::HTTP_1_1_REQUIRED);
            }
            return;
        }
        let mut came = Vec::new();
        while !came.ends_with(b"hello") {
            if stream.read_buf(&mut came).await.unwrap() == 0 {
                return;
            }
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold";
        stream.write_all(answer).await.unwrap();
    });
    let mut client = host.client();
    client.send(&ask("POST", &host.url, &[], b"hello"));
    let answer = client.receive().unwrap();
    assert_eq!((answer.status, &*answer.text()), (200, "old"));
    assert_eq!(host.connections(), 2);
}
