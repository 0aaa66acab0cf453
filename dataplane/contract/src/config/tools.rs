//! Sections of the surfaces around tools: gateway, hooks, MCP servers, and what watches them.

use super::period::Period;
use super::read;
use super::secret::Secret;
use super::section::{section, words};
use std::collections::BTreeMap;
use std::path::PathBuf;

words! {
    /// Whether a surface asks for authentication.
    pub enum RequireAuth {
        /// As the deployment says.
        #[default]
        Auto = "auto",
        /// Yes.
        Yes = "true",
        /// No.
        No = "false",
    }
}

section! {
    /// `gateway:` MCP servers behind one endpoint.
    pub struct Gateway {
        /// Whether it listens.
        enabled: bool = false;
        /// Its port.
        port: u16 = 9090, via read::gateway_port;
        /// Its address.
        bind: String = String::from("127.0.0.1"), via read::bind;
        /// Path of the endpoint.
        endpoint_path: String = String::from("/mcp");
        /// Scan what tools answer.
        scan_responses: bool = false;
        /// Watch the dependency files of servers.
        dep_check: bool = false;
        /// Check delegated scopes.
        verify_delegation_scope: bool = false;
        /// Don't register agents by what they call themselves.
        disable_auto_register: bool = false;
        /// Whether callers prove who they are.
        require_auth: RequireAuth = RequireAuth::Auto, via read::require_auth;
        /// Accepted proofs.
        auth_methods: Vec<String> = Vec::new();
        /// Believe `X-Oktsec-Agent` from this machine.
        trusted_loopback_headers: Option<bool> = None;
    }
}

section! {
    /// `hooks:` events of agents' clients.
    pub struct Hooks {
        /// Whether callers prove who they are.
        require_auth: RequireAuth = RequireAuth::Auto, via read::require_auth;
        /// Accepted proofs.
        auth_methods: Vec<String> = Vec::new();
        /// Believe `X-Oktsec-Agent` from this machine.
        trusted_loopback_headers: Option<bool> = None;
    }
}

section! {
    /// One entry of `mcp_servers:`.
    pub struct McpServer {
        /// `stdio` or `http`.
        transport: String = String::new();
        /// Command of `stdio`.
        command: String = String::new();
        /// Its arguments.
        args: Vec<String> = Vec::new();
        /// Address of `http`.
        url: String = String::new();
        /// Headers of `http`.
        headers: BTreeMap<String, Secret> = BTreeMap::new();
        /// Environment of `stdio`.
        env: BTreeMap<String, Secret> = BTreeMap::new();
        /// Folder of `stdio`.
        working_dir: Option<PathBuf> = None;
        /// Send its requests through our forward proxy.
        egress_sandbox: bool = false;
    }
}

section! {
    /// `telemetry:` we have none; tracing is for your own collector.
    pub struct Telemetry {
        /// Nothing is ever sent, whatever stands here.
        disabled: bool = true;
        /// Traces.
        tracing: Tracing = Tracing::default();
    }
}

section! {
    /// Traces for your own collector.
    pub struct Tracing {
        /// Whether they are made.
        enabled: bool = false;
        /// Where they go.
        exporter: String = String::from("none");
        /// Share of requests, 0 to 1.
        sampling_ratio: f64 = 1.0;
        /// Our name in them.
        service_name: String = String::from("oktsec");
    }
}

section! {
    /// `guard:` files of agents' clients that must not change silently.
    pub struct Guard {
        /// Whether it watches.
        enabled: bool = false;
        /// What it watches.
        watch_paths: Vec<String> = Vec::new();
    }
}

section! {
    /// `llm:` a language model's second look. It never decides about a message on its way.
    pub struct Llm {
        /// Whether it is asked.
        enabled: bool = false;
        /// `openai`, `claude` or `webhook`.
        provider: String = String::new();
        /// Model.
        model: String = String::new();
        /// Address of the provider.
        base_url: String = String::new();
        /// Key of the provider.
        api_key: Secret = Secret::default();
        /// Environment variable with the key.
        api_key_env: String = String::new();
        /// Tokens of an answer.
        max_tokens: u32 = 2048;
        /// 0 to 2.
        temperature: f64 = 0.1;
        /// Questions at the same time.
        max_concurrent: u32 = 3;
        /// Questions waiting.
        queue_size: u32 = 100;
        /// Longest wait for an answer.
        timeout: Period = Period::from_secs(30);
        /// What it may cost.
        budget: LlmBudget = LlmBudget::default();
        /// What it is asked about.
        triage: LlmTriage = LlmTriage::default();
        /// What it may raise.
        escalation: LlmEscalation = LlmEscalation::default();
        /// Rules it proposes.
        rulegen: LlmRulegen = LlmRulegen::default();
        /// Whom to ask when the provider fails.
        fallback: LlmFallback = LlmFallback::default();
        /// The provider `webhook`.
        webhook: LlmWebhook = LlmWebhook::default();
        /// Questions about intents.
        intent: LlmIntent = LlmIntent::default();
    }
}

section! {
    /// What the language model may cost.
    pub struct LlmBudget {
        /// Dollars a day; 0 is unlimited.
        daily_limit_usd: f64 = 0.0;
        /// Dollars a month; 0 is unlimited.
        monthly_limit_usd: f64 = 0.0;
        /// Share of the limit from which to warn.
        warn_threshold: f64 = 0.8;
        /// `skip` or `block`.
        on_limit: String = String::from("skip");
    }
}

section! {
    /// What the language model is asked about.
    pub struct LlmTriage {
        /// Whether a choice is made at all.
        enabled: bool = false;
        /// Share of harmless messages.
        sample_rate: f64 = 0.02;
        /// Shortest content.
        min_content_length: u64 = 50;
        /// Agents whose messages are always shown.
        sensitive_agents: Vec<String> = Vec::new();
        /// Agents whose messages are never shown.
        skip_agents: Vec<String> = Vec::new();
    }
}

section! {
    /// What the language model may raise.
    pub struct LlmEscalation {
        /// Whether it may.
        enabled: bool = false;
        /// Risk from which it does.
        risk_threshold: f64 = 80.0;
        /// Minutes it lasts.
        window_minutes: u64 = 30;
    }
}

section! {
    /// Rules the language model proposes.
    pub struct LlmRulegen {
        /// Whether it does.
        enabled: bool = false;
        /// Where it writes them.
        output_dir: Option<PathBuf> = None;
        /// Whether an operator decides.
        require_approval: bool = true;
    }
}

section! {
    /// Whom to ask when the provider fails.
    pub struct LlmFallback {
        /// As `llm.provider`; empty or `none` is nobody.
        provider: String = String::new();
        /// Model.
        model: String = String::new();
        /// Address.
        base_url: String = String::new();
        /// Key.
        api_key: Secret = Secret::default();
        /// Environment variable with the key.
        api_key_env: String = String::new();
    }
}

section! {
    /// The provider `webhook`.
    pub struct LlmWebhook {
        /// Where questions are posted.
        url: Secret = Secret::default();
        /// Headers of the request.
        headers: BTreeMap<String, Secret> = BTreeMap::new();
    }
}

section! {
    /// Questions about intents.
    pub struct LlmIntent {
        /// Whether they are asked.
        enabled: bool = false;
    }
}
