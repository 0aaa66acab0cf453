//! How often `/metrics` is made anew. Adding up every counter of every core costs as much as some messages do, and
//! whoever may ask can ask without end: then the last text is given again, which is a moment old.

use bytes::Bytes;
use oktsec_contract::clock::Timestamp;
use parking_lot::Mutex;

/// Texts made within a second of the clock. Whoever scrapes does so a few times a minute.
const SCRAPES_PER_SEC_MAX: u32 = 50;

/// The last text, and how many were made in its second.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    second: u64,
    made: u32,
    text: Bytes,
}

impl Pace {
    /// What was counted, as `make` says it, or as it said it last.
    pub(crate) fn text(&self, now: Timestamp, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        let second = now.0 / 1_000_000;
        {
            let mut last = self.0.lock();
            if last.second != second {
                last.second = second;
                last.made = 0;
            }
            if last.made >= SCRAPES_PER_SEC_MAX && !last.text.is_empty() {
                return last.text.clone();
            }
            last.made += 1;
        }
        // Not under the lock: another core may ask meanwhile.
        let text = Bytes::from(make());
        self.0.lock().text = text.clone();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, SCRAPES_PER_SEC_MAX};
    use oktsec_contract::clock::Timestamp;

    #[test]
    fn whoever_asks_without_end_gets_the_last_text_again() {
        let pace = Pace::default();
        let mut made = 0;
        let mut ask = |now| {
            pace.text(now, || {
                made += 1;
                made.to_string().into_bytes()
            })
        };
        let now = Timestamp::from_secs(1_000);
        for n in 1..=SCRAPES_PER_SEC_MAX {
            assert_eq!(ask(now), n.to_string());
        }
        for _ in 0..1_000 {
            assert_eq!(
                ask(Timestamp(now.0 + 999_999)),
                SCRAPES_PER_SEC_MAX.to_string()
            );
        }
        let next = (SCRAPES_PER_SEC_MAX + 1).to_string();
        assert_eq!(ask(now.plus_secs(1)), next, "a second later it is new");
    }
}
