//! How rare a match is in ordinary text, in bits, from the statistics of three letters in a row;
//! for rows of four bytes from those of the commonest such rows.
//!
//! `trigrams.bin` holds, for thirty classes of bytes, sixteenths of bits: of a class, of a class
//! after another, and of a class after two others; counted over prose, code, JSON and manuals.
//! `grams.bin` holds the 6,144 commonest rows of four bytes, letters without case: four bytes,
//! little endian, and eighths of bits, in ascending order; counted over the same kinds of text.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, ClassBytes, Hir, HirKind, Look, Repetition};

use crate::anchor::Set;

static TRIGRAMS: &[u8; CLASSES + CLASSES * CLASSES + CLASSES * CLASSES * CLASSES] =
    include_bytes!("trigrams.bin");

static GRAMS: &[u8] = include_bytes!("grams.bin");

const GRAM_BYTES: usize = 5;

/// A row that is not among the commonest is about half as common as the last of them.
const UNKNOWN_GRAM_RATE: f64 = 1.0 / 80_000.0;

const CLASSES: usize = 30;
const BLANK: usize = 26;

/// A word is never rarer than this, whatever its letters say: texts have subjects.
const WORD_BITS_MAX: f64 = 17.0;

/// Bits a particular digit, sign or byte outside ASCII adds to its class.
const DIGIT_BITS: f64 = 3.3;
const SIGN_BITS: f64 = 4.0;
const HIGH_BITS: f64 = 5.0;

fn class_of(byte: u8) -> (usize, f64) {
    match byte {
        b'a'..=b'z' => (usize::from(byte - b'a'), 0.0),
        b'A'..=b'Z' => (usize::from(byte - b'A'), 0.0),
        b' ' | b'\t' | b'\n' | b'\r' => (BLANK, 0.0),
        b'0'..=b'9' => (27, DIGIT_BITS),
        0x80..=0xFF => (29, HIGH_BITS),
        _ => (28, SIGN_BITS),
    }
}

/// The two classes before, if they are known.
#[derive(Clone, Copy, Default)]
struct Before(Option<usize>, Option<usize>);

#[derive(Default)]
struct Count {
    before: Before,
    /// Bits of the word being read.
    word: f64,
    /// Bits of what came before it.
    done: f64,
}

impl Count {
    fn byte(&mut self, byte: u8) {
        let (class, extra) = class_of(byte);
        let at = match self.before {
            Before(Some(first), Some(second)) => {
                CLASSES + CLASSES * CLASSES + (first * CLASSES + second) * CLASSES + class
            }
            Before(_, Some(second)) => CLASSES + second * CLASSES + class,
            Before(_, None) => class,
        };
        self.word += f64::from(TRIGRAMS[at]) / 16.0 + extra;
        self.before = Before(self.before.1, Some(class));
        if class == BLANK {
            self.end_word();
        }
    }

    fn sum(mut self) -> f64 {
        self.end_word();
        self.done.max(0.0)
    }

    fn end_word(&mut self) {
        self.done += self.word.min(WORD_BITS_MAX);
        self.word = 0.0;
    }

    fn forget(&mut self, bits: f64) {
        self.end_word();
        self.done += bits;
        self.before = Before::default();
    }
}

pub(crate) fn bits(hir: &Hir) -> f64 {
    let mut count = Count::default();
    add(hir, &mut count);
    count.sum()
}

/// The same for parts in a row.
pub(crate) fn bits_of(parts: &[Hir]) -> f64 {
    let mut count = Count::default();
    parts.iter().for_each(|part| add(part, &mut count));
    count.sum()
}

/// How often one of these rows of four bytes begins at a byte of ordinary text. Letters are
/// counted without case.
pub(crate) fn rate_of_window(window: &[Set; 4], spellings: impl Iterator<Item = u32>) -> f64 {
    let (mut known, mut unknown) = (0.0, 0.0);
    for spelling in spellings {
        match gram(spelling) {
            Some(eighths) => known += (-f64::from(eighths) / 8.0).exp2(),
            None => unknown += UNKNOWN_GRAM_RATE,
        }
    }
    let mut count = Count::default();
    for set in window {
        match commonest_of_few(set.len(), set.iter()) {
            Some(byte) => count.byte(byte),
            None => count.forget(share_bits(set.iter())),
        }
    }
    known + (-count.sum()).exp2().min(unknown)
}

fn gram(bytes: u32) -> Option<u8> {
    let (rows, _) = GRAMS.as_chunks::<GRAM_BYTES>();
    let key = |row: &[u8; GRAM_BYTES]| u32::from_le_bytes([row[0], row[1], row[2], row[3]]);
    let at = rows.binary_search_by_key(&bytes, key).ok()?;
    Some(rows[at][4])
}

/// The share of ordinary bytes that are in the set.
pub(crate) fn share(set: Set) -> f64 {
    set.iter()
        .map(|byte| SHARES[usize::from(byte)])
        .sum::<f64>()
        .min(1.0)
}

fn add(hir: &Hir, count: &mut Count) {
    match hir.kind() {
        HirKind::Empty => {}
        HirKind::Literal(literal) => literal.0.iter().for_each(|byte| count.byte(*byte)),
        HirKind::Class(Class::Unicode(_)) => count.forget(0.0),
        HirKind::Class(Class::Bytes(class)) => {
            match commonest_of_few(bytes_of(class).count(), bytes_of(class)) {
                Some(byte) => count.byte(byte),
                None => count.forget(class_bits(class)),
            }
        }
        HirKind::Look(look) => match look {
            Look::WordAscii | Look::WordAsciiNegate => {}
            _ => count.done += 3.0,
        },
        HirKind::Repetition(Repetition { min, max, sub, .. }) => {
            let times = (*min).min(24);
            for _ in 0..times.min(2) {
                add(sub, count);
            }
            if times > 2 {
                count.forget(f64::from(times - 2) * bits(sub));
            }
            if *max != Some(*min) {
                // A gap may be of any length: each is another chance.
                let spread = f64::from(max.map_or(48, |max| (max - min).clamp(1, 256)));
                let wide = matches!(sub.kind(), HirKind::Class(Class::Bytes(class)) if class_bits(class) < 1.0);
                count.forget(if wide { -spread.log2() } else { 0.0 });
            }
        }
        HirKind::Capture(capture) => add(&capture.sub, count),
        HirKind::Concat(parts) => parts.iter().for_each(|part| add(part, count)),
        HirKind::Alternation(parts) => {
            let sum: f64 = parts.iter().map(|part| (-bits(part)).exp2()).sum();
            count.forget(-sum.log2());
        }
    }
}

/// Upper and lower case, or a few spellings: the commonest byte stands for them.
fn commonest_of_few(size: usize, bytes: impl Iterator<Item = u8>) -> Option<u8> {
    if size > 3 {
        return None;
    }
    bytes.min_by_key(|byte| TRIGRAMS[class_of(*byte).0])
}

fn bytes_of(class: &ClassBytes) -> impl Iterator<Item = u8> {
    class
        .ranges()
        .iter()
        .flat_map(|range| range.start()..=range.end())
}

fn class_bits(class: &ClassBytes) -> f64 {
    share_bits(bytes_of(class))
}

/// Bits of "one of these bytes".
fn share_bits(bytes: impl Iterator<Item = u8>) -> f64 {
    let share: f64 = bytes.map(|byte| SHARES[usize::from(byte)]).sum();
    -share.min(1.0).log2()
}

/// How often each byte occurs in ordinary text.
static SHARES: LazyLock<[f64; 256]> = LazyLock::new(|| {
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        let (at, extra) = class_of(byte);
        let case = match byte {
            b'a'..=b'z' => 0.1,
            b'A'..=b'Z' => 4.0,
            _ => 0.0,
        };
        (-f64::from(TRIGRAMS[at]) / 16.0 - extra - case).exp2()
    })
});
