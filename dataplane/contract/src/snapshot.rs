//! Everything the data plane needs to decide: immutable, numbered, checked by its checksum wherever it lies.

use crate::clock::Timestamp;
use crate::config::Config;
use crate::files::{self, FileError};
use crate::keys::{AgentKey, RevokedKey};
use crate::limits::FRAME_BYTES_MAX;
use crate::link::{Frame, FrameError, FrameKind, HEADER_BYTES, encode_frame};
use oktsec_rules::RuleSet;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Everything needed to decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Grows with every change; the first is 1.
    pub revision: u64,
    /// When the control plane made it.
    pub created_at: Timestamp,
    /// The configuration.
    pub config: Config,
    /// Keys of agents.
    pub keys: Vec<AgentKey>,
    /// Keys that must not be believed.
    pub revoked: Vec<RevokedKey>,
    /// What we look for. Travels without what only people read, see [`RuleSet::for_deciding`].
    pub rules: RuleSet,
    /// The seal of the store of known secrets, in hex; `None` if there is no store. The store itself stays on disk: a
    /// data plane that sees another seal reads it again.
    #[serde(default)]
    pub secrets: Option<String>,
}

/// Why a snapshot can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The frame around it is broken.
    #[error("snapshot: {0}")]
    Frame(#[from] FrameError),
    /// What is in it is no snapshot of this version.
    #[error("snapshot can't be read: {0}")]
    Body(#[from] serde_json::Error),
    /// Its file can't be read.
    #[error("snapshot file {0}")]
    File(#[from] FileError),
    /// Its file can't be written.
    #[error("snapshot file can't be written: {0}")]
    Write(std::io::Error),
}

impl Snapshot {
    /// The bytes that travel and are kept: one frame with its checksum.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] beyond [`FRAME_BYTES_MAX`], its own frame on the link included.
    pub fn encode(&self) -> Result<Vec<u8>, SnapshotError> {
        let body = serde_json::to_vec(self)?;
        if body.len() + HEADER_BYTES > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge(body.len() as u64).into());
        }
        Ok(encode_frame(FrameKind::SnapshotFile, &body)?)
    }

    /// Reads [`Self::encode`].
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (kind, body) = Frame::decode(bytes)?;
        if kind != FrameKind::SnapshotFile {
            return Err(FrameError::Kind(kind.code()).into());
        }
        Ok(serde_json::from_slice(body)?)
    }

    /// Replaces the file at `path`, readable by its owner only: it holds the API key.
    ///
    /// # Errors
    /// See [`SnapshotError`]; the old file is then still there.
    pub fn save(&self, path: &Path) -> Result<(), SnapshotError> {
        Self::save_encoded(&self.encode()?, path)
    }

    /// [`Self::save`] of what is encoded already.
    ///
    /// # Errors
    /// [`SnapshotError::Write`]; the old file is then still there.
    pub fn save_encoded(bytes: &[u8], path: &Path) -> Result<(), SnapshotError> {
        files::replace(path, bytes, 0o600).map_err(SnapshotError::Write)
    }

    /// Reads a file written by [`Self::save`].
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn load(path: &Path) -> Result<Self, SnapshotError> {
        Self::decode(&files::read(path, FRAME_BYTES_MAX as u64)?)
    }
}

#[cfg(test)]
mod tests {
    use super::Snapshot;
    use crate::clock::Timestamp;
    use crate::config::{self, Env};
    use crate::keys::{AgentKey, KeyPair, RevokedKey};
    use oktsec_rules::RuleSet;
    use std::os::unix::fs::PermissionsExt;

    fn snapshot() -> Snapshot {
        let text = include_str!("../testdata/config/example-like.yaml");
        let config = config::parse(text, "/etc/oktsec.yaml".as_ref(), &Env::empty())
            .unwrap()
            .config;
        let pair = KeyPair::from_seed("a", &[1; 32]);
        let key = AgentKey {
            agent: String::from("a"),
            public_key: pair.public_key(),
            fingerprint: pair.fingerprint(),
        };
        let revoked = RevokedKey::new(pair.fingerprint(), "a", Timestamp::from_secs(1), "test");
        Snapshot {
            revision: 7,
            created_at: Timestamp::from_secs(1_771_754_400),
            config,
            keys: vec![key],
            revoked: vec![revoked],
            rules: RuleSet::default(),
            secrets: None,
        }
    }

    #[test]
    fn a_snapshot_round_trips_and_its_file_is_private() {
        let snapshot = snapshot();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        snapshot.save(&path).unwrap();
        snapshot.save(&path).unwrap();
        assert_eq!(Snapshot::load(&path).unwrap(), snapshot);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn what_says_nothing_does_not_travel_and_what_says_no_does() {
        let text = "identity: {require_signature: false}\nagents: {a: {}, b: {can_message: []}}\n";
        let parsed = config::parse(text, "/etc/oktsec.yaml".as_ref(), &Env::empty());
        let snapshot = Snapshot {
            config: parsed.unwrap().config,
            ..snapshot()
        };
        let bytes = snapshot.encode().unwrap();
        assert_eq!(Snapshot::decode(&bytes).unwrap(), snapshot);
        let agents = serde_json::to_value(&snapshot.config.agents).unwrap();
        assert_eq!(
            agents,
            serde_json::json!({
                "a": {"scan_profile": "strict"},
                "b": {"scan_profile": "strict", "can_message": []},
            })
        );
        assert!(!snapshot.config.identity.require_signature);
    }

    #[test]
    fn a_snapshot_cut_or_changed_anywhere_is_refused() {
        let bytes = snapshot().encode().unwrap();
        for cut in (0..bytes.len())
            .step_by(97)
            .chain(bytes.len() - 50..bytes.len())
        {
            assert!(Snapshot::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in (0..bytes.len()).step_by(131).chain(0..60) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x20;
            assert!(Snapshot::decode(&bad).is_err(), "changed at {at}");
        }
    }
}
