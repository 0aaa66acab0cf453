//! `GET /v1/revoked-keys` (compat §2.1: an empty list is `null` there).

use super::answer::{Answer, ok};
use crate::app::App;
use axum::extract::State;
use oktsec_contract::keys::RevokedKey;
use serde::Serialize;
use std::sync::Arc;

/// Every revoked key.
#[derive(Serialize)]
pub(super) struct Revoked {
    count: usize,
    revoked: Option<Vec<RevokedKey>>,
}

/// The keys that are not believed any more.
pub(super) async fn list(State(app): State<Arc<App>>) -> Answer<Revoked> {
    let revoked = app.snapshot().revoked.clone();
    ok(Revoked {
        count: revoked.len(),
        revoked: (!revoked.is_empty()).then_some(revoked),
    })
}
