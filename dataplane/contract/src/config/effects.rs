//! Keys that are accepted and do nothing: their users are told so, instead of feeling safe.
//!
//! `*` stands for the name of a map entry, `[]` for a list entry. Whoever gives a key an effect removes its line.

/// Keys of the Go version that had no effect there either (compat §5, W-32), or have none here by design.
const BY_DESIGN: &[(&str, &str)] = &[
    ("deployment.org_id", "it never had one"),
    (
        "db_backend",
        "records are kept in our own store beside db_path",
    ),
    ("db_dsn", "records are kept in our own store beside db_path"),
    ("telemetry.disabled", "nothing is ever sent"),
    ("llm.intent", "it never had one"),
    ("quarantine.enabled", "held messages are always kept"),
    (
        "forward_proxy.max_body_size",
        "bodies are scanned as they stream, whatever their size",
    ),
    (
        "rules[].managed_by_policy",
        "overrides count whoever wrote them; policy bundles are not part of this product",
    ),
    (
        "rules[].severity",
        "the action of an override decides, the severity of the rule stays",
    ),
    (
        "identity.principals[].tokens[].last_used_at",
        "it never had one",
    ),
];

/// Keys whose surface or feature is not part of this version.
const NOT_YET: &[&str] = &[
    "surfaces.gateway",
    "surfaces.stdio",
    "surfaces.hook",
    "identity.ephemeral",
    "anomaly",
    "gateway",
    "hooks",
    "mcp_servers",
    "webhooks",
    "category_webhooks",
    "alerting",
    "llm",
    "guard",
    "telemetry.tracing",
    "audit.export_blocked",
    "quarantine.archive_dir",
    "rules[].notify",
    "rules[].template",
    "rules[].apply_to_tools",
    "rules[].exempt_tools",
    "agents.*.allowed_tools",
    "agents.*.tool_policies",
    "agents.*.tool_constraints",
    "agents.*.tool_chain_rules",
    "agents.*.scan_profile",
    "agents.*.egress.tool_restrictions",
    "agents.*.max_concurrent_calls",
    "agents.*.max_delegation_depth",
];

/// Keys that are no part of the configuration but stand in files of the Go version.
const IGNORED: &[(&str, &str)] = &[
    (
        "agents.*.source",
        "a note of `oktsec init`, dropped there at the first save",
    ),
    (
        "agents.*.risk_level",
        "a note of `oktsec init`, dropped there at the first save",
    ),
];

/// Why a key has no effect, if it has none.
pub(super) fn without_effect(pattern: &str) -> Option<&'static str> {
    if let Some((_, why)) = BY_DESIGN.iter().find(|(key, _)| *key == pattern) {
        return Some(why);
    }
    NOT_YET
        .contains(&pattern)
        .then_some("this version does not do that yet")
}

/// Why an unknown key is no mistake, if it is none.
pub(super) fn ignored_key(pattern: &str) -> Option<&'static str> {
    IGNORED
        .iter()
        .find(|(key, _)| *key == pattern)
        .map(|(_, why)| *why)
}
