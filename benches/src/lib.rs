//! The claims oktsec makes about its speed, and what measures them.
//!
//! * [`load`]: a load generator on monoio that asserts every answer (`oktsec-load`);
//! * [`stand`]: the real binary and the null server, each with state and CPUs of its own;
//! * [`claims`]: what the product has to reach, measured on both (`oktsec-bench`);
//! * [`egress`]: the egress gateway beside proxies that decide nothing (`oktsec-egress`);
//! * [`micro`]: single parts, without sockets (`oktsec-micro`).
//!
//! `benches/README.md` says how to run them and what was seen.

pub mod affinity;
pub mod claims;
pub mod content;
pub mod egress;
pub mod load;
pub mod micro;
pub mod process;
pub mod stand;
