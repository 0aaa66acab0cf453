//! What every request passes before its handler: the door it came through, the API key, headers.
//!
//! A request is trusted for where it arrives, not for what it says. `api.sock` is for the data plane, which
//! relays whatever the network sends: the key is required there (compat §2.1), and a browser on another
//! site is refused. `cli.sock` is for this machine's operator, whom the folder's mode has let in.

use super::answer::ApiError;
use crate::app::App;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use oktsec_contract::config::Config;
use oktsec_contract::id::MessageId;
use sha2::{Digest as _, Sha256};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq as _;

/// The longest a request may take: verifying a long chain is the slowest.
const REQUEST_SECS_MAX: u64 = 60;

/// The socket a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// `api.sock`: relayed from the network by the data plane.
    Relayed,
    /// `cli.sock`: this machine's operator.
    Local,
}

/// Lets a request through or refuses it; sets the headers of every answer.
pub(super) async fn guard(
    State((app, door)): State<(Arc<App>, Door)>,
    request: Request,
    next: Next,
) -> Response {
    let refusal = match door {
        Door::Local => None,
        Door::Relayed if request.uri().path() == "/readyz" => None,
        Door::Relayed => {
            check_relayed(&app.snapshot().config, request.method(), request.headers()).err()
        }
    };
    let mut response = match refusal {
        Some(refusal) => refusal.into_response(),
        None => tokio::time::timeout(Duration::from_secs(REQUEST_SECS_MAX), next.run(request))
            .await
            .unwrap_or_else(|_| {
                ApiError::new(StatusCode::GATEWAY_TIMEOUT, "this took too long").into_response()
            }),
    };
    set_headers(response.headers_mut());
    response
}

/// The API key, and what protects an open API from browsers.
fn check_relayed(config: &Config, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    check_key(config.server.api_key.expose(), headers)?;
    check_origin(method, headers)?;
    if config.server.api_key.is_empty() && is_loopback(&config.server.bind) {
        check_host(headers)?;
    }
    Ok(())
}

/// An empty key leaves the API open, as users of the Go version know it.
fn check_key(key: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    if key.is_empty() {
        return Ok(());
    }
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::trim);
    let given = bearer.or_else(|| {
        headers
            .get("x-api-key")
            .and_then(|value| value.to_str().ok())
    });
    // Hashes have one length, so neither the key's length nor its bytes show in the time this takes.
    let same = given.is_some_and(|given| {
        bool::from(
            Sha256::digest(given)
                .as_slice()
                .ct_eq(Sha256::digest(key).as_slice()),
        )
    });
    if same {
        Ok(())
    } else {
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized"))
    }
}

/// A page of another site may make a browser send a change; browsers say so.
fn check_origin(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let text = |name: HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let foreign_site = site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let host = text(header::HOST).unwrap_or("");
    let foreign_origin = text(header::ORIGIN).is_some_and(|origin| {
        origin
            .split_once("://")
            .is_none_or(|(_, authority)| !authority.eq_ignore_ascii_case(host))
    });
    if foreign_site || foreign_origin {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "cross-site request refused",
        ));
    }
    Ok(())
}

/// With no key and only loopback to protect us, a name that an attacker can point at loopback must not do
/// (DNS rebinding). Addresses and names without a dot cannot be pointed anywhere by strangers.
fn check_host(headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers
        .get(header::HOST)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("localhost");
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let harmless = name.parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || name.to_ascii_lowercase().ends_with(".localhost");
    if harmless {
        Ok(())
    } else {
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "this host name is not accepted while server.api_key is empty; use an address or set a key",
        ))
    }
}

fn is_loopback(bind: &str) -> bool {
    bind == "localhost"
        || bind
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn set_headers(headers: &mut HeaderMap) {
    const FIXED: [(&str, &str); 6] = [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("permissions-policy", "interest-cohort=()"),
        (
            "content-security-policy",
            "default-src 'none'; frame-ancestors 'none'",
        ),
        ("cache-control", "no-store"),
    ];
    for (name, value) in FIXED {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let mut random = [0u8; 16];
    if getrandom::fill(&mut random).is_ok()
        && let Ok(id) = HeaderValue::from_str(&MessageId::from_random(random).to_string())
    {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
}

#[cfg(test)]
mod tests {
    use super::{check_host, check_key, check_origin, is_loopback};
    use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn the_key_is_a_bearer_token_or_its_own_header() {
        for (pairs, accepted) in [
            (&[("authorization", "Bearer secret")][..], true),
            (&[("authorization", "Bearer  secret ")], true),
            (&[("x-api-key", "secret")], true),
            (
                &[("authorization", "Basic x"), ("x-api-key", "secret")],
                true,
            ),
            (&[("authorization", "bearer secret")], false),
            (&[("authorization", "Bearer secret2")], false),
            (
                &[("authorization", "Bearer "), ("x-api-key", "secret")],
                false,
            ),
            (&[("x-api-key", "")], false),
            (&[], false),
        ] {
            assert_eq!(
                check_key("secret", &headers(pairs)).is_ok(),
                accepted,
                "{pairs:?}"
            );
        }
        assert!(check_key("", &headers(&[])).is_ok());
    }

    #[test]
    fn a_browser_on_another_site_cannot_change_anything() {
        for (pairs, accepted) in [
            (&[("host", "127.0.0.1:8080")][..], true),
            (
                &[
                    ("host", "127.0.0.1:8080"),
                    ("origin", "http://127.0.0.1:8080"),
                ],
                true,
            ),
            (
                &[
                    ("host", "127.0.0.1:8080"),
                    ("origin", "http://evil.example"),
                ],
                false,
            ),
            (&[("host", "127.0.0.1:8080"), ("origin", "null")], false),
            (&[("host", "a:1"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "a:1"), ("sec-fetch-site", "same-site")], false),
            (&[("host", "a:1"), ("sec-fetch-site", "same-origin")], true),
        ] {
            assert_eq!(
                check_origin(&Method::POST, &headers(pairs)).is_ok(),
                accepted,
                "{pairs:?}"
            );
            assert!(check_origin(&Method::GET, &headers(pairs)).is_ok());
        }
    }

    #[test]
    fn an_open_api_on_loopback_is_not_reached_by_a_rebound_name() {
        for (host, accepted) in [
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("localhost:8080", true),
            ("app.localhost", true),
            ("gateway:8080", true),
            ("rebind.evil.example:8080", false),
            ("127.0.0.1.evil.example", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static(host));
            assert_eq!(check_host(&headers).is_ok(), accepted, "{host}");
        }
        assert!(is_loopback("127.0.0.1") && is_loopback("::1") && !is_loopback("0.0.0.0"));
    }
}
