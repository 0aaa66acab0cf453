//! What people see of a finding: enough to understand it, never the secret in it.

use std::borrow::Cow;
use std::sync::LazyLock;

use oktsec_rules::Rule;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use crate::Finding;

/// Longest excerpt, the dots of a cut one not counted.
pub const EXCERPT_BYTES_MAX: usize = 200;

/// Known secret formats and the type their placeholder names, in the order of
/// `compat/oktsec.md` §4.4 and then ours. The first to match decides, so the widest come last.
const SECRETS: &[(&str, &str)] = &[
    (r"sk-ant-[A-Za-z0-9_-]{10,}", "ANTHROPIC_KEY"),
    (r"ghp_[A-Za-z0-9]{10,}", "GITHUB_PAT"),
    (r"gho_[A-Za-z0-9]{10,}", "GITHUB_OAUTH"),
    (r"gh[su]_[A-Za-z0-9]{10,}", "GITHUB_SERVER_TOKEN"),
    (r"ghr_[A-Za-z0-9]{10,}", "GITHUB_REFRESH"),
    (r"github_pat_[A-Za-z0-9_]{10,}", "GITHUB_PAT_FGT"),
    (r"A[KS]IA[0-9A-Z]{4,}", "AWS_ACCESS_KEY"),
    (r"xox[a-z]-[A-Za-z0-9-]{10,}", "SLACK_TOKEN"),
    (r"glpat-[A-Za-z0-9_-]{10,}", "GITLAB_PAT"),
    (r"[sr]k_live_[A-Za-z0-9]{10,}", "STRIPE_LIVE"),
    (r"[sr]k_test_[A-Za-z0-9]{10,}", "STRIPE_TEST"),
    (
        r"SG\.[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]+)?",
        "SENDGRID_KEY",
    ),
    (
        r"-----BEGIN[A-Z ]*PRIVATE KEY-----(?:[A-Za-z0-9+/=\s\\:,-]{0,8000}-----END[A-Z ]*PRIVATE KEY-----|[A-Za-z0-9+/=\s\\]{0,8000})",
        "PEM_PRIVATE_KEY",
    ),
    (
        r"eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]*)?",
        "JWT",
    ),
    (r"npm_[A-Za-z0-9]{30,}", "NPM_TOKEN"),
    (r"AIza[A-Za-z0-9_-]{30,}", "GOOGLE_API_KEY"),
    (r"sk-[A-Za-z0-9_-]{10,}", "OPENAI_KEY"),
];

static SECRET_REGEX: LazyLock<Regex> = LazyLock::new(|| {
    let patterns: Vec<&str> = SECRETS.iter().map(|(pattern, _)| *pattern).collect();
    Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .build_many(&patterns)
        .expect("the table above is constant, and a test builds it")
});

/// The redacted text of a finding, at most [`EXCERPT_BYTES_MAX`] bytes and `...`. For a
/// `sensitive` rule it is a placeholder only.
pub fn excerpt(content: &[u8], finding: &Finding, rule: &Rule) -> String {
    let span = finding.span.start as usize..finding.span.end as usize;
    let matched = content.get(span.clone()).unwrap_or_default();
    if rule.sensitive {
        let kind = SECRET_REGEX
            .find(matched)
            .map_or(Cow::Borrowed("SECRET"), |found| {
                Cow::Borrowed(SECRETS[found.pattern().as_usize()].1)
            });
        return placeholder(&kind, matched.len());
    }
    // Secrets are looked for around the match too: a match may cut one in two.
    let around = span.start.saturating_sub(CONTEXT_BYTES)
        ..span.end.saturating_add(CONTEXT_BYTES).min(content.len());
    let mut out = String::new();
    let mut at = span.start;
    let context = content.get(around.clone()).unwrap_or_default();
    for found in SECRET_REGEX.find_iter(context) {
        let secret = around.start + found.start()..around.start + found.end();
        if secret.end <= span.start || secret.start >= span.end {
            continue;
        }
        out.push_str(&String::from_utf8_lossy(
            content.get(at..secret.start).unwrap_or_default(),
        ));
        out.push_str(&placeholder(
            SECRETS[found.pattern().as_usize()].1,
            secret.len(),
        ));
        at = secret.end;
    }
    out.push_str(&String::from_utf8_lossy(
        content.get(at..span.end).unwrap_or_default(),
    ));
    cut(out)
}

/// How far around a match a secret may reach and still be recognised as a whole.
const CONTEXT_BYTES: usize = 512;

/// The text with every known secret format replaced by `[REDACTED:<TYPE>:len=<bytes>]`.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for found in SECRET_REGEX.find_iter(text.as_bytes()) {
        // The formats begin and end with ASCII, so these are character borders.
        out.push_str(text.get(at..found.start()).unwrap_or_default());
        out.push_str(&placeholder(
            SECRETS[found.pattern().as_usize()].1,
            found.len(),
        ));
        at = found.end();
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

pub(crate) fn placeholder(kind: &str, bytes: usize) -> String {
    format!("[REDACTED:{kind}:len={bytes}]")
}

fn cut(mut text: String) -> String {
    if text.len() > EXCERPT_BYTES_MAX {
        let end = (0..=EXCERPT_BYTES_MAX)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use oktsec_rules::load_text;

    use super::*;
    use crate::View;

    fn rule(sensitive: bool) -> Rule {
        let text = format!(
            "{{id: T-1, severity: low, category: x, sensitive: {sensitive}, patterns: [{{contains: abc}}]}}"
        );
        load_text("t", &text).rules.remove(0)
    }

    fn of(text: &str, start: u32, end: u32, sensitive: bool) -> String {
        let finding = Finding {
            rule: 0,
            span: start..end,
            view: View::Raw,
        };
        excerpt(text.as_bytes(), &finding, &rule(sensitive))
    }

    #[test]
    fn typed_placeholders_take_the_place_of_secrets() {
        let key = format!("gh{}_{}", "p", "a1B2c3D4e5".repeat(3));
        assert_eq!(
            redact(&format!("use {key} now")),
            "use [REDACTED:GITHUB_PAT:len=34] now"
        );
        let key = format!("sk-{}-{}", "ant", "x".repeat(20));
        assert_eq!(
            redact(&format!("é {key}")),
            "é [REDACTED:ANTHROPIC_KEY:len=27]"
        );
        assert_eq!(redact("nothing here"), "nothing here");
    }

    #[test]
    fn a_sensitive_rule_shows_no_byte_of_its_match() {
        assert_eq!(
            of("my password is hunter2", 15, 22, true),
            "[REDACTED:SECRET:len=7]"
        );
    }

    #[test]
    fn a_match_that_cuts_a_secret_in_two_shows_neither_half() {
        let text = format!("token sk-{} end", "Q".repeat(40));
        let shown = of(&text, 0, 20, false);
        assert!(!shown.contains("QQ"), "{shown}");
        let shown = of(&text, 30, 53, false);
        assert!(!shown.contains("QQ"), "{shown}");
    }

    #[test]
    fn long_excerpts_are_cut_on_a_character_border() {
        let text = "ä".repeat(300);
        let shown = of(&text, 0, 600, false);
        assert_eq!(shown.len(), 203);
        assert!(shown.ends_with("ä..."));
        let odd = format!("x{text}");
        assert_eq!(of(&odd, 0, 601, false).len(), 199 + 3);
    }
}
