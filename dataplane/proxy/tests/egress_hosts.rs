//! Hosts that speak an HTTP of their own, take nothing or send bytes that are no text: agents get what was meant, or a
//! refusal, and nothing is held for longer than it may be.

use crate::common::egress::{Host, answer, ask, client, get, records, site, tunnel, yaml};
use crate::common::{Client, Site, Wish, eventually, snapshot};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";

/// A host that answers every request with these bytes, and closes.
fn saying(sends: impl Into<Vec<u8>>) -> Host {
    let sends = sends.into();
    Host::serve(move |mut visitor| {
        visitor.head();
        visitor.send(&sends);
    })
}

#[test]
fn what_an_old_host_says_is_framed_as_the_version_that_carries_it() {
    // A client that takes our version for the host's would take chunks for the body.
    let host = saying("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello");
    let site = site(&yaml(""));
    let mut client = client(&site);
    client.send(&ask("GET", &host.url("/"), &[], b""));
    let line = client.line();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    assert_eq!(get(&site, &host.url("/")).text(), "hello");
}

#[test]
fn a_body_in_another_transfer_coding_is_refused_and_not_passed_without_its_name() {
    let site = site(&yaml(""));
    for coding in [
        "gzip",
        "gzip, chunked",
        "chunked\r\nTransfer-Encoding: chunked",
    ] {
        let host = saying(format!(
            "{OK}Transfer-Encoding: {coding}\r\n\r\n2\r\nab\r\n0\r\n\r\n"
        ));
        let response = get(&site, &host.url("/"));
        assert_eq!(response.status, 502, "{coding}");
        assert_eq!(
            response.json()["detail"],
            "a transfer coding other than chunked"
        );
    }
    let host = saying(format!(
        "{OK}Transfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    ));
    assert_eq!(get(&site, &host.url("/")).text(), "ab");
}

#[test]
fn words_that_are_no_coding_refuse_nothing_and_hide_nothing() {
    let site = site(&yaml(""));
    for word in ["utf-8", "none", "binary"] {
        let said = |body: &str| {
            let len = body.len();
            saying(format!(
                "{OK}Content-Encoding: {word}\r\nContent-Length: {len}\r\n\r\n{body}"
            ))
        };
        let host = said("hello");
        assert_eq!(get(&site, &host.url("/")).text(), "hello", "{word}");
        let host = said("a forbidden-word in it");
        assert_eq!(get(&site, &host.url("/")).status, 403, "{word}");
    }
    let host = saying(format!(
        "{OK}Content-Encoding: lzma\r\nContent-Length: 2\r\n\r\nab"
    ));
    assert_eq!(get(&site, &host.url("/")).status, 403);
}

#[test]
fn answers_that_announce_another_one_are_scanned_and_counted() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    let last = format!("{OK}Content-Length: 2\r\n\r\nab");
    let site = site(&yaml(""));
    let host = saying(format!("{}{last}", early.repeat(3)));
    let mut client = client(&site);
    client.send(&ask("GET", &host.url("/"), &[], b""));
    for _ in 0..3 {
        assert_eq!(client.receive_head().unwrap().status, 103);
    }
    assert_eq!(client.receive().unwrap().text(), "ab");

    let host = saying(format!("{}{last}", early.repeat(1_000)));
    let mut patient = Client::new(crate::common::egress::proxy_of(&site));
    patient.send(&ask("GET", &host.url("/"), &[], b""));
    let last_status = loop {
        match patient.receive_head().unwrap().status {
            103 => {}
            status => break status,
        }
    };
    assert_eq!(last_status, 502);

    let host = saying(format!(
        "HTTP/1.1 103 Early Hints\r\nX-Note: a forbidden-word in it\r\n\r\n{last}"
    ));
    let response = get(&site, &host.url("/"));
    assert_eq!(response.status, 403);
    assert!(!String::from_utf8_lossy(&response.body).contains("forbidden-word"));
}

/// A host that takes the first bytes of a request and nothing more until its client is gone, and an agent that sends it
/// more than any buffer holds.
fn stalled(site: &Site) -> (Host, std::thread::JoinHandle<()>, Client) {
    let (gone, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let host = Host::serve(move |_visitor| {
        let _ = wait.lock().unwrap().recv();
    });
    let client = client(site);
    let mut sender = client.stream.try_clone().unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\nContent-Length: 100000000\r\n\r\n",
        host.url("/"),
        host.address
    );
    let sending = std::thread::spawn(move || {
        let piece = b"nothing much to say here, and so on and on. ".repeat(20_000);
        let _ = sender.write_all(head.as_bytes());
        while sender.write_all(&piece).is_ok() {}
        drop(gone);
    });
    (host, sending, client)
}

#[test]
fn a_host_that_answers_while_it_reads_waits_for_nobody() {
    // More than the buffers of all sockets on the way hold: whoever only writes until it is taken waits for ever.
    const LENGTH: usize = 48 << 20;
    let host = Host::serve(|mut visitor| {
        visitor.head();
        visitor.send(format!("{OK}Content-Length: {LENGTH}\r\n\r\n").as_bytes());
        let (mut piece, mut left) = (vec![0; 64 << 10], LENGTH);
        while left > 0 {
            let read = visitor.body(left.min(piece.len()));
            piece.clone_from(&read);
            left -= read.len();
            if read.is_empty() || !visitor.send(&piece) {
                return;
            }
        }
    });
    let site = site(&yaml("  timeouts: {idle: 10s}\n"));
    let mut client = client(&site);
    let mut sender = client.stream.try_clone().unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\nContent-Length: {LENGTH}\r\n\r\n",
        host.url("/"),
        host.address
    );
    let line = b"nothing much to say here, and so on and on...\r\n\r\n";
    let sending = std::thread::spawn(move || {
        sender.write_all(head.as_bytes()).unwrap();
        let body: Vec<u8> = line.iter().copied().cycle().take(LENGTH).collect();
        sender.write_all(&body).unwrap();
    });
    assert_eq!(client.receive_head().unwrap().status, 200);
    let came = client.bytes(LENGTH);
    assert!(came.iter().eq(line.iter().cycle().take(LENGTH)));
    sending.join().unwrap();
}

#[test]
fn a_host_that_takes_nothing_has_as_long_as_an_idle_one() {
    let site = site(&yaml("  timeouts: {idle: 1s}\n"));
    let (_host, sending, client) = stalled(&site);
    eventually("it is given up", || {
        records(&site).iter().any(|record| {
            record["reason"] == "egress_upstream_timeout"
                && record["detail"] == "the host does not take the request"
        })
    });
    drop(client);
    sending.join().unwrap();
}

#[test]
fn the_kill_switch_ends_what_waits_for_a_host_that_takes_nothing() {
    let site = site(&yaml(""));
    let (host, sending, client) = stalled(&site);
    eventually("it is under way", || {
        host.reached.connections() > 0 || site_is_busy(&site)
    });
    site.running().stop_egress(true);
    eventually("it is ended", || {
        records(&site)
            .iter()
            .any(|record| record["reason"] == "egress_stopped")
    });
    drop(client);
    sending.join().unwrap();
}

fn site_is_busy(site: &Site) -> bool {
    site.metric("oktsec_egress_bytes_total{direction=\"up\"}") > 8e6
}

#[test]
fn a_few_bytes_of_an_archive_that_look_like_something_are_chance() {
    let mut state = 11_u32;
    let mut noise = || {
        let bytes = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        bytes.take(100_000).collect::<Vec<u8>>()
    };
    let site = site(&yaml(""));
    for (text, status) in [
        ("forbidden-word", 200),
        ("it has a forbidden-word in it", 403),
        ("tok-0123456789ab", 403),
    ] {
        let body = [&noise()[..], b"\xff", text.as_bytes(), b"\xff", &noise()].concat();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let host = saying([head.as_bytes(), &body].concat());
        let mut client = client(&site);
        client.send(&ask("GET", &host.url("/"), &[("Connection", "close")], b""));
        let mut came = Vec::new();
        let _ = client.stream.read_to_end(&mut came);
        let whole = came.ends_with(&body);
        assert_eq!(whole, status == 200, "{text}");
    }
}

#[test]
fn an_agent_whose_chunks_are_none_is_told() {
    let host = Host::answering(answer("hi"));
    let site = site(&yaml(""));
    for body in [
        "zz\r\nabc\r\n",
        "3\r\nabcdef\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
    ] {
        let mut client = client(&site);
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n{body}",
            host.url("/"),
            host.address
        );
        client.send(head.as_bytes());
        let response = client.receive().unwrap();
        assert_eq!(response.status, 400, "{body:?}");
        assert_eq!(
            response.header("x-oktsec-reason"),
            Some("egress_protocol_invalid")
        );
        assert!(client.is_closed());
    }
}

#[test]
fn a_head_that_is_refused_says_what_is_wrong_with_it() {
    let host = Host::answering(answer("hi"));
    let site = site(&yaml(""));
    let (url, at) = (host.url("/"), host.address);
    for (head, detail) in [
        (
            format!("GET {url} HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
            "Host and the target are not written alike",
        ),
        (
            format!("GET {url} HTTP/1.1\r\nHost: {at}\r\nHost: {at}\r\n\r\n"),
            "more than one host",
        ),
        (
            format!("POST {url} HTTP/1.1\r\nHost: {at}\r\nContent-Length: five\r\n\r\n"),
            "a length that is none, or more than one",
        ),
        (
            format!("GET {url} HTTP/1.1\r\nHost : {at}\r\n\r\n"),
            "the head is no HTTP",
        ),
    ] {
        let mut client = client(&site);
        client.send(head.as_bytes());
        let response = client.receive().unwrap();
        assert_eq!(response.status, 400);
        assert_eq!(response.json()["detail"], detail, "{head}");
    }
}

/// A name server that holds its answers back until it is told: everybody has the address 127.0.0.1.
struct LateServer {
    socket: UdpSocket,
    asked: Vec<(Vec<u8>, SocketAddr)>,
}

impl LateServer {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = Duration::from_secs(20);
        socket.set_read_timeout(Some(patience)).unwrap();
        let asked = Vec::new();
        Self { socket, asked }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Returns when somebody asks; `false` if nobody does.
    fn is_asked(&mut self) -> bool {
        let mut message = [0; 512];
        let Ok((length, asker)) = self.socket.recv_from(&mut message) else {
            return false;
        };
        self.asked.push((message[..length].to_vec(), asker));
        true
    }

    /// Answers what was asked, and from now on at once.
    fn answer(mut self) {
        std::thread::spawn(move || {
            loop {
                for (mut message, asker) in self.asked.drain(..) {
                    // The question: a name in labels, its type and class (RFC 1035 §4.1.2). What follows it is left out.
                    let mut end = 12;
                    while message[end] > 0 {
                        end += 1 + usize::from(message[end]);
                    }
                    let is_v4 = message[end + 2] == 1;
                    message.truncate(end + 5);
                    message[2..12].copy_from_slice(&[
                        0x81,
                        0x80,
                        0,
                        1,
                        0,
                        u8::from(is_v4),
                        0,
                        0,
                        0,
                        0,
                    ]);
                    if is_v4 {
                        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
                    }
                    let _ = self.socket.send_to(&message, asker);
                }
                if !self.is_asked() {
                    return;
                }
            }
        });
    }
}

#[test]
fn what_changes_while_a_name_is_looked_up_counts() {
    type Change = fn(&Site);
    let nothing: Change = |_| {};
    let suspended: Change = |site| {
        let mut config = site.config.clone();
        config.agents.get_mut("mallory").unwrap().suspended = true;
        crate::common::control::publish(site, &snapshot(2, config));
    };
    let stopped: Change = |site| site.running().stop_egress(true);
    for (change, status, reason) in [
        (nothing, 200, None),
        (suspended, 403, Some("agent_suspended")),
        (stopped, 403, Some("egress_stopped")),
    ] {
        let host = Host::echo();
        let mut server = LateServer::new();
        let address = server.address();
        let site = Site::new(Wish {
            yaml: &yaml(""),
            tune: Box::new(move |options| {
                let egress = options.egress.as_mut().expect("forward_proxy is enabled");
                egress.listeners[0].1 = 0;
                egress.name_servers = vec![address];
            }),
            ..Wish::default()
        });
        let header = "X-Oktsec-Agent: mallory\r\n";
        let (mut open, _) = tunnel(&site, &host.address.to_string(), header);
        let authority = format!("late.test:{}", host.address.port());
        let mut client = client(&site);
        let head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{header}\r\n");
        client.send(head.as_bytes());
        assert!(server.is_asked());
        change(&site);
        // Whoever looks at what is under way has done so.
        assert!(reason.is_none() || open.is_closed());
        server.answer();
        let answer = client.receive_head().unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-oktsec-reason"), reason);
        let connections = if reason.is_none() { 2 } else { 1 };
        // The system takes a connection before the host does.
        eventually("the host has seen them", || {
            host.reached.connections() == connections
        });
    }
}
