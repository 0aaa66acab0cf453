//! The chains of the Go version, v1 and v2 (compat §6.2). We read them; we never write them.
//!
//! Their hashes leave out fields (v1 even the decision), and an entry counts as unsigned when its signature is
//! missing, so a valid report here says less than one of [`crate::Reader::verify_chain`]. Entries are given in
//! the order they were inserted, not sorted by the client's timestamp.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oktsec_contract::keys::PublicKey;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

/// A row of the Go version's `audit_log`, as far as the chain covers it. Other columns are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Id of the message.
    #[serde(deserialize_with = "or_null")]
    pub id: String,
    /// As the client sent it.
    #[serde(deserialize_with = "or_null")]
    pub timestamp: String,
    /// Sender.
    #[serde(deserialize_with = "or_null")]
    pub from_agent: String,
    /// Recipient.
    #[serde(deserialize_with = "or_null")]
    pub to_agent: String,
    /// SHA-256 of the content, hex.
    #[serde(deserialize_with = "or_null")]
    pub content_hash: String,
    /// Status.
    #[serde(deserialize_with = "or_null")]
    pub status: String,
    /// Decision; not covered by v1.
    #[serde(deserialize_with = "or_null")]
    pub policy_decision: String,
    /// JSON text of the findings; not covered by v1.
    #[serde(deserialize_with = "or_null")]
    pub rules_triggered: String,
    /// −1, 0 or 1; not covered by v1.
    #[serde(deserialize_with = "or_null")]
    pub signature_verified: i64,
    /// Hash of the entry before, hex; empty for the first.
    #[serde(deserialize_with = "or_null")]
    pub prev_hash: String,
    /// Hash of this one, hex.
    #[serde(deserialize_with = "or_null")]
    pub entry_hash: String,
    /// Base64 signature over `entry_hash`; may be missing.
    #[serde(deserialize_with = "or_null")]
    pub proxy_signature: String,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing that the chain covers was changed.
    pub valid: bool,
    /// Entries checked.
    pub entries: u64,
    /// Index of the first that does not fit; 0 is said, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_at: Option<u64>,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken_id: Option<String>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Entries with the weaker hash: their decision and findings are not protected.
    pub v1_entries: u64,
    /// Entries without a signature, when a key was given.
    pub unsigned_entries: u64,
}

/// Checks entries one by one, oldest first, in constant memory; signatures only with a key.
#[derive(Debug)]
pub struct Verifier {
    public_key: Option<PublicKey>,
    /// Hash of the entry before.
    before: Option<String>,
    report: Report,
}

impl Verifier {
    /// Nothing checked yet.
    #[must_use]
    pub const fn new(public_key: Option<PublicKey>) -> Self {
        Self {
            public_key,
            before: None,
            report: Report {
                valid: true,
                entries: 0,
                broken_at: None,
                broken_id: None,
                reason: None,
                v1_entries: 0,
                unsigned_entries: 0,
            },
        }
    }

    /// The next entry.
    pub fn push(&mut self, entry: Entry) {
        if let Some(reason) = self.wrong(&entry)
            && self.report.valid
        {
            self.report.valid = false;
            self.report.broken_at = Some(self.report.entries);
            self.report.broken_id = Some(entry.id);
            self.report.reason = Some(reason);
        }
        self.report.entries += 1;
        self.before = Some(entry.entry_hash);
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> Report {
        self.report
    }

    fn wrong(&mut self, entry: &Entry) -> Option<&'static str> {
        // A purge leaves a first entry that names one we cannot see; the Go version accepts that, too.
        let follows = self
            .before
            .as_ref()
            .is_none_or(|before| *before == entry.prev_hash);
        if !follows {
            return Some("it does not follow the entry before");
        }
        if entry.entry_hash != hash_v2(entry) {
            if entry.entry_hash != hash_v1(entry) {
                return Some("its hash does not fit its fields");
            }
            self.report.v1_entries += 1;
        }
        let key = self.public_key.as_ref()?;
        if entry.proxy_signature.is_empty() {
            self.report.unsigned_entries += 1;
            return None;
        }
        let signature = STANDARD.decode(&entry.proxy_signature).ok();
        let signature: Option<[u8; 64]> = signature.and_then(|bytes| bytes.try_into().ok());
        let holds = signature.is_some_and(|s| key.verifies(entry.entry_hash.as_bytes(), &s));
        (!holds).then_some("its signature does not hold")
    }
}

/// The v1 hash, hex.
#[must_use]
pub fn hash_v1(entry: &Entry) -> String {
    hex::encode(Sha256::digest(fields_v1(entry)))
}

/// The v2 hash, hex.
#[must_use]
pub fn hash_v2(entry: &Entry) -> String {
    let mut text = fields_v1(entry);
    let verified = entry.signature_verified.to_string();
    for field in [&entry.policy_decision, &entry.rules_triggered, &verified] {
        text.push('\n');
        text.push_str(field);
    }
    hex::encode(Sha256::digest(text))
}

fn fields_v1(entry: &Entry) -> String {
    [
        &*entry.prev_hash,
        &entry.id,
        &entry.timestamp,
        &entry.from_agent,
        &entry.to_agent,
        &entry.content_hash,
        &entry.status,
    ]
    .join("\n")
}

/// An absent value in SQLite's JSON.
fn or_null<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::{Entry, Report, Verifier, hash_v1, hash_v2};
    use oktsec_contract::keys::{KeyPair, PublicKey};

    /// The vector of compat §6.2.
    fn vector() -> Entry {
        Entry {
            id: String::from("id-1"),
            timestamp: String::from("2026-02-22T10:00:00Z"),
            from_agent: String::from("a"),
            to_agent: String::from("b"),
            content_hash: String::from(
                "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            ),
            status: String::from("delivered"),
            policy_decision: String::from("allow"),
            rules_triggered: String::from("[]"),
            signature_verified: 1,
            prev_hash: String::new(),
            entry_hash: String::from(
                "fb481ef1551bb58a5e33ecc9db02d5c7f0460a41823aa992c3d8a8a84b194e5e",
            ),
            proxy_signature: String::from(
                "mpu8mot+GjqEknUhDxzLpUoaV9LeDYPmI2xGdwnL9piz8XRwohCrZy41qb7ysWqJvgVAxmzjQ/4RY9cJxreIBg==",
            ),
        }
    }

    fn key() -> PublicKey {
        let seed: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap_or_default());
        PublicKey {
            bytes: KeyPair::from_seed("_proxy", &seed).public_key(),
        }
    }

    fn verify<const N: usize>(entries: [&Entry; N], key: Option<&PublicKey>) -> Report {
        let mut verifier = Verifier::new(key.copied());
        for entry in entries {
            verifier.push(entry.clone());
        }
        verifier.finish()
    }

    #[test]
    fn the_vectors_of_the_go_version_hold() {
        let entry = vector();
        assert_eq!(
            hash_v1(&entry),
            "0b9757ed93a4e040792d34ac644d14b06b530ebe034b993fcb81f277622b7b8b"
        );
        assert_eq!(hash_v2(&entry), entry.entry_hash);
        let report = verify([&entry], Some(&key()));
        assert!(report.valid, "{report:?}");
        assert_eq!((report.v1_entries, report.unsigned_entries), (0, 0));
    }

    #[test]
    fn changes_are_found_at_their_index_also_at_0() {
        let mut second = vector();
        second.id = String::from("id-2");
        second.prev_hash = vector().entry_hash;
        second.entry_hash = hash_v1(&second);
        second.proxy_signature = String::new();
        let report = verify([&vector(), &second], Some(&key()));
        assert!(report.valid, "{report:?}");
        assert_eq!((report.v1_entries, report.unsigned_entries), (1, 1));

        let mut changed = vector();
        changed.status = String::from("blocked");
        assert_eq!(verify([&changed, &second], None).broken_at, Some(0));
        second.prev_hash = String::from("00");
        assert_eq!(verify([&vector(), &second], None).broken_at, Some(1));
        let mut forged = vector();
        forged.policy_decision = String::from("content_blocked");
        forged.entry_hash = hash_v2(&forged);
        assert!(
            verify([&forged], None).valid,
            "without a key a recomputed hash passes"
        );
        assert_eq!(verify([&forged], Some(&key())).broken_at, Some(0));
    }
}
