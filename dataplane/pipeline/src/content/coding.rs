//! Content codings (RFC 9110 §8.4) undone for scanning, one on top of the other, bounded in depth, ratio and size.

#[cfg(test)]
mod tests;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::inflate::Inflate;
use super::{ContentError, Piece, Sink, Stop};

/// Codings on top of each other that are undone.
pub const CODINGS_MAX: usize = 3;

/// Bytes a decoder gives at once.
const STEP_BYTES: usize = 16 << 10;

/// Largest window of zstd, as a power of two: what RFC 9659 allows in HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Words found in `Content-Encoding` that belong into `Content-Type`, or nowhere.
const NO_CODINGS: [&str; 7] = [
    "utf-8",
    "utf8",
    "us-ascii",
    "iso-8859-1",
    "binary",
    "8bit",
    "none",
];

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `gzip`, `x-gzip`.
    Gzip,
    /// `deflate`: zlib, or raw as some senders have it.
    Deflate,
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstd,
}

impl Coding {
    /// The coding of one word of `Content-Encoding`; `None` for words that change nothing.
    ///
    /// # Errors
    /// [`ContentError::CodingUnknown`].
    pub fn parse(word: &str) -> Result<Option<Self>, ContentError> {
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        match word {
            _ if is("gzip") || is("x-gzip") => Ok(Some(Self::Gzip)),
            _ if is("deflate") => Ok(Some(Self::Deflate)),
            _ if is("br") => Ok(Some(Self::Brotli)),
            _ if is("zstd") => Ok(Some(Self::Zstd)),
            // The last marks chunks with signatures between plain bytes.
            "" => Ok(None),
            _ if is("identity") || is("aws-chunked") => Ok(None),
            // No codings, but what some servers write there; whoever gets it reads the bytes as they are.
            _ if NO_CODINGS.iter().any(|name| is(name)) => Ok(None),
            _ => Err(ContentError::CodingUnknown),
        }
    }
}

/// How much a content may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Decoded bytes that are taken whatever the ratio.
    pub free_bytes: u64,
    /// Decoded bytes for each coded one, beyond that.
    pub ratio_max: u64,
    /// Decoded bytes in all.
    pub bytes_max: u64,
}

impl DecodeLimits {
    /// Decoded bytes that so many coded ones may have given.
    pub(super) fn allowed(&self, read: u64) -> u64 {
        read.saturating_mul(self.ratio_max)
            .max(self.free_bytes)
            .min(self.bytes_max)
    }
}

impl Default for DecodeLimits {
    /// Logs and zeroed images shrink a hundredfold; DEFLATE cannot grow more than 1,032-fold.
    fn default() -> Self {
        Self {
            free_bytes: 32 << 20,
            ratio_max: 200,
            bytes_max: 64 << 30,
        }
    }
}

/// The codings of one body.
pub struct Codings {
    /// In the order they are undone.
    coders: Vec<Coder>,
    limits: DecodeLimits,
    /// Bytes pushed.
    read: u64,
}

struct Coder {
    engine: Engine,
    written: u64,
}

enum Engine {
    Inflate(Inflate),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(Decoder<'static>),
    /// Behind the end of a coding that knows its end: bytes are scanned as they are.
    Copy,
}

/// What one step of a decoder took and gave.
pub(super) struct Step {
    pub(super) read: usize,
    pub(super) written: usize,
}

impl Codings {
    /// Reads the values of `Content-Encoding`, joined by commas: the coding applied first stands first.
    ///
    /// # Errors
    /// [`ContentError::CodingUnknown`], [`ContentError::CodingsTooMany`].
    pub fn parse(header: &str, limits: DecodeLimits) -> Result<Self, ContentError> {
        let words = header
            .split(',')
            .rev()
            .map(|word| Coding::parse(word.trim()));
        let mut coders = Vec::new();
        for word in words {
            let Some(coding) = word? else { continue };
            if coders.len() == CODINGS_MAX {
                return Err(ContentError::CodingsTooMany);
            }
            coders.push(Coder::new(coding)?);
        }
        Ok(Self {
            coders,
            limits,
            read: 0,
        })
    }

    /// One coding.
    ///
    /// # Errors
    /// [`ContentError::CodingUnknown`] if its decoder cannot be made: out of memory.
    pub fn one(coding: Coding, limits: DecodeLimits) -> Result<Self, ContentError> {
        let coders = vec![Coder::new(coding)?];
        Ok(Self {
            coders,
            limits,
            read: 0,
        })
    }

    /// No coding: bytes come out as they go in.
    pub fn none(limits: DecodeLimits) -> Self {
        Self {
            coders: Vec::new(),
            limits,
            read: 0,
        }
    }

    /// Whether bytes come out as they go in.
    pub fn is_identity(&self) -> bool {
        self.coders.is_empty()
    }

    /// Undoes what can be undone of these bytes. A body cut short gives what is there.
    ///
    /// # Errors
    /// The bytes are not what they claim, or what `sink` answers.
    pub fn push<E>(&mut self, bytes: &[u8], sink: &mut Sink<'_, E>) -> Result<(), Stop<E>> {
        self.read += bytes.len() as u64;
        let allowed = self.limits.allowed(self.read);
        push(&mut self.coders, bytes, allowed, sink)
    }
}

/// Through the first of `coders`, and what comes out through the others.
fn push<E>(
    coders: &mut [Coder],
    mut bytes: &[u8],
    allowed: u64,
    sink: &mut Sink<'_, E>,
) -> Result<(), Stop<E>> {
    let Some((coder, rest)) = coders.split_first_mut() else {
        return if bytes.is_empty() {
            Ok(())
        } else {
            sink(Piece::Text(bytes)).map_err(Stop::Sink)
        };
    };
    let mut out = [0; STEP_BYTES];
    loop {
        let step = coder.engine.step(bytes, &mut out)?;
        bytes = &bytes[step.read..];
        coder.written += step.written as u64;
        if coder.written > allowed {
            return Err(ContentError::Bomb.into());
        }
        if step.written > 0 {
            push(rest, &out[..step.written], allowed, sink)?;
        } else if bytes.is_empty() {
            return Ok(());
        } else if step.read == 0 {
            return Err(ContentError::Malformed.into());
        }
    }
}

impl Coder {
    fn new(coding: Coding) -> Result<Self, ContentError> {
        Ok(Self {
            engine: Engine::new(coding)?,
            written: 0,
        })
    }
}

impl Engine {
    fn new(coding: Coding) -> Result<Self, ContentError> {
        Ok(match coding {
            Coding::Gzip => Self::Inflate(Inflate::gzip()),
            Coding::Deflate => Self::Inflate(Inflate::deflate()),
            Coding::Brotli => Self::Brotli(Box::new(BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            ))),
            Coding::Zstd => {
                let mut decoder = Decoder::new().map_err(|_| ContentError::CodingUnknown)?;
                decoder
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .map_err(|_| ContentError::CodingUnknown)?;
                Self::Zstd(decoder)
            }
        })
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, ContentError> {
        match self {
            Self::Inflate(inflate) => inflate.step(input, out),
            Self::Brotli(state) => {
                let (mut available_in, mut read) = (input.len(), 0);
                let (mut available_out, mut written) = (out.len(), 0);
                let result = BrotliDecompressStream(
                    &mut available_in,
                    &mut read,
                    input,
                    &mut available_out,
                    &mut written,
                    out,
                    &mut 0,
                    state,
                );
                match result {
                    BrotliResult::ResultFailure => return Err(ContentError::Malformed),
                    BrotliResult::ResultSuccess => *self = Self::Copy,
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                }
                Ok(Step { read, written })
            }
            Self::Zstd(decoder) => {
                let status = decoder
                    .run_on_buffers(input, out)
                    .map_err(|_| ContentError::Malformed)?;
                Ok(Step {
                    read: status.bytes_read,
                    written: status.bytes_written,
                })
            }
            Self::Copy => {
                let len = input.len().min(out.len());
                out[..len].copy_from_slice(&input[..len]);
                Ok(Step {
                    read: len,
                    written: len,
                })
            }
        }
    }
}

impl std::fmt::Debug for Codings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codings")
            .field("coders", &self.coders.len())
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}
