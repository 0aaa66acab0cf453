//! The door of one core: counts connections, refuses those above the limit and wraps the others with clocks.

use crate::connection::{Guarded, Patience};
use crate::metrics::Counters;
use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Puts [`Guarded`] around every stream before `app` sees it.
pub(crate) struct Front<A> {
    pub(crate) app: Arc<A>,
    pub(crate) patience: Patience,
    pub(crate) connections_max: usize,
    pub(crate) counters: Arc<Counters>,
    /// Where the connections of this listener are counted.
    pub(crate) open: Open,
}

/// The counter of open connections of one listener.
pub(crate) type Open = fn(&Counters) -> &AtomicUsize;

/// One open connection; gives its place back when dropped.
pub(crate) struct Seat(Arc<Counters>, Open);

impl Seat {
    fn take(counters: &Arc<Counters>, open: Open, max: usize) -> Option<Self> {
        let seat = Self(counters.clone(), open);
        let open = open(counters).fetch_add(1, Ordering::Relaxed);
        (open < max).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Front<A> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let Some(seat) = Seat::take(&self.counters, self.open, self.connections_max) else {
            self.counters.connections_refused.add(1);
            return None;
        };
        self.counters.connections.add(1);
        let stream = Guarded::new(stream, self.patience, shutdown.clone(), seat);
        self.app.process_new(Box::new(stream), shutdown).await
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}
