//! The key of the hashes, and the three hashes made with it.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use siphasher::sip::SipHasher13;

/// Bytes of a window: what is hashed at a place that looks like the beginning of one.
pub(super) const WINDOW_BYTES: usize = 8;

/// The key under which values are hashed. Belongs in a file of its own, away from the store.
#[derive(Clone)]
pub struct SecretKey {
    bytes: [u8; 32],
    value: [u8; 32],
    window: SipHasher13,
    mask: [u8; 32],
}

impl SecretKey {
    /// A key of these bytes, which must come from a source of good chance.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut window = [0; 16];
        let derived = blake3::derive_key("oktsec secrets 1 window", &bytes);
        window.copy_from_slice(&derived[..16]);
        Self {
            value: blake3::derive_key("oktsec secrets 1 value", &bytes),
            mask: blake3::derive_key("oktsec secrets 1 mask", &bytes),
            window: SipHasher13::new_with_key(&window),
            bytes,
        }
    }

    /// Reads the key file, or makes one of mode 0600 out of `fresh` if there is none.
    ///
    /// # Errors
    /// The file cannot be read or written, others may read it, or it holds no key.
    pub fn load_or_create(path: &Path, fresh: [u8; 32]) -> io::Result<Self> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(path) {
            Ok(mut file) => {
                let written = writeln!(file, "{}", hex(&fresh)).and_then(|()| file.sync_all());
                if written.is_err() {
                    // Without it the next call would find a file that holds no key.
                    let _ = fs::remove_file(path);
                }
                written.map(|()| Self::from_bytes(fresh))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(error),
        }
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// The file cannot be read, others may read it, or it holds no key.
    pub fn load(path: &Path) -> io::Result<Self> {
        let file = fs::File::open(path)?;
        refuse_shared(&file)?;
        let mut text = String::new();
        file.take(256).read_to_string(&mut text)?;
        unhex(text.trim()).map(Self::from_bytes).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "a key file holds 64 hex digits and nothing else",
            )
        })
    }

    /// Names the key without giving it away.
    pub(super) fn id(&self) -> [u8; 8] {
        let derived = blake3::derive_key("oktsec secrets 1 key id", &self.bytes);
        std::array::from_fn(|at| derived[at])
    }

    /// What a value is known by.
    pub(super) fn value(&self, value: &[u8]) -> [u8; 16] {
        let hash = blake3::keyed_hash(&self.value, value);
        std::array::from_fn(|at| hash.as_bytes()[at])
    }

    /// What eight bytes are known by. Thirty-two bits tell windows apart well enough, and leave
    /// somebody who has stolen the key without the rest of them.
    pub(super) fn window(&self, bytes: [u8; WINDOW_BYTES]) -> u32 {
        self.window.hash(&bytes) as u32
    }

    /// Hides the two bytes a window begins with in the record of this value.
    pub(super) fn mask(&self, value: &[u8; 16]) -> u16 {
        let hash = blake3::keyed_hash(&self.mask, value);
        u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]])
    }

    /// Proves that a store was written by somebody with the key.
    pub(super) fn seal(&self, bytes: &[u8]) -> [u8; 32] {
        let key = blake3::derive_key("oktsec secrets 1 seal", &self.bytes);
        blake3::keyed_hash(&key, bytes).into()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(32 bytes)")
    }
}

/// A file of secrets that group or others may touch is refused, not repaired: who knows who did.
pub(super) fn refuse_shared(file: &fs::File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("its mode is {mode:o}; it must be 600"),
            ));
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; 32];
    for (at, slot) in out.iter_mut().enumerate() {
        *slot = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(out)
}
