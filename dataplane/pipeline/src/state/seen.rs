//! Secrets that agents were given, in a message or in the answer of a host: remembered by keyed hash for a while, to be
//! known again when they leave for somewhere else.
//! Fixed memory: `SEEN_AGENTS_MAX` agents, `SEEN_VALUES_MAX` values each. The longest idle agent, the oldest value
//! goes first.

use ahash::RandomState;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::limits::{SEEN_AGENTS_MAX, SEEN_SECS_MAX, SEEN_VALUES_MAX};
use oktsec_scanner::secrets::{SecretIndex, SecretKey, SeenValue};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Secrets that agents were given.
#[derive(Debug)]
pub struct SeenSecrets {
    key: Arc<SecretKey>,
    agents: Mutex<HashMap<Box<str>, Given, RandomState>>,
    /// Agents in the table: while there is none, nobody locks it.
    count: AtomicUsize,
}

/// What one agent was given.
#[derive(Debug, Default)]
struct Given {
    /// Oldest first.
    values: VecDeque<Value>,
    /// Of `values`, made when it is asked for.
    index: Option<Arc<SecretIndex>>,
}

#[derive(Debug)]
struct Value {
    seen: SeenValue,
    from: Box<str>,
    at: Timestamp,
}

impl SeenSecrets {
    pub(crate) fn new() -> Self {
        Self {
            key: Arc::new(SecretKey::from_bytes(random_key())),
            agents: Mutex::default(),
            count: AtomicUsize::new(0),
        }
    }

    /// The key by which secrets are remembered, made anew by each process.
    pub const fn key(&self) -> &Arc<SecretKey> {
        &self.key
    }

    /// Remembers that `agent` was given a secret by `from`.
    pub fn note(&self, agent: &str, seen: SeenValue, from: &str, now: Timestamp) {
        let mut agents = self.agents.lock();
        if !agents.contains_key(agent) {
            if agents.len() >= SEEN_AGENTS_MAX {
                let newest = |given: &Given| given.values.back().map(|value| value.at);
                let idle = agents.iter().min_by_key(|(_, given)| newest(given));
                if let Some(idle) = idle.map(|(name, _)| name.clone()) {
                    agents.remove(&idle);
                }
            }
            agents.insert(agent.into(), Given::default());
        }
        if let Some(given) = agents.get_mut(agent) {
            given.note(seen, from, now);
        }
        self.count.store(agents.len(), Ordering::Release);
    }

    /// What `agent` was given lately; `None` if nothing.
    pub fn of(&self, agent: &str, now: Timestamp) -> Option<Arc<SecretIndex>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut agents = self.agents.lock();
        let given = agents.get_mut(agent)?;
        let index = given.index(&self.key, now);
        if index.is_none() {
            agents.remove(agent);
            self.count.store(agents.len(), Ordering::Release);
        }
        index
    }
}

impl Given {
    fn note(&mut self, seen: SeenValue, from: &str, now: Timestamp) {
        // Known already: it counts from now.
        self.values
            .retain(|value| value.seen != seen || *value.from != *from);
        if self.values.len() >= SEEN_VALUES_MAX {
            self.values.pop_front();
        }
        self.values.push_back(Value {
            seen,
            from: from.into(),
            at: now,
        });
        self.index = None;
    }

    fn index(&mut self, key: &SecretKey, now: Timestamp) -> Option<Arc<SecretIndex>> {
        let since = now.minus_secs(SEEN_SECS_MAX);
        while self.values.front().is_some_and(|value| value.at < since) {
            self.values.pop_front();
            self.index = None;
        }
        if self.values.is_empty() {
            return None;
        }
        let index = self.index.get_or_insert_with(|| {
            let values = self.values.iter().map(|value| (value.seen, &*value.from));
            Arc::new(SecretIndex::of_seen(key.clone(), values))
        });
        Some(Arc::clone(index))
    }
}

/// 32 bytes of the operating system's chance, by way of the standard library's hash keys: the values themselves pass
/// through the memory that holds them, so they need no better.
fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    for (at, part) in key.chunks_exact_mut(8).enumerate() {
        let word = std::collections::hash_map::RandomState::new().hash_one(at);
        part.copy_from_slice(&word.to_le_bytes());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::SeenSecrets;
    use oktsec_contract::clock::Timestamp;
    use oktsec_contract::limits::{SEEN_AGENTS_MAX, SEEN_SECS_MAX, SEEN_VALUES_MAX};

    const NOW: Timestamp = Timestamp::from_secs(100_000);

    #[test]
    fn what_was_given_is_known_for_its_time_only() {
        let seen = SeenSecrets::new();
        assert!(seen.of("a", NOW).is_none());
        let value = seen.key().see(b"blue9Harbour-tide").unwrap();
        seen.note("a", value, "files.example", NOW);
        seen.note("a", value, "files.example", NOW);
        assert_eq!(seen.of("a", NOW).unwrap().len(), 1, "once");
        assert!(
            seen.of("b", NOW).is_none(),
            "another agent was not given it"
        );
        let first = seen.of("a", NOW).unwrap();
        assert!(std::sync::Arc::ptr_eq(&first, &seen.of("a", NOW).unwrap()));
        assert!(seen.of("a", NOW.plus_secs(SEEN_SECS_MAX)).is_some());
        assert!(seen.of("a", NOW.plus_secs(SEEN_SECS_MAX + 1)).is_none());
        assert!(seen.agents.lock().is_empty());
    }

    #[test]
    fn neither_agents_nor_values_grow_without_bound() {
        let seen = SeenSecrets::new();
        for n in 0..SEEN_AGENTS_MAX + 10 {
            let value = seen.key().see(b"blue9Harbour-tide").unwrap();
            seen.note(&n.to_string(), value, "x", NOW.plus_secs(n as u64));
        }
        assert_eq!(seen.agents.lock().len(), SEEN_AGENTS_MAX);
        assert!(seen.of("0", NOW).is_none(), "the longest idle went");
        for n in 0..SEEN_VALUES_MAX + 10 {
            let value = format!("blue9Harbour-tide-{n}");
            let value = seen.key().see(value.as_bytes()).unwrap();
            seen.note("one", value, "x", NOW);
        }
        assert_eq!(seen.of("one", NOW).unwrap().len(), SEEN_VALUES_MAX);
    }
}
