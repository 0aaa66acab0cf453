//! Peers that send or take too slowly, or not at all.

use crate::common::{Client, Site, Wish, request, signed_at};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::limits::MESSAGE_AGE_SECS_MAX;
use oktsec_proxy::Patience;
use std::time::{Duration, Instant};

fn impatient() -> Site {
    let patience = Patience {
        idle: Duration::from_millis(600),
        head: Duration::from_millis(300),
        body: Duration::from_millis(300),
        write: Duration::from_secs(5),
        control_plane: Duration::ZERO,
    };
    Site::new(Wish {
        tune: Box::new(move |o| o.patience = patience),
        ..Wish::default()
    })
}

/// Feeds bytes one by one, faster than any single wait, until the other side gives up.
fn drip(client: &mut Client, bytes: &[u8]) -> Duration {
    let begun = Instant::now();
    client
        .stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    for byte in bytes.iter().cycle() {
        let mut peek = [0; 1];
        match client.stream.peek(&mut peek) {
            Ok(_) => return begun.elapsed(),
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => return begun.elapsed(),
        }
        if std::io::Write::write_all(&mut client.stream, &[*byte]).is_err() {
            return begun.elapsed();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it may drip for ever"
        );
    }
    unreachable!("the bytes never end")
}

#[test]
fn a_head_that_drips_is_cut_off_as_a_whole() {
    let site = impatient();
    let mut client = site.client();
    client.send(b"GET /health HTTP/1.1\r\nX: ");
    assert!(drip(&mut client, b"a") < Duration::from_secs(3));
    // And in the second request of a connection.
    let mut client = site.client();
    assert_eq!(client.get("/health").status, 200);
    client.send(b"GET /health HTTP/1.1\r\nX: ");
    assert!(drip(&mut client, b"a") < Duration::from_secs(3));
    // And where the HTTP/2 preface is looked for.
    let mut client = site.client();
    client.send(b"PRI * HTTP");
    client
        .stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    assert!(client.is_closed());
}

#[test]
fn a_body_that_drips_is_answered_408() {
    let site = impatient();
    let mut client = site.client();
    client.send(b"POST /v1/message HTTP/1.1\r\nHost: t\r\nContent-Length: 5000\r\n\r\n");
    assert!(drip(&mut client, b" ") < Duration::from_secs(3));
    client
        .stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let response = client.receive().unwrap();
    assert_eq!(response.status, 408);
    assert_eq!(response.json()["reason"], "body_timeout");
}

#[test]
fn a_body_that_drips_towards_the_control_plane_is_cut_off_as_well() {
    let site = impatient();
    let _ = std::fs::remove_file(&site.paths.api_socket);
    let listener = std::os::unix::net::UnixListener::bind(&site.paths.api_socket).unwrap();
    let mut client = site.client();
    client.send(b"POST /v1/agents HTTP/1.1\r\nHost: t\r\nContent-Length: 5000\r\n\r\n ");
    let (mut control, _) = listener.accept().unwrap();
    assert!(drip(&mut client, b" ") < Duration::from_secs(3));
    let answer = client.receive().unwrap();
    assert_eq!(
        (answer.status, &answer.json()["reason"]),
        (408, &"body_timeout".into())
    );
    // And it gets its connection back.
    while std::io::Read::read(&mut control, &mut [0; 256]).is_ok_and(|bytes| bytes > 0) {}
}

#[test]
fn a_body_that_trickles_in_does_not_keep_its_message_young() {
    let site = Site::plain();
    let sent = Timestamp(Timestamp::now().minus_secs(MESSAGE_AGE_SECS_MAX).0 + 1_500_000);
    let body = signed_at("alice", "bob", "hello", sent).to_string();
    let whole = request("/v1/message", &[], body.as_bytes());
    let mut client = site.client();
    client.send(&whole[..whole.len() - 1]);
    let old = sent.plus_secs(MESSAGE_AGE_SECS_MAX);
    while Timestamp::now() <= old {
        std::thread::sleep(Duration::from_millis(5));
    }
    client.send(&whole[whole.len() - 1..]);
    let answer = client.receive().unwrap();
    assert_eq!(answer.json()["reason"], "timestamp_too_old");
}

#[test]
fn a_body_that_ends_early_is_answered_and_counted() {
    let site = Site::plain();
    let announced = b"POST /v1/message HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{\"from\"";
    let chunked =
        b"POST /v1/message HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"fro\r\n";
    let lines = b"POST /v1/messages HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{\"from\"";
    for request in [&announced[..], chunked, lines] {
        let mut client = site.client();
        client.send(request);
        // It sends no more, and may still read.
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let response = client.receive().unwrap();
        assert_eq!(response.json()["reason"], "request_invalid");
        assert!(client.is_closed());
    }
    let counted = site.metric("oktsec_refusals_total{reason=\"request_invalid\"}");
    assert!((counted - 3.0).abs() < 0.1, "{counted}");
    assert!(site.message_records().is_empty());
}

#[test]
fn a_silent_connection_is_closed_and_a_busy_one_is_not() {
    let site = impatient();
    let mut silent = site.client();
    assert!(silent.is_closed());
    let mut idle = site.client();
    assert_eq!(idle.get("/health").status, 200);
    assert!(idle.is_closed());
    let mut busy = site.client();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(busy.get("/health").status, 200);
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

#[test]
fn a_peer_that_does_not_read_its_answers_is_cut_off() {
    let patience = Patience {
        write: Duration::from_millis(300),
        ..Patience::default()
    };
    let site = Site::new(Wish {
        tune: Box::new(move |o| o.patience = patience),
        ..Wish::default()
    });
    let client = site.client();
    let mut stream = client.stream.try_clone().unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let requests = b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n".repeat(1_000);
    // Answers pile up unread until nothing fits between us any more; then it ends.
    let begun = Instant::now();
    while std::io::Write::write_all(&mut stream, &requests).is_ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it may go on for ever"
        );
    }
    assert_eq!(site.get("/health").status, 200);
}
