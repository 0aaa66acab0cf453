//! The DEFLATE family: gzip (RFC 1952, any number of members), zlib (RFC 1950) and raw (RFC 1951).
//!
//! Checksums are left to whoever reads the content: what they read is what was scanned.

use flate2::{Decompress, FlushDecompress, Status};

use super::ContentError;
use super::coding::Step;

/// What stands around the compressed bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrap {
    Gzip,
    Zlib,
    Raw,
}

/// A decoder of gzip or deflate.
pub(super) struct Inflate {
    engine: Decompress,
    wrap: Wrap,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Inside a gzip header.
    Header(Header),
    /// HTTP says `deflate` and means zlib; some senders mean raw. Two bytes tell: the first, if it is there.
    Sniff(Option<u8>),
    /// Compressed bytes.
    Body,
    /// Bytes of the checksum still to come.
    Trailer(u8),
    /// Between two gzip members; the bytes of the next magic seen.
    Between(u8),
    /// What follows is not compressed.
    Ended,
}

/// Where in a gzip header the next byte lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    field: Field,
    flags: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    /// One of the ten fixed bytes.
    Fixed(u8),
    /// The length of the extra field, low byte first.
    ExtraLen(Option<u8>),
    Extra(u16),
    Name,
    Comment,
    /// Bytes of the header's own checksum still to come.
    Check(u8),
}

const FLAG_CHECK: u8 = 2;
const FLAG_EXTRA: u8 = 4;
const FLAG_NAME: u8 = 8;
const FLAG_COMMENT: u8 = 16;
const FLAGS_RESERVED: u8 = 0xE0;

const MAGIC: [u8; 2] = [0x1F, 0x8B];

impl Inflate {
    pub(super) fn gzip() -> Self {
        Self::new(Wrap::Gzip, State::Header(Header::new(0)))
    }

    pub(super) fn deflate() -> Self {
        Self::new(Wrap::Zlib, State::Sniff(None))
    }

    fn new(wrap: Wrap, state: State) -> Self {
        Self {
            engine: Decompress::new(false),
            wrap,
            state,
        }
    }

    /// Takes some of `input`, gives some of its content.
    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, ContentError> {
        if self.state == State::Body {
            // Even without input: what was read before may not have fitted into the last `out`.
            return self.body(input, 0, out);
        }
        let mut read = 0;
        while let Some(byte) = input.get(read).copied() {
            self.state = match self.state {
                State::Header(header) => match header.next(byte)? {
                    Some(header) => State::Header(header),
                    None => State::Body,
                },
                State::Sniff(None) => State::Sniff(Some(byte)),
                State::Sniff(Some(first)) => {
                    let zlib = first & 0x0F == 8
                        && first >> 4 <= 7
                        && (u16::from(first) << 8 | u16::from(byte)).is_multiple_of(31);
                    self.state = State::Body;
                    if zlib {
                        read += 1;
                    } else {
                        self.wrap = Wrap::Raw;
                        // The first byte is gone from `input`. No code fits into one byte, so nothing comes out.
                        let (taken, written, _) = run(&mut self.engine, &[first], out)?;
                        debug_assert!(taken == 1 && written == 0);
                    }
                    continue;
                }
                State::Body => return self.body(input, read, out),
                State::Trailer(1) if self.wrap == Wrap::Gzip => {
                    self.engine.reset(false);
                    State::Between(0)
                }
                State::Trailer(1) => State::Ended,
                State::Trailer(left) => State::Trailer(left - 1),
                State::Between(0) => match byte {
                    0 => State::Between(0),
                    byte if byte == MAGIC[0] => State::Between(1),
                    _ => {
                        self.state = State::Ended;
                        continue;
                    }
                },
                State::Between(_) => {
                    if byte != MAGIC[1] {
                        return Err(ContentError::Malformed);
                    }
                    State::Header(Header::new(2))
                }
                // Readers ignore what follows, or show it: it is scanned as it is.
                State::Ended => {
                    let rest = &input[read..];
                    let len = rest.len().min(out.len());
                    out[..len].copy_from_slice(&rest[..len]);
                    return Ok(Step {
                        read: read + len,
                        written: len,
                    });
                }
            };
            read += 1;
        }
        Ok(Step { read, written: 0 })
    }

    /// Compressed bytes from `input[at..]` on.
    fn body(&mut self, input: &[u8], at: usize, out: &mut [u8]) -> Result<Step, ContentError> {
        let (taken, written, ended) = run(&mut self.engine, &input[at..], out)?;
        if ended {
            self.state = match self.wrap {
                Wrap::Gzip => State::Trailer(8),
                Wrap::Zlib => State::Trailer(4),
                Wrap::Raw => State::Ended,
            };
        }
        Ok(Step {
            read: at + taken,
            written,
        })
    }
}

/// Bytes taken, bytes written, and whether the compressed stream is over.
fn run(
    engine: &mut Decompress,
    input: &[u8],
    out: &mut [u8],
) -> Result<(usize, usize, bool), ContentError> {
    let (read, written) = (engine.total_in(), engine.total_out());
    let status = engine
        .decompress(input, out, FlushDecompress::Sync)
        .map_err(|_| ContentError::Malformed)?;
    let taken = usize::try_from(engine.total_in() - read).unwrap_or(usize::MAX);
    let written = usize::try_from(engine.total_out() - written).unwrap_or(usize::MAX);
    Ok((taken, written, status == Status::StreamEnd))
}

impl Header {
    fn new(at: u8) -> Self {
        Self {
            field: Field::Fixed(at),
            flags: 0,
        }
    }

    /// Behind the magic and the method.
    pub(super) fn behind_magic() -> Self {
        Self::new(MAGIC.len() as u8 + 1)
    }

    /// The place behind this byte; `None` behind the header.
    pub(super) fn next(mut self, byte: u8) -> Result<Option<Self>, ContentError> {
        self.field = match self.field {
            Field::Fixed(at) => {
                let good = match at {
                    0 | 1 => byte == MAGIC[usize::from(at)],
                    2 => byte == 8,
                    3 => {
                        self.flags = byte;
                        byte & FLAGS_RESERVED == 0
                    }
                    _ => true,
                };
                if !good {
                    return Err(ContentError::Malformed);
                }
                if at < 9 {
                    Field::Fixed(at + 1)
                } else {
                    return Ok(self.then(Self::EXTRA));
                }
            }
            Field::ExtraLen(None) => Field::ExtraLen(Some(byte)),
            Field::ExtraLen(Some(low)) => match u16::from(byte) << 8 | u16::from(low) {
                0 => return Ok(self.then(Self::NAME)),
                len => Field::Extra(len),
            },
            Field::Extra(1) => return Ok(self.then(Self::NAME)),
            Field::Extra(left) => Field::Extra(left - 1),
            Field::Name if byte == 0 => return Ok(self.then(Self::COMMENT)),
            Field::Comment if byte == 0 => return Ok(self.then(Self::CHECK)),
            Field::Check(1) => return Ok(None),
            Field::Check(left) => Field::Check(left - 1),
            same @ (Field::Name | Field::Comment) => same,
        };
        Ok(Some(self))
    }

    const EXTRA: usize = 0;
    const NAME: usize = 1;
    const COMMENT: usize = 2;
    const CHECK: usize = 3;

    /// The first optional field at or behind `from` that the flags announce.
    fn then(mut self, from: usize) -> Option<Self> {
        let optional = [
            (FLAG_EXTRA, Field::ExtraLen(None)),
            (FLAG_NAME, Field::Name),
            (FLAG_COMMENT, Field::Comment),
            (FLAG_CHECK, Field::Check(2)),
        ];
        let (_, field) = optional[from..]
            .iter()
            .find(|(flag, _)| self.flags & flag != 0)?;
        self.field = *field;
        Some(self)
    }
}
