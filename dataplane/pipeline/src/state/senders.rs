//! What we remember of each sender: its rate, its session, the tail of what it said and its recent refusals.
//! Fixed memory: `SENDERS_MAX` senders, `WINDOW_BYTES_MAX` bytes each. The longest idle sender goes first, and whoever
//! is proven stays as long as there is one who is not: anybody can claim names without end.

use super::gcra::{Bucket, Rate};
use crate::policy::Rates;
use ahash::RandomState;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::limits::{
    HISTORY_BLOCK_MIN, HISTORY_SECS_MAX, SENDERS_MAX, SESSION_IDLE_SECS_MAX, WINDOW_AGE_SECS_MAX,
    WINDOW_BYTES_MAX,
};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use std::collections::HashMap;
use std::collections::VecDeque;

const SHARDS: usize = 64;
const SHARD_SENDERS_MAX: usize = SENDERS_MAX / SHARDS;
/// In the key of a sender that is not proven, and in no name.
pub(crate) const UNPROVEN: char = '\0';
/// Rates of grants kept for one sender, each to one recipient.
const GRANT_RATES_MAX: usize = 64;
/// A session id of ours: 32 hex digits.
pub(crate) const SESSION_HEX: usize = 32;

type ByName = HashMap<Box<str>, Sender, RandomState>;

/// All senders, sharded by name.
#[derive(Debug)]
pub(crate) struct Senders {
    shards: Box<[Mutex<ByName>]>,
    hasher: RandomState,
}

/// One sender.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    last_seen: Timestamp,
    rate: Bucket,
    grant_rates: Vec<GrantRate>,
    session: Option<[u8; SESSION_HEX]>,
    session_used: Timestamp,
    window: Tail,
    refusals: VecDeque<Timestamp>,
}

/// One of the rates of a grant to one recipient.
#[derive(Debug)]
struct GrantRate {
    recipient: Box<str>,
    /// Its place among the grant's constraints: a grant may have a rate a minute and another a day.
    at: usize,
    bucket: Bucket,
}

/// The last bytes a sender said, oldest first, as if sent in one piece.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: VecDeque<u8>,
    /// Where one message ends and the next begins, counted from the front of `bytes`.
    borders: VecDeque<usize>,
    newest: Timestamp,
}

impl Senders {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The sender under this key, made if it is new.
    pub(crate) fn get(&self, key: &str, now: Timestamp) -> MappedMutexGuard<'_, Sender> {
        let index = usize::try_from(self.hasher.hash_one(key)).unwrap_or(0) % SHARDS;
        let mut shard = self.shards[index].lock();
        if !shard.contains_key(key) {
            if shard.len() >= SHARD_SENDERS_MAX {
                let idle = shard
                    .iter()
                    .min_by_key(|(key, sender)| (!key.contains(UNPROVEN), sender.last_seen))
                    .map(|(key, _)| key.clone());
                if let Some(idle) = idle {
                    shard.remove(&idle);
                }
            }
            shard.insert(key.into(), Sender::default());
        }
        MutexGuard::map(shard, |shard| {
            let sender = shard
                .get_mut(key)
                .expect("inserted above under the same lock");
            sender.last_seen = sender.last_seen.max(now);
            sender
        })
    }

    /// Counts a refusal of before the restart.
    pub(crate) fn restore_refusal(&self, key: &str, at: Timestamp) {
        self.get(key, at).refused(at);
    }
}

impl Sender {
    /// Charges one message; `false` if the sender sent too much.
    pub(crate) fn take(&mut self, rate: Rate, now: Timestamp) -> bool {
        self.rate.take(rate, now)
    }

    /// Charges one message by all rates of the grant to a recipient; `false`, and nothing charged, if one is used up.
    pub(crate) fn take_grant(&mut self, recipient: &str, rates: Rates<'_>, now: Timestamp) -> bool {
        let mut fits = true;
        for (at, rate) in rates.iter() {
            // Each is asked: one that is refused begins to pass.
            fits &= match self.grant_rate(recipient, at, now) {
                Some(bucket) => bucket.fits(rate, now),
                None => false,
            };
        }
        if fits {
            for (at, rate) in rates.iter() {
                if let Some(bucket) = self.grant_rate(recipient, at, now) {
                    bucket.take(rate, now);
                }
            }
        }
        fits
    }

    /// The bucket in this place of the grant to a recipient; `None` if too many are in use.
    fn grant_rate(&mut self, recipient: &str, at: usize, now: Timestamp) -> Option<&mut Bucket> {
        let rates = &mut self.grant_rates;
        let is_it = |known: &GrantRate| known.at == at && *known.recipient == *recipient;
        let known = match rates.iter().position(is_it) {
            Some(known) => known,
            None => {
                if rates.len() >= GRANT_RATES_MAX {
                    // Those of this very recipient may have just been made for this message.
                    rates.retain(|known| {
                        *known.recipient == *recipient || !known.bucket.is_idle(now)
                    });
                }
                if rates.len() >= GRANT_RATES_MAX {
                    return None;
                }
                rates.push(GrantRate {
                    recipient: recipient.into(),
                    at,
                    bucket: Bucket::default(),
                });
                rates.len() - 1
            }
        };
        Some(&mut rates[known].bucket)
    }

    /// The automatic session: kept while the sender is not idle, else a new one from `random`.
    pub(crate) fn session(&mut self, random: &[u8; 16], now: Timestamp) -> [u8; SESSION_HEX] {
        let idle = now.micros_since(self.session_used) > SESSION_IDLE_SECS_MAX * 1_000_000;
        self.session_used = now;
        match self.session {
            Some(session) if !idle => session,
            Some(_) | None => {
                let mut session = [0; SESSION_HEX];
                hex(random, &mut session);
                self.session = Some(session);
                session
            }
        }
    }

    /// Counts a message that was held or blocked. The newest are kept, also when an older one is reported late.
    pub(crate) fn refused(&mut self, at: Timestamp) {
        let place = self.refusals.partition_point(|&other| other <= at);
        self.refusals.insert(place, at);
        if self.refusals.len() > HISTORY_BLOCK_MIN {
            self.refusals.pop_front();
        }
    }

    /// Held or blocked messages within the history, as far as they matter. When the clock was set back since, they
    /// happened now at the latest, and do not count until it has caught up.
    pub(crate) fn refusals(&mut self, now: Timestamp) -> usize {
        let since = now.minus_secs(HISTORY_SECS_MAX);
        for at in &mut self.refusals {
            *at = (*at).min(now);
        }
        self.refusals.iter().filter(|&&at| at >= since).count()
    }

    /// Writes the tail as it was said into `plain`, and with a blank at each border into `spaced`.
    pub(crate) fn tails(&mut self, now: Timestamp, plain: &mut Vec<u8>, spaced: &mut Vec<u8>) {
        plain.clear();
        spaced.clear();
        if now.micros_since(self.window.newest) > WINDOW_AGE_SECS_MAX * 1_000_000 {
            self.window = Tail::default();
        }
        self.window.write(plain, spaced);
    }

    /// Remembers the end of a message that went through.
    pub(crate) fn said(&mut self, content: &str, now: Timestamp) {
        self.window.push(content.as_bytes(), now);
    }
}

impl Tail {
    fn push(&mut self, content: &[u8], now: Timestamp) {
        self.newest = now;
        let content = &content[content.len().saturating_sub(WINDOW_BYTES_MAX)..];
        let too_many = (self.bytes.len() + content.len()).saturating_sub(WINDOW_BYTES_MAX);
        self.bytes.drain(..too_many);
        for border in &mut self.borders {
            *border = border.saturating_sub(too_many);
        }
        while self.borders.front() == Some(&0) {
            self.borders.pop_front();
        }
        self.bytes.extend(content);
        // Borders are few; one-byte messages only ever cost their own byte.
        self.borders.push_back(self.bytes.len());
    }

    fn write(&self, plain: &mut Vec<u8>, spaced: &mut Vec<u8>) {
        let (front, back) = self.bytes.as_slices();
        plain.extend_from_slice(front);
        plain.extend_from_slice(back);
        let mut from = 0;
        for &border in &self.borders {
            spaced.extend_from_slice(&plain[from..border]);
            spaced.push(b' ');
            from = border;
        }
    }
}

fn hex(bytes: &[u8; 16], out: &mut [u8; SESSION_HEX]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::{Sender, Senders, UNPROVEN};
    use oktsec_contract::clock::Timestamp;
    use oktsec_contract::limits::{HISTORY_SECS_MAX, SENDERS_MAX, WINDOW_BYTES_MAX};

    const NOW: Timestamp = Timestamp::from_secs(10_000);

    #[test]
    fn the_tail_joins_messages_as_is_and_with_blanks() {
        let mut sender = Sender::default();
        sender.said("igno", NOW);
        sender.said("re all", NOW);
        let (mut plain, mut spaced) = (Vec::new(), Vec::new());
        sender.tails(NOW, &mut plain, &mut spaced);
        assert_eq!(plain, b"ignore all");
        assert_eq!(spaced, b"igno re all ");
        sender.tails(NOW.plus_secs(3_601), &mut plain, &mut spaced);
        assert!(
            plain.is_empty() && spaced.is_empty(),
            "an hour later nothing counts"
        );
    }

    #[test]
    fn the_tail_is_bounded_whatever_is_said() {
        let mut sender = Sender::default();
        for n in 0..5_000 {
            sender.said(&"x".repeat(n % 700), NOW);
            let (mut plain, mut spaced) = (Vec::new(), Vec::new());
            sender.tails(NOW, &mut plain, &mut spaced);
            assert!(plain.len() <= WINDOW_BYTES_MAX);
            assert!(spaced.len() <= 2 * WINDOW_BYTES_MAX);
        }
    }

    #[test]
    fn who_claims_many_names_drives_no_proven_sender_out() {
        let senders = Senders::new();
        senders.get("proven", NOW).refused(NOW);
        for n in 0..2 * SENDERS_MAX {
            let stranger = format!("{n}{UNPROVEN}192.0.2.1");
            drop(senders.get(&stranger, NOW.plus_secs(1)));
        }
        assert_eq!(senders.get("proven", NOW).refusals(NOW), 1);
    }

    #[test]
    fn the_newest_refusals_are_kept_whenever_they_are_told() {
        let mut sender = Sender::default();
        for minute in 50..55 {
            sender.refused(NOW.plus_secs(60 * minute));
        }
        // Of before a restart, told by whoever reads the log beside the traffic.
        for minute in 0..5 {
            sender.refused(NOW.plus_secs(60 * minute));
        }
        assert_eq!(sender.refusals(NOW.plus_secs(60 * 100)), 5);
        assert_eq!(sender.refusals(NOW.plus_secs(60 * 115)), 0);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_prolong_a_history() {
        let mut sender = Sender::default();
        sender.refused(NOW.plus_secs(1_000_000));
        assert_eq!(sender.refusals(NOW), 1);
        assert_eq!(sender.refusals(NOW.plus_secs(HISTORY_SECS_MAX)), 1);
        assert_eq!(sender.refusals(NOW.plus_secs(HISTORY_SECS_MAX + 1)), 0);
    }

    #[test]
    fn strangers_do_not_grow_the_table_without_bound() {
        let senders = Senders::new();
        for n in 0..2 * SENDERS_MAX {
            drop(senders.get(&n.to_string(), Timestamp::from_secs(n as u64)));
        }
        let kept: usize = senders.shards.iter().map(|s| s.lock().len()).sum();
        assert!(kept <= SENDERS_MAX, "{kept}");
    }
}
