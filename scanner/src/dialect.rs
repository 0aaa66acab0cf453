//! Writes the byte meaning of an expression in the syntax Vectorscan reads.
//!
//! Only what both engines mean alike is used: bytes in hex, byte classes, `{n,m}`, groups, and
//! anchors that have no options. Greediness is left out; the engine reports all ends anyway.
//!
//! The engine only says *which* patterns may occur, so it may be asked for a little more than the
//! pattern means if that is cheaper: `(?:(?:all|the|my)\s+)*` is asked for as `[aehlmty\s]*`. The
//! confirm decides. What is asked for ends no later than the pattern itself, so a first end
//! reported by the engine is still a lower bound for the pattern's own.

mod condense;

use std::fmt::Write as _;

use crate::anchor;
use oktsec_rules::{Expression, ExpressionError};
use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, HirKind, Look, Repetition};

/// An expression as the engine is asked for it.
pub(crate) struct Written {
    pub(crate) expression: String,
    /// Every match contains a literal the engine finds fast.
    pub(crate) has_long_literal: bool,
}

/// `None` if Vectorscan has no word for a part of it (half word boundaries, CRLF anchors).
pub(crate) fn write(hir: &Hir) -> Option<Written> {
    let mut expression = String::new();
    let asked = condense::condense(&widen(hir));
    write_into(&asked, &mut expression)?;
    Some(Written {
        expression,
        has_long_literal: condense::has_long_literal(&asked),
    })
}

/// What the engine is asked for when it is asked for an expression, and what that may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The bytes it is found by, or, if there are none, what the engine is asked for in its own
    /// syntax; `None` if the engine has no words for it.
    pub asked: Option<String>,
    /// Whether it is found by bytes that every match contains: fast, and free where they are rare.
    pub anchored: bool,
    /// Nanoseconds for each KiB of ordinary text, confirming included. An order of magnitude.
    pub nanos_per_kib: f64,
}

/// Explains how an expression will be looked for: for `rules lint`.
///
/// # Errors
/// [`ExpressionError`] if it is no usable expression at all.
pub fn estimate(expression: &Expression) -> Result<Estimate, ExpressionError> {
    let hir = expression.to_hir()?;
    if let Some(price) = anchor::price(&hir) {
        return Ok(Estimate {
            asked: Some(price.windows.join(" ")),
            anchored: true,
            nanos_per_kib: price.nanos_per_kib,
        });
    }
    let asked = condense::condense(&widen(&hir));
    Ok(Estimate {
        anchored: false,
        nanos_per_kib: condense::price_of(&asked),
        asked: write(&hir).map(|written| written.expression),
    })
}

/// Replaces repetitions of groups by repetitions of the bytes in them.
fn widen(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => hir.clone(),
        HirKind::Capture(capture) => widen(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(widen).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(widen).collect()),
        HirKind::Repetition(repetition) => {
            let single = matches!(repetition.sub.kind(), HirKind::Class(_))
                || matches!(repetition.sub.kind(), HirKind::Literal(text) if text.0.len() == 1);
            let sub = Box::new(widen(&repetition.sub));
            if single || repetition.max == Some(1) || repetition.max == Some(repetition.min) {
                return Hir::repetition(Repetition {
                    sub,
                    ..repetition.clone()
                });
            }
            let mut class = ClassBytes::empty();
            bytes_in(&repetition.sub, &mut class);
            let tail = Hir::repetition(Repetition {
                min: 0,
                max: None,
                greedy: true,
                sub: Box::new(Hir::class(Class::Bytes(class))),
            });
            if repetition.min == 0 {
                return tail;
            }
            let min = repetition.min;
            let head = Hir::repetition(Repetition {
                min,
                max: Some(min),
                greedy: true,
                sub,
            });
            Hir::concat(vec![head, tail])
        }
    }
}

fn bytes_in(hir: &Hir, class: &mut ClassBytes) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => {
            literal
                .0
                .iter()
                .for_each(|byte| class.push(ClassBytesRange::new(*byte, *byte)));
        }
        HirKind::Class(Class::Bytes(bytes)) => class.union(bytes),
        HirKind::Class(Class::Unicode(_)) => class.push(ClassBytesRange::new(0, 255)),
        HirKind::Repetition(repetition) => bytes_in(&repetition.sub, class),
        HirKind::Capture(capture) => bytes_in(&capture.sub, class),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().for_each(|part| bytes_in(part, class));
        }
    }
}

fn write_into(hir: &Hir, out: &mut String) -> Option<()> {
    match hir.kind() {
        HirKind::Empty => out.push_str("(?:)"),
        HirKind::Literal(literal) => literal.0.iter().for_each(|byte| write_byte(*byte, out)),
        HirKind::Class(Class::Unicode(_)) => return None,
        HirKind::Class(Class::Bytes(class)) => {
            out.push('[');
            for range in class.ranges() {
                write_byte(range.start(), out);
                if range.end() != range.start() {
                    out.push('-');
                    write_byte(range.end(), out);
                }
            }
            out.push(']');
        }
        HirKind::Look(look) => out.push_str(match look {
            Look::Start => "\\A",
            Look::End => "\\z",
            Look::StartLF => "(?m:^)",
            Look::EndLF => "(?m:$)",
            Look::WordAscii => "\\b",
            Look::WordAsciiNegate => "\\B",
            Look::StartCRLF
            | Look::EndCRLF
            | Look::WordUnicode
            | Look::WordUnicodeNegate
            | Look::WordStartAscii
            | Look::WordEndAscii
            | Look::WordStartUnicode
            | Look::WordEndUnicode
            | Look::WordStartHalfAscii
            | Look::WordEndHalfAscii
            | Look::WordStartHalfUnicode
            | Look::WordEndHalfUnicode => return None,
        }),
        HirKind::Repetition(repetition) => {
            out.push_str("(?:");
            write_into(&repetition.sub, out)?;
            out.push(')');
            match (repetition.min, repetition.max) {
                (0, None) => out.push('*'),
                (1, None) => out.push('+'),
                (0, Some(1)) => out.push('?'),
                (min, None) => write!(out, "{{{min},}}").ok()?,
                (min, Some(max)) if min == max => write!(out, "{{{min}}}").ok()?,
                (min, Some(max)) => write!(out, "{{{min},{max}}}").ok()?,
            }
        }
        HirKind::Capture(capture) => write_into(&capture.sub, out)?,
        HirKind::Concat(parts) => {
            for part in parts {
                write_into(part, out)?;
            }
        }
        HirKind::Alternation(parts) => {
            out.push_str("(?:");
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    out.push('|');
                }
                write_into(part, out)?;
            }
            out.push(')');
        }
    }
    Some(())
}

fn write_byte(byte: u8, out: &mut String) {
    if byte.is_ascii_alphanumeric() {
        out.push(char::from(byte));
    } else {
        write!(out, "\\x{byte:02X}").expect("writing to a string");
    }
}

#[cfg(test)]
mod tests {
    use super::Expression;

    fn dialect(text: &str) -> Option<String> {
        let hir = Expression::Regex(text.to_owned()).to_hir().unwrap();
        super::write(&hir).map(|written| written.expression)
    }

    #[test]
    fn writes_what_the_engine_reads() {
        assert_eq!(
            dialect(r"(?i)ab\s{2,5}").as_deref(),
            Some(r"[Aa][Bb](?:[\x09-\x0D\x20]){2,5}")
        );
        assert_eq!(
            dialect(r"^a(?:b|cd)*$").as_deref(),
            Some(r"\Aa(?:[b-d])*\z")
        );
        assert_eq!(dialect(r"(?:ab){2,5}").as_deref(), Some(r"(?:ab){2}"),);
        assert_eq!(dialect("é").as_deref(), Some(r"\xC3\xA9"));
        assert_eq!(dialect(r"\b{start}a"), None);
    }
}
