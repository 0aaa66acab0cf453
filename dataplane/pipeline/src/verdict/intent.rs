//! Whether a message does what it says it is for (compat §4.7). A declared intent none of whose words appears
//! flags the message; it never refuses one.

/// A word in the intent, and the words of which the content must hold one.
const INTENTS: [(&str, &[&str]); 8] = [
    (
        "code_review",
        &[
            "review",
            "pr",
            "pull request",
            "diff",
            "approve",
            "merge",
            "lgtm",
        ],
    ),
    (
        "deploy",
        &[
            "deploy",
            "release",
            "rollout",
            "ship",
            "production",
            "staging",
            "k8s",
        ],
    ),
    (
        "debug",
        &[
            "debug",
            "error",
            "stack trace",
            "exception",
            "fix",
            "bug",
            "crash",
        ],
    ),
    (
        "monitoring",
        &[
            "alert", "metric", "uptime", "latency", "cpu", "memory", "health",
        ],
    ),
    (
        "testing",
        &[
            "test", "coverage", "assert", "spec", "passed", "failed", "flaky",
        ],
    ),
    (
        "documentation",
        &[
            "doc",
            "readme",
            "guide",
            "example",
            "api reference",
            "changelog",
        ],
    ),
    (
        "security",
        &[
            "vulnerability",
            "cve",
            "patch",
            "audit",
            "credential",
            "token",
            "key",
        ],
    ),
    (
        "data",
        &[
            "query", "database", "table", "export", "import", "csv", "sql", "schema",
        ],
    ),
];

/// Whether the content fits the intent; an intent we know nothing about fits. `lowered` is scratch.
pub(super) fn fits(intent: &str, content: &str, required: bool, lowered: &mut String) -> bool {
    if intent.is_empty() {
        return !required;
    }
    let declared = |(word, _): &&(&str, &[&str])| contains_ignoring_case(intent, word);
    let mut known = INTENTS.iter().filter(declared).peekable();
    if known.peek().is_none() {
        return true;
    }
    lowered.clear();
    lowered.push_str(content);
    lowered.make_ascii_lowercase();
    known.any(|(_, words)| words.iter().any(|word| lowered.contains(word)))
}

/// For an intent, which is short: no copy.
fn contains_ignoring_case(text: &str, word: &str) -> bool {
    text.as_bytes()
        .windows(word.len())
        .any(|w| w.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn an_intent_fits_when_any_of_its_words_is_said() {
        let fit = |intent, content| fits(intent, content, false, &mut String::new());
        assert!(fit("code_review", "Please look at this PULL REQUEST"));
        assert!(!fit("deploy", "the weather is nice"));
        assert!(
            fit("debug and deploy", "ship it"),
            "one of several is enough"
        );
        assert!(fit("gardening", "anything"), "unknown intents fit");
        assert!(fit("", "anything"));
        assert!(
            !fits("", "anything", true, &mut String::new()),
            "missing but required"
        );
    }
}
