//! Places where tasks of one core wait for what a pump of the same core gives them: no allocation, no channel,
//! no lock. Who stops waiting leaves a mark, and the pump clears it away.

use std::task::{Context, Poll, Waker};

/// Places for answers of type `T`.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

#[derive(Debug)]
enum Slot<T> {
    Free,
    Waiting(Option<Waker>),
    Ready(T),
    Abandoned,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    /// A place to wait at; [`Self::fill`] must be called for it exactly once.
    pub(crate) fn take(&mut self) -> usize {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        });
        self.slots[at] = Slot::Waiting(None);
        at
    }

    /// Puts the answer there and wakes who waits.
    pub(crate) fn fill(&mut self, at: usize, answer: T) {
        match std::mem::replace(&mut self.slots[at], Slot::Ready(answer)) {
            Slot::Waiting(Some(waker)) => waker.wake(),
            Slot::Waiting(None) => {}
            Slot::Abandoned => self.release(at),
            Slot::Free | Slot::Ready(_) => debug_assert!(false, "a place is filled once"),
        }
    }

    /// The answer, once it is there; the place is free again then.
    pub(crate) fn poll(&mut self, at: usize, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.slots[at] {
            Slot::Waiting(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
            Slot::Ready(_) => {}
            Slot::Free | Slot::Abandoned => {
                debug_assert!(false, "only who waits asks");
                return Poll::Pending;
            }
        }
        let Slot::Ready(answer) = std::mem::replace(&mut self.slots[at], Slot::Free) else {
            unreachable!("it was ready a line above")
        };
        self.free.push(at);
        Poll::Ready(answer)
    }

    /// Nobody waits there any more.
    pub(crate) fn abandon(&mut self, at: usize) {
        match self.slots[at] {
            Slot::Waiting(_) => self.slots[at] = Slot::Abandoned,
            Slot::Ready(_) => self.release(at),
            Slot::Free | Slot::Abandoned => debug_assert!(false, "only who waits leaves"),
        }
    }

    fn release(&mut self, at: usize) {
        self.slots[at] = Slot::Free;
        self.free.push(at);
    }

    #[cfg(test)]
    fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn an_answer_is_given_once_and_the_place_is_used_again() {
        let mut slots = Slots::default();
        let mut cx = Context::from_waker(Waker::noop());
        let at = slots.take();
        assert_eq!(slots.poll(at, &mut cx), Poll::Pending);
        slots.fill(at, 7);
        assert_eq!(slots.poll(at, &mut cx), Poll::Ready(7));
        assert_eq!(slots.take(), at);
    }

    #[test]
    fn who_leaves_before_or_after_the_answer_leaves_no_place_behind() {
        let mut slots = Slots::default();
        let (early, late) = (slots.take(), slots.take());
        slots.abandon(early);
        slots.fill(early, 1);
        slots.fill(late, 2);
        slots.abandon(late);
        assert_eq!(slots.in_use(), 0);
    }
}
