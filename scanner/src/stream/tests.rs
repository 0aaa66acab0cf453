//! A body is found to say the same, however it is cut.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use oktsec_rules::{RuleSet, load_text};
use proptest::prelude::*;

use super::*;
use crate::Database;

const RULES: &str = r"
rules:
  - {id: T-KEY, name: n, severity: critical, category: x, sensitive: true, patterns: [{regex: '\bAK[0-9A-Z]{16}\b'}]}
  - {id: T-OPEN, name: n, severity: high, category: x, patterns: [{regex: 'sk-[a-z0-9]{20,}'}]}
  - {id: T-PHRASE, name: n, severity: high, category: x, patterns: [{contains: open sesame now}]}
  - {id: T-EXCEPT, name: n, severity: high, category: x, patterns: [{contains: drop the table}], exclude: ['(?i)only an example']}
  - {id: T-NEAR, name: n, severity: high, category: x, patterns: [{regex: '\b[0-9a-f]{32}\b', near: '(?i)secret'}]}
  - {id: T-WIDE, name: n, severity: high, category: x, patterns: [{regex: 'begin:[^\n]{0,2000}:end'}]}
  - {id: T-START, name: n, severity: high, category: x, patterns: [{regex: '^zeroth word'}]}
  - {id: T-LINE, name: n, severity: high, category: x, patterns: [{regex: '(?m)^first of line$'}]}
";

static DATABASE: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let loaded = load_text("t.yaml", RULES);
    assert_eq!(loaded.rules.len(), 8, "{:?}", loaded.problems);
    Arc::new(Database::compile(&RuleSet::new(loaded.rules)).unwrap())
});

thread_local! {
    static SCANNER: RefCell<Scanner> = RefCell::new(Scanner::new(Arc::clone(&DATABASE)).unwrap());
}

const KEY: &str = "AK0123456789ABCDEF";

/// What to do after a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Feed,
    Pause,
    Boundary,
}

/// Findings of a body fed in these pieces, as (rule, span), and what must hold on the way.
fn streamed(pieces: &[(&[u8], Then)]) -> Vec<(u32, Range<u64>)> {
    let [found, behind] = [false, true].map(|catches_up| run(pieces, catches_up));
    assert_eq!(rules_of(&found), rules_of(&behind));
    // What comes again is looked at less, and found all the same.
    for _ in 0..2 {
        assert_eq!(run(pieces, false), found);
    }
    found
}

/// The same with or without looks behind what has left.
fn run(pieces: &[(&[u8], Then)], catches_up: bool) -> Vec<(u32, Range<u64>)> {
    SCANNER.with_borrow_mut(|scanner| {
        let mut state = StreamState::new(Surface::Egress);
        let mut found = Vec::new();
        let mut clear = 0;
        let mut whole = true;
        let mut note = |scanned: &StreamScanned<'_>, total: u64, last: bool| {
            assert!(clear <= scanned.clear && scanned.clear <= total);
            for finding in scanned.findings {
                assert!(finding.span.start < finding.span.end && finding.span.end <= total);
                // Nothing of it has left before, unless a unit had to. An encoded form is wider than its pattern.
                if whole
                    && finding.view == View::Raw
                    && guarantee(&DATABASE.rules()[finding.rule as usize]) == Guarantee::HeldBack
                {
                    assert!(clear <= finding.span.start, "{finding:?} {clear}");
                }
                found.push((finding.rule, finding.span.clone()));
            }
            clear = scanned.clear;
            whole &= !last;
        };
        for (bytes, then) in pieces {
            let fed = scanner.feed(&mut state, bytes).unwrap();
            let (clear, findings) = (fed.clear, fed.findings.to_vec());
            let fed = StreamScanned {
                findings: &findings,
                clear,
                limits: fed.limits,
            };
            note(&fed, state.total(), false);
            assert!(state.memory_bytes() <= StreamState::MEMORY_BYTES_MAX);
            let after = match then {
                Then::Feed => continue,
                Then::Pause => scanner.pause(&mut state).unwrap(),
                Then::Boundary => scanner.boundary(&mut state).unwrap(),
            };
            let findings = after.findings.to_vec();
            let after = StreamScanned {
                findings: &findings,
                clear: after.clear,
                limits: after.limits,
            };
            note(&after, state.total(), *then == Then::Boundary);
            assert_eq!(state.scanned(), state.total());
            if catches_up {
                let behind = scanner.catch_up(&mut state).unwrap();
                let findings = behind.findings.to_vec();
                let behind = StreamScanned {
                    findings: &findings,
                    clear: behind.clear,
                    limits: behind.limits,
                };
                note(&behind, state.total(), false);
                assert!(!state.is_behind());
            }
        }
        let end = scanner.finish(&mut state).unwrap();
        assert!(!end.limits.hides_content());
        let findings = end.findings.to_vec();
        let end = StreamScanned {
            findings: &findings,
            clear: end.clear,
            limits: end.limits,
        };
        note(&end, state.total(), true);
        assert_eq!(state.clear(), state.total());
        found
    })
}

fn whole(text: &[u8]) -> Vec<(u32, Range<u64>)> {
    SCANNER.with_borrow_mut(|scanner| {
        let scanned = scanner.scan(text, Surface::Egress).unwrap();
        let of = |finding: &Finding| {
            (
                finding.rule,
                finding.span.start.into()..finding.span.end.into(),
            )
        };
        scanned.findings.iter().map(of).collect()
    })
}

fn rules_of(found: &[(u32, Range<u64>)]) -> BTreeSet<&str> {
    let id = |rule: &u32| DATABASE.rules()[*rule as usize].id.as_str();
    found.iter().map(|(rule, _)| id(rule)).collect()
}

fn filler(bytes: usize) -> Vec<u8> {
    "The quick brown fox jumps over the lazy dog, and the report is due on Friday.\n"
        .bytes()
        .cycle()
        .take(bytes)
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = (word >> (18 - 6 * at)) & 63;
            out.push(if at <= chunk.len() {
                char::from(LETTERS[digit as usize])
            } else {
                '='
            });
        }
    }
    out
}

/// Texts that find, nearly find, and hide.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        KEY.to_owned(),
        format!("x{KEY}"),
        format!("{KEY}Z"),
        format!("sk-{}", "a1".repeat(30)),
        "open sesame now".to_owned(),
        "open\u{200b} sesame now".to_owned(),
        r"\u006fpen sesame now".to_owned(),
        "drop the table".to_owned(),
        "drop the table (only an example)".to_owned(),
        "only an example: drop the table".to_owned(),
        "the secret is 00112233445566778899aabbccddeeff".to_owned(),
        "00112233445566778899aabbccddeeff".to_owned(),
        format!("begin:{}:end", "m ".repeat(900)),
        "zeroth word".to_owned(),
        "first of line".to_owned(),
        "\nfirst of line\n".to_owned(),
        base64(b"please open sesame now, my friend"),
        "\n".to_owned(),
        " ".to_owned(),
    ]);
    prop_oneof![3 => fixed, 2 => (1_usize..3000).prop_map(|len| String::from_utf8(filler(len)).unwrap())]
}

fn cuts() -> impl Strategy<Value = Vec<(usize, bool)>> {
    let len = prop_oneof![1_usize..8, 1_usize..300, 1_usize..6000];
    prop::collection::vec((len, any::<bool>()), 1..200)
}

/// Cuts a text into chunks of these lengths, over and over.
fn cut<'t>(mut text: &'t [u8], lens: &[(usize, bool)]) -> Vec<(&'t [u8], Then)> {
    let mut pieces = Vec::new();
    let mut lens = lens.iter().cycle();
    while !text.is_empty() {
        let (len, pause) = lens.next().unwrap();
        let (now, later) = text.split_at((*len).min(text.len()));
        pieces.push((now, if *pause { Then::Pause } else { Then::Feed }));
        text = later;
    }
    pieces
}

/// Bytes like those of an archive.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 11_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_finds_the_same_rules_as_the_whole(
        parts in prop::collection::vec(piece(), 1..40),
        lens in cuts(),
    ) {
        let text = parts.concat().into_bytes();
        let (split, whole) = (streamed(&cut(&text, &lens)), whole(&text));
        prop_assert_eq!(rules_of(&split), rules_of(&whole));
    }

    #[test]
    fn units_that_leave_at_once_hide_nothing(
        parts in prop::collection::vec(piece(), 1..30),
        lens in cuts(),
    ) {
        let text = parts.concat().into_bytes();
        let mut pieces = cut(&text, &lens);
        for (_, then) in &mut pieces {
            if *then == Then::Pause { *then = Then::Boundary; }
        }
        let (split, whole) = (streamed(&pieces), whole(&text));
        // An exclusion that comes in a later unit is too late, so more is allowed.
        prop_assert!(rules_of(&whole).is_subset(&rules_of(&split)));
    }
}

#[test]
fn each_finding_is_reported_once_and_in_its_place() {
    let mut text = filler(200_000);
    let places = [0_usize, 5_000, 65_530, 66_000, 131_060, 150_000, 199_900];
    for at in places {
        text[at..at + KEY.len() + 2].copy_from_slice(format!(" {KEY} ").as_bytes());
    }
    for len in [1_000, 4_096, 65_536, 200_000] {
        for pause in [false, true] {
            let mut found = streamed(&cut(&text, &[(len, pause)]));
            found.sort_by_key(|(_, span)| span.start);
            let expected = places.map(|at| (0, at as u64 + 1..at as u64 + 1 + KEY.len() as u64));
            assert_eq!(found, expected, "{len} {pause}");
        }
    }
}

#[test]
fn a_secret_split_at_every_byte_is_found_and_nothing_of_it_leaves() {
    for before in [0, 100, 4_090, 65_520] {
        let mut text = filler(before);
        text.extend_from_slice(format!(" {KEY} and more").as_bytes());
        for at in 0..=text.len() - before {
            let (a, b) = text.split_at(before + at);
            for then in [Then::Feed, Then::Pause] {
                let found = streamed(&[(a, then), (b, Then::Feed)]);
                assert_eq!(found, [(0, before as u64 + 1..before as u64 + 19)]);
            }
        }
    }
}

#[test]
fn every_byte_a_chunk_of_its_own_finds_the_same() {
    let text = format!(
        "{} {KEY} open sesame now {} begin:{}:end",
        String::from_utf8(filler(500)).unwrap(),
        base64(b"please open sesame now, my friend"),
        "w".repeat(300)
    );
    let pieces: Vec<(&[u8], Then)> = text
        .as_bytes()
        .chunks(1)
        .map(|byte| (byte, Then::Pause))
        .collect();
    assert_eq!(
        rules_of(&streamed(&pieces)),
        rules_of(&whole(text.as_bytes()))
    );
}

#[test]
fn a_match_the_next_byte_undoes_is_never_reported() {
    let longer = format!("{KEY}Z and so on, for a while");
    for at in 0..longer.len() {
        let (a, b) = longer.as_bytes().split_at(at);
        assert!(
            streamed(&[(a, Then::Pause), (b, Then::Pause)]).is_empty(),
            "{at}"
        );
    }
    let text = "drop the table, which is only an example";
    for at in 0..text.len() {
        let (a, b) = text.as_bytes().split_at(at);
        assert!(
            streamed(&[(a, Then::Pause), (b, Then::Feed)]).is_empty(),
            "{at}"
        );
    }
}

#[test]
fn a_unit_leaves_whole_and_a_match_over_its_end_is_stopped() {
    SCANNER.with_borrow_mut(|scanner| {
        let mut state = StreamState::new(Surface::Egress);
        scanner.feed(&mut state, b"data: open ses").unwrap();
        assert_eq!(scanner.boundary(&mut state).unwrap().clear, 14);
        scanner.feed(&mut state, b"ame now").unwrap();
        let scanned = scanner.pause(&mut state).unwrap();
        // Unsettled: it ends with the bytes at hand, and none of them leaves.
        assert!(scanned.findings.is_empty() && scanned.clear == 14);
        assert_eq!(
            scanner.boundary(&mut state).unwrap().findings[0].span,
            6..21
        );
    });
}

#[test]
fn a_match_over_many_units_is_stopped_by_the_one_that_completes_it() {
    // Wide ones (a rule that may be open makes pauses look far back), narrow ones, and narrow ones in disguise.
    let disguised: String = "open sesame now"
        .bytes()
        .map(|byte| format!("\\u{byte:04x}"))
        .collect();
    for (needle, rule) in [
        (format!("begin:{}:end", "m ".repeat(900)), "T-WIDE"),
        (format!(" {KEY} "), "T-KEY"),
        ("open sesame now".to_owned(), "T-PHRASE"),
        (disguised, "T-PHRASE"),
        (
            "the secret, a long story: 00112233445566778899aabbccddeeff ".to_owned(),
            "T-NEAR",
        ),
    ] {
        for unit in [7_usize, 40, 256] {
            let mut text = filler(9_000);
            let at = text.len() as u64;
            text.extend_from_slice(needle.as_bytes());
            text.extend_from_slice(&filler(600));
            SCANNER.with_borrow_mut(|scanner| {
                let mut state = StreamState::new(Surface::Egress);
                let mut found = Vec::new();
                for bytes in text.chunks(unit) {
                    scanner.feed(&mut state, bytes).unwrap();
                    let before = state.clear();
                    for finding in scanner.boundary(&mut state).unwrap().findings {
                        let id = &DATABASE.rules()[finding.rule as usize].id;
                        found.push((id.clone(), before < finding.span.end));
                    }
                }
                found.dedup();
                assert_eq!(
                    found,
                    [(rule.to_owned(), true)],
                    "{rule} in units of {unit}, {at}"
                );
            });
        }
    }
}

#[test]
fn what_no_pause_has_to_find_is_found_behind_it() {
    let rules = load_text(
        "t.yaml",
        "{id: T-BOTH, name: n, severity: high, category: x, match: all, \
         patterns: [{contains: swordfish}, {contains: herring}]}",
    );
    let database = Database::compile(&RuleSet::new(rules.rules)).unwrap();
    let mut scanner = Scanner::new(Arc::new(database)).unwrap();
    let mut state = StreamState::new(Surface::Egress);
    let text = [b"swordfish ", &*filler(3_000), b"herring ", &*filler(2_000)].concat();
    let (mut paused, mut behind) = (0, 0);
    for unit in text.chunks(100) {
        scanner.feed(&mut state, unit).unwrap();
        paused += scanner.boundary(&mut state).unwrap().findings.len();
        let clear = state.clear();
        let caught_up = scanner.catch_up(&mut state).unwrap();
        assert_eq!(caught_up.clear, clear);
        behind += caught_up.findings.len();
    }
    assert_eq!((paused, behind), (0, 1));
}

#[test]
fn a_stream_of_units_keeps_little_memory_and_its_end_looks_at_all_of_it() {
    let text = filler(300_000);
    SCANNER.with_borrow_mut(|scanner| {
        let mut state = StreamState::new(Surface::Egress);
        for bytes in text.chunks(100) {
            scanner.feed(&mut state, bytes).unwrap();
            scanner.boundary(&mut state).unwrap();
            assert!(
                state.memory_bytes() <= 2 * KEPT_BYTES,
                "{}",
                state.memory_bytes()
            );
        }
        scanner.finish(&mut state).unwrap();
        assert_eq!(state.whole, text.len() as u64);
    });
}

#[test]
fn an_encoded_run_longer_than_many_windows_is_opened_in_each() {
    for at in [100, 49_000, 90_000, 200_001, 299_900] {
        let mut plain = filler(300_000);
        plain[at..at + 15].copy_from_slice(b"open sesame now");
        let one_line = base64(&plain);
        let lines: Vec<&str> = one_line
            .as_bytes()
            .chunks(76)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        for text in [one_line.clone(), lines.join("\r\n")] {
            let text = format!("{{\"file\": \"{text}\"}}");
            for len in [7_777, 65_536, 1 << 20] {
                let found = streamed(&cut(text.as_bytes(), &[(len, false)]));
                assert_eq!(rules_of(&found).len(), 1, "{at} {len}: {found:?}");
            }
        }
    }
}

/// A body of `bytes` with a key at its end, in chunks of 64 KiB that are never all in memory.
fn far_away(bytes: u64) {
    let chunk = filler(64 << 10);
    SCANNER.with_borrow_mut(|scanner| {
        let mut state = StreamState::new(Surface::Egress);
        while state.total() < bytes {
            let fed = scanner.feed(&mut state, &chunk).unwrap();
            assert!(fed.findings.is_empty());
            assert!(state.memory_bytes() <= StreamState::MEMORY_BYTES_MAX);
        }
        let at = state.total();
        scanner
            .feed(&mut state, format!(" {KEY} ").as_bytes())
            .unwrap();
        let end = scanner.finish(&mut state).unwrap();
        assert_eq!(end.findings[0].span, at + 1..at + 19);
    });
}

#[test]
fn a_secret_behind_every_boundary_is_found_in_constant_memory() {
    for bytes in [64 << 10, 1 << 20, 10 << 20, 100 << 20] {
        far_away(bytes);
    }
}

#[test]
#[ignore = "takes seconds: cargo test --release -p oktsec-scanner -- --ignored gibibyte"]
fn a_secret_behind_a_gibibyte_is_found_in_constant_memory() {
    far_away(1 << 30);
}

#[test]
fn a_restarted_state_has_forgotten_everything() {
    SCANNER.with_borrow_mut(|scanner| {
        let mut state = StreamState::new(Surface::Egress);
        scanner.feed(&mut state, b"open sesame").unwrap();
        scanner.pause(&mut state).unwrap();
        state.restart(Surface::Egress);
        scanner.feed(&mut state, b" now").unwrap();
        assert!(scanner.finish(&mut state).unwrap().findings.is_empty());
        assert_eq!(state.total(), 4);
    });
}

#[test]
fn what_stands_in_an_archive_is_found_at_any_place_of_any_window() {
    let mut state = 5_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let archive: Vec<u8> = noise.take(200_000).collect();
    let secret = b" sk-abcdefghij0123456789 ";
    let places = (0..archive.len() - secret.len()).step_by(7_919);
    for at in places.chain(WINDOW_BYTES - 30..WINDOW_BYTES + 10) {
        let mut body = archive.clone();
        body[at..at + secret.len()].copy_from_slice(secret);
        let pieces: Vec<_> = body
            .chunks(50_000)
            .map(|piece| (piece, Then::Feed))
            .collect();
        let span = at as u64 + 1..(at + secret.len()) as u64 - 1;
        assert_eq!(streamed(&pieces), [(1, span)], "{at}");
    }
}

/// Windows of a body that were known when it came as often as this.
fn known_windows(scanner: &mut Scanner, body: &[u8], times: usize) -> usize {
    for _ in 0..times {
        let mut state = StreamState::new(Surface::Egress);
        scanner.feed(&mut state, body).unwrap();
        assert!(scanner.finish(&mut state).unwrap().findings.is_empty());
    }
    scanner.again.known()
}

#[test]
fn a_body_that_comes_a_third_time_is_not_looked_at() {
    let mut scanner = Scanner::new(Arc::clone(&DATABASE)).unwrap();
    let body = filler(3 * WINDOW_BYTES);
    assert_eq!(known_windows(&mut scanner, &body, 2), 0);
    assert_eq!(known_windows(&mut scanner, &body, 1), 3);
    let mut other = body.clone();
    other[2 * WINDOW_BYTES] ^= 1;
    assert_eq!(
        known_windows(&mut scanner, &other, 1),
        3 + 2,
        "two windows are as before"
    );
}

#[test]
fn other_rules_look_at_every_window_again() {
    let mut scanner = Scanner::new(Arc::clone(&DATABASE)).unwrap();
    let body = [&filler(500)[..], b"a herring swims"].concat();
    assert_eq!(known_windows(&mut scanner, &body, 3), 1);
    let text =
        "{id: T-FISH, name: n, severity: high, category: x, patterns: [{contains: herring}]}";
    let rules = RuleSet::new(load_text("t.yaml", text).rules);
    scanner
        .set_database(Arc::new(Database::compile(&rules).unwrap()))
        .unwrap();
    for _ in 0..3 {
        let mut state = StreamState::new(Surface::Egress);
        scanner.feed(&mut state, &body).unwrap();
        assert_eq!(scanner.finish(&mut state).unwrap().findings.len(), 1);
    }
}
