//! What must hold at the border between a window and the byte before it.

use regex_syntax::hir::Look;
use serde::{Deserialize, Serialize};

use super::CASE;
use super::item::Item;
use super::near::{ANY, KINDS, WORD_KINDS};

/// What must hold between the bytes before and the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Border {
    None,
    Word,
    NoWord,
    TextStart,
    LineStart,
}

impl Border {
    pub(super) fn holds(self, text: &[u8], at: usize) -> bool {
        let word = |at: Option<usize>| {
            at.and_then(|at| text.get(at))
                .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        };
        match self {
            Self::None => true,
            Self::Word => word(at.checked_sub(1)) != word(Some(at)),
            Self::NoWord => word(at.checked_sub(1)) == word(Some(at)),
            Self::TextStart => at == 0,
            Self::LineStart => at.checked_sub(1).is_none_or(|at| text[at] == b'\n'),
        }
    }

    /// What may come before a byte, spelt without case, that follows this border.
    pub(super) fn kinds(self, byte: u8) -> u8 {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        // Either spelling may be meant: `@` and a backquote, `_` and DEL differ in case only.
        let (one, other) = (is_word(byte), is_word(byte & !CASE));
        match self {
            Self::Word if one && other => !WORD_KINDS,
            Self::Word if !one && !other => WORD_KINDS,
            Self::NoWord if one && other => WORD_KINDS,
            Self::NoWord if !one && !other => !WORD_KINDS,
            Self::LineStart => KINDS[usize::from(b'\n')],
            Self::None | Self::Word | Self::NoWord | Self::TextStart => ANY,
        }
    }

    /// The one that ends these items.
    pub(super) fn behind(before: &[Item<'_>]) -> Self {
        let Some(Item::Look(look)) = before.last() else {
            return Self::None;
        };
        match look {
            Look::WordAscii => Self::Word,
            Look::WordAsciiNegate => Self::NoWord,
            Look::Start => Self::TextStart,
            Look::StartLF => Self::LineStart,
            _ => Self::None,
        }
    }
}
