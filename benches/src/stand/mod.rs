//! What is measured, set up from nothing: a configuration with keys in a folder of its own, the real binary on
//! it, and the null server beside it.

mod around;
mod server;
mod site;

pub use around::around_the_scanner;
pub use server::{Server, StandError, free_port};
pub use site::{RECIPIENT, SENDERS, Site, sender};
