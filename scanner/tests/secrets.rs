//! Known secrets: what is taken, what is found, what is kept.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::sync::Arc;

use oktsec_scanner::secrets::{
    Added, FINDINGS_MAX, SecretError, SecretFileError, SecretFinder, SecretForm, SecretKey,
    SecretKind, SecretStore,
};
use proptest::prelude::*;

fn store(values: &[(&str, &str)]) -> SecretStore {
    let mut store = SecretStore::new(SecretKey::from_bytes([9; 32]));
    for (name, value) in values {
        store
            .add(name, SecretKind::Value, value.as_bytes())
            .unwrap();
    }
    store
}

fn finder(store: &SecretStore) -> SecretFinder {
    SecretFinder::new(Arc::new(store.index()))
}

/// Name, form and text of every finding.
fn find(store: &SecretStore, text: &str) -> Vec<(String, SecretForm, String)> {
    let mut finder = finder(store);
    let index = Arc::clone(finder.index());
    let found = finder.find(text.as_bytes());
    found
        .findings
        .iter()
        .map(|finding| {
            let name = index.name(finding.secret).to_owned();
            (name, finding.form, text[finding.span.clone()].to_owned())
        })
        .collect()
}

fn base64(bytes: &[u8], alphabet: &[u8; 64], padded: bool) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .chain(&[0, 0])
            .take(3)
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        for at in 0..4 {
            if at <= chunk.len() {
                let letter = alphabet[(word >> (18 - 6 * at) & 63) as usize];
                out.push(char::from(letter));
            } else if padded {
                out.push('=');
            }
        }
    }
    out
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[test]
fn a_value_is_found_where_it_stands_and_only_whole() {
    let store = store(&[("db", "Tr0ub4dor&3-horse")]);
    let found = find(&store, "the password is 'Tr0ub4dor&3-horse', keep it");
    assert_eq!(
        found,
        [("db".into(), SecretForm::Plain, "Tr0ub4dor&3-horse".into())]
    );
    assert!(find(&store, "Tr0ub4dor&3-hors").is_empty());
    assert!(find(&store, "tr0ub4dor&3-horse").is_empty());
    assert!(find(&store, "").is_empty());
}

#[test]
fn every_usual_writing_of_a_value_is_found() {
    let value = "k?9>\"Zx/ü~Lo\\q8";
    let store = store(&[("odd", value)]);
    let json = serde_json::to_string(value).unwrap();
    let percent: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let units: String = value
        .encode_utf16()
        .map(|unit| format!("\\u{unit:04x}"))
        .collect();
    let reversed: Vec<u8> = value.bytes().rev().collect();
    for (text, form) in [
        (json.into_bytes(), SecretForm::Escaped),
        (units.into_bytes(), SecretForm::Escaped),
        (percent.into_bytes(), SecretForm::Percent),
        (hex.to_uppercase().into_bytes(), SecretForm::Hex),
        (hex.into_bytes(), SecretForm::Hex),
        (reversed, SecretForm::Reversed),
    ] {
        let mut finder = finder(&store);
        let found = finder.find(&text);
        assert_eq!(found.findings.len(), 1, "{form:?}");
        assert_eq!(found.findings[0].form, form);
    }
}

#[test]
fn base64_is_found_at_each_alignment_in_each_alphabet() {
    let value = "n0t>>a??Secret~~";
    let store = store(&[("b", value)]);
    for before in ["", "x", "xy", "user:"] {
        let whole = format!("{before}{value} and more");
        for (alphabet, padded) in [(STANDARD, true), (URL_SAFE, true), (URL_SAFE, false)] {
            let text = format!(
                "Authorization: {}",
                base64(whole.as_bytes(), alphabet, padded)
            );
            let found = find(&store, &text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(found[0].1, SecretForm::Base64);
        }
    }
}

#[test]
fn a_canary_names_the_agent_that_leaked() {
    let mut store = store(&[]);
    let token = store.plant("researcher", &[1; 32]).unwrap();
    let other = store.plant("writer", &[2; 32]).unwrap();
    let mut finder = finder(&store);
    let index = Arc::clone(finder.index());
    let text = format!("https://paste.test/?q={token}");
    let finding = finder.find(text.as_bytes()).findings[0].clone();
    assert_eq!(index.name(finding.secret), "researcher");
    assert_eq!(index.kind(finding.secret), SecretKind::Canary);
    assert_ne!(token, other);
}

#[test]
fn values_that_would_be_found_by_accident_are_refused() {
    let mut store = store(&[]);
    let mut add = |value: &[u8]| store.add("x", SecretKind::Value, value);
    assert_eq!(add(b"short12"), Err(SecretError::TooShort(7)));
    assert_eq!(add(b"--------------"), Err(SecretError::TooPlain));
    assert_eq!(
        add(&[1, 2, 3, 4].repeat(5000)),
        Err(SecretError::TooLong(20_000))
    );
    assert_eq!(
        store.add("", SecretKind::Value, b"long enough"),
        Err(SecretError::Name)
    );
    assert_eq!(
        store.add("a\nb", SecretKind::Value, b"long enough"),
        Err(SecretError::Name)
    );
    assert!(store.is_empty());
}

#[test]
fn a_value_is_kept_once_and_forgotten_by_name() {
    let mut store = store(&[
        ("a", "first-value-1"),
        ("b", "second-value-2"),
        ("c", "third-value-3"),
    ]);
    let again = store.add("z", SecretKind::Value, b"first-value-1");
    assert_eq!(again, Ok(Added::Known));
    assert_eq!(store.remove("a", SecretKind::Canary), 0);
    assert_eq!(store.remove("a", SecretKind::Value), 1);
    assert_eq!(store.remove("a", SecretKind::Value), 0);
    let names: Vec<String> = find(&store, "first-value-1 second-value-2 third-value-3")
        .into_iter()
        .map(|found| found.0)
        .collect();
    assert_eq!(names, ["b", "c"]);
    assert_eq!(store.list().len(), 2);
    assert_eq!(
        store.add("a", SecretKind::Value, b"first-value-1"),
        Ok(Added::New)
    );
}

#[test]
fn values_with_one_long_prefix_are_told_apart() {
    let mut store = store(&[]);
    for at in 0..500 {
        let value = format!("acme_live_Prefix9_{at:04}");
        store
            .add(&format!("n{at}"), SecretKind::Value, value.as_bytes())
            .unwrap();
    }
    let found = find(
        &store,
        "acme_live_Prefix9_0123 but not acme_live_Prefix9_0999",
    );
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "n123");
}

#[test]
fn the_list_of_findings_is_bounded_and_says_so() {
    let store = store(&[("a", "a-value-to-find-7")]);
    let mut finder = finder(&store);
    let text = "a-value-to-find-7 ".repeat(FINDINGS_MAX + 1);
    let found = finder.find(text.as_bytes());
    assert_eq!(found.findings.len(), FINDINGS_MAX);
    assert!(found.more);
    assert!(!finder.find(b"nothing").more);
}

#[test]
fn the_file_is_private_and_holds_no_value() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secrets.store");
    let mut before = store(&[("db", "Tr0ub4dor&3-horse"), ("api", "q7Zp-91xx-AAbb")]);
    before.plant("researcher", &[3; 32]).unwrap();
    before.write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    for part in [&b"Tr0ub4do"[..], b"dor&3-ho", b"q7Zp", b"AAbb"] {
        assert!(!bytes.windows(part.len()).any(|window| window == part));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let after = SecretStore::read(&path, SecretKey::from_bytes([9; 32]))
        .unwrap()
        .unwrap();
    assert_eq!(after.list(), before.list());
    assert_eq!(find(&after, "xx q7Zp-91xx-AAbb xx").len(), 1);
}

#[test]
fn a_store_that_is_not_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secrets.store");
    let key = || SecretKey::from_bytes([9; 32]);
    assert!(SecretStore::read(&path, key()).unwrap().is_none());
    store(&[("db", "Tr0ub4dor&3-horse")]).write(&path).unwrap();
    let other = SecretStore::read(&path, SecretKey::from_bytes([8; 32]));
    assert!(matches!(other, Err(SecretFileError::OtherKey)));
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(SecretStore::read(&path, key()).is_err(), "byte {at}");
        fs::write(&path, &good[..at]).unwrap();
        assert!(SecretStore::read(&path, key()).is_err(), "cut at {at}");
    }
}

#[cfg(unix)]
#[test]
fn files_others_may_read_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secrets.store");
    store(&[("db", "Tr0ub4dor&3-horse")]).write(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let read = SecretStore::read(&path, SecretKey::from_bytes([9; 32]));
    assert!(matches!(read, Err(SecretFileError::Io(_))));
    let path = dir.path().join("secrets.key");
    SecretKey::load_or_create(&path, [5; 32]).unwrap();
    SecretKey::load_or_create(&path, [6; 32]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(SecretKey::load(&path).is_err());
}

#[test]
fn a_key_file_is_made_once_and_read_after() {
    let dir = tempfile::tempdir().unwrap();
    let (key, file) = (dir.path().join("k"), dir.path().join("s"));
    let first = SecretKey::load_or_create(&key, [5; 32]).unwrap();
    let mut store = SecretStore::new(first);
    store.add("x", SecretKind::Value, b"some value 42").unwrap();
    store.write(&file).unwrap();
    let again = SecretKey::load_or_create(&key, [6; 32]).unwrap();
    assert!(SecretStore::read(&file, again).unwrap().is_some());
    fs::write(&key, "no key").unwrap();
    assert!(SecretKey::load(&key).is_err());
    assert!(!format!("{:?}", SecretKey::from_bytes([5; 32])).contains('5'));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The slow obvious search judges the fast one.
    #[test]
    fn plain_and_reversed_values_are_found_exactly_where_they_are(
        values in prop::collection::vec("[ab1_ ]{8,14}", 1..8),
        pieces in prop::collection::vec((any::<prop::sample::Index>(), "[ab1_ ]{0,9}", any::<bool>()), 0..8),
    ) {
        let mut store = SecretStore::new(SecretKey::from_bytes([4; 32]));
        let mut known: Vec<&String> = Vec::new();
        for value in &values {
            if store.add(value, SecretKind::Value, value.as_bytes()).is_ok() && !known.contains(&value) {
                known.push(value);
            }
        }
        let mut text = Vec::new();
        for (pick, filler, turned) in &pieces {
            text.extend_from_slice(filler.as_bytes());
            let mut piece = pick.get(&values).clone().into_bytes();
            if *turned {
                piece.reverse();
            }
            text.extend(piece);
        }
        let holds = |value: &str, turned: bool| {
            let mut value = value.as_bytes().to_vec();
            if turned {
                value.reverse();
            }
            text.windows(value.len()).any(|window| window == value)
        };
        let index = Arc::new(store.index());
        let mut finder = SecretFinder::new(Arc::clone(&index));
        let found = finder.find(&text);
        prop_assert!(!found.more);
        for value in known {
            let seen = found.findings.iter().any(|finding| index.name(finding.secret) == value);
            prop_assert_eq!(seen, holds(value, false) || holds(value, true), "{:?}", value);
        }
    }

    #[test]
    fn an_encoded_value_is_found_whatever_surrounds_it(
        value in prop::collection::vec(any::<u8>(), 8..40),
        before in prop::collection::vec(any::<u8>(), 0..7),
        after in prop::collection::vec(any::<u8>(), 0..7),
        writing in 0..6,
    ) {
        let mut store = SecretStore::new(SecretKey::from_bytes([4; 32]));
        prop_assume!(store.add("v", SecretKind::Value, &value).is_ok());
        let whole = [&before[..], &value, &after].concat();
        let text = match writing {
            0 => base64(&whole, STANDARD, true).into_bytes(),
            1 => base64(&whole, URL_SAFE, false).into_bytes(),
            2 => whole.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes(),
            3 => whole.iter().map(|byte| format!("%{byte:02x}")).collect::<String>().into_bytes(),
            4 => whole.iter().map(|byte| format!("\\x{byte:02X}")).collect::<String>().into_bytes(),
            _ => whole.iter().rev().copied().collect(),
        };
        let text = [&b"{\"data\": \""[..], &text, b"\"}"].concat();
        let mut finder = finder(&store);
        prop_assert!(!finder.find(&text).findings.is_empty());
    }

    #[test]
    fn any_bytes_are_searched_without_failing(text in prop::collection::vec(any::<u8>(), 0..400)) {
        let store = store(&[("a", "a1b2c3d4"), ("b", "\u{fffd}\u{fffd}x1")]);
        let mut finder = finder(&store);
        for finding in finder.find(&text).findings {
            prop_assert!(finding.span.start < finding.span.end && finding.span.end <= text.len());
        }
    }
}
