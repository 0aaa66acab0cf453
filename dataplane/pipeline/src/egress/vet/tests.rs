use super::{Kind, kind, vet};
use crate::egress::{EgressPolicy, Target};
use oktsec_contract::config::{Config, PrivateTarget};
use oktsec_contract::host::special::special;
use oktsec_contract::reason::Reason;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn policy(targets: &[(&str, &str, &str, &[u16])]) -> EgressPolicy {
    let mut config = Config::default();
    config.forward_proxy.blocked_domains = vec![String::from("9.9.0.0/16")];
    config.forward_proxy.private_targets = targets
        .iter()
        .map(|(agent, host, network, ports)| PrivateTarget {
            agent: String::from(*agent),
            host: String::from(*host),
            network: String::from(*network),
            ports: ports.to_vec(),
        })
        .collect();
    EgressPolicy::build(&config, 1)
}

fn target(text: &str) -> Target {
    Target::from_authority(text).unwrap()
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

/// What becomes of an answer: the addresses left, or the reason.
fn outcome(policy: &EgressPolicy, agent: Option<&str>, to: &str, answer: &[&str]) -> String {
    match vet(&addresses(answer), &target(to), agent, policy) {
        Ok((vetted, line)) => {
            let vetted: Vec<_> = vetted.iter().map(ToString::to_string).collect();
            format!(
                "{} {}",
                vetted.join(","),
                line.map_or_else(String::new, |l| l.to_string())
            )
        }
        Err(refusal) => String::from(refusal.reason.as_str()),
    }
}

#[test]
fn one_special_address_spoils_the_answer() {
    let policy = policy(&[]);
    for (answer, expected) in [
        (&["93.184.215.14"][..], "93.184.215.14 "),
        (
            &["93.184.215.14", "2606:4700::1111"],
            "93.184.215.14,2606:4700::1111 ",
        ),
        (&["::ffff:93.184.215.14"], "93.184.215.14 "),
        (&["93.184.215.14", "10.0.0.1"], "egress_address_special"),
        (
            &["93.184.215.14", "::ffff:127.0.0.1"],
            "egress_address_special",
        ),
        (&["169.254.169.254"], "egress_address_special"),
        (&["::"], "egress_address_special"),
        (&["0.0.0.0"], "egress_address_special"),
        (&["64:ff9b::7f00:1"], "egress_address_special"),
        (
            &["93.184.215.14", "64:ff9b::a00:1"],
            "egress_address_special",
        ),
        (&["9.9.9.9"], "egress_host_blocked"),
        (&["93.184.215.14", "2002:909:909::"], "egress_host_blocked"),
        (&[], "egress_name_unresolved"),
    ] {
        assert_eq!(
            outcome(&policy, None, "a.example:443", answer),
            expected,
            "{answer:?}"
        );
    }
}

#[test]
fn a_public_address_behind_a_translator_is_left_out_and_harms_nothing() {
    let strict = policy(&[]);
    let policy = policy(&[("", "*", "64:ff9b::/96", &[])]);
    let answer = ["93.184.215.14", "64:ff9b::5db8:d70e"];
    assert_eq!(
        outcome(&strict, None, "a.example:443", &answer),
        "93.184.215.14 "
    );
    assert_eq!(
        outcome(&strict, None, "a.example:443", &answer[1..]),
        "egress_address_special"
    );
    // On a network that has only the translator, a private target opens it, and only to public addresses.
    assert_eq!(
        outcome(&policy, None, "a.example:443", &answer[1..]),
        "64:ff9b::5db8:d70e forward_proxy.private_targets[0]"
    );
    assert_eq!(
        outcome(&policy, None, "a.example:443", &["64:ff9b::7f00:1"]),
        "egress_address_special"
    );
}

#[test]
fn a_private_target_opens_one_door_and_no_other() {
    let policy = policy(&[
        ("ci", "build.corp.example", "10.1.0.0/16", &[443]),
        ("", "*.lab.example", "192.168.0.0/24", &[]),
        ("", "meta.example", "169.254.0.0/16", &[]),
        ("", "imds.example", "169.254.169.254", &[]),
        ("", "10.9.9.9", "10.9.9.9", &[]),
    ]);
    let line = |n: usize| format!("forward_proxy.private_targets[{n}]");
    for (agent, to, answer, expected) in [
        (
            Some("ci"),
            "build.corp.example:443",
            "10.1.2.3",
            format!("10.1.2.3 {}", line(0)),
        ),
        (
            Some("ci"),
            "BUILD.corp.example.:443",
            "::ffff:10.1.2.3",
            format!("10.1.2.3 {}", line(0)),
        ),
        (
            Some("other"),
            "build.corp.example:443",
            "10.1.2.3",
            String::from("egress_address_special"),
        ),
        (
            None,
            "build.corp.example:443",
            "10.1.2.3",
            String::from("egress_address_special"),
        ),
        (
            Some("ci"),
            "evil.example:443",
            "10.1.2.3",
            String::from("egress_address_special"),
        ),
        (
            Some("ci"),
            "build.corp.example:80",
            "10.1.2.3",
            String::from("egress_address_special"),
        ),
        (
            Some("ci"),
            "build.corp.example:443",
            "10.2.2.3",
            String::from("egress_address_special"),
        ),
        (
            None,
            "x.lab.example:443",
            "192.168.0.9",
            format!("192.168.0.9 {}", line(1)),
        ),
        (
            None,
            "x.lab.example:443",
            "192.168.1.9",
            String::from("egress_address_special"),
        ),
        (
            None,
            "meta.example:80",
            "169.254.1.1",
            format!("169.254.1.1 {}", line(2)),
        ),
        // Metadata services are opened by their own address only, whatever network holds them.
        (
            None,
            "meta.example:80",
            "169.254.169.254",
            String::from("egress_address_special"),
        ),
        (
            None,
            "imds.example:80",
            "169.254.169.254",
            format!("169.254.169.254 {}", line(3)),
        ),
        (
            None,
            "10.9.9.9:80",
            "10.9.9.9",
            format!("10.9.9.9 {}", line(4)),
        ),
        (
            None,
            "10.9.9.8:80",
            "10.9.9.8",
            String::from("egress_address_special"),
        ),
    ] {
        assert_eq!(
            outcome(&policy, agent, to, &[answer]),
            expected,
            "{agent:?} {to} {answer}"
        );
    }
}

#[test]
fn the_refusal_names_the_address_and_what_it_is() {
    let refusal = vet(
        &addresses(&["::1"]),
        &target("a.example:80"),
        None,
        &policy(&[]),
    )
    .unwrap_err();
    assert_eq!(refusal.reason, Reason::EgressAddressSpecial);
    assert_eq!(refusal.detail, "::1 is loopback");
}

/// Every IPv6 address whose packets end up at this IPv4 address.
fn disguises(v4: Ipv4Addr) -> Vec<IpAddr> {
    let n = u128::from(v4.to_bits());
    [
        0xffff_u128 << 32 | n,
        n,
        0xffff_u128 << 48 | n,
        0x64_ff9b_u128 << 96 | n,
        0x64_ff9b_u128 << 96 | 1 << 80 | n,
        0x2002_u128 << 112 | n << 80,
        0x2002_u128 << 112 | n << 80 | 0xdead,
        0x2001_u128 << 112 | u128::from(!v4.to_bits()),
    ]
    .map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
    .to_vec()
}

proptest! {
    #[test]
    fn a_denied_address_never_vets_in_another_spelling(
        n in prop_oneof![any::<u32>(), 0x7f00_0000_u32..=0x7fff_ffff, 0x0a00_0000_u32..=0x0aff_ffff, 0xa9fe_0000_u32..=0xa9fe_ffff],
    ) {
        let policy = self::policy(&[]);
        let v4 = Ipv4Addr::from_bits(n);
        let to = target("a.example:443");
        if kind(IpAddr::V4(v4), &to, None, &policy).is_err() {
            for disguise in disguises(v4) {
                prop_assert!(vet(&[disguise], &to, None, &policy).is_err(), "{disguise}");
            }
        }
    }

    #[test]
    fn only_public_addresses_vet_without_a_private_target(bits in any::<u128>(), small in any::<bool>()) {
        let bits = if small { bits >> 96 } else { bits };
        let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
        let policy = self::policy(&[]);
        if let Ok(found) = kind(address, &target("a.example:443"), None, &policy) {
            prop_assert_ne!(&found, &Kind::Exempt(crate::egress::Line::new("none")));
            prop_assert!(found == Kind::Transition || special(address).is_none());
        }
    }
}
