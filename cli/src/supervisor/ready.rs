//! When may we say "ready"? When the data plane's own `/readyz` answers 200 over its port.

use super::Plan;
use crate::http::{Call, over_tcp};
use crate::place;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often we look: readiness has no event that reaches a parent.
const LOOK_MS: u64 = 20;

/// Waits until the port answers. With TLS, a connection that is accepted has to do: the listener opens only
/// when the data plane has a snapshot, and the certificate need not name the address we ask at.
pub(crate) async fn wait(plan: &Plan) {
    let mut look = tokio::time::interval(Duration::from_millis(LOOK_MS));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let host = place::reachable_host(&plan.config.server.bind);
    loop {
        look.tick().await;
        if plan.config.server.tls.is_some() {
            if tokio::net::TcpStream::connect((host.as_str(), plan.config.server.port))
                .await
                .is_ok()
            {
                return;
            }
        } else if let Ok(answer) = over_tcp(
            &host,
            plan.config.server.port,
            Call::get("/readyz"),
            Duration::from_secs(2),
        )
        .await
            && answer.status.is_success()
        {
            return;
        }
    }
}
