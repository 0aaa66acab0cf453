//! How we look: anchors of all patterns in one pass, few views of the content, a bounded confirm.
//!
//! ```text
//! content ─► views ─► which patterns (anchors; Vectorscan) ─► where, and really (confirm) ─► findings
//! ```
//!
//! A [`Database`] is every active rule compiled; immutable and shared by `Arc`. A [`Scanner`]
//! belongs to one core: scratch space and buffers, reused from message to message.
//!
//! ```
//! use std::sync::Arc;
//! use oktsec_rules::{RuleSet, Surface, load_text};
//! use oktsec_scanner::{Database, Scanner};
//!
//! let rules = load_text("mine.yaml", "
//! {id: ACME-001, name: Vault host, severity: high, category: exfiltration,
//!  patterns: [{contains: vault.acme.internal}]}
//! ").rules;
//! let database = Arc::new(Database::compile(&RuleSet::new(rules)).expect("one literal compiles"));
//! let mut scanner = Scanner::new(Arc::clone(&database)).expect("memory for one scratch");
//! let scanned = scanner.scan(b"see http://VAULT.acme.internal/", Surface::Message).expect("short");
//! let finding = &scanned.findings[0];
//! assert_eq!(database.rules()[finding.rule as usize].id, "ACME-001");
//! assert_eq!(finding.span, 11..30);
//! ```
//!
//! A body of any length is scanned as it passes with a [`StreamState`]; what that promises
//! for a rule is its [`guarantee`].

mod again;
mod anchor;
mod cache;
mod compile;
mod confirm;
mod database;
mod dialect;
#[expect(
    unsafe_code,
    reason = "the binding to the C library and requests to processor and system live there, and nowhere else"
)]
mod engine;
mod excerpt;
mod finding;
pub mod fuzz_entry;
mod gate;
mod last;
mod lazy;
pub mod naive;
mod nearby;
mod places;
mod rarity;
mod retrace;
mod scanner;
pub mod secrets;
mod signs;
mod stream;
mod sweep;
mod view;

pub use cache::CacheOutcome;
pub use compile::{COMPILE_TIME_MAX, CompileError};
pub use database::Database;
pub use dialect::{Estimate, estimate};
pub use engine::{EngineError, give_back_program_pages};
pub use excerpt::{EXCERPT_BYTES_MAX, excerpt, redact};
pub use finding::{Finding, Limit, LimitsReached, ScanError, Scanned};
pub use naive::NaiveScanner;
pub use scanner::{CONTENT_BYTES_MAX, Scanner};
pub use stream::{
    Guarantee, HOLD_BYTES, OVERLAP_BYTES, StreamFinding, StreamScanned, StreamState, WINDOW_BYTES,
    guarantee,
};
pub use view::View;
