//! Requests that we see whole: what goes up, what comes down, what is found on the way and what becomes of it.

use crate::common::egress::{Host, answer, ask, client, get, records, site, when_invited, yaml};
use crate::common::{eventually, within_a_tenth_of_a_second};
use std::time::{Duration, Instant};

#[test]
fn a_request_goes_up_without_what_is_for_us_and_its_answer_comes_down() {
    let host = Host::answering(
        "HTTP/1.1 201 Made\r\nContent-Length: 5\r\nX-Oktsec-Reason: forged\r\nConnection: X-Hop\r\nX-Hop: 1\r\nETag: x\r\n\r\nhello",
    );
    let site = site(&yaml(""));
    let mut client = client(&site);
    client.send(&ask(
        "POST",
        &host.url("/path?q=1"),
        &[
            ("X-Oktsec-Agent", "alice"),
            ("X-Oktsec-Session", "s-1"),
            ("Proxy-Connection", "keep-alive"),
            ("Connection", "X-Private"),
            ("X-Private", "1"),
            ("X-Kept", "yes"),
        ],
        b"{\"a\":1}",
    ));
    let response = client.receive().unwrap();
    assert_eq!(response.status, 201);
    assert_eq!(response.text(), "hello");
    assert_eq!(response.header("etag"), Some("x"));
    assert_eq!(response.header("x-hop"), None);
    assert_eq!(response.header("x-oktsec-reason"), None);
    let seen = host.reached.text().to_ascii_lowercase();
    assert!(seen.starts_with("post /path?q=1 http/1.1\r\n"), "{seen}");
    assert!(seen.contains("x-kept: yes"), "{seen}");
    for gone in ["x-oktsec", "proxy-", "x-private", "\r\nconnection"] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
    let record = records(&site).remove(0);
    assert_eq!(record["status"], "forwarded");
    assert_eq!(record["policy_decision"], "proxy_allowed");
    assert_eq!(record["from_agent"], "alice");
    assert_eq!(record["session_id"], "s-1");
    assert_eq!(record["egress"]["path"], "/path?q=[1]");
    assert_eq!(record["egress"]["bytes_up"], 7);
    assert_eq!(record["egress"]["bytes_down"], 5);
    assert_eq!(
        site.metric("oktsec_bytes_unscanned_total{reason=\"not_configured\"}"),
        0.0
    );
}

#[test]
fn connections_are_kept_on_both_sides() {
    let host = Host::answering(answer("again"));
    let site = site(&yaml(""));
    let mut client = client(&site);
    for n in 0..20 {
        client.send(&ask("GET", &host.url(&format!("/{n}")), &[], b""));
        assert_eq!(client.receive().unwrap().text(), "again");
    }
    assert_eq!(host.reached.connections(), 1);
    assert_eq!(site.metric("oktsec_egress_connections_reused_total"), 19.0);
    assert_eq!(records(&site).len(), 20);
}

#[test]
fn an_upstream_connection_that_was_closed_meanwhile_is_replaced() {
    let host = Host::serve(|mut visitor| {
        // One answer for each connection, which says that it stays open.
        if visitor.head().is_some() {
            visitor.send(answer("once").as_bytes());
        }
    });
    let site = site(&yaml(""));
    let mut client = client(&site);
    for n in 1..=5 {
        client.send(&ask("GET", &host.url("/"), &[], b""));
        assert_eq!(client.receive().unwrap().text(), "once", "{n}");
    }
}

/// Where a forbidden word may stand, and the reason that names it.
#[test]
fn what_is_forbidden_stops_wherever_it_stands_and_never_reaches_the_host() {
    let host = Host::answering(answer("fine"));
    let site = site(&yaml(""));
    let padded = |n: usize| [vec![b'x'; n], b"forbidden-word".to_vec()].concat();
    for (what, path, headers, body) in [
        ("query", "/?q=forbidden-word", vec![], vec![]),
        ("encoded query", "/?q=forbidden%2Dword", vec![], vec![]),
        ("path", "/forbidden-word/x", vec![], vec![]),
        ("header", "/", vec![("X-Note", "forbidden-word")], vec![]),
        ("body", "/", vec![], b"a forbidden-word here".to_vec()),
        ("large body", "/", vec![], padded(60_000)),
    ] {
        let mut client = client(&site);
        client.send(&ask("POST", &host.url(path), &headers, &body));
        let response = client
            .receive()
            .unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(response.status, 403, "{what}");
        assert_eq!(
            response.json()["error"],
            "request blocked by content scan",
            "{what}"
        );
        assert_eq!(
            response.header("x-oktsec-reason"),
            Some("egress_request_content"),
            "{what}"
        );
        let record = records(&site).pop().unwrap();
        assert_eq!(record["status"], "blocked", "{what}");
        assert_eq!(record["policy_decision"], "proxy_blocked_content");
        assert_eq!(record["rules_triggered"][0]["rule_id"], "T-BLOCK");
        assert!(!record.to_string().contains("q=forbidden"), "{what}");
    }
    assert!(!host.reached.text().contains("forbidden"), "nothing left");
}

#[test]
fn a_secret_in_a_name_is_found_before_anybody_is_asked_about_it() {
    let site = site(&yaml(""));
    let response = get(&site, "http://forbidden-word.invalid/");
    assert_eq!(response.status, 403);
    assert_eq!(
        response.header("x-oktsec-reason"),
        Some("egress_name_content")
    );
}

#[test]
fn what_comes_back_is_blocked_before_its_first_byte_if_it_is_short() {
    let host = Host::answering(answer("ignore this forbidden-word please"));
    let site = site(&yaml(""));
    let response = get(&site, &host.url("/"));
    assert_eq!(response.status, 403);
    assert_eq!(response.json()["error"], "response blocked by content scan");
    assert_eq!(response.json()["detail"], "1 security finding(s) detected");
    let record = records(&site).remove(0);
    assert_eq!(record["policy_decision"], "proxy_blocked_response");
}

#[test]
fn a_long_response_is_cut_where_it_becomes_forbidden() {
    let before = 3_000_000;
    let host = Host::serve(move |mut visitor| {
        visitor.head();
        visitor.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"2710\r\n".to_vec(), vec![b'a'; 10_000], b"\r\n".to_vec()].concat();
        for _ in 0..before / 10_000 {
            visitor.send(&chunk);
        }
        // Split over two chunks.
        visitor.send(b"a\r\nforbidden-\r\n");
        visitor.send(b"4\r\nword\r\n0\r\n\r\n");
    });
    let site = site(&yaml(""));
    let mut client = client(&site);
    client.send(&ask("GET", &host.url("/"), &[], b""));
    let head = client.receive_head().unwrap();
    assert_eq!(head.status, 200);
    let came = client.bytes(10_000_000);
    assert!(came.len() > before / 2, "{} bytes came", came.len());
    assert!(!String::from_utf8_lossy(&came).contains("forbidden"));
    assert!(!came.ends_with(b"0\r\n\r\n"), "nobody takes it for whole");
    eventually("a record", || records(&site).len() == 1);
    assert_eq!(records(&site)[0]["reason"], "egress_response_content");
}

#[test]
fn a_compressed_body_is_looked_into_and_passes_as_it_was() {
    use std::io::Write as _;
    let zip = |text: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(text).unwrap();
        out.finish().unwrap()
    };
    let serving = |body: Vec<u8>, coding: &str| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Host::answering([head.into_bytes(), body].concat())
    };
    let site = site(&yaml(""));
    let clean = zip(b"a perfectly harmless text");
    let response = get(&site, &serving(clean.clone(), "gzip").url("/"));
    assert_eq!(response.status, 200);
    assert_eq!(response.body, clean);
    let bad = zip(b"a forbidden-word inside");
    let response = get(&site, &serving(bad, "gzip").url("/"));
    assert_eq!(
        response.header("x-oktsec-reason"),
        Some("egress_response_content")
    );
    let response = get(&site, &serving(b"what".to_vec(), "unheard-of").url("/"));
    assert_eq!(
        response.header("x-oktsec-reason"),
        Some("egress_undecodable")
    );
    let bomb = zip(&vec![0; 300 << 20]);
    let response = get(&site, &serving(bomb, "gzip").url("/"));
    assert_eq!(
        response.header("x-oktsec-reason"),
        Some("egress_undecodable")
    );
    assert_eq!(records(&site).len(), 4);
}

#[test]
fn events_reach_the_agent_one_by_one_as_they_are_sent() {
    let (heard, next) = std::sync::mpsc::channel();
    let next = std::sync::Mutex::new(next);
    let host = Host::serve(move |mut visitor| {
        visitor.head();
        visitor.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        for n in 0..20 {
            visitor.send(format!("data: tick {n}\n\n").as_bytes());
            // Another one comes when this one was heard.
            if next.lock().unwrap().recv().is_err() {
                return;
            }
        }
    });
    let site = site(&yaml(""));
    let mut client = client(&site);
    client.send(&ask("GET", &host.url("/"), &[], b""));
    let head = client.receive_head().unwrap();
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    for n in 0..20 {
        let event = format!("data: tick {n}\n\n");
        assert_eq!(client.chunk().unwrap(), event.as_bytes());
        heard.send(()).unwrap();
    }
    assert_eq!(client.chunk(), None);
}

#[test]
fn a_response_that_trickles_is_passed_on_although_it_has_no_units() {
    let host = Host::serve(|mut visitor| {
        visitor.head();
        visitor.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf ");
        // The rest comes when the agent has the first half.
        visitor.fill();
        visitor.send(b"whole");
    });
    let site = site(&yaml(""));
    let mut client = client(&site);
    client.send(&ask("GET", &host.url("/"), &[], b""));
    client.receive_head().unwrap();
    assert_eq!(client.bytes(5), b"half ");
}

#[test]
fn a_client_that_waits_to_be_invited_is_invited_by_the_host() {
    let host = Host::serve(|mut visitor| {
        let head = visitor.head().unwrap();
        assert!(head.to_ascii_lowercase().contains("expect: 100-continue"));
        visitor.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        let body = visitor.body(5);
        visitor.send(answer(&String::from_utf8(body).unwrap()).as_bytes());
    });
    let site = site(&yaml(""));
    let mut client = client(&site);
    let request = ask(
        "POST",
        &host.url("/"),
        &[("Expect", "100-continue")],
        b"hello",
    );
    assert_eq!(when_invited(&mut client, &request, 5), "hello");
}

#[test]
fn a_host_that_lies_about_its_length_is_not_taken_for_whole() {
    let host = Host::serve(|mut visitor| {
        visitor.head();
        visitor.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort");
    });
    let site = site(&yaml(""));
    let response = get(&site, &host.url("/"));
    assert_eq!(response.status, 502, "nothing of it had been sent yet");
    for bad in [
        &b"nonsense\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"",
    ] {
        let host = Host::serve(move |mut visitor| {
            visitor.head();
            visitor.send(bad);
        });
        let response = get(&site, &host.url("/"));
        assert_eq!(response.status, 502, "{bad:?}");
        assert_eq!(
            response.header("x-oktsec-reason"),
            Some("egress_upstream_invalid")
        );
    }
}

#[test]
fn a_host_that_keeps_silent_is_a_504() {
    let host = Host::serve(|mut visitor| {
        visitor.head();
        visitor.fill();
    });
    let site = site(&yaml("  timeouts: {first_byte: 200ms}\n"));
    let response = get(&site, &host.url("/"));
    assert_eq!(response.status, 504);
    assert_eq!(response.header("x-oktsec-retry"), Some("transient"));
}

#[test]
fn a_grpc_message_is_answered_before_the_next_one_comes() {
    let message = |text: &str| {
        [
            &[0, 0, 0, 0, u8::try_from(text.len()).unwrap()],
            text.as_bytes(),
        ]
        .concat()
    };
    let chunk =
        |bytes: &[u8]| [format!("{:X}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let question = chunk(&message("how are you"));
    let (asked, answered) = (question.clone(), chunk(&message("fine")));
    let host = Host::serve(move |mut visitor| {
        visitor.head();
        assert_eq!(visitor.body(asked.len()), asked);
        visitor.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n");
        visitor.send(&answered);
        assert_eq!(visitor.body(5), b"0\r\n\r\n");
        visitor.send(b"0\r\n\r\n");
    });
    let site = site(&yaml(""));
    let mut client = client(&site);
    let headers = [
        ("Content-Type", "application/grpc"),
        ("Transfer-Encoding", "chunked"),
    ];
    client.send(&ask("POST", &host.url("/a.Service/Talk"), &headers, b""));
    client.send(&question);
    assert_eq!(client.receive_head().unwrap().status, 200);
    assert_eq!(client.chunk().unwrap(), message("fine"));
    client.send(b"0\r\n\r\n");
    assert_eq!(client.chunk(), None);
    eventually("its record", || !records(&site).is_empty());
    assert_eq!(records(&site)[0]["status"], "forwarded");
}

/// Half an hour of events with the timers as delivered (`first_byte` 5 min, `idle` 10 min, an event every 15 s), three
/// hundred times as fast; then silence.
#[test]
fn a_stream_outlives_every_timer_and_is_ended_by_silence_alone() {
    const EVENTS: usize = 120;
    let host = Host::serve(|mut visitor| {
        visitor.head();
        visitor.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        for n in 0..EVENTS {
            visitor.send(format!("data: tick {n}\n\n").as_bytes());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        // Until the other side has closed.
        visitor.fill();
    });
    let site = site(&yaml("  timeouts: {first_byte: 1s, idle: 2s}\n"));
    let mut client = client(&site);
    client.send(&ask("GET", &host.url("/"), &[], b""));
    client.receive_head().unwrap();
    let begun = Instant::now();
    let mut all = Vec::new();
    while all.iter().filter(|&&byte| byte == b'\n').count() < 2 * EVENTS {
        all.extend(client.chunk().expect("it has not ended"));
    }
    assert!(
        begun.elapsed() > Duration::from_secs(5),
        "longer than any timer"
    );
    let last = format!("data: tick {}\n\n", EVENTS - 1);
    assert!(all.ends_with(last.as_bytes()));
    let begun = Instant::now();
    assert!(client.is_closed());
    assert!(
        begun.elapsed() > Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    eventually("its record", || !records(&site).is_empty());
    assert_eq!(records(&site)[0]["reason"], "egress_upstream_timeout");
}

#[test]
fn a_websocket_is_passed_and_looked_into() {
    let host = Host::serve(|mut visitor| {
        visitor.head();
        visitor.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        );
        // A text frame to the agent, then whatever it sends is read away.
        visitor.send(b"\x81\x05hello");
        while visitor.fill() {}
    });
    let site = site(&yaml(""));
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    let mut client = client(&site);
    client.send(&ask("GET", &host.url("/"), &upgrade, b""));
    let head = client.receive_head().unwrap();
    assert_eq!(head.status, 101);
    assert_eq!(client.bytes(7), b"\x81\x05hello");
    let masked = |text: &[u8]| {
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 1, 2, 3, 4];
        frame.extend(
            text.iter()
                .enumerate()
                .map(|(at, b)| b ^ [1, 2, 3, 4][at % 4]),
        );
        frame
    };
    let harmless = masked(b"harmless");
    client.send(&harmless);
    eventually("the frame has arrived", || {
        host.reached.bytes().ends_with(&harmless)
    });
    client.send(&masked(b"a forbidden-word"));
    assert!(client.is_closed());
    eventually("a record", || records(&site).len() == 1);
    assert_eq!(records(&site)[0]["reason"], "egress_request_content");
    assert!(
        host.reached.bytes().ends_with(&harmless),
        "nothing more of it"
    );
}

#[test]
fn observing_lets_everything_pass_and_records_what_it_would_have_done() {
    let host = Host::answering(answer("a forbidden-word comes back"));
    let observing =
        yaml("  blocked_domains: [blocked.invalid]\n") + "surfaces: {egress: {mode: observe}}\n";
    let site = site(&observing);
    let mut client = client(&site);
    client.send(&ask(
        "POST",
        &host.url("/?q=forbidden-word"),
        &[],
        b"forbidden-word",
    ));
    let response = client.receive().unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.text(), "a forbidden-word comes back");
    let record = records(&site).remove(0);
    assert_eq!(record["status"], "forwarded");
    assert_eq!(record["mode"], "observe");
    assert_eq!(record["verdict"], "block");
    assert_eq!(record["reason"], "egress_request_content");
    assert!(host.reached.text().ends_with("forbidden-word"));
}

#[test]
fn ambiguous_and_oversized_heads_are_refused() {
    let host = Host::answering(answer("no"));
    let site = site(&yaml(""));
    let url = host.url("/");
    let authority = host.address;
    let long = "x".repeat(70_000);
    for head in [
        format!("GET {url} HTTP/1.1\r\nHost: other.example\r\n\r\n"),
        format!(
            "GET {url} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na"
        ),
        format!(
            "POST {url} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!("GET {url} HTTP/1.1\nHost: {authority}\n\n"),
        format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\nX: a\r\n b\r\n\r\n"),
        format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\nConnection: Host\r\n\r\n"),
        format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\nX: {long}\r\n\r\n"),
        format!("GET http://user@{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n"),
    ] {
        let mut client = client(&site);
        let _ = std::io::Write::write_all(&mut client.stream, head.as_bytes());
        let shown = &head[..head.len().min(120)];
        match client.receive() {
            Some(response) => assert!(
                matches!(response.status, 400 | 403 | 431),
                "{shown:?}: {response:?}"
            ),
            None => assert!(head.len() > 60_000, "{shown:?}"),
        }
    }
    assert_eq!(host.reached.text(), "");
}

#[test]
fn a_large_body_goes_up_and_down_unchanged() {
    let host = Host::serve(|mut visitor| {
        let head = visitor.head().unwrap();
        let body = visitor.body(crate::common::egress::length_of(&head));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        visitor.send(head.as_bytes());
        visitor.send(&body);
    });
    let site = site(&yaml(""));
    let body: Vec<u8> = (0..2_000_000u32).flat_map(u32::to_le_bytes).collect();
    let mut client = client(&site);
    let request = ask("PUT", &host.url("/"), &[], &body);
    let mut writer = client.stream.try_clone().unwrap();
    let sender =
        std::thread::spawn(move || std::io::Write::write_all(&mut writer, &request).unwrap());
    let response = client.receive().unwrap();
    sender.join().unwrap();
    assert_eq!(response.status, 200);
    assert!(
        response.body == body,
        "{} bytes came back",
        response.body.len()
    );
}

#[test]
fn suspending_an_agent_ends_a_response_that_streams() {
    let host = Host::serve(|mut visitor| {
        visitor.head();
        visitor.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n");
        visitor.fill();
    });
    within_a_tenth_of_a_second(|| {
        let site = site(&yaml(""));
        let mut client = client(&site);
        let mallory = [("X-Oktsec-Agent", "mallory")];
        client.send(&ask("GET", &host.url("/"), &mallory, b""));
        client.receive_head().unwrap();
        client.chunk().unwrap();
        let mut config = site.config.clone();
        config.agents.get_mut("mallory").unwrap().suspended = true;
        crate::common::control::publish(&site, &crate::common::snapshot(2, config));
        let begun = Instant::now();
        assert!(client.is_closed());
        let took = begun.elapsed();
        eventually("a record", || records(&site).len() == 1);
        assert_eq!(records(&site)[0]["reason"], "agent_suspended");
        took
    });
}

#[test]
fn a_label_alone_does_not_make_a_body_binary() {
    let of = |media: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let host = Host::answering([head.as_bytes(), body].concat());
        let site = site(&yaml(""));
        get(&site, &host.url("/")).status
    };
    let text = "this is strangely-written".as_bytes();
    let bytes = [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], text].concat();
    assert_eq!(of("text/plain", text), 403);
    assert_eq!(of("image/png", text), 403, "labelled as no text, and text");
    assert_eq!(of("text/plain", &bytes), 403, "labelled as text");
    assert_eq!(of("image/png", &bytes), 200);
    let other = [&bytes[..], b" and a forbidden-word"].concat();
    assert_eq!(of("image/png", &other), 403, "other rules count everywhere");
}

/// A host that answers every chunked request with the trailers it got, in trailers.
fn trailer_host() -> Host {
    Host::serve(|mut visitor| {
        while visitor.head().is_some() {
            let mut body = Vec::new();
            while !body.windows(5).any(|end| end == b"\r\n0\r\n") || !body.ends_with(b"\r\n\r\n") {
                let byte = visitor.body(1);
                if byte.is_empty() {
                    return;
                }
                body.extend(byte);
            }
            let at = crate::common::find(&body, b"\r\n0\r\n").unwrap();
            let trailers = &body[at + 5..];
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n";
            visitor.send(&[&head[..], trailers].concat());
        }
    })
}

#[test]
fn trailers_pass_both_ways_and_are_scanned() {
    let host = trailer_host();
    let site = site(&yaml(""));
    let mut client = client(&site);
    let url = host.url("/");
    let ask = |trailers: &str| {
        let host = host.address;
        format!(
            "POST {url} HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{trailers}\r\n"
        )
    };
    let mut answered = |trailers: &str| {
        client.send(ask(trailers).as_bytes());
        let head = client.receive_head().unwrap();
        assert_eq!(head.status, 200, "{trailers}");
        assert_eq!(client.line(), "2\r\n");
        assert_eq!(client.line(), "hi\r\n");
        assert_eq!(client.line(), "0\r\n");
        let mut lines = String::new();
        loop {
            match client.line().as_str() {
                "\r\n" => return lines,
                line => lines += line,
            }
        }
    };
    assert_eq!(
        answered("X-Sum: 17\r\nx-more: \r\n"),
        "x-sum: 17\r\nx-more: \r\n"
    );
    assert_eq!(answered(""), "", "none are left of the request before");
    assert_eq!(
        answered(
            "Host: evil.example\r\nX-Oktsec-Agent: mallory\r\nX-Sum: 18\r\nContent-Length: 4\r\n"
        ),
        "x-sum: 18\r\n"
    );
    assert!(
        host.reached.text().contains("te: trailers")
            || host.reached.text().contains("TE: trailers")
    );
    client.send(ask("X-Note: a forbidden-word\r\n").as_bytes());
    assert_eq!(client.receive().unwrap().status, 403);
    assert!(!host.reached.text().contains("forbidden"));
    let mut other = crate::common::egress::client(&site);
    other.send(ask("no field at all\r\n").as_bytes());
    assert_eq!(other.receive().unwrap().status, 400);
}

#[test]
fn an_answer_whose_trailers_must_not_pass_is_refused() {
    let host = Host::answering(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Note: a forbidden-word\r\n\r\n",
    );
    let site = site(&yaml(""));
    let response = get(&site, &host.url("/"));
    assert_eq!(response.status, 403);
    assert!(!response.text().contains("forbidden-word"));
    assert_eq!(records(&site)[0]["reason"], "egress_response_content");
}
