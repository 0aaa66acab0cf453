//! Expressions of rules, and their one meaning in every engine.
//!
//! An expression is written in the syntax of the `regex` crate (which Go's is close to) and means
//! **bytes**: `\w \d \s \b` are ASCII, `.` and negated classes are one byte, a letter outside
//! ASCII stands for its UTF-8 bytes, `\xE2` is the byte E2 and `\x{200B}` the code point.
//! [`Expression::to_hir`] produces that meaning once; both engines are built from its result, so
//! they cannot read one rule in two ways.

use regex_syntax::ast::{self, Ast, ClassSet, ClassSetItem};
use regex_syntax::hir::{
    Class, ClassBytes, ClassBytesRange, ClassUnicode, Hir, HirKind, Look, Repetition,
};
use regex_syntax::utf8::Utf8Sequences;
use serde::{Deserialize, Serialize};

/// Longest expression accepted.
pub const EXPRESSION_BYTES_MAX: usize = 4096;

/// States an expression may expand to (`(a{100}){100}` is 10,000): bounds compile time and memory.
const STATES_MAX: u64 = 50_000;

/// UTF-8 sequences one class may expand to.
const CLASS_SEQUENCES_MAX: usize = 512;

/// Nesting depth of groups.
const NEST_MAX: u32 = 60;

/// What a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expression {
    /// A regular expression.
    Regex(String),
    /// A literal, in any case.
    Contains(String),
}

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Longer than [`EXPRESSION_BYTES_MAX`].
    #[error("expression is {0} bytes long, the limit is {EXPRESSION_BYTES_MAX}")]
    TooLong(usize),
    /// Not in our syntax; look-around and back-references land here.
    #[error("{0}")]
    Syntax(String),
    /// It would match everywhere.
    #[error("expression can match the empty string, so it would match every content")]
    MatchesEmpty,
    /// It can never match.
    #[error("expression can never match")]
    MatchesNothing,
    /// Repetitions multiply beyond `STATES_MAX`.
    #[error("expression expands to {0} states, the limit is {STATES_MAX}; shorten its repetitions")]
    TooLarge(u64),
    /// One class covers too many code points.
    #[error("a character class covers too many code points; name the scripts or letters meant")]
    ClassTooLarge,
}

impl Expression {
    /// The text as written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Regex(text) | Self::Contains(text) => text,
        }
    }

    /// The meaning in bytes, for any engine.
    pub fn to_hir(&self) -> Result<Hir, ExpressionError> {
        let text = self.as_str();
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(ExpressionError::TooLong(text.len()));
        }
        let syntax = match self {
            Self::Regex(text) => text.clone(),
            Self::Contains(text) => format!("(?i){}", regex_syntax::escape(text)),
        };
        let ast = ast::parse::ParserBuilder::new()
            .nest_limit(NEST_MAX)
            .build()
            .parse(&syntax)
            .map_err(|error| ExpressionError::Syntax(one_line(error.kind())))?;
        let mut ast = ast;
        asciify(&mut ast);
        let hir = regex_syntax::hir::translate::TranslatorBuilder::new()
            .utf8(false)
            .build()
            .translate(&syntax, &ast)
            .map_err(|error| ExpressionError::Syntax(one_line(error.kind())))?;
        let hir = to_bytes(&hir)?;
        let states = states(&hir);
        if states > STATES_MAX {
            return Err(ExpressionError::TooLarge(states));
        }
        match hir.properties().minimum_len() {
            None => Err(ExpressionError::MatchesNothing),
            Some(0) => Err(ExpressionError::MatchesEmpty),
            Some(_) => Ok(hir),
        }
    }
}

fn one_line(error: &impl ToString) -> String {
    let text = error.to_string();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.contains("look-around") || text.contains("backreferences") {
        format!("{text}; use `near`, `exclude` or two patterns with `match: all` instead")
    } else {
        text
    }
}

/// Makes `\w \d \s` ASCII and `\xHH` a byte, before Unicode semantics can widen them.
fn asciify(ast: &mut Ast) {
    match ast {
        Ast::Empty(_) | Ast::Flags(_) | Ast::Dot(_) | Ast::Assertion(_) | Ast::ClassUnicode(_) => {}
        Ast::Literal(literal) => {
            if is_high_byte(literal) {
                let inner = ast.clone();
                *ast = as_byte(inner);
            }
        }
        Ast::ClassPerl(perl) => {
            let span = perl.span;
            let item = ascii_item(perl);
            *ast = Ast::class_bracketed(ast::ClassBracketed {
                span,
                negated: false,
                kind: ClassSet::Item(item),
            });
        }
        Ast::ClassBracketed(class) => {
            if asciify_set(&mut class.kind) {
                let inner = ast.clone();
                *ast = as_byte(inner);
            }
        }
        Ast::Repetition(repetition) => asciify(&mut repetition.ast),
        Ast::Group(group) => asciify(&mut group.ast),
        Ast::Alternation(alternation) => alternation.asts.iter_mut().for_each(asciify),
        Ast::Concat(concat) => concat.asts.iter_mut().for_each(asciify),
    }
}

fn is_high_byte(literal: &ast::Literal) -> bool {
    matches!(
        literal.kind,
        ast::LiteralKind::HexFixed(ast::HexLiteralKind::X)
    ) && u32::from(literal.c) >= 0x80
}

/// `(?-u:ast)`
fn as_byte(ast: Ast) -> Ast {
    let span = *ast.span();
    let item = |kind| ast::FlagsItem { span, kind };
    let flags = ast::Flags {
        span,
        items: vec![
            item(ast::FlagsItemKind::Negation),
            item(ast::FlagsItemKind::Flag(ast::Flag::Unicode)),
        ],
    };
    Ast::group(ast::Group {
        span,
        kind: ast::GroupKind::NonCapturing(flags),
        ast: Box::new(ast),
    })
}

fn ascii_item(perl: &ast::ClassPerl) -> ClassSetItem {
    let kind = match perl.kind {
        ast::ClassPerlKind::Digit => ast::ClassAsciiKind::Digit,
        ast::ClassPerlKind::Space => ast::ClassAsciiKind::Space,
        ast::ClassPerlKind::Word => ast::ClassAsciiKind::Word,
    };
    ClassSetItem::Ascii(ast::ClassAscii {
        span: perl.span,
        kind,
        negated: perl.negated,
    })
}

/// Returns whether the set names a byte of 80 or above.
fn asciify_set(set: &mut ClassSet) -> bool {
    match set {
        ClassSet::Item(item) => asciify_item(item),
        ClassSet::BinaryOp(op) => {
            let left = asciify_set(&mut op.lhs);
            asciify_set(&mut op.rhs) || left
        }
    }
}

fn asciify_item(item: &mut ClassSetItem) -> bool {
    match item {
        ClassSetItem::Empty(_) | ClassSetItem::Ascii(_) | ClassSetItem::Unicode(_) => false,
        ClassSetItem::Literal(literal) => is_high_byte(literal),
        ClassSetItem::Range(range) => is_high_byte(&range.start) || is_high_byte(&range.end),
        ClassSetItem::Perl(perl) => {
            *item = ascii_item(perl);
            false
        }
        ClassSetItem::Bracketed(class) => asciify_set(&mut class.kind),
        ClassSetItem::Union(union) => {
            let mut high = false;
            for item in &mut union.items {
                high |= asciify_item(item);
            }
            high
        }
    }
}

fn to_bytes(hir: &Hir) -> Result<Hir, ExpressionError> {
    Ok(match hir.kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0.clone()),
        HirKind::Class(Class::Bytes(class)) => Hir::class(Class::Bytes(class.clone())),
        HirKind::Class(Class::Unicode(class)) => class_to_bytes(class)?,
        HirKind::Look(look) => Hir::look(ascii_look(*look)),
        HirKind::Repetition(repetition) => Hir::repetition(Repetition {
            min: repetition.min,
            max: repetition.max,
            greedy: repetition.greedy,
            sub: Box::new(to_bytes(&repetition.sub)?),
        }),
        HirKind::Capture(capture) => to_bytes(&capture.sub)?,
        HirKind::Concat(parts) => {
            Hir::concat(parts.iter().map(to_bytes).collect::<Result<Vec<_>, _>>()?)
        }
        HirKind::Alternation(parts) => {
            Hir::alternation(parts.iter().map(to_bytes).collect::<Result<Vec<_>, _>>()?)
        }
    })
}

fn class_to_bytes(class: &ClassUnicode) -> Result<Hir, ExpressionError> {
    let reaches_top = class
        .ranges()
        .last()
        .is_some_and(|range| range.end() == char::MAX);
    let mut ascii = ClassBytes::empty();
    let mut sequences = Vec::new();
    for range in class.ranges() {
        let (start, end) = (range.start(), range.end());
        if let (Ok(from), true) = (u8::try_from(u32::from(start)), start.is_ascii()) {
            let to = u8::try_from(u32::from(end).min(0x7F)).unwrap_or(0x7F);
            ascii.push(ClassBytesRange::new(from, to));
        }
        // A class that goes up to the last code point is a negation: any byte outside ASCII.
        // The long s and the Kelvin sign come from case folding of `s` and `k` only.
        let folded = start == end && matches!(start, '\u{17F}' | '\u{212A}');
        if reaches_top || end.is_ascii() || folded {
            continue;
        }
        let start = if start.is_ascii() { '\u{80}' } else { start };
        for sequence in Utf8Sequences::new(start, end) {
            if sequences.len() == CLASS_SEQUENCES_MAX {
                return Err(ExpressionError::ClassTooLarge);
            }
            let bytes = sequence
                .as_slice()
                .iter()
                .map(|range| {
                    let range = ClassBytesRange::new(range.start, range.end);
                    Hir::class(Class::Bytes(ClassBytes::new([range])))
                })
                .collect();
            sequences.push(Hir::concat(bytes));
        }
    }
    if reaches_top {
        ascii.push(ClassBytesRange::new(0x80, 0xFF));
    }
    if ascii.ranges().is_empty() && sequences.is_empty() {
        return Ok(Hir::fail());
    }
    if !ascii.ranges().is_empty() {
        sequences.insert(0, Hir::class(Class::Bytes(ascii)));
    }
    Ok(Hir::alternation(sequences))
}

fn ascii_look(look: Look) -> Look {
    match look {
        Look::WordUnicode => Look::WordAscii,
        Look::WordUnicodeNegate => Look::WordAsciiNegate,
        Look::WordStartUnicode => Look::WordStartAscii,
        Look::WordEndUnicode => Look::WordEndAscii,
        Look::WordStartHalfUnicode => Look::WordStartHalfAscii,
        Look::WordEndHalfUnicode => Look::WordEndHalfAscii,
        Look::Start
        | Look::End
        | Look::StartLF
        | Look::EndLF
        | Look::StartCRLF
        | Look::EndCRLF
        | Look::WordAscii
        | Look::WordAsciiNegate
        | Look::WordStartAscii
        | Look::WordEndAscii
        | Look::WordStartHalfAscii
        | Look::WordEndHalfAscii => look,
    }
}

fn states(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(_) => 1,
        HirKind::Repetition(repetition) => {
            let times = u64::from(repetition.max.unwrap_or(repetition.min.max(1)));
            states(&repetition.sub).saturating_mul(times)
        }
        HirKind::Capture(capture) => states(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(states).fold(0, u64::saturating_add)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(expression: &str, text: &[u8]) -> bool {
        let hir = Expression::Regex(expression.to_owned()).to_hir().unwrap();
        regex_automata::meta::Regex::builder()
            .configure(regex_automata::meta::Regex::config().utf8_empty(false))
            .build_from_hir(&hir)
            .unwrap()
            .is_match(text)
    }

    #[test]
    fn classes_and_boundaries_are_ascii() {
        assert!(finds(r"\bfoo\b", "éfooé".as_bytes()), "é is no word byte");
        assert!(!finds(r"^\w$", "é".as_bytes()));
        assert!(!finds(r"\d", "٣".as_bytes()));
        assert!(
            finds(r"^[^a]{2}$", "é".as_bytes()),
            "a negated class is one byte"
        );
        assert!(finds(r"^.{2}$", "é".as_bytes()));
        assert!(finds(r"^..$", b"\xff\xfe"));
    }

    #[test]
    fn letters_outside_ascii_are_their_bytes_and_fold_case() {
        assert!(finds("(?i)игнорируй", "ИГНОРИРУЙ".as_bytes()));
        assert!(
            finds("^и?к$", "к".as_bytes()),
            "a quantifier covers the whole letter"
        );
        assert!(finds("[а-я]{3}", "где".as_bytes()));
        assert!(
            !finds("(?i)^k$", "\u{212A}".as_bytes()),
            "case folding stays in ASCII for ASCII"
        );
    }

    #[test]
    fn hex_escapes_are_bytes_and_braces_are_code_points() {
        assert!(finds(r"\xE2\x80\x8B", "\u{200B}".as_bytes()));
        assert!(finds(r"\x{200B}", "\u{200B}".as_bytes()));
        assert!(finds(r"\xE2\x80[\x8B-\x8D]", "\u{200C}".as_bytes()));
        assert!(finds(
            r"[\x{200B}-\x{200D}]{2}",
            "\u{200C}\u{200D}".as_bytes()
        ));
    }

    #[test]
    fn refuses_what_matches_nothing_or_everything_or_explodes() {
        let error = |text: &str| Expression::Regex(text.to_owned()).to_hir().unwrap_err();
        assert_eq!(error("a*"), ExpressionError::MatchesEmpty);
        assert!(matches!(
            error("((a{100}){100}){100}"),
            ExpressionError::TooLarge(1_000_000)
        ));
        assert!(matches!(error("(?=x)y"), ExpressionError::Syntax(_)));
        assert!(matches!(error(r"(a)\1"), ExpressionError::Syntax(_)));
        assert!(matches!(
            error(&"a".repeat(5000)),
            ExpressionError::TooLong(5000)
        ));
        assert_eq!(error("[^\\s\\S]"), ExpressionError::MatchesNothing);
    }

    #[test]
    fn contains_is_a_literal_in_any_case() {
        let hir = Expression::Contains("a.B(".to_owned()).to_hir().unwrap();
        let regex = regex_automata::meta::Regex::builder()
            .build_from_hir(&hir)
            .unwrap();
        assert!(regex.is_match("xA.b(y"));
        assert!(!regex.is_match("aXb("));
    }
}
