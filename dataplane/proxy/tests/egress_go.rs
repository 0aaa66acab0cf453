//! A configuration of the Go version, unmodified: what it allows goes as far as a network would, what it forbids is
//! refused for the reason it means. Nobody is asked about names here, so what is allowed ends at the look-up.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::egress::{Fields, ask, client, records, tunnel};
use common::{Site, Wish};
use oktsec_contract::token::TokenKind;

const GO: &str = include_str!("../../contract/testdata/config/egress-go.yaml");
fn go_site() -> Site {
    Site::new(Wish {
        yaml: GO,
        tune: Box::new(|options| {
            let egress = options.egress.as_mut().expect("forward_proxy is enabled");
            assert_eq!(egress.listeners, [("127.0.0.1".to_owned(), 8083)]);
            egress.listeners[0].1 = 0;
            egress.name_servers = vec!["127.0.0.1:1".parse().unwrap()];
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
    let site = go_site();
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
            "egress_host_blocked",
        ),
        ("http://A.Evil.Example./", &[], 403, "egress_host_blocked"),
        ("http://paste.example/", &[], 403, "egress_host_blocked"),
        (
            "http://api.openai.com/",
            inside,
            403,
            "egress_host_not_allowed",
        ),
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
        .filter(|record| record["from"] == "researcher");
    assert_eq!(named.count(), 6);
}

#[test]
fn its_tokens_open_tunnels_and_no_others_do() {
    let site = go_site();
    // What the kept hash is the hash of.
    let token = format!("{}{}", TokenKind::GatewayBearer.prefix(), "0".repeat(64));
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
        (&all[0]["from"], &all[0]["reason"]),
        (&"researcher".into(), &"egress_name_unresolved".into())
    );
}

#[test]
fn its_rate_of_an_agent_holds() {
    let site = go_site();
    let researcher: Fields<'_> = &[("X-Oktsec-Agent", "researcher")];
    let statuses: Vec<u16> = (0..31)
        .map(|_| asked(&site, "http://api.openai.com/", researcher).0)
        .collect();
    assert_eq!(statuses[..30], [502; 30]);
    assert_eq!(statuses[30], 429);
}
