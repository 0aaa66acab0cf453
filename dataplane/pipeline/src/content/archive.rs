//! Archives inside of a text, wherever they begin in it: gzip (and so `.tar.gz`, `.tgz`, `.crate`), zip (and so wheels, jars,
//! office documents) and zstd, as they are or written in base64, as in what `npm publish` sends. What is compressed in them
//! is opened as it passes.
//!
//! ```text
//! …--boundary… PK 3 4 <head> <name> <deflate…> PK 3 4 <head> <name> <stored> PK 1 2 …
//!              └ a sign ┘           └ opened ┘                      └ in the text already
//! ```
//! No format around them is read: a form, JSON and a body that is nothing else are the same. A sign is three or four bytes, so
//! among many random ones it stands by chance; then what follows does not decompress, and the search goes on. The text itself
//! is scanned as ever, so nothing is hidden by a sign.

mod base64;
mod search;
#[cfg(test)]
mod tests;
mod zip;

use super::inflate::Header;
use super::{Piece, Sink, Stop};
use base64::Wrapped;
use flate2::{Decompress, FlushDecompress, Status};
use search::{Search, Sign};
use zip::{Entry, Head, Read};
use zstd::stream::raw::{DParameter, Decoder, Operation};

/// Bytes a decoder gives at once.
const STEP_BYTES: usize = 16 << 10;

/// Largest window of zstd, as a power of two. Files that need a larger one are not opened.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes searched again if they did not decompress.
const AGAIN_BYTES_MAX: usize = 1 << 10;

/// Between two files of an archive, which are not one text.
const APART: &[u8] = b"\n~\n";

/// Opens what is compressed in one text.
pub struct Opener {
    at: At,
    search: Search,
    /// Used again: its memory is 40 KiB.
    spare: Option<Decompress>,
    /// Bytes of files that cannot be read, since somebody asked.
    sealed: u64,
    /// Something was an archive.
    has_seen: bool,
    /// Something began like an archive and was none, or one that was damaged.
    has_broken: bool,
    /// What is inside of base64 is no base64 again.
    is_wrapped: bool,
}

/// What the next byte belongs to.
enum At {
    Search,
    Gzip(Header),
    Head(Head),
    /// Name and extra field of a file in a zip archive, and what follows.
    Name(u32, Entry),
    Inflate(Decompress),
    Zstd(Decoder<'static>),
    Base64(Box<Wrapped>),
    /// A file that cannot be read: bytes still to come, if that is known.
    Sealed(Option<u64>),
}

/// What came of some bytes.
enum Ran {
    /// So many were taken, and more of them are wanted.
    On(usize),
    /// So many were taken; that was all of it.
    Over(usize),
    /// It is not what it seemed to be.
    Broken(usize),
}

impl Default for Opener {
    fn default() -> Self {
        Self {
            at: At::Search,
            search: Search::default(),
            spare: None,
            sealed: 0,
            has_seen: false,
            has_broken: false,
            is_wrapped: false,
        }
    }
}

impl Opener {
    fn wrapped() -> Self {
        Self {
            is_wrapped: true,
            ..Self::default()
        }
    }

    /// Whether no archive goes on behind what was pushed.
    pub fn is_idle(&self) -> bool {
        matches!(self.at, At::Search)
    }

    /// Whether something in the text was an archive.
    pub fn has_seen(&self) -> bool {
        self.has_seen || matches!(&self.at, At::Base64(wrapped) if wrapped.inner.has_seen())
    }

    /// Whether something did not decompress: from there on it depends on how the text is cut what is opened.
    pub(super) fn has_broken(&self) -> bool {
        self.has_broken || matches!(&self.at, At::Base64(wrapped) if wrapped.inner.has_broken())
    }

    /// Bytes of files that are encrypted, or compressed as nobody here can undo, since this was asked last.
    pub fn take_sealed(&mut self) -> u64 {
        let wrapped = match &mut self.at {
            At::Base64(wrapped) => wrapped.inner.take_sealed(),
            _ => 0,
        };
        std::mem::take(&mut self.sealed) + wrapped
    }

    /// Looks at the next bytes of the text, and gives what was compressed in them; a unit ends with each file that is whole.
    ///
    /// # Errors
    /// What `sink` answers.
    pub fn push<E>(&mut self, mut bytes: &[u8], sink: &mut Sink<'_, E>) -> Result<(), Stop<E>> {
        while !bytes.is_empty() {
            let taken = self.some(bytes, sink)?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Takes some bytes; none only if what they belong to is another thing now.
    fn some<E>(&mut self, bytes: &[u8], sink: &mut Sink<'_, E>) -> Result<usize, Stop<E>> {
        match &mut self.at {
            At::Search => {
                let (taken, sign) = self.search.next(bytes, self.is_wrapped);
                if let Some(sign) = sign {
                    self.begin(sign);
                }
                Ok(taken)
            }
            At::Gzip(header) => {
                let header = *header;
                let (taken, at) = match bytes.first().map(|byte| header.next(*byte)) {
                    Some(Ok(Some(header))) => (1, At::Gzip(header)),
                    Some(Ok(None)) => (1, At::Inflate(self.inflate())),
                    Some(Err(_)) | None => (0, At::Search),
                };
                self.at = at;
                Ok(taken)
            }
            At::Head(head) => {
                let (taken, read) = head.push(bytes);
                match read {
                    Read::More => {}
                    Read::File(name, entry) => {
                        self.has_seen = true;
                        self.at = At::Name(name, entry);
                    }
                    Read::NoHead(bytes) => {
                        self.at = At::Search;
                        self.push(&bytes, sink)?;
                    }
                }
                Ok(taken)
            }
            At::Name(left, entry) => {
                let take = bytes.len().min(*left as usize);
                *left -= take as u32;
                if *left == 0 {
                    let entry = *entry;
                    self.enter(entry);
                    if matches!(self.at, At::Inflate(_) | At::Zstd(_)) {
                        sink(Piece::Text(APART)).map_err(Stop::Sink)?;
                    }
                }
                Ok(take)
            }
            At::Inflate(engine) => {
                let ran = inflate(engine, bytes, sink)?;
                self.after(&ran, sink)
            }
            At::Zstd(decoder) => {
                let ran = unzstd(decoder, bytes, sink)?;
                self.after(&ran, sink)
            }
            At::Base64(wrapped) => {
                let (taken, over) = wrapped.push(bytes, sink)?;
                if over {
                    self.has_seen |= wrapped.inner.has_seen();
                    self.has_broken |= wrapped.inner.has_broken();
                    self.sealed += wrapped.inner.take_sealed();
                    self.at = At::Search;
                }
                Ok(taken)
            }
            At::Sealed(Some(left)) => {
                let take = (bytes.len() as u64).min(*left);
                *left -= take;
                self.sealed += take;
                if *left == 0 {
                    self.at = At::Search;
                }
                Ok(take as usize)
            }
            At::Sealed(None) => {
                let (taken, next) = self.search.next_of_zip(bytes);
                self.sealed += taken as u64;
                match next {
                    None => {}
                    Some(true) => self.at = At::Head(Head::default()),
                    Some(false) => self.at = At::Search,
                }
                Ok(taken)
            }
        }
    }

    fn begin(&mut self, sign: Sign) {
        self.at = match sign {
            Sign::Gzip => At::Gzip(Header::behind_magic()),
            Sign::Zip => At::Head(Head::default()),
            Sign::Zstd => match zstd_behind_magic() {
                Some(decoder) => At::Zstd(decoder),
                None => At::Search,
            },
            Sign::Base64(first) => At::Base64(Box::new(Wrapped::behind(first))),
        };
    }

    /// Behind the name of a file in a zip archive.
    fn enter(&mut self, entry: Entry) {
        self.at = match entry {
            Entry::Stored => At::Search,
            Entry::Deflated => At::Inflate(self.inflate()),
            Entry::Zstd => match zstd() {
                Some(decoder) => At::Zstd(decoder),
                None => At::Sealed(None),
            },
            Entry::Sealed(bytes) => At::Sealed(bytes),
        };
    }

    fn inflate(&mut self) -> Decompress {
        match self.spare.take() {
            Some(mut engine) => {
                engine.reset(false);
                engine
            }
            None => Decompress::new(false),
        }
    }

    /// What is next after some compressed bytes. Gives how many count as taken.
    fn after<E>(&mut self, ran: &Ran, sink: &mut Sink<'_, E>) -> Result<usize, Stop<E>> {
        let (taken, is_whole) = match *ran {
            Ran::On(taken) => return Ok(taken),
            Ran::Over(taken) => (taken, true),
            Ran::Broken(taken) => (taken, false),
        };
        if let At::Inflate(engine) = std::mem::replace(&mut self.at, At::Search) {
            self.spare = Some(engine);
        }
        if is_whole {
            self.has_seen = true;
            sink(Piece::UnitEnd).map_err(Stop::Sink)?;
            return Ok(taken);
        }
        self.has_broken = true;
        // What was no archive is searched, as far as that is near.
        Ok(if taken > AGAIN_BYTES_MAX { taken } else { 0 })
    }
}

fn inflate<E>(
    engine: &mut Decompress,
    bytes: &[u8],
    sink: &mut Sink<'_, E>,
) -> Result<Ran, Stop<E>> {
    let mut out = [0; STEP_BYTES];
    let mut taken = 0;
    loop {
        let (read, written) = (engine.total_in(), engine.total_out());
        let ran = engine.decompress(&bytes[taken..], &mut out, FlushDecompress::Sync);
        let read = (engine.total_in() - read) as usize;
        let written = (engine.total_out() - written) as usize;
        taken += read;
        if written > 0 {
            sink(Piece::Text(&out[..written])).map_err(Stop::Sink)?;
        }
        match ran {
            Ok(Status::StreamEnd) => return Ok(Ran::Over(taken)),
            Err(_) => return Ok(Ran::Broken(taken)),
            Ok(Status::Ok | Status::BufError) if written > 0 => {}
            Ok(Status::Ok | Status::BufError) if taken == bytes.len() => return Ok(Ran::On(taken)),
            Ok(Status::Ok | Status::BufError) if read == 0 => return Ok(Ran::Broken(taken)),
            Ok(Status::Ok | Status::BufError) => {}
        }
    }
}

fn unzstd<E>(
    decoder: &mut Decoder<'static>,
    bytes: &[u8],
    sink: &mut Sink<'_, E>,
) -> Result<Ran, Stop<E>> {
    let mut out = [0; STEP_BYTES];
    let mut taken = 0;
    loop {
        let Ok(status) = decoder.run_on_buffers(&bytes[taken..], &mut out) else {
            return Ok(Ran::Broken(taken));
        };
        taken += status.bytes_read;
        if status.bytes_written > 0 {
            sink(Piece::Text(&out[..status.bytes_written])).map_err(Stop::Sink)?;
        }
        if status.remaining == 0 {
            return Ok(Ran::Over(taken));
        }
        if status.bytes_written == 0 {
            if taken == bytes.len() {
                return Ok(Ran::On(taken));
            }
            if status.bytes_read == 0 {
                return Ok(Ran::Broken(taken));
            }
        }
    }
}

/// `None` if there is no memory for it.
fn zstd() -> Option<Decoder<'static>> {
    let mut decoder = Decoder::new().ok()?;
    decoder
        .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
        .ok()?;
    Some(decoder)
}

fn zstd_behind_magic() -> Option<Decoder<'static>> {
    let mut decoder = zstd()?;
    decoder
        .run_on_buffers(search::ZSTD, &mut [])
        .ok()
        .filter(|status| status.bytes_read == search::ZSTD.len())?;
    Some(decoder)
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener")
            .field("is_idle", &self.is_idle())
            .field("has_seen", &self.has_seen())
            .finish_non_exhaustive()
    }
}
