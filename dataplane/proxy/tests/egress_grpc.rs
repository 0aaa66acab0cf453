//! gRPC as its libraries speak it: over HTTP/2 on both legs, inside of a tunnel.

use crate::egress_https::Host;
use crate::egress_inside::run;
use bytes::Bytes;
use h2::client::ResponseFuture;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

/// Asks with one message over a connection that begins here.
pub(crate) async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &str,
    message: &'static [u8],
) -> ResponseFuture {
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(url)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    let length = u8::try_from(message.len()).unwrap();
    let framed = [&[0, 0, 0, 0, length], message].concat();
    body.send_data(Bytes::from(framed), true).unwrap();
    response
}

/// Its "Trailers-Only": a client that finds the status in a head which is not the end takes the call for broken.
#[test]
fn an_error_without_a_message_ends_with_its_head() {
    let host = Host::over_h2(|_request, mut answer| async move {
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "9")
            .header("grpc-message", "not now");
        answer.send_response(head.body(()).unwrap(), true).unwrap();
    });
    let port = host.url.trim_end_matches('/').rsplit(':').next().unwrap();
    let port = port.parse().unwrap();
    run(async {
        let stream = host.stand.inside(port, "h2").await;
        let response = ask(stream, &host.url, b"hello").await.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "9");
        assert_eq!(response.headers()["grpc-message"], "not now");
        let mut body = response.into_body();
        let next = body.data().await;
        assert!(next.is_none(), "not even an empty frame follows: {next:?}");
    });
}
