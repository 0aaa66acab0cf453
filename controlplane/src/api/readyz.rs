//! `GET /readyz` of the control plane itself (ours): without a key, for probes.

use super::answer::{Answer, ok};
use crate::app::App;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;

/// Whether it works, and whether what it published is what stands on disk.
#[derive(Serialize)]
pub(super) struct Ready {
    status: &'static str,
    config: &'static str,
    revision: u64,
}

/// It answers only once something is published, so it is always ready; the configuration may be stale, wholly or in part.
pub(super) async fn show(State(app): State<Arc<App>>) -> Answer<Ready> {
    ok(Ready {
        status: "ready",
        config: app.disk_state.borrow().config.as_str(),
        revision: app.snapshot().revision,
    })
}
