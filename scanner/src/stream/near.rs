//! How far a pause looks back: as far as what most rules can still be in the middle of, and not over the whole overlap.

use oktsec_rules::{MatchMode, Rule};

use super::{GUARD_BYTES, OVERLAP_BYTES};

/// Rules that match no more than this are whole in every pause.
pub(super) const NEAR_BYTES: usize = 256;

/// Bytes, as people read them, that a pause looks at again.
const CONTEXT_BYTES: usize = NEAR_BYTES + GUARD_BYTES;

/// Letters and digits in a row that may be an encoding.
const RUN_BYTES: usize = 24;

/// Of patterns, with their rules and how far they reach, which belong to a wide rule: one that promises something and can
/// match more than [`NEAR_BYTES`]. Once it may have begun, pauses look back over the whole overlap. The others promise
/// nothing that could be broken: they are found in whole windows.
pub(crate) fn wide_patterns(patterns: &[(&Rule, Option<usize>)]) -> Vec<bool> {
    let rules = patterns.chunk_by(|(one, _), (next, _)| std::ptr::eq(*one, *next));
    rules
        .flat_map(|of_rule| std::iter::repeat_n(is_wide(of_rule), of_rule.len()))
        .collect()
}

fn is_wide(of_rule: &[(&Rule, Option<usize>)]) -> bool {
    let asks_for_several = |(rule, _): &(&Rule, _)| rule.match_mode == MatchMode::All;
    let several = of_rule.len() > 1 && of_rule.first().is_some_and(asks_for_several);
    let mut reaches = of_rule.iter().map(|(_, reach)| *reach);
    let widest = reaches.try_fold(0, |widest, reach| Some(reach?.max(widest)));
    !several
        && widest.is_some_and(|reach| reach > NEAR_BYTES && reach <= OVERLAP_BYTES - GUARD_BYTES)
}

/// Where to begin so that enough of what lies before `end` is seen. Encoded, escaped and spaced-out letters do not
/// count: they say less than they are long.
pub(super) fn start(text: &[u8], end: usize) -> usize {
    let floor = end.saturating_sub(OVERLAP_BYTES);
    let (mut at, mut read) = (end, 0);
    while at > floor && read < CONTEXT_BYTES {
        let word = text[floor..at]
            .iter()
            .rposition(|byte| !byte.is_ascii_alphanumeric())
            .map_or(floor, |before| floor + before + 1);
        if word == at {
            at -= 1;
            read += usize::from(text[at] == b' ');
            continue;
        }
        let escaped = word > floor && matches!(text[word - 1], b'\\' | b'%' | b'&' | b'#' | b'=');
        if !escaped && (2..RUN_BYTES).contains(&(at - word)) {
            read += at - word;
        }
        at = word;
    }
    at
}

#[cfg(test)]
mod tests {
    use oktsec_rules::RuleSet;

    use super::super::guarantee::{Guarantee, guarantee, reach};
    use super::*;
    use crate::compile::active_patterns;

    fn looked_at(text: &str) -> usize {
        text.len() - start(text.as_bytes(), text.len())
    }

    #[test]
    fn rules_are_wide_that_promise_something_and_reach_far() {
        let rules = RuleSet::builtin();
        let hirs: Vec<_> = active_patterns(&rules)
            .map(|(rule, pattern)| (rule, pattern, pattern.expression.to_hir().unwrap()))
            .collect();
        let reaches: Vec<_> = hirs
            .iter()
            .map(|(rule, pattern, hir)| (*rule, reach(pattern, hir)))
            .collect();
        let wide = wide_patterns(&reaches);
        let mut seen = [0; 2];
        for (at, (rule, _)) in reaches.iter().enumerate() {
            let of_rule = reaches.iter().filter(|(other, _)| other.id == rule.id);
            let far = of_rule
                .clone()
                .any(|(_, reach)| reach.is_none_or(|r| r > NEAR_BYTES));
            let expected = far && guarantee(rule) != Guarantee::DetectedOnly;
            assert_eq!(wide[at], expected, "{}", rule.id);
            seen[usize::from(expected)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    }

    #[test]
    fn plain_text_is_looked_at_as_far_as_a_match_can_reach() {
        let text = "The quick brown fox jumps over the lazy dog, and so on. ".repeat(200);
        let looked_at = looked_at(&text);
        assert!(
            (CONTEXT_BYTES..CONTEXT_BYTES * 5 / 4).contains(&looked_at),
            "{looked_at}"
        );
        assert_eq!(start(b"short", 5), 0);
        assert_eq!(start(b"", 0), 0);
    }

    #[test]
    fn text_that_says_less_than_it_is_long_is_looked_at_further() {
        for (text, least) in [
            ("\\u0069\\u0067\\u006e", OVERLAP_BYTES),
            ("%69%67%6e%6f", OVERLAP_BYTES),
            ("aWdub3JlIGFsbCBwcmV2aW91cyBpbnN0cnVjdGlvbnM", OVERLAP_BYTES),
            ("i g n o r e ", 2 * CONTEXT_BYTES - 8),
            ("\u{200b}i\u{200b}g\u{200b}n", OVERLAP_BYTES),
        ] {
            assert!(
                looked_at(&text.repeat(2_000)) >= least,
                "{text}: {}",
                looked_at(&text.repeat(2_000))
            );
        }
    }
}
