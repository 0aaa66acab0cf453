//! What a push asks for, as far as an answer to it in git's own words needs it.

/// Refs that are remembered, and the bytes of their names. A push of more is answered as a whole.
const REFS_MAX: usize = 64;
const REF_BYTES_MAX: usize = 16 << 10;

/// What the lines before the pack say.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PushAsked {
    refs: Vec<String>,
    ref_bytes: usize,
    reports: bool,
    side_band: bool,
    sha256: bool,
}

impl PushAsked {
    /// Refs that were to move.
    pub fn refs(&self) -> &[String] {
        &self.refs
    }

    /// Whether whoever pushes wants to be told what became of it.
    pub const fn wants_report(&self) -> bool {
        self.reports
    }

    /// Whether that is told beside messages for people.
    pub const fn has_side_band(&self) -> bool {
        self.side_band
    }

    /// Bytes of the name of an object.
    pub(super) const fn hash_bytes(&self) -> usize {
        if self.sha256 { 32 } else { 20 }
    }

    /// Reads a line: `old new ref`, and what the client can do behind a zero byte.
    pub(super) fn read(&mut self, line: &[u8]) {
        let zero = memchr::memchr(0, line).unwrap_or(line.len());
        let (command, able) = line.split_at(zero);
        for word in able
            .get(1..)
            .unwrap_or_default()
            .split(u8::is_ascii_whitespace)
        {
            match word {
                b"report-status" | b"report-status-v2" => self.reports = true,
                b"side-band-64k" => self.side_band = true,
                b"object-format=sha256" => self.sha256 = true,
                _ => {}
            }
        }
        let mut words = command.trim_ascii_end().splitn(3, |byte| *byte == b' ');
        let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else {
            return;
        };
        let fits = self.refs.len() < REFS_MAX && self.ref_bytes + name.len() <= REF_BYTES_MAX;
        if is_id(old) && is_id(new) && fits {
            self.ref_bytes += name.len();
            self.refs.push(String::from_utf8_lossy(name).into_owned());
        }
    }
}

/// Names of refs may be as telling as contents.
impl std::fmt::Debug for PushAsked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushAsked")
            .field("refs", &self.refs.len())
            .field("reports", &self.reports)
            .field("side_band", &self.side_band)
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}

/// Whether it is the name of an object, of either kind.
fn is_id(word: &[u8]) -> bool {
    matches!(word.len(), 40 | 64) && word.iter().all(u8::is_ascii_hexdigit)
}
