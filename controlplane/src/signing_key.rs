//! The public half of the key that signs the audit log: beside the agents' keys, or in the state folder when
//! no folder of keys is configured.

use oktsec_contract::config::Config;
use oktsec_contract::files;
use oktsec_contract::keys::{PROXY_KEY_NAME, PublicKey, decode_public};
use oktsec_contract::limits::KEY_FILE_BYTES_MAX;
use oktsec_contract::paths::StatePaths;
use std::path::Path;

/// The key of this configuration's log. `None` if it cannot be read: then signatures are skipped, and said to be.
pub fn audit_public_key(config: &Config, paths: &StatePaths) -> Option<PublicKey> {
    let dir = config.identity.keys_dir.as_deref().unwrap_or(&paths.root);
    public_key_in(&dir.join(format!("{PROXY_KEY_NAME}.pub"))).ok()
}

/// The public key in a file.
///
/// # Errors
/// What is wrong with the file.
pub fn public_key_in(path: &Path) -> Result<PublicKey, String> {
    let text = files::read_text(path, KEY_FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    decode_public(&text).map_err(|error| error.to_string())
}
