//! When may we say "ready"? When the data plane's own `/readyz` answers 200 over its port, or the control plane says that
//! it has a snapshot.

use super::Plan;
use crate::http::{Call, over_socket, over_tcp};
use crate::place;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often we look: readiness has no event that reaches a parent.
const LOOK_MS: u64 = 20;
/// With one look.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits until messages are decided.
pub(crate) async fn wait(plan: &Plan) {
    let mut look = tokio::time::interval(Duration::from_millis(LOOK_MS));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let ready = match &plan.config.server.tls {
            None => answers(plan).await,
            Some(_) => decides(plan).await,
        };
        if ready {
            return;
        }
    }
}

/// Whether the port itself says that it is ready.
async fn answers(plan: &Plan) -> bool {
    let (server, call) = (&plan.config.server, Call::get("/readyz"));
    let host = place::reachable_host(&server.bind);
    let answer = over_tcp(&host, server.port, None, call, PATIENCE).await;
    answer.is_ok_and(|answer| answer.status.is_success())
}

/// Whether the control plane knows a data plane that has a snapshot: a port with TLS may ask for a certificate that we do
/// not have.
async fn decides(plan: &Plan) -> bool {
    let socket = oktsec_controlplane::local_socket(&plan.paths);
    let answer = over_socket(&socket, Call::get("/v1/status"), PATIENCE).await;
    let status = answer.and_then(|answer| answer.json()).unwrap_or_default();
    let mut planes = status["data_planes"].as_array().into_iter().flatten();
    planes.any(|plane| plane["revision"].as_u64() > Some(0))
}
