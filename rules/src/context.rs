//! Surroundings in which an attack is talked about, not made: documentation of attacks, rules for
//! refusing them, tests and filters that hold them.
//!
//! A rule asks for them with `exclude: [{context: mention}]`, so that one list serves all rules. What
//! is dropped here is still flagged by the rules that look for attacks in quotes (`PI-119`):
//! an attacker may use these words as well. `sample` is for values behind a name that no provider's form proves:
//! among tests and examples they are flagged (`CRED_GENERIC_SAMPLE`).

/// The expressions behind a name; `None` if there is no such context.
pub(crate) fn named(name: &str) -> Option<&'static [&'static str]> {
    match name {
        "mention" => Some(MENTION),
        "documented" => Some(DOCUMENTED),
        "sample" => Some(SAMPLE),
        _ => None,
    }
}

/// The names, for messages.
pub(crate) const NAMES: &str = "mention, documented, sample";

const MENTION: &[&str] = &[
    // Reports: attackers may, injection is, jailbreak prompts commonly.
    r"(?i)\b(?:attackers?|adversar(?:y|ies)|hackers?|malicious\s+\w+|(?:prompt\s+)?injections?|jailbreak(?:s|ing)?(?:\s+prompts?)?|red[\s-]team(?:s|ers?|ing)?|threat\s+models?|poison(?:ed|ing)\s+\w+)\s+(?:\w+\s+){0,2}?(?:may|might|can|could|will|would|try|tries|tried|attempt(?:s|ed)?|asks?|asked|claims?|commonly|often|typically|usually|sometimes|tells?|uses?|contains?|places?|hides?|plants?|means?|is|are|was|were|works?|refers?|begins?|starts?|happens?|known)\b",
    // What to do about it: if a user asks for the prompt, decline.
    r"(?i)\b(?:if|when|whenever|should)\s+(?:an?|the|any|some|users?)\s*(?:user|message|person|page|document|tool|e-?mail|text|prompt|visitor|customer|someone)?\w*\s+(?:\w+\s+)?(?:asks?|tells?|says?|requests?|tries|tells|instructs?|orders?|claims?|attempts?|contains?)\b[^\n]{0,110}\b(?:decline|refuse\s+(?:it|politely|the\s+request|to\s+(?:do|comply|answer))|report\s+(?:it|this|them)|politely|escalate|reject\s+(?:it|the)|do\s+not\s+comply|don.{1,3}t\s+comply|treat\s+(?:it|them|that)\s+as|can(?:no|.{1,3})t\s+share|hostile)\b",
    // Quoted: the phrase "..." is a marker, such as `...`.
    r#"(?i)\b(?:phrases?|strings?|markers?|such\s+as|e\.g\.|for\s+(?:example|instance)|examples?(?:\s+of\s+\w+(?:\s+\w+){0,3})?|called|known\s+as|patterns?|regex|keywords?|observed|(?:sentences?|prompts?|lines?|words?|messages?|text)\s+like|why|we\s+(?:sent|tried|typed|used))(?:\s+(?:is|are|was|were|would\s+be))?[:,]?\s{0,2}(?:\[\s?)?["“‘`']"#,
    r#"(?i)["“‘`'][^"“”‘’`'\n]{5,120}["”’`'][^\n]{0,30}\b(?:is|are|was|were)\s+(?:\w+\s+){0,3}?(?:attacks?|injections?|jailbreaks?|test\s+strings?|markers?|payloads?|blocked|detected|flagged|refused|logged|caught)\b"#,
    // Evaluated: prompts that try to make the agent, a suite in which a model is asked.
    r"(?i)\b(?:attack\w*|prompts?|jailbreak\w*|dan|researchers?|papers?|suites?|tests?|evaluation|injections?|red[\s-]teamers?|examples?)\b[^\n]{0,60}\b(?:asks?|gets?|getting|tells?|makes?|tricks?|tricking|convinc\w+|persuad\w+|instruct\w*|manipulat\w+|(?:tr(?:y|ies)|attempts?)\s+to\s+(?:make|get))\s+(?:the|an?)\s+(?:\w+\s+)?(?:model|agent|assistant|llm|bot|ai|chatbot)\b",
    // Code that looks for it, or tests that it is found.
    r#"(?i)\b(?:regex::new|re\.compile|regexp\.\w+|assert\w*!?\s?\(|self\.assert\w+|describe\(|expect\(|\w{0,30}(?:patterns?|prompts|payloads?|attacks|injections|phrases|blocklist|denylist)\s*(?::[^=\n]{1,30})?=\s*[\[{(&])"#,
];

/// For payloads that stand in documentation as they would in an attack; `CMD-140` flags them there.
const DOCUMENTED: &[&str] = &[
    r"(?i)\battack\s+(?:examples?|scenarios?|vectors?|payloads?)\b",
    r"(?i)\b(?:an|the|if|when)\s+(?:an\s+)?attackers?\s+(?:then\s+)?(?:sends?|appends?|enters?|supplies|submits?|passes|controls?|puts?|injects?|uses?|could|can|may|might|who|to)\b|\blets?\s+an\s+attacker\b",
    r"(?i)\b(?:malicious|untrusted|hostile)\s+(?:prompts?|inputs?|payloads?|requests?)\b[^\n]{0,20}(?::|\bsuch\s+as\b|\blike\b|\be\.g\.)",
    r"(?i)\b(?:alert|trigger)s?\s+on\s+(?:them|it|this|these)\b|\boften\s+look\s+like\b|\bmitigations?\*{0,2}\s*(?::|\n)|\bnever\s+build\s+\w+\s+commands\b",
];

/// Tests and examples, where a value that looks generated is made up more often than not.
const SAMPLE: &[&str] = &[
    // Calls of test suites, and how tests are declared.
    r"(?i)\b(?:assert\w*|expect|describe|mock\w*|stub\w*|fixtures?)\b!?\s?[(.]|\b(?:it|test)\(\s?[\x22\x27\x60]",
    r"\bt\.(?:Run|Error|Errorf|Fatal|Fatalf|Log|Logf)\(|\bfunc\s+Test[A-Z]|@Test\b|#\[test\]|\bdef\s+test_|\bclass\s+Test[A-Z]",
    // Names and words that say so.
    r"(?i)\b(?:fake|dummy|mock|sample|bogus|invalid|expected|unit|test)[ _-]?(?:data|value|token|key|secret|password|credential|test)s?\b|\bexamples?\b",
    r"\b(?:fake|dummy|mock|sample|example|bogus|invalid|expected|valid|given|test)[A-Z]\w{0,40}(?:Token|Key|Secret|Password|Credential)",
];
