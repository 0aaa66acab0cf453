//! Known secrets as a scan finds them: in the content, in every view of it, and in streams.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::{Arc, LazyLock};

use oktsec_rules::{RuleSet, Surface, load_text};
use oktsec_scanner::secrets::{KNOWN_BYTES_MAX, SecretKey, SecretKind, SecretStore};
use oktsec_scanner::{Database, HOLD_BYTES, Scanner, StreamState, View};

const VALUE: &str = "blue+Harbour9/tide";
const OTHER: &str = "Zebra-0plum-kettle";

static DATABASE: LazyLock<Arc<Database>> = LazyLock::new(|| database(RULES));

const RULES: &str = "
category: credential-leak
rules:
  - {id: K-VALUE, severity: critical, sensitive: true, known: value}
  - {id: K-CANARY, severity: critical, sensitive: true, known: canary}
  - {id: P-1, severity: low, patterns: [{contains: vault.acme.internal}]}
";

fn database(rules: &str) -> Arc<Database> {
    let loaded = load_text("t.yaml", rules);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    Arc::new(Database::compile(&RuleSet::new(loaded.rules)).unwrap())
}

fn store() -> SecretStore {
    let mut store = SecretStore::new(SecretKey::from_bytes([5; 32]));
    store
        .add("orders-db", SecretKind::Value, VALUE.as_bytes())
        .unwrap();
    store
        .add("courier", SecretKind::Canary, OTHER.as_bytes())
        .unwrap();
    store
}

fn scanner(database: &Arc<Database>) -> Scanner {
    let mut scanner = Scanner::new(Arc::clone(database)).unwrap();
    scanner.set_secrets(Some(&Arc::new(store().index())));
    scanner
}

/// Rule, excerpt, view and the bytes it was found in.
fn scan(scanner: &mut Scanner, text: &[u8]) -> Vec<(String, String, View, Vec<u8>)> {
    let rules = scanner.database().rules().to_vec();
    let scanned = scanner.scan(text, Surface::Message).unwrap();
    scanned
        .findings
        .iter()
        .map(|finding| {
            let rule = &rules[finding.rule as usize];
            let span = finding.span.start as usize..finding.span.end as usize;
            (
                rule.id.clone(),
                scanned.excerpt(text, finding, rule),
                finding.view,
                text[span].to_vec(),
            )
        })
        .collect()
}

#[test]
fn a_known_value_is_a_finding_of_its_rule_and_its_excerpt_names_the_entry() {
    let mut scanner = scanner(&DATABASE);
    let text = format!("see {VALUE} on vault.acme.internal");
    let found = scan(&mut scanner, text.as_bytes());
    let said = "[REDACTED:KNOWN_SECRET(orders-db):len=18]";
    assert_eq!(
        found[0],
        ("K-VALUE".into(), said.into(), View::Raw, VALUE.into())
    );
    assert_eq!(found[1].0, "P-1", "worst first");
    let found = scan(&mut scanner, OTHER.as_bytes());
    assert_eq!(found[0].0, "K-CANARY");
    assert_eq!(found[0].1, "[REDACTED:CANARY(courier):len=18]");
}

#[test]
fn without_a_store_and_after_it_went_nothing_is_known() {
    let mut scanner = scanner(&DATABASE);
    assert_eq!(scan(&mut scanner, VALUE.as_bytes()).len(), 1);
    scanner.set_database(Arc::clone(&DATABASE)).unwrap();
    assert_eq!(
        scan(&mut scanner, VALUE.as_bytes()).len(),
        1,
        "other rules do not make it forget"
    );
    scanner.set_secrets(None);
    assert!(scan(&mut scanner, VALUE.as_bytes()).is_empty());
}

#[test]
fn a_rule_that_is_off_or_for_another_surface_finds_nothing() {
    for word in ["lane: off", "surfaces: [egress]"] {
        let rules = RULES.replace("known: value", &format!("known: value, {word}"));
        let mut scanner = scanner(&database(&rules));
        assert!(scan(&mut scanner, VALUE.as_bytes()).is_empty(), "{word}");
        assert_eq!(scan(&mut scanner, OTHER.as_bytes()).len(), 1, "{word}");
    }
}

#[test]
fn a_value_is_found_in_the_views_of_a_text_too() {
    let mut scanner = scanner(&DATABASE);
    let (head, tail) = VALUE.split_at(7);
    for (text, view) in [
        (format!("x {head}\u{200b}{tail} x"), View::Folded),
        (format!("x {head}<b></b>{tail} x"), View::Stripped),
        // Base64 of base64 of the value.
        ("x WW14MVpTdElZWEppYjNWeU9TOTBhV1Js x".into(), View::Decoded),
        ("x blue%2BHarbour9%2Ftide x".into(), View::Unescaped),
    ] {
        let found = scan(&mut scanner, text.as_bytes());
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0].2, view, "{text}");
        assert!(found[0].3.len() < text.len(), "{text}");
        assert!(found[0].1.contains("(orders-db)"), "{text}");
    }
}

#[test]
fn a_value_cut_anywhere_in_a_stream_is_found_before_its_last_byte_leaves() {
    let text = format!("{}{VALUE}{}", "a b ".repeat(40), " c d".repeat(40));
    let at = text.find(VALUE).unwrap() as u64;
    let mut scanner = scanner(&DATABASE);
    for cut in 0..text.len() {
        let mut state = StreamState::new(Surface::Egress);
        let mut found = Vec::new();
        let (head, tail) = text.as_bytes().split_at(cut);
        for piece in [head, tail] {
            scanner.feed(&mut state, piece).unwrap();
            let seen = scanner.pause(&mut state).unwrap();
            found.extend(seen.findings.iter().map(|finding| finding.span.clone()));
            assert!(found.len() == 1 || seen.clear <= at, "cut at {cut}");
        }
        let end = scanner.finish(&mut state).unwrap();
        found.extend(end.findings.iter().map(|finding| finding.span.clone()));
        assert_eq!(found.len(), 1, "cut at {cut}");
        assert_eq!(found[0], at..at + VALUE.len() as u64, "cut at {cut}");
    }
}

#[test]
fn a_body_that_came_often_without_a_finding_is_looked_at_for_values_that_are_known_since() {
    let mut scanner = Scanner::new(Arc::clone(&DATABASE)).unwrap();
    let text = format!("{}{VALUE}{}", "a b ".repeat(40), " c d".repeat(40));
    let found = |scanner: &mut Scanner| {
        let mut state = StreamState::new(Surface::Egress);
        scanner.feed(&mut state, text.as_bytes()).unwrap();
        scanner.finish(&mut state).unwrap().findings.len()
    };
    for _ in 0..4 {
        assert_eq!(found(&mut scanner), 0);
    }
    let index = Arc::new(store().index());
    scanner.set_secrets(Some(&index));
    assert_eq!([(); 4].map(|()| found(&mut scanner)), [1; 4]);
    scanner.set_secrets(None);
    assert_eq!(found(&mut scanner), 0);
}

#[test]
fn a_long_value_is_known_by_a_stretch_that_any_window_of_a_stream_holds() {
    let long: String = (0..4_000_u32)
        .map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26))
        .collect();
    let mut store = SecretStore::new(SecretKey::from_bytes([5; 32]));
    store
        .add("pem", SecretKind::Value, long.as_bytes())
        .unwrap();
    let mut scanner = Scanner::new(Arc::clone(&DATABASE)).unwrap();
    scanner.set_secrets(Some(&Arc::new(store.index())));
    let escaped: String = long
        .chars()
        .map(|c| format!("\\u{:04x}", u32::from(c)))
        .collect();
    for text in [long, escaped] {
        let padding = "word ".repeat(20_000);
        let mut state = StreamState::new(Surface::Egress);
        let mut found = 0;
        for piece in format!("{padding}{text}{padding}").as_bytes().chunks(997) {
            found += scanner.feed(&mut state, piece).unwrap().findings.len();
        }
        found += scanner.finish(&mut state).unwrap().findings.len();
        assert_eq!(found, 1);
    }
    const { assert!(KNOWN_BYTES_MAX < HOLD_BYTES) }
}
