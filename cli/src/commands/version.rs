//! `oktsec version`.

use super::Global;
use crate::exit::{Exit, Outcome};
use crate::out;
use serde_json::json;

/// Prints the version and what it was built for.
pub(crate) fn execute(global: &Global) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    if global.json {
        out::json(&json!({ "version": version, "os": os, "arch": arch }))?;
    } else {
        out::line(format_args!("oktsec {version}\n  os:   {os}/{arch}"))?;
    }
    Ok(Exit::Done)
}
