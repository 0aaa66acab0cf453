//! The generator against a server of a few lines that can be slow, wrong or rude.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use oktsec_benches::load::{LoadError, Plan, Pool, Recipe, Report, Shape, run};
use oktsec_contract::keys::KeyPair;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const DELIVERED: &str = "{\"status\":\"delivered\",\"verified_sender\":true}\n";

/// What the server does with the request of this number.
type Manner = fn(usize) -> Reply;

enum Reply {
    Say(u16, &'static str),
    /// First nothing for a while.
    Late(Duration),
    HangUp,
}

fn serve(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let count = Arc::clone(&count);
            std::thread::spawn(move || converse(stream.unwrap(), manner, &count));
        }
    });
    address
}

fn converse(stream: TcpStream, manner: Manner, count: &AtomicUsize) {
    stream.set_nodelay(true).unwrap();
    let mut out = stream.try_clone().unwrap();
    let mut requests = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        requests.read_exact(&mut body).unwrap();
        let (status, text) = match manner(count.fetch_add(1, Ordering::Relaxed)) {
            Reply::Say(status, text) => (status, text),
            Reply::Late(pause) => {
                std::thread::sleep(pause);
                (200, DELIVERED)
            }
            Reply::HangUp => return,
        };
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        if out.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn pool(count: usize) -> Arc<Pool> {
    let recipe = Recipe {
        senders: vec![KeyPair::from_seed("a", &[1; 32])],
        recipient: String::from("b"),
        content_bytes: 300,
        signed: true,
        attacks_percent: 0,
        api_key: None,
        host: String::from("test"),
        seed: 1,
    };
    Arc::new(Pool::make(&recipe, count, false))
}

/// Far longer than any of these runs takes, however busy the machine: what ends them is what they are about.
const NEVER: Duration = Duration::from_secs(600);

fn send(manner: Manner, shape: Shape, messages: usize) -> Result<Report, LoadError> {
    send_for(NEVER, manner, shape, messages)
}

fn send_for(
    duration: Duration,
    manner: Manner,
    shape: Shape,
    messages: usize,
) -> Result<Report, LoadError> {
    let plan = Plan {
        address: serve(manner),
        threads: 2,
        cpus: Vec::new(),
        connections: 4,
        shape,
        warmup: Duration::ZERO,
        duration,
        pid: Some(std::process::id()),
    };
    run(&plan, &pool(messages))
}

#[test]
fn a_closed_loop_ends_with_its_messages_and_counts_every_answer() {
    for depth in [1, 3] {
        let report = send(|_| Reply::Say(200, DELIVERED), Shape::Closed { depth }, 400).unwrap();
        assert!(report.is_right(), "{report}");
        assert_eq!(report.statuses.keys().copied().collect::<Vec<_>>(), [200]);
        // The first thread without messages ends the run: with less load it would measure something else.
        let all = report.statuses[&200];
        assert!((200..=400).contains(&all), "{report}");
        let on_their_way = 4 * depth as u64;
        assert!(
            (all - on_their_way..=all).contains(&report.answered),
            "{report}"
        );
        assert!(report.rate > 0.0, "{report}");
        assert!(report.server_cpu_micros.is_some());
        assert_eq!(report.to_json()["statuses"]["200"], all);
    }
}

#[test]
fn wrong_answers_are_counted_and_shown() {
    let manner: Manner = |number| match number {
        7 => Reply::Say(200, "{\"status\":\"delivered\",\"verified_sender\":false}"),
        8 => Reply::Say(403, "{\"status\":\"blocked\"}"),
        _ => Reply::Say(200, DELIVERED),
    };
    let report = send(manner, Shape::Closed { depth: 1 }, 40).unwrap();
    assert!(!report.is_right());
    assert_eq!((report.wrong, report.samples.len()), (2, 2), "{report}");
    assert!(
        report
            .samples
            .iter()
            .any(|sample| sample.contains("got 403")),
        "{report}"
    );
}

#[test]
fn a_stall_is_felt_by_every_message_that_should_have_been_sent_meanwhile() {
    // Each of the four connections is held up for 200 ms. 1,000 messages a second go on being due.
    let manner: Manner = |number| match number {
        100..104 => Reply::Late(Duration::from_millis(200)),
        _ => Reply::Say(200, DELIVERED),
    };
    let shape = Shape::Open { rate: 1_000.0 };
    let report = send_for(Duration::from_millis(500), manner, shape, 1_000).unwrap();
    assert!(report.is_right(), "{report}");
    assert!(
        (495..=500).contains(&report.answered),
        "what is due is sent, late if need be: {report}"
    );
    // About 200 of 500 messages waited, on average half of the stall; a busy machine only adds to it.
    assert!(report.latency.p90 > 80_000.0, "{report}");
}

#[test]
fn a_connection_that_breaks_ends_the_run_and_is_reported() {
    let manner: Manner = |number| {
        if number < 20 {
            Reply::Say(200, DELIVERED)
        } else {
            Reply::HangUp
        }
    };
    let report = send(manner, Shape::Closed { depth: 1 }, 10_000).unwrap();
    assert!(report.broken > 0 && !report.is_right(), "{report}");
    assert!(
        report.samples[0].contains("closed a connection"),
        "{report}"
    );
}

#[test]
fn nobody_there_is_an_error_that_says_so() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let plan = Plan {
        address,
        threads: 1,
        cpus: Vec::new(),
        connections: 1,
        shape: Shape::Closed { depth: 1 },
        warmup: Duration::ZERO,
        duration: Duration::from_millis(100),
        pid: None,
    };
    let error = run(&plan, &pool(10)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot connect to 127.0.0.1:"),
        "{error}"
    );
}

#[test]
fn a_server_that_never_answers_does_not_hold_us_for_ever() {
    // Its answers come long after this test would have been given up: that it ends is the proof.
    let manner: Manner = |_| Reply::Late(24 * NEVER);
    let duration = Duration::from_millis(200);
    let error = send_for(duration, manner, Shape::Closed { depth: 1 }, 100).unwrap_err();
    assert!(matches!(error, LoadError::NoAnswers(_)), "{error}");
}
