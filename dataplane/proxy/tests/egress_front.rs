//! How agents and balancers reach the egress surface: HTTP/2, the PROXY protocol.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod common;

use bytes::Bytes;
use common::Client;
use common::egress::{Host, answer, client, proxy_of, records, site, yaml};
use h2::client::SendRequest;
use std::net::SocketAddr;

/// An HTTP/2 connection to a proxy, without TLS.
async fn connect(proxy: SocketAddr) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(proxy).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

async fn body_of(mut body: h2::RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        all.extend(piece);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_http2_go_out_and_are_judged_like_any_other() {
    let host = Host::answering(answer("over h1 to the host"));
    let site = site(&yaml(""));
    let mut sender = connect(proxy_of(&site)).await;
    for (path, body, status) in [
        ("/fine", "harmless", 200),
        ("/?q=forbidden-word", "harmless", 403),
        ("/body", "a forbidden-word", 403),
    ] {
        let request = http::Request::post(host.url(path)).body(()).unwrap();
        let (response, mut send) = sender.send_request(request, false).unwrap();
        send.send_data(Bytes::from(body), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let body = body_of(response.into_body()).await;
        if status == 200 {
            assert_eq!(body, b"over h1 to the host");
        }
    }
    assert!(
        host.reached.text().contains("host: 127.0.0.1")
            || host.reached.text().contains("Host: 127.0.0.1")
    );
    assert!(!host.reached.text().contains("forbidden"));
}

#[test]
fn a_balancer_says_who_connected_and_nobody_else_may() {
    let host = Host::answering(answer("hi"));
    let site = site(&yaml("  proxy_protocol_from: [127.0.0.0/8]\n"));
    let ask = common::egress::ask("GET", &host.url("/"), &[], b"");
    let mut announced = client(&site);
    announced.send(b"PROXY TCP4 198.51.100.23 10.0.0.1 40000 8083\r\n");
    announced.send(&ask);
    assert_eq!(announced.receive().unwrap().text(), "hi");
    assert_eq!(records(&site)[0]["peer"], "198.51.100.23");
    let mut silent = client(&site);
    silent.send(&ask);
    assert!(silent.is_closed());

    let open = common::egress::site(&yaml(""));
    let mut forging = Client::new(proxy_of(&open));
    forging.send(b"PROXY TCP4 198.51.100.23 10.0.0.1 40000 8083\r\n");
    forging.send(&ask);
    let response = forging.receive();
    assert!(response.is_none_or(|response| response.status >= 400));
}
