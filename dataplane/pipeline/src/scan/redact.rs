//! What a sender may send instead: its content with a typed placeholder for every secret that refuses it.
//!
//! We cannot send it ourselves: the sender's signature covers the content, and the recipient would see it fail.

use super::{Found, VIEW_WINDOW};
use oktsec_contract::verdict::Verdict;
use oktsec_rules::Rule;

/// The content without its secrets; `None` if something else refuses it, too.
pub(crate) fn without_secrets(content: &str, found: &[Found], rules: &[Rule]) -> Option<String> {
    let mut secrets: Vec<&Found> = found
        .iter()
        .filter(|one| one.verdict >= Verdict::Quarantine)
        .collect();
    let is_secret = |one: &&Found| {
        let index = usize::try_from(one.rule).unwrap_or(usize::MAX);
        one.view != VIEW_WINDOW && rules.get(index).is_some_and(|rule| rule.sensitive)
    };
    if secrets.is_empty() || !secrets.iter().all(is_secret) {
        return None;
    }
    secrets.sort_by_key(|one| (one.start, one.end));
    let mut out = String::with_capacity(content.len());
    let mut at = 0;
    for one in secrets {
        let (start, end) = (one.start as usize, one.end as usize);
        if start >= at {
            // A border inside a character: better no offer than half a secret.
            out.push_str(content.get(at..start)?);
            out.push_str(&one.excerpt);
        }
        at = at.max(end);
    }
    out.push_str(content.get(at..)?);
    Some(out)
}
