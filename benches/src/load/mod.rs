//! The load generator: one thread per core on monoio (io_uring, or epoll where the kernel has none), requests
//! made and signed before the clock runs, every answer asserted.
//!
//! ```text
//! Recipe ─► Pool (signed, on all cores) ─► run ─► threads ─► connections ─► Tally ─► Report
//! ```
//!
//! A *closed* loop keeps every connection busy: it finds the throughput. An *open* loop sends at fixed times
//! whatever the server does and measures from the *intended* time: a server that stalls cannot hide behind
//! requests that were never sent.

mod answers;
mod connection;
mod control;
mod options;
mod pacer;
mod pool;
mod report;
mod run;
mod tally;

pub use answers::{Answer, Answers, Malformed};
pub use options::Options;
pub use pool::{Expected, Pool, Recipe, message_body};
pub use report::{Latency, Report};
pub use run::{LoadError, Plan, Shape, run};
