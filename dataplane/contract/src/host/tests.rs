use super::special::{embedded_v4, special};
use super::{Bracketed, Host, HostPattern, presets};
use proptest::prelude::*;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SPELLINGS: &str = include_str!("../../testdata/host/spellings.tsv");
const ADDRESSES: &str = include_str!("../../testdata/host/addresses.tsv");
const PATTERNS: &str = include_str!("../../testdata/host/patterns.tsv");

/// Lines of tab-separated fields; `#` begins a remark, `\u{…}` and `\0` are what Rust means by them.
fn rows(text: &str) -> impl Iterator<Item = Vec<String>> + '_ {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split('\t').map(unescape).collect())
}

fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some(at) = rest.find("\\u{") {
        let end = at + rest[at..].find('}').expect("a closing brace");
        let code = u32::from_str_radix(&rest[at + 3..end], 16).expect("a code point");
        text.push_str(&rest[..at]);
        text.push(char::from_u32(code).expect("a character"));
        rest = &rest[end + 1..];
    }
    text + rest
}

#[test]
fn every_spelling_of_a_host_is_read_as_the_one_it_means_or_refused() {
    let (mut count, mut wrong) = (0, Vec::new());
    for row in rows(SPELLINGS) {
        let [written, meant] = &row[..] else {
            panic!("two fields: {row:?}");
        };
        let read = match Host::parse(written) {
            Ok(Host::Name(name)) => String::from(name.as_str()),
            Ok(Host::Address(address)) => format!("={address}"),
            Err(error) => format!("!{error:?}"),
        };
        if read != *meant {
            wrong.push(format!("{written:?} means {meant}, read as {read}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count >= 150, "{count} spellings");
}

#[test]
fn every_special_address_is_known_and_its_public_neighbours_are_not() {
    let (mut count, mut wrong) = (0, Vec::new());
    for row in rows(ADDRESSES) {
        let [address, meant] = &row[..] else {
            panic!("two fields: {row:?}");
        };
        let found = special(address.parse().unwrap()).map_or("public", |range| range.name);
        if found != meant {
            wrong.push(format!("{address} is {meant}, found {found}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count >= 140, "{count} addresses");
}

#[test]
fn patterns_cover_what_they_say_and_nothing_else() {
    for row in rows(PATTERNS) {
        let [pattern, host, covered] = &row[..] else {
            panic!("three fields: {row:?}");
        };
        let found = match HostPattern::parse(pattern) {
            Ok(pattern) if host.is_empty() => pattern.to_string(),
            Ok(pattern) => pattern.matches(&Host::parse(host).unwrap()).to_string(),
            Err(error) => format!("!{error:?}"),
        };
        assert_eq!(found, *covered, "{pattern:?} {host:?}");
    }
}

#[test]
fn patterns_know_which_others_they_meet_and_which_they_hold() {
    let pattern = |text: &str| HostPattern::parse(text).unwrap();
    for (a, b, overlap, covers) in [
        ("*", "*.a.example", true, true),
        ("*.a.example", "*", true, false),
        ("*.example", "*.a.example", true, true),
        ("*.a.example", "*.example", true, false),
        ("*.a.example", "*.b.example", false, false),
        ("*.a.example", "a.example", false, false),
        ("*.a.example", "x.a.example", true, true),
        ("a.example", "a.example", true, true),
        ("a.example", "b.example", false, false),
        ("10.0.0.0/8", "10.1.0.0/16", true, true),
        ("10.1.0.0/16", "10.0.0.0/8", true, false),
        ("10.0.0.0/8", "10.0.0.1", true, true),
        ("10.0.0.0/8", "11.0.0.1", false, false),
        ("10.0.0.0/8", "*.a.example", false, false),
    ] {
        let (a, b) = (pattern(a), pattern(b));
        assert_eq!(a.overlaps(&b), overlap, "{a} {b}");
        assert_eq!(b.overlaps(&a), overlap, "{b} {a}");
        assert_eq!(a.covers(&b), covers, "{a} {b}");
    }
}

#[test]
fn an_entry_that_is_a_url_still_names_its_host() {
    for (entry, host) in [
        ("https://evil.example/x?y", "evil.example"),
        ("evil.example:8443", "evil.example"),
        ("evil.example/path", "evil.example"),
        ("http://*.evil.example/", "*.evil.example"),
    ] {
        assert!(HostPattern::parse(entry).is_err(), "{entry}");
        let found = HostPattern::parse_host_of(entry).map(|p| p.to_string());
        assert_eq!(found.as_deref(), Some(host), "{entry}");
    }
    assert_eq!(HostPattern::parse_host_of("ev*l"), None);
}

#[test]
fn presets_are_sorted_and_hold_patterns() {
    assert_eq!(presets::PRESETS.len(), 16);
    assert!(presets::PRESETS.is_sorted_by_key(|preset| preset.name));
    let names: HashSet<_> = presets::PRESETS.iter().map(|p| p.name).collect();
    assert_eq!(names.len(), presets::PRESETS.len());
    for preset in presets::PRESETS {
        for host in preset.hosts {
            assert!(HostPattern::parse(host).is_ok(), "{host}");
        }
    }
    assert_eq!(presets::nearest("gihtub"), Some("github"));
    assert!(presets::find("GitHub").is_some());
}

#[test]
fn hosts_stand_in_brackets_where_a_port_may_follow() {
    let shown = |text: &str| Bracketed(&Host::parse(text).unwrap()).to_string();
    assert_eq!(shown("[2001:db8::1]"), "[2001:db8::1]");
    assert_eq!(shown("::ffff:1.2.3.4"), "1.2.3.4");
    assert_eq!(shown("A.example"), "a.example");
}

#[test]
fn ipv4_inside_ipv6_is_found_wherever_it_hides() {
    let inner: Ipv4Addr = "127.0.0.1".parse().unwrap();
    for outer in [
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b:1::127.0.0.1",
        "2002:7f00:1::",
        "2002:7f00:1:5::9",
        "2001:0:1234::80ff:fffe",
    ] {
        assert_eq!(embedded_v4(outer.parse().unwrap()), Some(inner), "{outer}");
    }
    for outer in ["::", "::1", "2001:db8::7f00:1", "2606:4700::1"] {
        assert_eq!(embedded_v4(outer.parse().unwrap()), None, "{outer}");
    }
}

/// Every way to write an IPv4 address that some reader understands.
fn v4_spellings(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let n = address.to_bits();
    let low_16 = n & 0xffff;
    let low_24 = n & 0xff_ffff;
    vec![
        format!("{a}.{b}.{c}.{d}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("{n}"),
        format!("0x{n:x}"),
        format!("0X{n:08X}"),
        format!("0{n:o}"),
        format!("000{n:o}"),
        format!("{a}.{low_24}"),
        format!("{a}.{b}.{low_16}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("0{a:o}.{b}.0x{low_16:x}"),
        format!("::ffff:{a}.{b}.{c}.{d}"),
        format!("[::ffff:{a}.{b}.{c}.{d}]"),
        format!("[0:0:0:0:0:ffff:{:x}:{:x}]", n >> 16, low_16),
        format!("{a}\u{3002}{b}\u{ff0e}{c}\u{ff61}{d}"),
        format!("{n}")
            .chars()
            .map(|c| char::from_u32(0xff10 + c.to_digit(10).unwrap()).unwrap())
            .collect(),
    ]
}

proptest! {
    #[test]
    fn an_address_is_the_same_in_every_spelling(n in any::<u32>()) {
        let address = Ipv4Addr::from_bits(n);
        for spelling in v4_spellings(address) {
            prop_assert_eq!(Host::parse(&spelling), Ok(Host::Address(IpAddr::V4(address))), "{}", spelling);
        }
    }

    #[test]
    fn what_is_read_is_written_the_same(text in "[a-zA-Z0-9._\\-\u{e4}\u{df}\u{3002}\u{ff11}x:\\[\\]%@*]{1,24}") {
        if let Ok(host) = Host::parse(&text) {
            let written = host.to_string();
            prop_assert_eq!(Host::parse(&written), Ok(host.clone()), "{}", written);
            prop_assert_eq!(Host::parse(&Bracketed(&host).to_string()), Ok(host));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
        let _ = Host::parse(&text);
        let _ = HostPattern::parse(&text);
        let _ = HostPattern::parse_host_of(&text);
    }

    #[test]
    fn an_embedded_special_address_is_never_public(n in any::<u32>(), form in 0usize..6) {
        let v4 = Ipv4Addr::from_bits(n);
        let low = u128::from(n);
        let outer = match form {
            0 => low,
            1 => 0xffff_u128 << 32 | low,
            2 => 0x64_ff9b_u128 << 96 | low,
            3 => 0x2002_u128 << 112 | low << 80,
            4 => 0x2001_u128 << 112 | u128::from(!n),
            _ => 0xffff_u128 << 48 | low,
        };
        let outer = IpAddr::V6(Ipv6Addr::from_bits(outer));
        prop_assert!(special(IpAddr::V4(v4)).is_none() || special(outer).is_some());
    }
}
