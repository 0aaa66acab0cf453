//! Asks one text for every known value, as it is and encoded.

use std::ops::Range;
use std::sync::Arc;

use super::encoded::{self, Stretch};
use super::index::{Pairs, SecretIndex};
use super::key::WINDOW_BYTES;

/// Findings kept of one text: one decides, the others help to see what happened.
pub const FINDINGS_MAX: usize = 64;

/// How a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretForm {
    /// As it is.
    Plain,
    /// Last byte first.
    Reversed,
    /// Base64, standard or URL-safe.
    Base64,
    /// Two hex digits a byte.
    Hex,
    /// `%41`, wholly or in part.
    Percent,
    /// `\"`, `\n`, `\u0041`, `\x41`, wholly or in part.
    Escaped,
    /// `&amp;`, `&#65;`, wholly or in part.
    Entities,
}

impl SecretForm {
    /// The word of records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Reversed => "reversed",
            Self::Base64 => "base64",
            Self::Hex => "hex",
            Self::Percent => "percent",
            Self::Escaped => "escaped",
            Self::Entities => "entities",
        }
    }
}

/// A known value in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFinding {
    /// Which one: see [`SecretIndex::name`].
    pub secret: u32,
    /// The bytes of the text it was found in, encoding included.
    pub span: Range<usize>,
    /// How it was written.
    pub form: SecretForm,
}

/// What a text holds, in order of place; valid until the finder is used again.
#[derive(Debug)]
pub struct Found<'a> {
    /// One for each name and place.
    pub findings: &'a [SecretFinding],
    /// More than [`FINDINGS_MAX`] were there.
    pub more: bool,
}

/// Owned by one core; reused from text to text.
pub struct SecretFinder {
    index: Arc<SecretIndex>,
    /// Pairs that begin a window as read or as read backwards.
    either: Pairs,
    decoded: Vec<u8>,
    findings: Vec<SecretFinding>,
    more: bool,
}

impl SecretFinder {
    /// A finder of this index.
    pub fn new(index: Arc<SecretIndex>) -> Self {
        Self {
            either: index.pairs.or(&index.pairs_reversed),
            index,
            decoded: Vec::new(),
            findings: Vec::new(),
            more: false,
        }
    }

    /// The index in use.
    pub fn index(&self) -> &Arc<SecretIndex> {
        &self.index
    }

    /// Every known value in `text`, as it is and in the forms of [`SecretForm`].
    pub fn find(&mut self, text: &[u8]) -> Found<'_> {
        self.findings.clear();
        self.more = false;
        if !self.index.is_empty() {
            self.plain(text);
            let mut decoded = std::mem::take(&mut self.decoded);
            encoded::stretches(text, |stretch| self.stretch(text, &stretch, &mut decoded));
            decoded.clear();
            self.decoded = decoded;
        }
        self.findings
            .sort_unstable_by_key(|finding| (finding.span.start, finding.span.end, finding.form));
        Found {
            findings: &self.findings,
            more: self.more,
        }
    }

    fn plain(&mut self, text: &[u8]) {
        let Self {
            index,
            either,
            findings,
            more,
            ..
        } = self;
        for (at, pair) in text.windows(2).enumerate() {
            let pair = u16::from_le_bytes([pair[0], pair[1]]);
            if !either.has(pair) {
                continue;
            }
            if index.pairs.has(pair) {
                forward(index, text, at, |secret, span| {
                    keep(findings, more, secret, span, SecretForm::Plain);
                });
            }
            if index.pairs_reversed.has(pair) {
                backward(index, text, at, |secret, span| {
                    keep(findings, more, secret, span, SecretForm::Reversed);
                });
            }
        }
    }

    /// Looks at a stretch of the text without its encoding.
    fn stretch(&mut self, text: &[u8], stretch: &Stretch, decoded: &mut Vec<u8>) {
        let Self {
            index,
            findings,
            more,
            ..
        } = self;
        decoded.clear();
        stretch.bytes(text, decoded);
        for (at, pair) in decoded.windows(2).enumerate() {
            if !index.pairs.has(u16::from_le_bytes([pair[0], pair[1]])) {
                continue;
            }
            forward(index, decoded, at, |secret, place| {
                // Rare, so the way back is not kept but walked again.
                let mut span: Option<Range<usize>> = None;
                let (mut count, mut encoded) = (0, false);
                stretch.decode(text, |_, from| {
                    if place.contains(&count) {
                        let start = span.as_ref().map_or(from.start, |span| span.start);
                        encoded |= from.len() != 1;
                        span = Some(start..from.end);
                    }
                    count += 1;
                });
                // A value whose every byte stands for itself has been found in the text as it is.
                if let (Some(span), true) = (span, encoded) {
                    keep(findings, more, secret, span, stretch.form());
                }
            });
        }
    }
}

fn keep(
    findings: &mut Vec<SecretFinding>,
    more: &mut bool,
    secret: u32,
    span: Range<usize>,
    form: SecretForm,
) {
    let known = findings.iter().any(|other| {
        other.secret == secret && other.span.start < span.end && span.start < other.span.end
    });
    if known {
        return;
    }
    if findings.len() == FINDINGS_MAX {
        *more = true;
        return;
    }
    findings.push(SecretFinding { secret, span, form });
}

/// Values whose window begins at `at`.
fn forward(index: &SecretIndex, text: &[u8], at: usize, mut found: impl FnMut(u32, Range<usize>)) {
    let Some(window) = text[at..].first_chunk::<WINDOW_BYTES>() else {
        return;
    };
    for entry in index.entries_at(*window) {
        let Some(start) = at.checked_sub(usize::from(entry.offset)) else {
            continue;
        };
        let span = start..start + usize::from(entry.length);
        if text
            .get(span.clone())
            .is_some_and(|value| index.key.value(value) == entry.value)
        {
            found(entry.name, span);
        }
    }
}

/// Values whose window, read backwards, ends with the two bytes at `at`.
fn backward(index: &SecretIndex, text: &[u8], at: usize, mut found: impl FnMut(u32, Range<usize>)) {
    let end = at + 2;
    let Some(window) = text[..end].last_chunk::<WINDOW_BYTES>() else {
        return;
    };
    let mut window = *window;
    window.reverse();
    for entry in index.entries_at(window) {
        let end = end + usize::from(entry.offset);
        let Some(start) = end.checked_sub(usize::from(entry.length)) else {
            continue;
        };
        let Some(value) = text.get(start..end) else {
            continue;
        };
        let value: Vec<u8> = value.iter().rev().copied().collect();
        if index.key.value(&value) == entry.value {
            found(entry.name, start..end);
        }
    }
}
