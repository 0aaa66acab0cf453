//! Known secrets, found exactly, by a program that does not know them.
//!
//! ```text
//! value ─► SecretStore (keyed hashes, a file of mode 0600) ─► SecretIndex ─► SecretFinder ─► findings
//! ```
//!
//! Rules know formats; this knows values: the database password nobody could write a pattern for,
//! and canary tokens, which exist only to be leaked and name the agent they were given to.
//!
//! **At rest** a value is a 128-bit keyed hash, 32 bits of a keyed hash of one 8-byte window of it,
//! where that window lies, its length, and the name the operator gave it. Without the key the file
//! says nothing about a value but its length; with the key guesses can be tried, as with any hash.
//!
//! **In traffic** a text is asked about in three steps, each far rarer than the one before:
//!
//! 1. do these two bytes begin the window of any value (8 KiB of bits, one look a byte),
//! 2. is the keyed hash of these eight bytes one of the windows (one SipHash, one look),
//! 3. is the keyed hash of the whole stretch one of the values (BLAKE3).
//!
//! The window of a value is where it looks least like ordinary text (`anchor.rs`), so that prose
//! hardly gets past step one, whether one value is known or a million.
//!
//! Reversed text is asked in the same pass. Base64 (standard, URL-safe, unpadded, wrapped, at any
//! alignment), hex (any case, with separators), percent, JSON and C escapes and HTML entities are
//! undone first, where there is enough of them to hide the shortest value (`encoded.rs`).
//!
//! A [`Scanner`](crate::Scanner) that was given an index asks every content and view of it, and what is found is a
//! finding of the rules that say `known:` (`scan.rs`). Given a key to watch with, it also tells of every secret in a
//! stream what is needed to know it again ([`SeenValue`], `seen.rs`).
//!
//! ```
//! use std::sync::Arc;
//! use oktsec_scanner::secrets::{SecretFinder, SecretKey, SecretKind, SecretStore};
//!
//! let mut store = SecretStore::new(SecretKey::from_bytes([7; 32]));
//! store.add("orders-db", SecretKind::Value, b"blue+Harbour9").expect("long enough");
//! let index = Arc::new(store.index());
//! let mut finder = SecretFinder::new(Arc::clone(&index));
//! let found = finder.find(b"see Ymx1ZStIYXJib3VyOQ==, please");
//! assert_eq!(index.name(found.findings[0].secret), "orders-db");
//! assert_eq!(found.findings[0].span, 4..22);
//! ```

mod anchor;
mod canary;
mod encoded;
mod file;
mod find;
mod index;
mod key;
mod scan;
mod seen;
mod store;

pub use file::SecretFileError;
pub(crate) use file::index_of;
pub use find::{FINDINGS_MAX, Found, SecretFinder, SecretFinding, SecretForm};
pub use index::SecretIndex;
pub use key::SecretKey;
pub(crate) use scan::KnownValues;
pub use seen::SeenValue;
pub use store::{
    Added, KNOWN_BYTES_MAX, SECRET_BYTES_MAX, SECRET_BYTES_MIN, SECRET_HOSTS_MAX,
    SECRET_NAME_BYTES_MAX, SECRETS_MAX, SecretError, SecretKind, SecretName, SecretStore,
    WRITTEN_BYTES_MAX,
};
