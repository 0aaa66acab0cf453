//! Patterns that can only begin with the text: they are looked at once, without a window.
//!
//! `\A[^\n]{0,24}…` passes what most short texts begin with, so that it is read far. Which bytes a match must have
//! somewhere (`@`, a digit, a quote) rejects most of those first.

use regex_syntax::hir::{Hir, Look};
use serde::{Deserialize, Serialize};

use super::automaton::Automaton;
use super::item::{Item, flatten};
use super::near::Near;
use super::set::Set;

/// Longest text that is asked which bytes it has: few are longer of which a pattern must also be the end.
const ASKED_BYTES_MAX: usize = 256;

/// Bytes of which a text must have one; of more it has one anyway.
const MUST_MAX: usize = 16;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    /// Longest text it matches: what must also end with the text is seldom long.
    pub(super) text_bytes_max: u64,
    near: Near,
    pub(super) anchor: u32,
    /// Bytes of which every match has one. Empty if nothing is known.
    must: Vec<u8>,
}

impl Head {
    /// `items` are those of the expression, and `ahead` is its automaton.
    pub(super) fn of(hir: &Hir, items: &[Item<'_>], ahead: &Automaton, anchor: u32) -> Self {
        let ends = hir.properties().look_set_suffix().contains(Look::End);
        let longest = hir.properties().maximum_len().filter(|_| ends);
        Self {
            text_bytes_max: longest.map_or(u64::MAX, |len| len as u64),
            near: Near::of_head(ahead),
            anchor,
            must: must(items).map_or_else(Vec::new, |set| set.iter().collect()),
        }
    }

    /// Whether a text that begins like this, and has these bytes if that is known, may begin with a match.
    fn may_match(&self, begins: Near, bytes: Option<&Bytes>) -> bool {
        let has_one = |bytes: &Bytes| self.must.iter().any(|byte| bytes.has(*byte));
        self.near.allows(begins) && (self.must.is_empty() || bytes.is_none_or(has_one))
    }
}

/// Invariant: those that match the longest texts come first.
pub(super) type Heads = Vec<Head>;

/// Those that may match here. A text that `goes_on` may yet get every byte.
pub(super) fn possible<'a>(
    heads: &'a Heads,
    text: &[u8],
    goes_on: bool,
) -> impl Iterator<Item = &'a Head> {
    let len = text.len() as u64;
    let begins = Near::head(text);
    let bytes = (!goes_on && text.len() <= ASKED_BYTES_MAX).then(|| Bytes::of(text));
    heads
        .iter()
        .take_while(move |head| head.text_bytes_max >= len)
        .filter(move |head| head.may_match(begins, bytes.as_ref()))
}

/// Which bytes a text has.
struct Bytes([bool; 256]);

impl Bytes {
    fn of(text: &[u8]) -> Self {
        let mut bytes = [false; 256];
        for byte in text {
            bytes[usize::from(*byte)] = true;
        }
        Self(bytes)
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }
}

/// The rarest few bytes of which every match of the items has one.
fn must(items: &[Item<'_>]) -> Option<Set> {
    let of_item = |item: &Item<'_>| match *item {
        Item::Byte(set) => Some(set),
        Item::Repeat { sub, min, .. } if min > 0 => must_of(sub),
        Item::Branches(branches) => branches
            .iter()
            .map(must_of)
            .reduce(|all, branch| Some(all?.union(branch?)))
            .flatten(),
        Item::Repeat { .. } | Item::Look(_) | Item::Anything => None,
    };
    let few = |set: &Set| (1..=MUST_MAX).contains(&set.len());
    items
        .iter()
        .filter_map(of_item)
        .filter(few)
        .min_by_key(|set| set.iter().map(weight).sum::<u32>())
}

fn must_of(hir: &Hir) -> Option<Set> {
    let mut items = Vec::new();
    flatten(hir, &mut items);
    must(&items)
}

/// How common a byte is, roughly.
fn weight(byte: u8) -> u32 {
    match byte {
        b'a'..=b'z' | b' ' => 20,
        b'A'..=b'Z' | b'0'..=b'9' | b'\t'..=b'\r' => 5,
        b'.' | b',' | b'-' | b'/' | b'\'' | b'"' => 3,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use regex_syntax::ParserBuilder;

    use super::*;

    /// Of bytes, as rules are read.
    fn parse(pattern: &str) -> Hir {
        let mut parser = ParserBuilder::new().utf8(false).unicode(false).build();
        parser.parse(pattern).unwrap()
    }

    fn of(pattern: &str) -> String {
        let bytes = must_of(&parse(pattern)).map_or_else(Vec::new, |set| set.iter().collect());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_every_match_has_is_taken_from_what_cannot_be_left_out() {
        for (pattern, bytes) in [
            ("\\A[^\\n@]{0,64}@[a-z]", "@"),
            ("\\A(?:x@)?[a-z]:", ":"),
            ("\\A(?:a;b|c\\|{1,2}|&&?d)e", "&;|"),
            ("\\A(?:a;b|cd|e&)(?:f#){1,3}", "#"),
            ("\\A[a-z]{3}(?:=?)", ""),
            ("\\A(?:;|[^;])[^\\n]{0,9}", ""),
        ] {
            assert_eq!(of(pattern), bytes, "{pattern}");
        }
    }

    #[test]
    fn a_text_without_what_a_match_must_have_is_not_looked_at() {
        let hir = parse("\\A[^\\n@]{0,64}@[a-z]{2,9}\\z");
        let mut items = Vec::new();
        flatten(&hir, &mut items);
        let heads = vec![Head::of(&hir, &items, &Automaton::forward(&items), 0)];
        let count = |text: &str, goes_on| possible(&heads, text.as_bytes(), goes_on).count();
        assert_eq!(count("some words to us@there", false), 1);
        assert_eq!(count("some words to us", false), 0);
        assert_eq!(count("some words to us", true), 1, "it may come");
        assert_eq!(count(&"@".repeat(100), false), 0, "it is too long");
    }
}
