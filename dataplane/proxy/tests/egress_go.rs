//! A configuration of the Go version, unmodified: what it allows goes as far as a network would, what it forbids is
//! refused for the reason it means. Nobody is asked about names here, so what is allowed ends at the look-up.

use crate::common::egress::{Fields, ask, client, records, tunnel};
use crate::common::{Site, Wish};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oktsec_contract::token::{TokenKind, hash};
use std::net::{SocketAddr, UdpSocket};

const GO: &str = include_str!("../../contract/testdata/config/egress-go.yaml");
/// A name server that knows no name.
fn nobody_knows() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((length, asker)) = socket.recv_from(&mut message) {
            // An answer, recursion available, NXDOMAIN (RFC 1035 §4.1.1); the question stays.
            (message[2], message[3]) = (0x81, 0x83);
            let _ = socket.send_to(&message[..length], asker);
        }
    });
    address
}

fn site_of(yaml: &str) -> Site {
    let server = nobody_knows();
    Site::new(Wish {
        yaml,
        tune: Box::new(move |options| {
            let egress = options.egress.as_mut().expect("forward_proxy is enabled");
            assert_eq!(egress.listeners, [("127.0.0.1".to_owned(), 8083)]);
            egress.listeners[0].1 = 0;
            egress.name_servers = vec![server];
        }),
        ..Wish::default()
    })
}

/// Status and reason of the answer to a request.
fn asked(site: &Site, url: &str, headers: Fields<'_>) -> (u16, String) {
    let mut client = client(site);
    client.send(&ask("GET", url, headers, b""));
    let answer = client.receive().unwrap();
    let reason = answer.header("x-oktsec-reason").unwrap_or_default();
    (answer.status, reason.to_owned())
}

#[test]
fn a_configuration_of_the_go_version_is_served_as_it_stands() {
    let site = site_of(GO);
    let researcher: Fields<'_> = &[("X-Oktsec-Agent", "researcher")];
    let inside: Fields<'_> = &[("X-Oktsec-Agent", "inside")];
    for (url, headers, status, reason) in [
        (
            "http://api.openai.com/v1",
            researcher,
            502,
            "egress_name_unresolved",
        ),
        (
            "http://github.com/",
            researcher,
            502,
            "egress_name_unresolved",
        ),
        (
            "http://x.anthropic.com/",
            &[],
            502,
            "egress_name_unresolved",
        ),
        ("http://anthropic.com/", &[], 403, "egress_host_not_allowed"),
        (
            "http://x.anthropic.com/",
            researcher,
            403,
            "egress_host_not_allowed",
        ),
        (
            "http://ads.news.example/",
            researcher,
            403,
            "egress_host_not_allowed",
        ),
        ("http://A.Evil.Example./", &[], 403, "egress_host_blocked"),
        ("http://paste.example/", &[], 403, "egress_host_blocked"),
        ("http://api.openai.com/", inside, 403, "egress_scope_empty"),
        (
            "http://api.openai.com:8080/",
            researcher,
            403,
            "egress_port_not_allowed",
        ),
        (
            "http://api.openai.com/?key=tok-abcdefghijkl",
            researcher,
            403,
            "egress_request_content",
        ),
    ] {
        assert_eq!(
            asked(&site, url, headers),
            (status, reason.to_owned()),
            "{url}"
        );
    }
    let of_researcher = records(&site);
    let named = of_researcher
        .iter()
        .filter(|record| record["from_agent"] == "researcher");
    assert_eq!(named.count(), 6);
}

#[test]
fn its_tokens_open_tunnels_and_no_others_do() {
    // Nobody knows what its hash is the hash of; this one we know.
    let token = format!("{}{}", TokenKind::ProxyBasic.prefix(), "0".repeat(64));
    let kept = GO
        .lines()
        .find_map(|line| line.trim().strip_prefix("hash: "));
    let site = site_of(&GO.replace(kept.unwrap(), &hash(&[0; 16], token.as_bytes())));
    for (token, status) in [(&*token, 502), ("another", 407)] {
        let said = STANDARD.encode(format!("researcher:{token}"));
        let headers = format!("Proxy-Authorization: Basic {said}\r\n");
        let (_, answer) = tunnel(&site, "api.openai.com:443", &headers);
        assert_eq!(answer.status, status);
    }
    let (_, answer) = tunnel(&site, "169.254.169.254:80", "");
    assert_eq!(answer.status, 403);
    let all = records(&site);
    assert_eq!(
        (&all[0]["from_agent"], &all[0]["reason"]),
        (&"researcher".into(), &"egress_name_unresolved".into())
    );
}

#[test]
fn its_rate_of_an_agent_holds() {
    let site = site_of(GO);
    let researcher: Fields<'_> = &[("X-Oktsec-Agent", "researcher")];
    let ask = || asked(&site, "http://api.openai.com/", researcher).0;
    let first: Vec<u16> = (0..30).map(|_| ask()).collect();
    assert_eq!(first, [502; 30]);
    // Two seconds bring the next one.
    assert!((0..10).any(|_| ask() == 429));
}
