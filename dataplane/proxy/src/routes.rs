//! Which part of us answers a request, and whether it needs the API key. What is not listed belongs to the
//! control plane.

pub(crate) mod health;
pub(crate) mod message;
pub(crate) mod messages;
pub(crate) mod relay;
pub(crate) mod splash;

use http::Method;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `POST /v1/message`
    Message,
    /// `POST /v1/messages`
    Messages,
    /// `GET /health`, `GET /healthz`
    Health,
    /// `GET /readyz`
    Ready,
    /// `GET /metrics`
    Metrics,
    /// `GET /`
    Splash,
    /// Ours, but not with this method; the value of `Allow`.
    WrongMethod(&'static str),
    /// The control plane.
    Relay,
}

impl Route {
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        let (route, allowed) = match path {
            "/v1/message" => (Self::Message, "POST"),
            "/v1/messages" => (Self::Messages, "POST"),
            "/health" | "/healthz" => (Self::Health, "GET, HEAD"),
            "/readyz" => (Self::Ready, "GET, HEAD"),
            "/metrics" => (Self::Metrics, "GET, HEAD"),
            "/" => (Self::Splash, "GET, HEAD"),
            _ => return Self::Relay,
        };
        let fits = match allowed {
            "POST" => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        };
        if fits {
            route
        } else {
            Self::WrongMethod(allowed)
        }
    }

    /// Whether a request for `path` must bring the API key, if one is set. Probes are open, and pages have
    /// sessions of their own (compat §2.1).
    pub(crate) fn needs_key(path: &str) -> bool {
        let open = matches!(
            path,
            "/" | "/health" | "/healthz" | "/readyz" | "/favicon.ico"
        ) || path == "/dashboard"
            || path.starts_with("/dashboard/");
        !open
    }
}

#[cfg(test)]
mod tests {
    use super::Route;
    use http::Method;

    #[test]
    fn only_exact_paths_are_ours() {
        assert_eq!(Route::of(&Method::POST, "/v1/message"), Route::Message);
        assert_eq!(Route::of(&Method::HEAD, "/health"), Route::Health);
        assert_eq!(Route::of(&Method::GET, "/"), Route::Splash);
        assert_eq!(
            Route::of(&Method::GET, "/v1/message"),
            Route::WrongMethod("POST")
        );
        assert_eq!(
            Route::of(&Method::POST, "/metrics"),
            Route::WrongMethod("GET, HEAD")
        );
        for path in [
            "/v1/message/",
            "/v1/agents",
            "/healthy",
            "//health",
            "/V1/message",
        ] {
            assert_eq!(Route::of(&Method::GET, path), Route::Relay, "{path}");
        }
    }

    #[test]
    fn whatever_is_not_a_probe_or_a_page_needs_the_key() {
        for (path, needs) in [
            ("/v1/message", true),
            ("/metrics", true),
            ("/nowhere", true),
            ("/dashboards", true),
            ("/dashboard/login", false),
            ("/health", false),
            ("/", false),
        ] {
            assert_eq!(Route::needs_key(path), needs, "{path}");
        }
    }
}
