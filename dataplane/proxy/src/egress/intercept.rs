//! Connections we look into: the client's handshake ends here, with a certificate of our own authority for the
//! host it asked for; towards the host we are a client like any other.
//!
//! ```text
//! client ══ TLS, our certificate ══ accept ─► exchange (the same as plain egress) ══ TLS, verified ══ host
//!                                     └ mint: one certificate for each host, kept
//! ```
//! Off unless configured, and only for clients that trust the authority which `oktsec tls init` made. Its key never
//! leaves the data plane's memory and the file only its owner can read; other files in their place count within a second.

mod accept;
mod authority;
mod in_force;
mod mint;
#[cfg(test)]
mod tests;

pub(crate) use accept::{Broken, Intercepted};
pub(crate) use in_force::{AuthorityInForce, Standing};
pub(crate) use mint::Minter;
