//! How we answer: JSON with a line end, errors as `{"error": "…"}`.

use crate::app::ChangeError;
use crate::audit::AuditError;
use crate::edit::OpenError;
use axum::body::Body;
use axum::extract::FromRequest;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;

/// A JSON answer with its status.
pub(crate) struct Answer<T>(pub(crate) StatusCode, pub(crate) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.1) {
            Ok(mut body) => {
                body.push(b'\n');
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = self.0;
                response.headers_mut().insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                );
                response
            }
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as JSON");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// A 200 answer.
pub(crate) fn ok<T: Serialize>(value: T) -> Answer<T> {
    Answer(StatusCode::OK, value)
}

/// What a handler returns.
pub(crate) type Answered<T> = Result<Answer<T>, ApiError>;

/// A refusal.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: Cow<'static, str>,
    problems: Vec<String>,
}

impl ApiError {
    /// With this status and text.
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            message: message.into(),
            problems: Vec::new(),
        }
    }

    /// 400.
    pub(crate) fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404.
    pub(crate) fn missing(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 500; the details are for the log.
    pub(crate) fn internal(details: impl std::fmt::Display) -> Self {
        tracing::error!(%details, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    }

    /// Lists what exactly is wrong.
    #[must_use]
    pub(crate) fn with_problems(mut self, problems: Vec<String>) -> Self {
        self.problems = problems;
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: Cow<'static, str>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            problems: Vec<String>,
        }
        Answer(
            self.status,
            Body {
                error: self.message,
                problems: self.problems,
            },
        )
        .into_response()
    }
}

impl From<AuditError> for ApiError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Absent => Self::missing("there is no audit log yet"),
            AuditError::Open(_) | AuditError::Read(_) | AuditError::Panicked => {
                Self::internal(error)
            }
        }
    }
}

impl From<ChangeError<Self>> for ApiError {
    fn from(error: ChangeError<Self>) -> Self {
        match error {
            ChangeError::Refused(refusal) => refusal,
            ChangeError::Open(OpenError::Invalid(problems)) => Self::new(
                StatusCode::CONFLICT,
                "the configuration file has errors; mend them before changing it",
            )
            .with_problems(problems.iter().map(ToString::to_string).collect()),
            ChangeError::Open(OpenError::Edit(error)) => super::agents::edit_failed(error),
            ChangeError::Panicked => Self::internal("a change of the configuration panicked"),
        }
    }
}

/// A JSON body, whatever its content type says (compat §2.2: clients of the Go version need not say).
pub(crate) struct Json<T>(pub(crate) T);

impl<S, T> FromRequest<S> for Json<T>
where
    S: Send + Sync,
    T: serde::de::DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request(
        request: axum::extract::Request,
        state: &S,
    ) -> Result<Self, Self::Rejection> {
        let body = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|rejection| {
                let text = match rejection.status() {
                    StatusCode::PAYLOAD_TOO_LARGE => "request body too large",
                    _ => "the body cannot be read",
                };
                ApiError::new(rejection.status(), text)
            })?;
        serde_json::from_slice(&body)
            .map(Json)
            .map_err(|_| ApiError::bad("invalid JSON"))
    }
}

/// A query string; what is wrong with it is said.
pub(crate) struct Query<T>(pub(crate) T);

impl<S, T> axum::extract::FromRequestParts<S> for Query<T>
where
    S: Send + Sync,
    T: serde::de::DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Self::Rejection> {
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection| {
                // The words of axum in front say whose code it was, and nothing about the query.
                let text = rejection.body_text();
                let said = text.strip_prefix("Failed to deserialize query string: ");
                ApiError::bad(said.unwrap_or(&text).to_owned())
            })
    }
}
