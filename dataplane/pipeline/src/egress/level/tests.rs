use super::Sight;
use crate::egress::{Absolute, EgressPolicy, Target};
use oktsec_contract::config::{self, Env};
use proptest::prelude::*;
use std::path::Path;

const POLICY: &str = include_str!("../../../testdata/egress/policy.yaml");
const DECISIONS: &str = include_str!("../../../testdata/egress/decisions.tsv");

pub(in crate::egress) fn policy(text: &str) -> EgressPolicy {
    let loaded = config::parse(text, Path::new("o.yaml"), &Env::empty());
    EgressPolicy::build(
        &loaded.unwrap_or_else(|failed| panic!("{failed}")).config,
        1,
    )
}

/// What the policy says, in the words of `decisions.tsv`.
fn decide(policy: &EgressPolicy, agent: &str, asked: &str) -> String {
    let (what, to) = asked.split_once(' ').expect("two words");
    let absolute;
    let (target, sight) = match what {
        "TUNNEL" => (Target::from_authority(to).unwrap(), Sight::Opaque),
        "OPENED" => (Target::from_authority(to).unwrap(), Sight::Opened),
        method => {
            absolute = Absolute::parse(to.as_bytes()).unwrap();
            let path = absolute.path_and_query();
            (absolute.target.clone(), Sight::Request { method, path })
        }
    };
    let agent = (agent != "-").then_some(agent);
    match policy.decide(agent, &target, sight) {
        Ok(lines) => {
            let lines: Vec<_> = lines.iter().flatten().map(ToString::to_string).collect();
            lines.join(" ")
        }
        Err(refusal) => {
            let line = refusal
                .line
                .map_or_else(String::new, |line| line.to_string());
            format!("{} {line}", refusal.reason.as_str())
        }
    }
}

#[test]
fn every_request_is_decided_by_the_line_that_says_so() {
    let policy = policy(POLICY);
    let mut wrong = Vec::new();
    for row in DECISIONS
        .lines()
        .filter(|row| !row.is_empty() && !row.starts_with('#'))
    {
        let [agent, asked, expected] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("three fields: {row}");
        };
        let found = decide(&policy, agent, asked);
        if found != expected {
            wrong.push(format!("{agent} {asked}: {expected}, found {found}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_said_allows_everything_on_the_usual_ports() {
    let policy = policy("identity: {require_signature: false}\n");
    assert_eq!(decide(&policy, "-", "TUNNEL any.example:443"), "");
    assert_eq!(decide(&policy, "-", "GET http://any.example/"), "");
    assert_eq!(
        decide(&policy, "-", "TUNNEL any.example:25"),
        "egress_port_not_allowed forward_proxy.ports"
    );
}

const HOSTS: &[&str] = &[
    "a.example",
    "b.example",
    "x.a.example",
    "10.0.0.1",
    "evil.example",
];
const PATTERNS: &[&str] = &[
    "a.example",
    "*.a.example",
    "*.example",
    "*",
    "10.0.0.0/8",
    "evil.example",
];

fn list() -> impl Strategy<Value = Vec<String>> {
    let entry = prop::sample::select(PATTERNS).prop_map(|text| format!("{text:?}"));
    prop::collection::vec(entry, 0..3)
}

proptest! {
    /// Whatever an agent's own section says, it reaches nothing that it would not reach without it.
    #[test]
    fn an_agents_section_never_widens(
        global in list(), blocked in list(), own in list(), own_blocked in list(),
        host in prop::sample::select(HOSTS), port in prop::sample::select(&[80_u16, 443, 22][..]),
        scope in prop::sample::select(&["", "internal", "nowhere"][..]),
    ) {
        let text = |egress: &str| format!(
            "identity: {{require_signature: false}}\ntrust_boundaries: {{internal: [b.example]}}\n\
             agents: {{x: {{{egress}}}}}\nforward_proxy: {{allowed_domains: [{}], blocked_domains: [{}]}}\n",
            global.join(","), blocked.join(",")
        );
        let section = format!(
            "egress: {{allowed_domains: [{}], blocked_domains: [{}], scope: {scope:?}}}",
            own.join(","), own_blocked.join(",")
        );
        let target = Target::from_authority(format!("{host}:{port}")).unwrap();
        let with = policy(&text(&section)).decide(Some("x"), &target, Sight::Opaque);
        let without = policy(&text("")).decide(Some("x"), &target, Sight::Opaque);
        prop_assert!(with.is_err() || without.is_ok());
    }
}
