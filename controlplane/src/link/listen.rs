//! Accepts data planes.

use super::connection;
use super::hub::Hub;
use crate::publish::{DiskState, Published};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::watch;

/// Data planes at the same time; one machine has one, and one more while it is replaced.
const PLANES_MAX: usize = 16;

/// Serves until `stop` changes.
pub(crate) async fn serve(
    listener: UnixListener,
    hub: Arc<Hub>,
    published: watch::Receiver<Arc<Published>>,
    state: watch::Receiver<DiskState>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(tokio::sync::Semaphore::new(PLANES_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a data plane");
                // Out of file descriptors, most likely: asking again at once would only spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(max = PLANES_MAX, "too many data planes; one is turned away");
            continue;
        };
        let (hub, published, state) = (Arc::clone(&hub), published.clone(), state.clone());
        let mut stop = stop.clone();
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = connection::serve(stream, &hub, published, state) => {}
                _ = stop.changed() => {}
            }
        });
    }
}
