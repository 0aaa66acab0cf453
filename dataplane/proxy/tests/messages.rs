//! `POST /v1/messages`: lines in, decisions out, in order, no faster than they are read.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod common;

use common::{Site, Wish, eventually, signed, unsigned};
use serde_json::Value;
use std::io::Write;
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
fn a_client_that_does_not_read_is_not_read() {
    let site = Site::plain();
    let client = site.client();
    let mut stream = client.stream.try_clone().unwrap();
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    stream.write_all(HEAD).unwrap();
    // Short lines with long answers; nobody reads them, so sooner or later nothing is taken any more.
    let block = chunk("{}\n".repeat(8_000).as_bytes());
    let mut sent = 0usize;
    let stuck = loop {
        match stream.write(&block) {
            Ok(n) => sent += n,
            Err(_) => break true,
        }
        if sent > 200 << 20 {
            break false;
        }
    };
    assert!(
        stuck,
        "{sent} bytes were taken without one answer being read"
    );
    // Nobody else waits for it.
    assert_eq!(site.post(&signed("alice", "bob", "meanwhile")).status, 200);
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
