//! `GET /v1/quarantine` (ours) and `GET /v1/quarantine/{id}` (compat §2.1): messages held for an operator.

use super::answer::{Answered, ApiError, Query, ok};
use crate::app::App;
use crate::audit::AuditError;
use crate::held::held_json;
use axum::extract::{Path, State};
use oktsec_audit::HeldStatus;
use oktsec_contract::id::MessageId;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// Items of one answer, by default and at most.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 1_000;

/// The query string.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Parameters {
    status: Option<String>,
    limit: Option<usize>,
}

/// Held messages, newest first, without their content.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(parameters): Query<Parameters>,
) -> Answered<Vec<Value>> {
    let status = match parameters.status.as_deref() {
        None | Some("" | "all") => None,
        Some(word) => Some(HeldStatus::parse(word).ok_or_else(|| {
            ApiError::bad("unknown status; one of: pending, approved, rejected, expired, all")
        })?),
    };
    let limit = parameters.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(ApiError::bad(format!(
            "limit must be between 1 and {LIMIT_MAX}"
        )));
    }
    match app
        .audit
        .read(move |reader| reader.held_list(status, limit))
        .await
    {
        Ok(items) => Ok(ok(items.iter().map(held_json).collect())),
        Err(AuditError::Absent) => Ok(ok(Vec::new())),
        Err(error) => Err(error.into()),
    }
}

/// One held message whole.
pub(super) async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answered<Value> {
    let id = message_id(&id)?;
    match app.audit.read(move |reader| reader.held(id)).await {
        Ok(Some(item)) => Ok(ok(held_json(&item))),
        Ok(None) | Err(AuditError::Absent) => Err(ApiError::missing("not found")),
        Err(error) => Err(error.into()),
    }
}

/// An id that is none cannot be found.
pub(super) fn message_id(text: &str) -> Result<MessageId, ApiError> {
    MessageId::parse(text).ok_or_else(|| ApiError::missing("not found"))
}
