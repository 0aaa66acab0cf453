//! A task without which others wait for ever. A task that panics takes nobody with it, so somebody must tell.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs a future, and calls `lost` if it panics.
pub(super) struct Vital<F> {
    task: F,
    lost: fn(),
}

impl<F> Vital<F> {
    pub(super) const fn new(task: F, lost: fn()) -> Self {
        Self { task, lost }
    }
}

impl<F: Future<Output = ()> + Unpin> Future for Vital<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.task).poll(cx)
    }
}

impl<F> Drop for Vital<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.lost)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Vital;
    use std::sync::atomic::{AtomicU32, Ordering};

    static LOST: AtomicU32 = AtomicU32::new(0);

    #[tokio::test]
    async fn a_task_that_panics_is_told_and_one_that_ends_is_not() {
        let spawn = |panics: bool| {
            let task = std::future::poll_fn(move |_| {
                assert!(!panics, "as a bug would");
                std::task::Poll::Ready(())
            });
            let lost = || {
                LOST.fetch_add(1, Ordering::Relaxed);
            };
            tokio::spawn(Vital::new(task, lost))
        };
        assert!(spawn(false).await.is_ok());
        assert_eq!(LOST.load(Ordering::Relaxed), 0);
        assert!(spawn(true).await.is_err());
        assert_eq!(LOST.load(Ordering::Relaxed), 1);
    }
}
