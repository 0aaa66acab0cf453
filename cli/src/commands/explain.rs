//! `oktsec explain`: why a recorded decision is what it is, or what would become of a request, and which line of the
//! configuration would change it.

use super::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use crate::place::Place;
use crate::reader::Log;
use oktsec_contract::config::{self, Config, RuleLane, RuleOverride, Step};
use oktsec_contract::id::MessageId;
use oktsec_contract::reason::Reason;
use oktsec_contract::record::RecordRef;
use oktsec_pipeline::egress::{self, EgressPolicy, Question};
use oktsec_rules::{Rule, RuleSet};
use serde_json::{Value, json};
use std::net::IpAddr;

/// Which decision, or which request.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of a record (`message_id` of an answer, `id` of `oktsec logs --json`), or a URL or host:port that an
    /// agent would ask the egress proxy for
    #[arg(value_name = "RECORD|URL")]
    what: String,
    /// The agent that would ask
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Its method [default: GET for http://, CONNECT for https:// and host:port]
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// What the host resolves to (may be repeated); nobody is asked
    #[arg(long, value_name = "IP")]
    address: Vec<IpAddr>,
}

/// One thing that decided: a rule, a key of the configuration, or neither.
struct Cause {
    /// What decided, in a sentence.
    what: String,
    /// The key that would change it.
    key: Option<Vec<Step>>,
    /// How.
    remedy: String,
}

/// Explains a record or a request.
pub(crate) fn execute(global: &Global, args: &Args) -> Outcome {
    match MessageId::parse(&args.what) {
        Some(id) => record(global, id),
        None => request(global, args),
    }
}

/// What the configuration says about a request that nobody makes.
fn request(global: &Global, args: &Args) -> Outcome {
    let place = Place::find(global.config.as_deref())?;
    let policy = EgressPolicy::build(&place.config, 0);
    let opaque = !args.what.contains("://") || args.what.starts_with("https://");
    let method = args
        .method
        .as_deref()
        .unwrap_or(if opaque { "CONNECT" } else { "GET" });
    let question = Question {
        agent: args.agent.as_deref(),
        method,
        url: &args.what,
        addresses: &args.address,
    };
    let explained = egress::explain(&policy, question).map_err(|error| {
        Failure::new(format_args!(
            "{:?} is no id of a record, and as a URL or host:port: {error}",
            args.what
        ))
    })?;
    let text = std::fs::read_to_string(&place.config_path).unwrap_or_default();
    let line = |line: &egress::Line| place_of(&steps_of(line.as_str()), &place, &text);
    let refused = explained.reason.http_status() >= 400;
    if global.json {
        let steps = explained.steps.iter().map(|step| {
            json!({
                "what": step.what,
                "outcome": step.outcome,
                "key": step.line.as_ref().map(egress::Line::as_str),
            })
        });
        out::json(&json!({
            "enabled": place.config.forward_proxy.enabled,
            "method": method,
            "reason": explained.reason.as_str(),
            "refused": refused,
            "detail": explained.detail,
            "key": explained.line.as_ref().map(egress::Line::as_str),
            "line": explained.line.as_ref().and_then(|line| {
                config::locate(&text, &steps_of(line.as_str())).map(|at| at.line)
            }),
            "steps": steps.collect::<Vec<_>>(),
            "change": explained.change,
            "not_evaluated": explained.not_evaluated,
        }))?;
        return Ok(if refused { Exit::Blocked } else { Exit::Done });
    }
    let verdict = if refused { "refused" } else { "allowed" };
    out::line(format_args!(
        "{method} {}: {verdict} ({})",
        out::printable(&args.what),
        explained.reason.as_str()
    ))?;
    if !explained.detail.is_empty() {
        out::line(format_args!("  {}", out::printable(&explained.detail)))?;
    }
    for step in &explained.steps {
        let by = step.line.as_ref().map(&line);
        let by = by.map_or_else(String::new, |by| format!("  {by}"));
        out::line(format_args!("  {:<24} {}{by}", step.what, step.outcome))?;
    }
    for change in &explained.change {
        out::line(format_args!("  change: {}", out::printable(change)))?;
    }
    out::line(format_args!(
        "  not looked at: {}",
        explained.not_evaluated.join(", ")
    ))?;
    if !place.config.forward_proxy.enabled {
        out::note("The egress proxy is not enabled: forward_proxy.enabled.");
    }
    Ok(if refused { Exit::Blocked } else { Exit::Done })
}

fn record(global: &Global, id: MessageId) -> Outcome {
    let found = Place::find_with_rules(global.config.as_deref())?;
    let place = &found.place;
    let none = || Failure::new(format_args!("there is no record {id}"));
    let log = Log::open(&place.paths)?.ok_or_else(none)?;
    let stored = log
        .reader()
        .get(id)
        .map_err(Failure::new)?
        .ok_or_else(none)?;
    let mut findings = Vec::new();
    let record = stored
        .record(&mut findings)
        .map_err(|error| Failure::new(format_args!("the record is damaged: {error}")))?;
    let text = std::fs::read_to_string(&place.config_path).unwrap_or_default();
    let causes = causes(&record, &place.config, &found.rules);
    if global.json {
        let causes: Vec<Value> = causes
            .iter()
            .map(|cause| cause.to_json(place, &text))
            .collect();
        let record = stored
            .to_json()
            .map_err(|error| Failure::new(format_args!("the record is damaged: {error}")))?;
        out::json(&json!({ "record": record, "causes": causes }))?;
        return Ok(Exit::Done);
    }
    out::line(format_args!(
        "{}  {} -> {}  {} ({}: {})",
        record.received_at.to_rfc3339(),
        out::printable(record.from),
        out::printable(record.to),
        record.status.as_str(),
        record.reason.decision(),
        record.reason.as_str(),
    ))?;
    if !record.detail.is_empty() {
        out::line(format_args!("  {}", out::printable(record.detail)))?;
    }
    if record.status != record.reason.status() {
        out::line("  The surface observes: this is what would have been done.")?;
    }
    for cause in &causes {
        out::line(format_args!("\n{}", out::printable(&cause.what)))?;
        if let Some(line) = cause.place(place, &text) {
            out::line(format_args!("  where:  {line}"))?;
        }
        if !cause.remedy.is_empty() {
            out::line(format_args!("  change: {}", out::printable(&cause.remedy)))?;
        }
    }
    Ok(Exit::Done)
}

impl Cause {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            key: None,
            remedy: remedy.into(),
        }
    }

    fn at<const N: usize>(mut self, path: [&str; N]) -> Self {
        self.key = Some(path.iter().map(|&key| key.into()).collect());
        self
    }

    fn place(&self, place: &Place, text: &str) -> Option<String> {
        self.key.as_ref().map(|key| place_of(key, place, text))
    }

    fn to_json(&self, place: &Place, text: &str) -> Value {
        let located = self.key.as_ref().and_then(|key| config::locate(text, key));
        json!({
            "what": self.what,
            "key": self.key.as_deref().map(name_of),
            "file": self.key.as_ref().map(|_| &place.config_path),
            "line": located.map(|at| at.line),
            "present": located.is_some_and(|at| at.whole),
            "remedy": self.remedy,
        })
    }
}

/// `file:line: key`, or where the key would have to be added.
fn place_of(key: &[Step], place: &Place, text: &str) -> String {
    let file = place.config_path.display();
    let name = name_of(key);
    match config::locate(text, key) {
        Some(at) if at.whole => format!("{file}:{}: {name}", at.line),
        Some(at) => format!(
            "{file}:{}: {name} is not there yet; add it below this line",
            at.line
        ),
        None => format!("{file}: {name} is not there yet"),
    }
}

/// `agents.a.egress.ports[0]` as steps. Names of agents hold dots; below `agents` everything up to a key we know
/// belongs to the name.
fn steps_of(line: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = line;
    if let Some((agent, below)) = line
        .strip_prefix("agents.")
        .and_then(|l| l.split_once(".egress").or_else(|| l.rsplit_once('.')))
    {
        steps.extend([Step::from("agents"), Step::from(agent)]);
        rest = below;
        if line.contains(".egress") {
            steps.push("egress".into());
        }
    }
    for part in rest.split('.').filter(|part| !part.is_empty()) {
        let (key, items) = part.split_once('[').unwrap_or((part, ""));
        if !key.is_empty() {
            steps.push(key.into());
        }
        for item in items.split('[').filter(|item| !item.is_empty()) {
            if let Ok(at) = item.trim_end_matches(']').parse() {
                steps.push(Step::Item(at));
            }
        }
    }
    steps
}

fn name_of(key: &[Step]) -> String {
    let mut name = String::new();
    for step in key {
        match step {
            Step::Key(key) => {
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(key);
            }
            Step::Item(at) => name.push_str(&format!("[{at}]")),
        }
    }
    name
}

/// What decided about a record, by the configuration and rules that are in force now.
fn causes(record: &RecordRef<'_>, config: &Config, rules: &RuleSet) -> Vec<Cause> {
    let (from, to) = (record.from, record.to);
    let why = record.reason;
    match why {
        Reason::ContentBlocked
        | Reason::ContentQuarantined
        | Reason::ContentFlagged
        | Reason::EgressRequestContent
        | Reason::EgressResponseContent
        | Reason::EgressNameContent
        | Reason::EgressFlagged => findings(record, config, rules),
        Reason::Allowed | Reason::EgressForwarded | Reason::EgressTunneled => {
            let mut causes = vec![Cause::new("Nothing was held against it.", "")];
            if !record.findings.is_empty() {
                causes[0].what = String::from("What was found was not held against it.");
                causes.extend(findings(record, config, rules));
            }
            causes
        }
        Reason::SignatureRequired => vec![
            Cause::new(
                "It brought no signature, and signatures are required.",
                "sign it (`oktsec send`, the SDK); `false` takes unsigned messages",
            )
            .at(["identity", "require_signature"]),
        ],
        Reason::KeyUnknown => vec![
            Cause::new(
                format!("No public key is known for {from:?}."),
                format!("put {from}.pub there, or `oktsec keygen --agent {from}`"),
            )
            .at(["identity", "keys_dir"]),
        ],
        Reason::KeyRevoked => vec![
            Cause::new(
                format!("The key of {from:?} that signed it is revoked."),
                format!("sign with its present key; `oktsec keys rotate --agent {from}` makes one"),
            )
            .at(["identity", "keys_dir"]),
        ],
        Reason::KeyVersionMismatch => vec![
            Cause::new(
                "It named another key version than the configured one.",
                "send this version in X-Oktsec-Key-Version, or none",
            )
            .at(["agents", from, "key_version"]),
        ],
        Reason::SignatureInvalid => vec![Cause::new(
            "The signature does not fit these exact bytes and this key.",
            "sign from, to, content and timestamp as they are sent, with the agent's present key",
        )],
        Reason::ReplayRejected => vec![
            Cause::new(
                "The very same signature was seen before: a replay.",
                "sign anew with a new timestamp; `idempotent` gives the first answer again",
            )
            .at(["identity", "replay"]),
        ],
        Reason::ReplayCacheFull => vec![
            Cause::new(
                "So many signatures are remembered that a replay could not be told.",
                "a larger number, and restart the data plane",
            )
            .at(["identity", "replay_signatures_max"]),
        ],
        Reason::DelegationRequired => vec![
            Cause::new(
                "It brought no delegation chain, and one is required.",
                "`false`, while chains cannot be verified",
            )
            .at(["identity", "require_delegation"]),
        ],
        Reason::DelegationInvalid => vec![Cause::new(
            "It brought a delegation chain, and chains cannot be verified yet.",
            "send it as its own signer, without X-Oktsec-Delegation",
        )],
        Reason::PeerRateLimited => vec![
            Cause::new("This address sent more than its rate.", "a larger number")
                .at(["rate_limit", "per_ip"]),
        ],
        Reason::AgentRateLimited => vec![
            Cause::new(
                format!("{from:?} sent more than its rate."),
                "a larger number",
            )
            .at(["rate_limit", "per_agent"]),
        ],
        Reason::AgentSuspended => vec![
            Cause::new(
                format!("{from:?} is suspended."),
                format!("`oktsec agent unsuspend {from}`"),
            )
            .at(["agents", from, "suspended"]),
        ],
        Reason::RecipientSuspended => vec![
            Cause::new(
                format!("The recipient {to:?} is suspended."),
                format!("`oktsec agent unsuspend {to}`"),
            )
            .at(["agents", to, "suspended"]),
        ],
        Reason::GrantMissing => vec![
            Cause::new(
                format!("No grant of {from:?} reaches {to:?}."),
                format!("add {to} to the list"),
            )
            .at(["agents", from, "can_message"]),
        ],
        Reason::GrantConstraint => vec![
            Cause::new(
                format!("A grant of {from:?} reaches {to:?}, but one of its constraints did not hold."),
                "look at its rate and its end",
            )
            .at(["agents", from, "acl_entries"]),
        ],
        Reason::SenderUnknown => vec![
            Cause::new(
                format!("{from:?} is not configured, and senders that are not may not send."),
                format!("add agents.{from}, or `allow` everybody"),
            )
            .at(["default_policy"]),
        ],
        Reason::ScanLimit => vec![Cause::new(
            "A bound of the scanner was reached, so the content was not seen whole.",
            "send it plainly: less nested, less encoded, in smaller pieces",
        )],
        Reason::ScanFailed => vec![Cause::new(
            "The content could not be scanned, so it was refused.",
            "see the log of the data plane",
        )],
        Reason::AuditUnavailable | Reason::AuditOverloaded => vec![Cause::new(
            "The decision could not be recorded, so it was refused.",
            "see disk and log of the data plane",
        )],
        Reason::SnapshotMissing => vec![Cause::new(
            "No configuration had reached the data plane yet.",
            "start the control plane",
        )],
        Reason::RequestInvalid
        | Reason::BodyTooLarge
        | Reason::BodyTimeout
        | Reason::JsonInvalid
        | Reason::JsonDuplicateKey
        | Reason::JsonTooDeep
        | Reason::FieldTypeInvalid
        | Reason::FieldMissing
        | Reason::NameInvalid
        | Reason::TimestampInvalid
        | Reason::TimestampTooOld
        | Reason::TimestampAhead
        | Reason::HeaderInvalid
        | Reason::EgressTargetInvalid
        | Reason::EgressProtocolInvalid => vec![Cause::new(
            "What was sent is no request we understand; no setting changes that.",
            "see the `reason` of the answer",
        )],
        Reason::Started
        | Reason::SnapshotApplied
        | Reason::QuarantineApproved
        | Reason::QuarantineRejected
        | Reason::QuarantineExpired
        | Reason::ChainBroken => vec![Cause::new(
            "This record is about the system itself, not about a message.",
            "",
        )],
        Reason::EgressAuthRequired
        | Reason::EgressTokenInvalid
        | Reason::EgressIdentityConflict => vec![
            Cause::new(
                "Whoever asked did not prove which agent it is, or proved two.",
                "`oktsec tokens create --type proxy_basic`, and its token as the proxy's password",
            )
            .at(["forward_proxy", "require_auth"]),
        ],
        Reason::EgressHostBlocked => lists(
            config,
            from,
            "blocked_domains",
            "The host is on a list of blocked hosts.",
            "remove it there",
        ),
        Reason::EgressHostNotAllowed => lists(
            config,
            from,
            "allowed_domains",
            "The host is on no list of allowed hosts.",
            "add it there",
        ),
        Reason::EgressPortNotAllowed => lists(
            config,
            from,
            "ports",
            "This port is not one that may be reached.",
            "add it there, or a rule that allows it for this host",
        ),
        Reason::EgressRuleBlocked | Reason::EgressNotInspectable => lists(
            config,
            from,
            "rules",
            "A rule blocks it, or asks for a method or path that an opaque tunnel does not show.",
            "a rule that allows before it, or interception for this host",
        ),
        Reason::EgressScopeEmpty => vec![
            Cause::new(
                format!("The scope of {from:?} names nothing, so it may reach nothing."),
                "add hosts there",
            )
            .at(["trust_boundaries", "internal"]),
        ],
        Reason::EgressAddressSpecial => vec![
            Cause::new(
                "The host is, or resolves to, an address that is not on the public internet: this machine, a private network, a cloud's metadata.",
                "an entry for this agent, host, network and port, if the target is legitimate",
            )
            .at(["forward_proxy", "private_targets"]),
        ],
        Reason::EgressNameMismatch => vec![Cause::new(
            "Names that must agree did not: the target, Host, :authority, the name in the TLS greeting.",
            "mend the client; no setting allows this",
        )],
        Reason::EgressRateLimited
        | Reason::EgressBudgetSpent
        | Reason::EgressConnectionsFull => lists(
            config,
            from,
            "limits",
            "A limit of the agent is reached: its rate, its budget or its connections.",
            "larger numbers",
        ),
        Reason::EgressUndecodable => vec![Cause::new(
            "A content encoding could not be decoded within bounds, so the content could not be seen whole.",
            "send it with gzip, br, zstd, deflate or plainly, and nothing that unpacks to far more",
        )],
        Reason::EgressStopped => vec![
            Cause::new(
                "An operator stopped everything outbound: the kill switch.",
                "remove that file, or start again through the API",
            )
            .at(["forward_proxy", "kill_switch"]),
        ],
        Reason::EgressIdle => vec![
            Cause::new("Nothing moved for too long, or the request did not arrive in time.", "longer times")
                .at(["forward_proxy", "timeouts"]),
        ],
        Reason::EgressNameUnresolved
        | Reason::EgressUpstreamUnreachable
        | Reason::EgressUpstreamTimeout
        | Reason::EgressUpstreamTls
        | Reason::EgressUpstreamInvalid => vec![Cause::new(
            "The other side could not be reached or did not answer properly; nothing here forbade it.",
            "try again, or look at the host itself",
        )],
    }
}

/// The list of the agent if it has one, else the one for everybody.
fn lists(config: &Config, agent: &str, list: &str, what: &str, remedy: &str) -> Vec<Cause> {
    let own = config.agents.get(agent).and_then(|a| a.egress.as_ref());
    let cause = Cause::new(what, remedy);
    let everybody = Cause::new(what, remedy).at(["forward_proxy", list]);
    match own {
        Some(_) => vec![cause.at(["agents", agent, "egress", list]), everybody],
        None => vec![everybody],
    }
}

/// For each finding what it did, and the line that would change that.
fn findings(record: &RecordRef<'_>, config: &Config, rules: &RuleSet) -> Vec<Cause> {
    let mut causes: Vec<Cause> = Vec::new();
    for finding in record.findings {
        let rule = rules.find(finding.rule_id);
        let name = format!(
            "Rule {} ({}, {}) found {}",
            finding.rule_id,
            finding.severity.as_str(),
            finding.category,
            if finding.excerpt.is_empty() {
                "something"
            } else {
                finding.excerpt
            },
        );
        if causes.iter().any(|cause| cause.what.starts_with(&name)) {
            continue;
        }
        causes.push(effect(name, finding.rule_id, record.from, rule, config));
    }
    if causes.is_empty() {
        causes.push(Cause::new(
            "An intent that the content does not fit, or earlier refusals of this sender, decided.",
            "declare the intent that fits, or none",
        ));
    }
    causes
}

fn effect(name: String, id: &str, from: &str, rule: Option<&Rule>, config: &Config) -> Cause {
    let overridden = config.rules.iter().position(|o| o.is_about(id));
    let by_category = config.agents.get(from).and_then(|agent| {
        let category = &rule?.category;
        agent.blocked_content.iter().position(|blocked| {
            blocked == category || blocked == "credentials" && category == "credential-leak"
        })
    });
    if let Some(at) = by_category {
        let mut cause = Cause::new(
            format!("{name}; the sender's blocked_content blocks its category."),
            "remove the category there",
        );
        cause.key = Some(vec![
            "agents".into(),
            from.into(),
            "blocked_content".into(),
            Step::Item(at),
        ]);
        return cause;
    }
    if let Some(at) = overridden {
        let RuleOverride { action, lane, .. } = &config.rules[at];
        let (key, word) = match (action, lane) {
            (Some(action), Some(RuleLane::Enforce) | None) => ("action", action.as_str()),
            (_, lane) => ("lane", lane.unwrap_or_default().as_str()),
        };
        let mut cause = Cause::new(
            format!("{name}; an override makes that `{word}`."),
            format!("another {key}, or remove the entry"),
        );
        cause.key = Some(vec!["rules".into(), Step::Item(at), key.into()]);
        return cause;
    }
    let lane = rule.map_or("gone by now", |rule| rule.lane.as_str());
    Cause::new(
        format!("{name}; its severity decided (lane {lane})."),
        format!("`- {{id: {id}, action: allow-and-flag}}` below `rules:`; `oktsec rules --explain {id}` shows it"),
    )
    .at(["rules"])
}

#[cfg(test)]
mod tests {
    use super::{name_of, steps_of};

    #[test]
    fn a_line_of_the_policy_is_found_in_the_file_whatever_an_agent_is_called() {
        for line in [
            "agents.a.egress.blocked_domains[2]",
            "agents.team.a-1.egress.rules[0].ports[1]",
            "agents.a.b.suspended",
            "forward_proxy.allowed_domains",
            "forward_proxy.rules[3]",
        ] {
            assert_eq!(name_of(&steps_of(line)), line);
        }
        assert_eq!(steps_of("agents.team.a.egress.scope").len(), 4);
    }
}
