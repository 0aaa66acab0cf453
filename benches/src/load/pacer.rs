//! The metronome of an open loop. Message *n* is due at `begin + n / rate`, whatever became of the others; free
//! connections take due messages in turn, and one that is due while none is free waits, with its clock running.

use super::control::Control;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// One thread's metronome.
#[derive(Debug)]
pub(super) struct Pacer {
    begin: Instant,
    interval: Duration,
    next: Cell<u32>,
    idle: RefCell<VecDeque<Waker>>,
    /// The one of the two beats that waits.
    other: RefCell<Option<Waker>>,
}

impl Pacer {
    /// Beats so many times a second; `offset` beats of all threads interleave.
    pub(super) fn new(begin: Instant, rate: f64, offset: f64) -> Self {
        let interval = Duration::from_secs_f64(1.0 / rate);
        Self {
            begin: begin + interval.mul_f64(offset),
            interval,
            next: Cell::new(0),
            idle: RefCell::default(),
            other: RefCell::default(),
        }
    }

    /// Waits for the next message that nobody has taken; `None` behind the end of the run.
    pub(super) async fn due(&self, control: &Control) -> Option<Instant> {
        poll_fn(|context| {
            let intended = self.intended();
            if intended >= control.until || control.is_stopped() {
                return Poll::Ready(None);
            }
            if intended <= Instant::now() {
                self.next.set(self.next.get() + 1);
                return Poll::Ready(Some(intended));
            }
            self.idle.borrow_mut().push_back(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Wakes a connection for every message that is due. It does not sleep: a timer of a millisecond would be
    /// most of what it measures. The core is the generator's own.
    ///
    /// Run it twice: the two wake each other in turns. monoio puts a task that wakes itself before all others,
    /// so a single one would leave nothing for the connections.
    pub(super) async fn beat(&self, control: &Control) {
        loop {
            let intended = self.intended();
            if intended >= control.until || control.is_stopped() {
                break;
            }
            if intended <= Instant::now() {
                let waker = self.idle.borrow_mut().pop_front();
                waker.into_iter().for_each(Waker::wake);
            }
            self.swing().await;
        }
        self.idle.borrow_mut().drain(..).for_each(Waker::wake);
        self.other.take().into_iter().for_each(Waker::wake);
    }

    /// Wakes the other beat and waits to be woken by it; everybody else has a turn in between.
    async fn swing(&self) {
        let mut waited = false;
        poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            let other = self.other.replace(Some(context.waker().clone()));
            other.into_iter().for_each(Waker::wake);
            Poll::Pending
        })
        .await;
    }

    fn intended(&self) -> Instant {
        self.begin + self.interval * self.next.get()
    }
}
