//! Whether something stands near each of many places: what is known of one place is asked for the next.
//!
//! Rules ask for a word near a match, or for none. Where every byte is a match, the same few hundred bytes would be
//! searched for each of them.

use std::ops::Range;

/// Questions about one expression and text before more is searched than was asked for: most are asked fewer.
const ASKS_MIN: u32 = 8;

/// Bytes searched beyond those asked for.
const AHEAD_BYTES: usize = 4 << 10;

/// Texts of one content of which something is known of one expression: a view, and those it is a reading of.
const TEXTS_MAX: usize = 6;

/// A text: the number of the content, and which view of it.
pub(crate) type Number = (u32, Option<usize>);

/// What is known of one expression.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nearby {
    /// At most [`TEXTS_MAX`].
    texts: Vec<(Number, InText)>,
    /// The one that is replaced next.
    next: usize,
}

/// What is known of one expression in one text.
#[derive(Clone, Debug, Default)]
struct InText {
    asks: u32,
    /// Of each side, or of all around.
    known: [Known; 2],
}

/// The first match in a range.
#[derive(Clone, Debug, Default)]
struct Known {
    searched: Range<usize>,
    first: Option<Range<usize>>,
}

impl Nearby {
    /// Whether a part of a text of `len` bytes has a match, which `find` finds in any part of it. Parts of one `side`
    /// are asked for in about ascending order.
    pub(crate) fn has(
        &mut self,
        text: Number,
        len: usize,
        side: usize,
        part: Range<usize>,
        find: impl FnMut(Range<usize>) -> Option<Range<usize>>,
    ) -> bool {
        let known = self.texts.iter().position(|(number, _)| *number == text);
        let at = known.unwrap_or_else(|| {
            let new = (text, InText::default());
            if self.texts.len() < TEXTS_MAX {
                self.texts.push(new);
                return self.texts.len() - 1;
            }
            self.next = (self.next + 1) % TEXTS_MAX;
            self.texts[self.next] = new;
            self.next
        });
        self.texts[at].1.has(len, side, part, find)
    }
}

impl InText {
    fn has(
        &mut self,
        len: usize,
        side: usize,
        part: Range<usize>,
        mut find: impl FnMut(Range<usize>) -> Option<Range<usize>>,
    ) -> bool {
        self.asks = self.asks.saturating_add(1);
        if self.asks <= ASKS_MIN {
            return find(part).is_some();
        }
        let known = &mut self.known[side];
        let covered = known.searched.start <= part.start && part.end <= known.searched.end;
        let passed = |first: &Range<usize>| first.start < part.start;
        if !covered || known.first.as_ref().is_some_and(passed) {
            let searched = part.start..part.end.saturating_add(AHEAD_BYTES).min(len);
            known.first = find(searched.clone());
            known.searched = searched;
        }
        // No other match begins before the first.
        match &known.first {
            None => false,
            Some(first) if first.start > part.end => false,
            Some(first) if first.end <= part.end => true,
            // It is too long, but a shorter one may begin there as well.
            Some(_) => find(part).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_automata::Input;
    use regex_automata::meta::Regex;

    use super::*;

    const TEXT: Number = (1, None);

    proptest! {
        #[test]
        fn the_answer_is_that_of_a_search_of_each_part(
            text in "[abc ]{0,300}",
            far in 0_usize..6000,
            expression in prop::sample::select(vec!["ab", "a+b", "a[ab]*c", "\\bab", "c$", "a|abc+", "b??"]),
            asked in prop::collection::vec((0_usize..300, 0_usize..40, 0_usize..40), 1..60),
        ) {
            let text = format!("{text}{}{text}", "x".repeat(far));
            let regex = Regex::new(expression).unwrap();
            let find = |part: Range<usize>| {
                regex.find(Input::new(&text).range(part)).map(|found| found.range())
            };
            let mut asked = asked;
            // Some in order, as they are in a scan, and some not.
            let sorted = asked.len() / 2;
            asked[..sorted].sort_unstable();
            let mut nearby = Nearby::default();
            for (at, before, after) in asked {
                let at = (at * 7).min(text.len());
                for (side, part) in
                    [at.saturating_sub(before)..at, at..(at + after).min(text.len())].into_iter().enumerate()
                {
                    let has = nearby.has(TEXT, text.len(), side, part.clone(), find);
                    prop_assert_eq!(has, find(part).is_some());
                }
            }
        }
    }

    #[test]
    fn a_text_is_searched_a_few_times_however_many_parts_are_asked_for() {
        let text = "x".repeat(20_000);
        let (mut nearby, mut searched) = (Nearby::default(), 0);
        for at in 0..20_000 {
            let part = at..(at + 200).min(text.len());
            nearby.has(TEXT, text.len(), 0, part, |part| {
                searched += part.len();
                None
            });
        }
        assert!(searched < 3 * text.len(), "{searched}");
    }
}
