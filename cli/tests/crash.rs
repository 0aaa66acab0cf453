//! `kill -9` of the data plane under load: whatever it answered is in the log, and the chain holds.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{Place, Server};
use oktsec_contract::id::MessageId;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// `OKTSEC_CRASH_ROUNDS` asks for more.
const ROUNDS: u64 = 12;
const SENDERS: usize = 3;

#[test]
fn a_data_plane_killed_under_load_has_recorded_every_message_it_answered() {
    let rounds = std::env::var("OKTSEC_CRASH_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(ROUNDS);
    let place = Place::empty();
    let config = place
        .config("agents:\n  ann:\n    can_message: [bob]\n  bob: {}\n")
        .replace("require_signature: true", "require_signature: false")
        .replace("per_agent: 0", "per_agent: 0\n  per_ip: -1");
    place.write_config(&config);
    place.seed_rules(&place.path("oktsec.db.d"));
    // Once with a control plane, so that there is a snapshot to go on with.
    drop(Server::start(place.command(&["serve", "--json"])));

    let mut answered = Vec::new();
    for round in 0..rounds {
        let plane = place.data_plane();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let port = place.port;
                std::thread::spawn(move || send_until_it_breaks(port, round, sender))
            })
            .collect();
        // Any moment will do, and another one each time.
        std::thread::sleep(Duration::from_millis(15 + round * 37 % 90));
        drop(plane);
        for sender in senders {
            answered.extend(sender.join().unwrap());
        }
    }
    assert!(
        answered.len() as u64 > rounds * 10,
        "{} answers",
        answered.len()
    );
    let reader = oktsec_audit::Reader::open(
        &place.path("oktsec.db.d").join("audit"),
        &place.path("readers"),
    )
    .unwrap();
    for id in &answered {
        let id = MessageId::parse(id).unwrap();
        assert!(
            reader.get(id).unwrap().is_some(),
            "{id} was answered and is not recorded"
        );
    }
    drop(reader);
    place.run(&["audit", "verify-chain"]).expect(0);
}

/// Sends over one connection as fast as answers come; the ids of all messages answered as delivered.
fn send_until_it_breaks(port: u16, round: u64, sender: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return ids;
    };
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    for number in 0.. {
        let body = format!(
            "{{\"from\":\"ann\",\"to\":\"bob\",\"content\":\"round {round}, sender {sender}, message {number}\"}}"
        );
        let request = format!(
            "POST /v1/message HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(request.as_bytes()).is_err() {
            break;
        }
        let Some(answer) = read_answer(&mut answers) else {
            break;
        };
        assert_eq!(answer["status"], "delivered", "{answer}");
        ids.push(answer["message_id"].as_str().unwrap().to_owned());
    }
    ids
}

/// One answer; `None` if the connection ends before all of it is there.
fn read_answer(answers: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if answers.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
