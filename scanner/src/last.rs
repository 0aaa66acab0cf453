//! The text scanned last: one that contains it need not be searched from the beginning.
//!
//! ```text
//! scan(message)                        message ─────────────
//! scan_across(before + message)   before────message          ends as the last one began
//! scan_across(before ␣ message)    efore──── message         the last one, with a blank
//! ```

use std::ops::Range;

use crate::view::{Copied, Origin};

/// Bytes of a text that are kept: more than what messages are joined to has.
const TEXT_BYTES_MAX: usize = 1024;

/// The text scanned last.
#[derive(Default)]
pub(crate) struct Last {
    /// How it began. Empty if that is not known.
    text: Vec<u8>,
    /// Where in it the message begins that others are joined to.
    message: usize,
    origin: Origin,
}

/// What a text has in common with the last one.
#[derive(Clone, Copy)]
pub(crate) enum Common<'a> {
    /// Its end is in the last one.
    End(&'a Origin),
    /// All but what was inserted, which is the only change, is in the last one; it may begin later.
    All(&'a Origin),
}

impl<'a> Common<'a> {
    pub(crate) fn origin(self) -> &'a Origin {
        match self {
            Self::End(origin) | Self::All(origin) => origin,
        }
    }
}

impl Last {
    /// A text is scanned as a whole.
    pub(crate) fn scans(&mut self, text: &[u8]) {
        self.keep(text, 0);
    }

    /// Something else is scanned.
    pub(crate) fn forget(&mut self) {
        self.text.clear();
    }

    /// A text is scanned that was put together from two, with this border between them. What it has in common with the
    /// last one, if that is known and much.
    pub(crate) fn joined(&mut self, text: &[u8], border: Range<usize>) -> Option<Common<'_>> {
        let (Some(before), Some(message)) = (text.get(..border.start), text.get(border.end..))
        else {
            self.forget();
            return None;
        };
        let (last_before, last_message) = self.text.split_at(self.message.min(self.text.len()));
        let known = !message.is_empty() && last_message.starts_with(message);
        let all = last_before.ends_with(before) && last_message == message && !border.is_empty();
        let moved = last_before.len().wrapping_sub(before.len());
        self.origin.parent = None;
        self.origin.copies.clear();
        self.origin.changes.clear();
        self.origin.copies.extend((known && all).then_some(Copied {
            view: 0,
            parent: moved,
            len: before.len(),
        }));
        self.origin.copies.extend(known.then_some(Copied {
            view: border.end,
            parent: self.message,
            len: message.len(),
        }));
        // The message may go on in the last one, and not in this.
        let changes = match all {
            true => [0..0, border.clone()],
            false => [0..border.end, text.len()..text.len()],
        };
        self.origin.changes.extend(changes);
        self.keep(text, border.end);
        match (known, all) {
            (false, _) => None,
            (true, true) => Some(Common::All(&self.origin)),
            (true, false) => Some(Common::End(&self.origin)),
        }
    }

    fn keep(&mut self, text: &[u8], message: usize) {
        self.text.clear();
        self.text
            .extend_from_slice(&text[..text.len().min(TEXT_BYTES_MAX)]);
        self.message = message;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copies(common: Option<Common<'_>>) -> Vec<(usize, usize, usize)> {
        let copies = common.map(|common| &common.origin().copies[..]);
        let copies = copies.unwrap_or_default().iter();
        copies.map(|one| (one.view, one.parent, one.len)).collect()
    }

    #[test]
    fn a_text_ends_as_the_last_one_began_or_is_the_last_one_with_a_blank() {
        let mut last = Last::default();
        assert!(last.joined(b"before first", 6..7).is_none());
        last.scans(b"first words");
        let end = last.joined(b"beforefirst", 6..6);
        assert!(matches!(end, Some(Common::End(_))));
        assert_eq!(copies(end), [(6, 0, 5)]);
        let all = last.joined(b"efore first", 5..6);
        assert!(matches!(all, Some(Common::All(_))));
        assert_eq!(copies(all), [(0, 1, 5), (6, 6, 5)]);
        let end = last.joined(b"other first", 5..6);
        assert!(matches!(end, Some(Common::End(_))));
    }

    #[test]
    fn what_is_not_the_same_is_not_taken_for_it() {
        let mut last = Last::default();
        last.scans(b"first words");
        assert!(last.joined(b"before other", 6..7).is_none());
        assert!(
            last.joined(b"before first", 6..7).is_none(),
            "another text is kept by now"
        );
        last.scans(b"first words");
        last.forget();
        assert!(last.joined(b"before first", 6..7).is_none());
        last.scans(&[b'a'; 2 * TEXT_BYTES_MAX]);
        let long = [b'a'; TEXT_BYTES_MAX + 1];
        assert!(last.joined(&long, 0..0).is_none(), "so much is not kept");
    }
}
