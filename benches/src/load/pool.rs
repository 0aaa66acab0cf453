//! Requests, made and signed before the clock runs: the generator's time must not be spent on signing.

use crate::content::{self, Random};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::keys::KeyPair;
use serde_json::json;
use std::ops::Range;
use std::sync::Arc;

/// What to send.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Agents that send, in turn. Invariant: not empty.
    pub senders: Vec<KeyPair>,
    /// The agent all of them write to.
    pub recipient: String,
    /// Bytes of a message's content.
    pub content_bytes: usize,
    /// Whether messages are signed, each with its own time.
    pub signed: bool,
    /// Of a hundred messages, how many must not get through.
    pub attacks_percent: u64,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// The `Host` header.
    pub host: String,
    /// Decides all content.
    pub seed: u64,
}

/// What the answer to a message has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// 200 and `delivered`; of a signed message the sender is verified.
    Delivered {
        /// Whether the message is signed.
        verified: bool,
    },
    /// 403 and `blocked`, or 202 and `quarantined`.
    Stopped,
}

/// Requests, one behind the other.
#[derive(Debug)]
pub struct Pool {
    bytes: Bytes,
    /// Where each request ends in `bytes`.
    ends: Vec<usize>,
    expected: Vec<Expected>,
    reusable: bool,
}

impl Pool {
    /// Makes `count` different requests, on all cores. A reusable pool starts again at its end: right for
    /// unsigned messages and for servers that do not care; a signature counts only once.
    pub fn make(recipe: &Recipe, count: usize, reusable: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let share = count.div_ceil(cores).max(1);
        let starts: Vec<usize> = (0..count).step_by(share).collect();
        let parts: Vec<Part> = std::thread::scope(|scope| {
            let threads: Vec<_> = starts
                .iter()
                .map(|&start| scope.spawn(move || part(recipe, start..count.min(start + share))))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("making requests does not panic"))
                .collect()
        });
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.bytes.len()).sum());
        let (mut ends, mut expected) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for part in parts {
            ends.extend(part.ends.iter().map(|end| end + bytes.len()));
            expected.extend(part.expected);
            bytes.extend_from_slice(&part.bytes);
        }
        Self {
            bytes: Bytes::from(bytes),
            ends,
            expected,
            reusable,
        }
    }

    /// The same requests, to be sent as often as there is time.
    #[must_use]
    pub fn to_reusable(&self) -> Self {
        Self {
            bytes: self.bytes.clone(),
            ends: self.ends.clone(),
            expected: self.expected.clone(),
            reusable: true,
        }
    }

    /// Requests in it.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One share for each thread.
    pub(super) fn shares(self: &Arc<Self>, threads: usize) -> Vec<Share> {
        let each = self.len() / threads.max(1);
        (0..threads)
            .map(|at| Share {
                pool: Arc::clone(self),
                range: at * each..(at + 1) * each,
                next: at * each,
            })
            .collect()
    }
}

/// The requests of one thread.
#[derive(Debug)]
pub(super) struct Share {
    pool: Arc<Pool>,
    range: Range<usize>,
    next: usize,
}

/// Requests to be written at once.
#[derive(Debug)]
pub(super) struct Wave {
    pub(super) bytes: Bytes,
    requests: Range<usize>,
}

impl Share {
    /// The next requests, up to so many; `None` when all are sent.
    pub(super) fn take(&mut self, count: usize) -> Option<Wave> {
        if self.next >= self.range.end && self.pool.reusable {
            self.next = self.range.start;
        }
        let requests = self.next..self.range.end.min(self.next + count);
        if requests.is_empty() {
            return None;
        }
        self.next = requests.end;
        let start = requests
            .start
            .checked_sub(1)
            .map_or(0, |before| self.pool.ends[before]);
        Some(Wave {
            bytes: self
                .pool
                .bytes
                .slice(start..self.pool.ends[requests.end - 1]),
            requests,
        })
    }

    /// What the answers to these requests have to be, in their order.
    pub(super) fn expected(&self, wave: &Wave) -> &[Expected] {
        &self.pool.expected[wave.requests.clone()]
    }
}

struct Part {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    expected: Vec<Expected>,
}

fn part(recipe: &Recipe, numbers: Range<usize>) -> Part {
    let mut part = Part {
        bytes: Vec::new(),
        ends: Vec::new(),
        expected: Vec::new(),
    };
    part.bytes
        .reserve(numbers.len() * (recipe.content_bytes + 600));
    let authorization = recipe.api_key.as_ref().map_or_else(String::new, |key| {
        format!("Authorization: Bearer {key}\r\n")
    });
    let begun = Timestamp::now().0;
    for number in numbers {
        let mut random =
            Random::new(recipe.seed ^ (number as u64).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let hostile = random.below(100) < recipe.attacks_percent;
        let content = if hostile {
            content::attack(&mut random, recipe.content_bytes)
        } else {
            content::message(&mut random, recipe.content_bytes)
        };
        let sender = &recipe.senders[number % recipe.senders.len()];
        // Times differ by microseconds: the same sender never signs the same bytes twice.
        let time = Timestamp(begun - 1_000_000 + (number as u64 % 1_000_000));
        let body = message_body(
            sender,
            &recipe.recipient,
            &content,
            recipe.signed.then_some(time),
        );
        let head = format!(
            "POST /v1/message HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{authorization}\
             Content-Length: {}\r\n\r\n",
            recipe.host,
            body.len()
        );
        part.bytes.extend_from_slice(head.as_bytes());
        part.bytes.extend_from_slice(body.as_bytes());
        part.ends.push(part.bytes.len());
        let verified = recipe.signed;
        part.expected.push(if hostile {
            Expected::Stopped
        } else {
            Expected::Delivered { verified }
        });
    }
    part
}

/// The body of a message, signed if a time is given.
///
/// Written out and not taken from the product: what is on the wire is the contract (compat/oktsec.md §3).
pub fn message_body(
    sender: &KeyPair,
    to: &str,
    content: &str,
    signed_at: Option<Timestamp>,
) -> String {
    let from = sender.name();
    let Some(time) = signed_at else {
        return json!({"from": from, "to": to, "content": content}).to_string();
    };
    let timestamp = time.to_rfc3339_micros();
    let signature = sender.sign(format!("{from}\n{to}\n{content}\n{timestamp}").as_bytes());
    let signature = STANDARD.encode(signature);
    json!({
        "from": from, "to": to, "content": content, "timestamp": timestamp, "signature": signature,
    })
    .to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Expected, Pool, Recipe};
    use oktsec_contract::keys::KeyPair;
    use std::collections::HashSet;
    use std::sync::Arc;

    pub(crate) fn recipe(signed: bool) -> Recipe {
        Recipe {
            senders: vec![
                KeyPair::from_seed("one", &[1; 32]),
                KeyPair::from_seed("two", &[2; 32]),
            ],
            recipient: String::from("receiver"),
            content_bytes: 200,
            signed,
            attacks_percent: 0,
            api_key: Some(String::from("secret")),
            host: String::from("127.0.0.1:8080"),
            seed: 7,
        }
    }

    #[test]
    fn every_request_is_whole_and_every_signature_its_own() {
        let pool = Arc::new(Pool::make(&recipe(true), 101, false));
        let mut shares = pool.shares(2);
        let mut signatures = HashSet::new();
        let mut count = 0;
        for share in &mut shares {
            while let Some(wave) = share.take(3) {
                count += share.expected(&wave).len();
                for request in String::from_utf8(wave.bytes.to_vec())
                    .unwrap()
                    .split("POST ")
                    .skip(1)
                {
                    let (head, body) = request.split_once("\r\n\r\n").unwrap();
                    assert!(
                        head.contains(&format!("Content-Length: {}", body.len())),
                        "{head}"
                    );
                    assert!(head.contains("Authorization: Bearer secret"), "{head}");
                    let body: serde_json::Value = serde_json::from_str(body).unwrap();
                    assert!(signatures.insert(body["signature"].to_string()));
                }
            }
        }
        assert_eq!(
            (count, signatures.len()),
            (100, 100),
            "each thread has the same number"
        );
    }

    #[test]
    fn a_reusable_pool_starts_again() {
        let pool = Arc::new(Pool::make(&recipe(false), 4, false));
        let mut once = pool.shares(1).remove(0);
        let mut again = Arc::new(pool.to_reusable()).shares(1).remove(0);
        let first = again.take(4).unwrap();
        assert_eq!(once.take(4).unwrap().bytes, first.bytes);
        assert!(once.take(1).is_none());
        assert_eq!(again.take(4).unwrap().bytes, first.bytes);
    }

    #[test]
    fn some_messages_are_attacks_if_asked() {
        let pool = Pool::make(
            &Recipe {
                attacks_percent: 20,
                ..recipe(true)
            },
            1_000,
            false,
        );
        let stopped = pool
            .expected
            .iter()
            .filter(|expected| **expected == Expected::Stopped)
            .count();
        assert!((120..280).contains(&stopped), "{stopped}");
    }
}
