//! What the writer owes to whoever handed it something: a future that also can be waited for.
//!
//! Needs no runtime. Every answer comes: a writer that goes away answers with [`Lost::lost`].

use parking_lot::{Condvar, Mutex};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// An answer that is on its way.
#[must_use = "nothing is acknowledged before the answer is there"]
#[derive(Debug)]
pub struct Answer<T, E> {
    slot: Arc<Slot<T, E>>,
}

/// The other end: completes the answer, at the latest when dropped.
#[derive(Debug)]
pub(crate) struct Promise<T, E: Lost> {
    slot: Arc<Slot<T, E>>,
    kept: bool,
}

/// What an answer is when nobody is left to give it.
pub(crate) trait Lost {
    fn lost() -> Self;
}

#[derive(Debug)]
struct Slot<T, E> {
    state: Mutex<State<T, E>>,
    ready: Condvar,
}

#[derive(Debug)]
enum State<T, E> {
    Waiting(Option<Waker>),
    Ready(Result<T, E>),
    Taken,
}

pub(crate) fn pair<T, E: Lost>() -> (Promise<T, E>, Answer<T, E>) {
    let slot = Arc::new(Slot {
        state: Mutex::new(State::Waiting(None)),
        ready: Condvar::new(),
    });
    (
        Promise {
            slot: Arc::clone(&slot),
            kept: false,
        },
        Answer { slot },
    )
}

impl<T, E: Lost> Promise<T, E> {
    pub(crate) fn keep(mut self, result: Result<T, E>) {
        self.set(result);
    }

    fn set(&mut self, result: Result<T, E>) {
        self.kept = true;
        let before = std::mem::replace(&mut *self.slot.state.lock(), State::Ready(result));
        self.slot.ready.notify_one();
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl<T, E: Lost> Drop for Promise<T, E> {
    fn drop(&mut self) {
        if !self.kept {
            self.set(Err(E::lost()));
        }
    }
}

impl<T, E> Answer<T, E> {
    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    /// Whatever the writer answered.
    pub fn wait(self) -> Result<T, E> {
        let mut state = self.slot.state.lock();
        while matches!(*state, State::Waiting(_)) {
            self.slot.ready.wait(&mut state);
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Ready(result) => result,
            State::Waiting(_) | State::Taken => {
                unreachable!("an answer is taken once, after it was waited for")
            }
        }
    }
}

impl<T, E> Future for Answer<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Ready(result) => Poll::Ready(result),
            State::Waiting(_) => {
                *state = State::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            // Polled after it was ready: a future may hang then.
            State::Taken => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lost, pair};
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    #[derive(Debug, PartialEq)]
    struct Gone;

    impl Lost for Gone {
        fn lost() -> Self {
            Self
        }
    }

    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_dropped_promise_is_answered_as_lost() {
        let (promise, answer) = pair::<u8, Gone>();
        drop(promise);
        assert_eq!(answer.wait(), Err(Gone));
    }

    #[test]
    fn a_waiting_task_is_woken_once_and_finds_the_answer() {
        let (promise, answer) = pair::<u8, Gone>();
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&counter));
        let mut answer = pin!(answer);
        let mut context = Context::from_waker(&waker);
        assert_eq!(answer.as_mut().poll(&mut context), Poll::Pending);
        promise.keep(Ok(3));
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        assert_eq!(answer.as_mut().poll(&mut context), Poll::Ready(Ok(3)));
    }

    #[test]
    fn a_blocked_thread_gets_the_answer_of_another() {
        let (promise, answer) = pair::<u8, Gone>();
        let thread = std::thread::spawn(move || answer.wait());
        promise.keep(Ok(9));
        assert_eq!(thread.join().unwrap(), Ok(9));
    }
}
