//! Agents, their grants and their tools.

use super::egress::Egress;
use super::read;
use super::section::{section, words};
use std::collections::BTreeMap;

section! {
    /// One entry of `agents:`.
    pub struct Agent {
        /// Recipients it may reach, `*` for all. Absent means unrestricted, an empty list means nobody
        /// (with `compat: oktsec` also unrestricted).
        can_message: Option<Vec<String>> = None;
        /// Grants with constraints; the first that names the recipient decides.
        acl_entries: Option<Vec<AclEntry>> = None;
        /// Categories of findings that block its messages.
        blocked_content: Vec<String> = Vec::new();
        /// Tools it may call; empty means all, [`DENY_ALL_TOOLS`] none.
        allowed_tools: Vec<String> = Vec::new();
        /// Limits on what a tool may spend.
        tool_policies: BTreeMap<String, ToolPolicy> = BTreeMap::new();
        /// Limits on the parameters of a tool.
        tool_constraints: Vec<ToolConstraint> = Vec::new();
        /// Tools that must not follow each other.
        tool_chain_rules: Vec<ToolChainRule> = Vec::new();
        /// How strictly tool calls are judged.
        scan_profile: ScanProfile = ScanProfile::Strict, via read::scan_profile;
        /// Neither sends nor receives.
        suspended: bool = false;
        /// Which generation of its key signs; 0 is the first, with the v1 payload.
        key_version: u32 = 0;
        /// What it is for.
        description: String = String::new();
        /// Who registered it.
        created_by: String = String::new();
        /// When it was registered, RFC 3339.
        created_at: String = String::new();
        /// Where it runs.
        location: String = String::new();
        /// Words to find it by.
        tags: Vec<String> = Vec::new();
        /// Outbound requests.
        egress: Option<Egress> = None;
        /// Tool calls at the same time: 0 means 5, below 0 is unlimited.
        max_concurrent_calls: i32 = 0;
        /// Hops of a delegation chain: 0 means 3, below 0 is unlimited.
        max_delegation_depth: i32 = 0;
    }
}

/// The one entry of `allowed_tools` that allows none (compat §5).
pub const DENY_ALL_TOOLS: &str = "__oktsec_deny_all__";

words! {
    /// How strictly tool calls of an agent are judged.
    pub enum ScanProfile {
        /// Every rule, every tool.
        #[default]
        Strict = "strict",
        /// Content of files is not held against the agent.
        ContentAware = "content-aware",
        /// Only what is always dangerous.
        Minimal = "minimal",
    }
}

section! {
    /// A grant with constraints.
    pub struct AclEntry [label = target] {
        /// Recipient, or `*`.
        target: String = String::new();
        /// All must hold.
        constraints: Vec<Constraint> = Vec::new();
    }
}

section! {
    /// One constraint of a grant. A kind we don't know denies.
    pub struct Constraint [label = kind] {
        /// `rate` or `ttl`.
        kind as "type": String = String::new();
        /// Messages in the window (`rate`).
        max_messages: u64 = 0;
        /// Seconds of the window (`rate`); 0 means 60.
        window_secs: u64 = 0;
        /// RFC 3339 end of the grant (`ttl`).
        expires_at: Option<String> = None;
    }
}

section! {
    /// Limits on what a tool may spend.
    pub struct ToolPolicy {
        /// Largest single amount.
        max_amount: f64 = 0.0;
        /// Largest sum of a day.
        daily_limit: f64 = 0.0;
        /// Amount above which an operator decides.
        require_approval_above: f64 = 0.0;
        /// Calls per hour.
        rate_limit: u64 = 0;
    }
}

section! {
    /// Limits on the parameters of a tool.
    pub struct ToolConstraint [label = tool] {
        /// The tool.
        tool: String = String::new();
        /// By parameter.
        parameters: BTreeMap<String, ParameterConstraint> = BTreeMap::new();
        /// Bytes of an answer.
        max_response_bytes: u64 = 0;
        /// Seconds between two calls.
        cooldown_secs: u64 = 0;
    }
}

section! {
    /// Limits on one parameter.
    pub struct ParameterConstraint {
        /// Patterns of which one must match.
        allowed_patterns: Vec<String> = Vec::new();
        /// Patterns of which none may match.
        blocked_patterns: Vec<String> = Vec::new();
        /// Characters.
        max_length: u64 = 0;
    }
}

section! {
    /// Tools that must not follow each other.
    pub struct ToolChainRule [label = first] {
        /// After this tool …
        first as "if": String = String::new();
        /// … these wait …
        then: Vec<String> = Vec::new();
        /// … so many seconds.
        cooldown_secs: u64 = 0;
    }
}

section! {
    /// One entry of `rules:`: what the operator does about one rule.
    pub struct RuleOverride [label = id] {
        /// Id of the rule.
        id: String = String::new(), via read::rule_id;
        /// Severity it shall have.
        severity: Option<String> = None;
        /// What its findings do; absent if `lane` alone says it.
        action: Option<RuleAction> = None, via read::rule_action;
        /// Whether they do anything at all.
        lane: Option<RuleLane> = None;
        /// Webhooks that hear of it.
        notify: Vec<String> = Vec::new();
        /// Text they get.
        template: String = String::new();
        /// Only for these tools.
        apply_to_tools: Vec<String> = Vec::new();
        /// Not for these tools.
        exempt_tools: Vec<String> = Vec::new();
        /// Written by a policy bundle.
        managed_by_policy: bool = false;
    }
}

impl RuleOverride {
    /// Whether it is about the rule with this id. Case does not matter: two ids never differ in case alone,
    /// and an override that silently means no rule would be worse.
    pub fn is_about(&self, rule_id: &str) -> bool {
        self.id.eq_ignore_ascii_case(rule_id)
    }
}

words! {
    /// Whether the findings of an overridden rule do anything.
    pub enum RuleLane {
        /// They do what the action, or else the severity, says.
        #[default]
        Enforce = "enforce",
        /// They are listed; the verdict stays.
        Alert = "alert",
        /// They are counted and nothing else.
        Shadow = "shadow",
        /// They are not even counted.
        Off = "off",
    }
}

words! {
    /// What the findings of an overridden rule do.
    pub enum RuleAction {
        /// Refuse.
        #[default]
        Block = "block",
        /// Hold.
        Quarantine = "quarantine",
        /// Let through and report.
        AllowAndFlag = "allow-and-flag",
        /// Nothing at all.
        Ignore = "ignore",
    }
}
