//! `POST /v1/messages`: lines in, decisions out, in order, no faster than they are read.

use crate::common::{Client, PLAIN, Site, Wish, eventually, signed, unsigned};
use serde_json::Value;
use std::io::{Read as _, Write};
use std::time::Duration;

const HEAD: &[u8] = b"POST /v1/messages HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_line_gets_the_answer_it_would_get_alone_in_its_place() {
    let site = Site::plain();
    let mut body = String::new();
    for n in 0..200 {
        let message = match n % 5 {
            0 => signed("alice", "bob", &format!("clean {n}")).to_string(),
            1 => signed("alice", "bob", &format!("forbidden-word {n}")).to_string(),
            2 => unsigned("alice", "bob", "x").to_string(),
            3 => String::from("{\"from\":\"alice\"}"),
            _ => signed("mallory", "bob", &format!("no grant {n}")).to_string(),
        };
        body += &message;
        body += if n % 2 == 0 { "\n" } else { "\r\n\n" };
    }
    let mut client = site.client();
    let response = client.post("/v1/messages", &[], body.as_bytes());
    assert_eq!(response.status, 200);
    assert_eq!(
        response.header("Content-Type"),
        Some("application/x-ndjson")
    );
    let answers = lines(&response.text());
    assert_eq!(answers.len(), 200);
    for (n, answer) in answers.iter().enumerate() {
        let (key, expected) = match n % 5 {
            0 => ("policy_decision", "allow"),
            1 => ("policy_decision", "content_blocked"),
            2 => ("policy_decision", "signature_required"),
            3 => ("reason", "field_missing"),
            _ => ("policy_decision", "acl_denied"),
        };
        assert_eq!(answer[key], expected, "line {n}: {answer}");
    }
    assert_eq!(client.get("/health").status, 200, "the connection goes on");
    assert_eq!(site.message_records().len(), 160);
    let batches = site.metric("oktsec_signature_batch_size_count");
    let signatures = site.metric("oktsec_signature_batch_size_sum");
    assert!(
        signatures > 4.0 * batches,
        "{signatures} signatures in {batches} batches"
    );
}

#[test]
fn a_line_is_answered_as_soon_as_it_is_there() {
    let site = Site::plain();
    let mut client = site.client();
    client.send(HEAD);
    let mut head = String::new();
    while head != "\r\n" {
        head = client.line();
    }
    for n in 0..3 {
        let message = signed("alice", "bob", &n.to_string()).to_string();
        let (first, second) = message.split_at(50);
        client.send(&chunk(first.as_bytes()));
        client.send(&chunk(format!("{second}\n").as_bytes()));
        let answer: Value = serde_json::from_slice(&client.chunk().unwrap()).unwrap();
        assert_eq!(answer["status"], "delivered");
    }
    client.send(&chunk(
        signed("alice", "bob", "the last, without an end")
            .to_string()
            .as_bytes(),
    ));
    client.send(b"0\r\n\r\n");
    let answer: Value = serde_json::from_slice(&client.chunk().unwrap()).unwrap();
    assert_eq!(answer["status"], "delivered");
    assert!(client.chunk().is_none());
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn a_client_that_does_not_read_is_not_read_and_loses_nothing() {
    const LINES: usize = 200;
    let site = Site::plain();
    let client = site.client();
    let mut stream = client.stream.try_clone().unwrap();
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    stream.write_all(HEAD).unwrap();
    // Nobody reads the answers, so sooner or later nothing is taken any more.
    let line = format!("{{\"intent\":\"{}\"}}\n", "x".repeat(80));
    let block = chunk(line.repeat(LINES).as_bytes());
    let (mut sent, mut blocks) = (0usize, 0usize);
    let left = loop {
        let mut rest = &block[..];
        blocks += 1;
        while let Ok(n) = stream.write(rest)
            && n > 0
        {
            (sent, rest) = (sent + n, &rest[n..]);
        }
        if !rest.is_empty() {
            break rest;
        }
        assert!(
            sent < 200 << 20,
            "{sent} bytes were taken without one answer being read"
        );
    };
    // Nobody else waits for it.
    assert_eq!(site.post(&signed("alice", "bob", "meanwhile")).status, 200);
    // Once it reads, it gets an answer to every line.
    let answers = std::thread::spawn(move || {
        let mut client = client;
        while client.line() != "\r\n" {}
        std::iter::from_fn(|| client.chunk())
            .map(|answers| answers.iter().filter(|&&byte| byte == b'\n').count())
            .sum::<usize>()
    });
    stream.set_write_timeout(None).unwrap();
    stream.write_all(left).unwrap();
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(answers.join().unwrap(), blocks * LINES);
}

#[test]
fn lines_wait_for_a_busy_audit_writer_in_their_order_and_are_recorded_as_they_were_answered() {
    const CLIENTS: usize = 8;
    const LINES: usize = 240;
    // Nothing fits beside anything: only an empty queue takes a group of lines.
    let site = Site::new(Wish {
        tune: Box::new(|o| o.audit_queue_max = (1, 1)),
        yaml: &PLAIN.replace("rate_limit", "server: {workers: 2}\nrate_limit"),
        ..Wish::default()
    });
    let address = site.address();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            std::thread::spawn(move || {
                let message = |n: usize| match n % 3 {
                    0 => signed("alice", "bob", &format!("forbidden-word {number} {n}")),
                    _ => signed("alice", "bob", &format!("clean {number} {n}")),
                };
                let mut client = Client::new(address);
                client.send(HEAD);
                for group in 0..LINES / 4 {
                    let lines = (4 * group..4 * group + 4).map(|n| format!("{}\n", message(n)));
                    client.send(&chunk(lines.collect::<String>().as_bytes()));
                }
                client.send(b"0\r\n\r\n");
                while client.line() != "\r\n" {}
                let answers: Vec<u8> = std::iter::from_fn(|| client.chunk()).flatten().collect();
                let answers = lines(std::str::from_utf8(&answers).unwrap());
                assert_eq!(answers.len(), LINES);
                let mut recorded = 0;
                for (n, answer) in answers.iter().enumerate() {
                    if answer["reason"] == "audit_overloaded" {
                        continue;
                    }
                    let expected = match n % 3 {
                        0 => "blocked",
                        _ => "delivered",
                    };
                    assert_eq!(answer["status"], expected, "line {n}: {answer}");
                    recorded += 1;
                }
                recorded
            })
        })
        .collect();
    let recorded: usize = clients.into_iter().map(|c| c.join().unwrap()).sum();
    assert!(
        site.metric("oktsec_audit_waits_total") > 0.5,
        "the queue was full at times"
    );
    assert_eq!(
        site.message_records().len(),
        recorded,
        "exactly what was answered is recorded"
    );
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_next_is_not() {
    let site = Site::plain();
    let long = format!("{{\"content\":\"{}\"}}\n", "x".repeat(10 << 20));
    let body = [
        signed("alice", "bob", "before").to_string() + "\n",
        long,
        signed("alice", "bob", "after").to_string(),
    ]
    .concat();
    let response = site.client().post("/v1/messages", &[], body.as_bytes());
    let answers = lines(&response.text());
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[0]["status"], "delivered");
    assert_eq!(answers[1]["reason"], "body_too_large");
    assert_eq!(answers[2]["status"], "delivered");
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_its_records() {
    let site = Site::new(Wish::default());
    {
        let mut client = site.client();
        client.send(HEAD);
        let body: String = (0..10)
            .map(|n| signed("alice", "bob", &n.to_string()).to_string() + "\n")
            .collect();
        client.send(&chunk(body.as_bytes()));
    }
    eventually("ten records", || site.message_records().len() == 10);
    assert_eq!(site.post(&signed("alice", "bob", "another")).status, 200);
}

#[test]
fn a_stream_that_stands_still_does_not_keep_the_process_from_stopping() {
    let mut site = Site::new(Wish {
        tune: Box::new(|options| options.drain = Duration::from_secs(600)),
        ..Wish::default()
    });
    let mut client = site.client();
    client.send(HEAD);
    let whole = signed("alice", "bob", "whole").to_string() + "\n";
    let begun = &signed("alice", "bob", "begun").to_string()[..20];
    client.send(&chunk((whole + begun).as_bytes()));
    let answers = client.receive_head().unwrap();
    assert_eq!(answers.status, 200);
    assert_eq!(
        lines(&String::from_utf8(client.chunk().unwrap()).unwrap()).len(),
        1
    );
    // Well before the time for draining: the answer ends whole, and what was not answered is not decided.
    site.stop();
    assert_eq!(client.chunk(), None);
    assert!(client.is_closed());
    assert_eq!(site.message_records().len(), 1);
}

#[test]
fn a_client_that_reads_slowly_is_not_cut_off() {
    let patience = Duration::from_secs(3);
    let site = Site::new(Wish {
        tune: Box::new(move |options| options.patience.write = patience),
        ..Wish::default()
    });
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(32 << 10).unwrap();
    socket.connect(&site.address().into()).unwrap();
    let mut reader: std::net::TcpStream = socket.into();
    let mut sender = reader.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let head = HEAD.strip_suffix(b"\r\n").unwrap();
        let head = [head, b"Connection: close\r\n\r\n"].concat();
        sender.write_all(&head).unwrap();
        // Answers of more than the system would hold by itself.
        let body = chunk(&b"x\n".repeat(1_000));
        for _ in 0..200 {
            sender.write_all(&body).unwrap();
        }
        sender.write_all(b"0\r\n\r\n").unwrap();
    });
    let mut read = Vec::new();
    let mut piece = [0; 8 << 10];
    let begun = std::time::Instant::now();
    while begun.elapsed() < patience + Duration::from_secs(1) {
        let n = reader.read(&mut piece).unwrap();
        read.extend_from_slice(&piece[..n]);
        std::thread::sleep(Duration::from_millis(40));
    }
    reader.read_to_end(&mut read).unwrap();
    sending.join().unwrap();
    assert!(read.ends_with(b"\r\n0\r\n\r\n"), "{}", read.len());
}
