//! How rare a match is in ordinary text, in bits, from the statistics of three letters in a row.
//!
//! `trigrams.bin` holds, for thirty classes of bytes, sixteenths of bits: of a class, of a class
//! after another, and of a class after two others; counted over prose, code, JSON and manuals.

use regex_syntax::hir::{Class, ClassBytes, Hir, HirKind, Look, Repetition};

static TRIGRAMS: &[u8; CLASSES + CLASSES * CLASSES + CLASSES * CLASSES * CLASSES] =
    include_bytes!("trigrams.bin");

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

pub(super) fn bits(hir: &Hir) -> f64 {
    let mut count = Count {
        before: Before::default(),
        word: 0.0,
        done: 0.0,
    };
    add(hir, &mut count);
    count.end_word();
    count.done.max(0.0)
}

/// The same for parts in a row.
pub(super) fn bits_of(parts: &[Hir]) -> f64 {
    let mut count = Count {
        before: Before::default(),
        word: 0.0,
        done: 0.0,
    };
    parts.iter().for_each(|part| add(part, &mut count));
    count.end_word();
    count.done.max(0.0)
}

fn add(hir: &Hir, count: &mut Count) {
    match hir.kind() {
        HirKind::Empty => {}
        HirKind::Literal(literal) => literal.0.iter().for_each(|byte| count.byte(*byte)),
        HirKind::Class(Class::Unicode(_)) => count.forget(0.0),
        HirKind::Class(Class::Bytes(class)) => match commonest_of_few(class) {
            Some(byte) => count.byte(byte),
            None => count.forget(class_bits(class)),
        },
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
fn commonest_of_few(class: &ClassBytes) -> Option<u8> {
    let size: usize = class.ranges().iter().map(|range| range.len()).sum();
    if size > 3 {
        return None;
    }
    let bytes = class
        .ranges()
        .iter()
        .flat_map(|range| range.start()..=range.end());
    bytes.min_by_key(|byte| TRIGRAMS[class_of(*byte).0])
}

fn class_bits(class: &ClassBytes) -> f64 {
    let share: f64 = class
        .ranges()
        .iter()
        .flat_map(|range| range.start()..=range.end())
        .map(|byte| {
            let (at, extra) = class_of(byte);
            let case = if byte.is_ascii_alphabetic() {
                if byte.is_ascii_lowercase() { 0.1 } else { 4.0 }
            } else {
                0.0
            };
            (-f64::from(TRIGRAMS[at]) / 16.0 - extra - case).exp2()
        })
        .sum();
    -share.min(1.0).log2()
}
