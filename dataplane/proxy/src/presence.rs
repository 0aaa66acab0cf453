//! Whether the control plane is there, and for how long it has not been. It may be starting, or starting again: what is
//! for it waits a while then instead of failing.

use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Told by the link, asked by cores.
#[derive(Debug)]
pub(crate) struct Presence(watch::Sender<Away>);

/// Since when it is away; `None` while it is there.
type Away = Option<Instant>;

impl Default for Presence {
    /// It was not there yet.
    fn default() -> Self {
        Self(watch::channel(Some(Instant::now())).0)
    }
}

impl Presence {
    /// It came.
    pub(crate) fn came(&self) {
        self.0.send_replace(None);
    }

    /// It went.
    pub(crate) fn went(&self) {
        self.0.send_replace(Some(Instant::now()));
    }

    /// Whether it is there.
    pub(crate) fn is_there(&self) -> bool {
        self.0.borrow().is_none()
    }

    /// Waits until it is there, or has been away for `patience`.
    pub(crate) async fn await_it(&self, patience: Duration) {
        let mut told = self.0.subscribe();
        let Some(since) = *told.borrow_and_update() else {
            return;
        };
        // One that does not come is found out by whoever asks it.
        let _ = timeout_at(since + patience, told.wait_for(Option::is_none)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::Presence;
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test]
    async fn whoever_asks_waits_until_it_comes_or_has_been_away_for_long() {
        let (presence, long) = (Presence::default(), Duration::from_secs(600));
        let begun = Instant::now();
        tokio::join!(presence.await_it(long), async { presence.came() });
        assert!(presence.is_there());
        presence.await_it(long).await;
        assert!(begun.elapsed() < long);

        presence.went();
        let (begun, short) = (Instant::now(), Duration::from_millis(300));
        presence.await_it(short).await;
        assert!(!presence.is_there() && begun.elapsed() >= short);
        let again = Instant::now();
        presence.await_it(short).await;
        assert!(again.elapsed() < short, "it has been away for so long");
    }
}
