//! Where archives begin.

use memchr::memmem::Finder;
use std::sync::LazyLock;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Gzip,
    Zip,
    Zstd,
    /// One of them in base64; how it begins.
    Base64(&'static [u8]),
}

/// Two bytes and the one method there is (RFC 1952).
const GZIP: &[u8] = &[0x1F, 0x8B, 8];
/// The head of a file, and of an entry of the list at the end (APPNOTE 4.3.7, 4.3.12).
const ZIP: &[u8] = b"PK\x03\x04";
const ZIP_LIST: &[u8] = b"PK\x01\x02";
/// A frame (RFC 8878).
pub(super) const ZSTD: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];

/// Longest sign. Of a text that is searched piece by piece all but one of these bytes are kept.
const SIGN_BYTES_MAX: usize = 4;

/// Bytes searched at once: a sign that is near must not cost a search of everything for the others.
const BLOCK_BYTES: usize = 4 << 10;

/// Plain ones first.
static SIGNS: LazyLock<[(Finder<'static>, Sign); 6]> = LazyLock::new(|| {
    let base64 = |first: &'static [u8]| (Finder::new(first), Sign::Base64(first));
    [
        (Finder::new(ZIP), Sign::Zip),
        (Finder::new(GZIP), Sign::Gzip),
        (Finder::new(ZSTD), Sign::Zstd),
        // The first three bytes of each.
        base64(b"H4sI"),
        base64(b"UEsD"),
        base64(b"KLUv"),
    ]
});

/// A text that is searched.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Search {
    /// The last bytes; they hold no whole sign. Invariant: `kept < SIGN_BYTES_MAX`.
    tail: [u8; SIGN_BYTES_MAX],
    kept: usize,
}

impl Search {
    /// Searches some of the next bytes. Gives how many, the last of them that of the sign.
    pub(super) fn next(&mut self, bytes: &[u8], plain_only: bool) -> (usize, Option<Sign>) {
        self.run(bytes, |bytes| first(bytes, plain_only))
    }

    /// The same for what follows a file whose end is not known: another one (`true`), or the list.
    pub(super) fn next_of_zip(&mut self, bytes: &[u8]) -> (usize, Option<bool>) {
        self.run(bytes, |bytes| {
            let file = memchr::memmem::find(bytes, ZIP).map(|at| (at, ZIP.len(), true));
            let list = memchr::memmem::find(bytes, ZIP_LIST).map(|at| (at, ZIP_LIST.len(), false));
            match (file, list) {
                (Some(file), Some(list)) => Some(if file.0 < list.0 { file } else { list }),
                (file, list) => file.or(list),
            }
        })
    }

    fn run<S>(
        &mut self,
        bytes: &[u8],
        first: impl Fn(&[u8]) -> Option<(usize, usize, S)>,
    ) -> (usize, Option<S>) {
        if self.kept > 0 {
            let mut border = [0; 2 * SIGN_BYTES_MAX];
            let more = bytes.len().min(SIGN_BYTES_MAX - 1);
            border[..self.kept].copy_from_slice(&self.tail[..self.kept]);
            border[self.kept..self.kept + more].copy_from_slice(&bytes[..more]);
            if let Some((at, length, sign)) = first(&border[..self.kept + more])
                && at < self.kept
            {
                let taken = at + length - self.kept;
                self.kept = 0;
                return (taken, Some(sign));
            }
        }
        let block = &bytes[..bytes.len().min(BLOCK_BYTES)];
        if let Some((at, length, sign)) = first(block) {
            self.kept = 0;
            return (at + length, Some(sign));
        }
        self.keep(block);
        (block.len(), None)
    }

    fn keep(&mut self, block: &[u8]) {
        let new = block.len().min(SIGN_BYTES_MAX - 1);
        let old = self.kept.min(SIGN_BYTES_MAX - 1 - new);
        self.tail.copy_within(self.kept - old..self.kept, 0);
        self.tail[old..old + new].copy_from_slice(&block[block.len() - new..]);
        self.kept = old + new;
    }
}

/// The first sign: where, how long and which.
fn first(bytes: &[u8], plain_only: bool) -> Option<(usize, usize, Sign)> {
    let mut found: Option<(usize, usize, Sign)> = None;
    for (finder, sign) in &*SIGNS {
        if plain_only && matches!(sign, Sign::Base64(_)) {
            continue;
        }
        let length = finder.needle().len();
        let end = found.map_or(bytes.len(), |(at, ..)| bytes.len().min(at + length - 1));
        if let Some(at) = finder.find(&bytes[..end]) {
            found = Some((at, length, *sign));
        }
    }
    found
}
