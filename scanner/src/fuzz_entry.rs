//! What fuzz targets call: one function each, any bytes in, panics are the findings.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use oktsec_rules::{RuleSet, Surface};

use crate::database::Database;
use crate::finding::LimitsReached;
use crate::naive::NaiveScanner;
use crate::scanner::Scanner;
use crate::secrets::{SecretFinder, SecretKey, SecretKind, SecretStore, index_of};
use crate::stream::StreamState;
use crate::view::{View, Views};

static DATABASE: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let database = Database::compile(&RuleSet::builtin()).expect("a test compiles the catalog");
    Arc::new(database)
});

thread_local! {
    static SCANNERS: RefCell<(Scanner, NaiveScanner)> = RefCell::new((
        Scanner::new(Arc::clone(&DATABASE)).expect("memory for one scratch"),
        NaiveScanner::new(Arc::clone(&DATABASE)),
    ));
}

/// Both engines agree on these bytes, and every finding lies within them.
pub fn scan(content: &[u8]) {
    SCANNERS.with_borrow_mut(|(scanner, naive)| {
        let fast = scanner
            .scan(content, Surface::Message)
            .expect("short content");
        let slow = naive
            .scan(content, Surface::Message)
            .expect("short content");
        assert_eq!(fast.findings, slow.findings);
        for finding in fast.findings {
            assert!(finding.span.start < finding.span.end);
            assert!(finding.span.end as usize <= content.len());
        }
    });
}

/// However these bytes are cut, no rule that finds something in the whole is missed.
pub fn stream(content: &[u8]) {
    SCANNERS.with_borrow_mut(|(scanner, _)| {
        let rules = |findings: &[crate::Finding]| {
            findings
                .iter()
                .map(|finding| finding.rule)
                .collect::<Vec<_>>()
        };
        let whole = rules(
            scanner
                .scan(content, Surface::Egress)
                .expect("short content")
                .findings,
        );
        let mut state = StreamState::new(Surface::Egress);
        let mut found = Vec::new();
        let mut rest = content;
        while !rest.is_empty() {
            // The bytes themselves say where they are cut.
            let (now, later) = rest.split_at((usize::from(rest[0]) + 1).min(rest.len()));
            rest = later;
            let mut clear = state.clear();
            let fed = scanner.feed(&mut state, now).expect("short content");
            assert!(fed.clear >= clear);
            clear = fed.clear;
            found.extend(fed.findings.iter().map(|finding| finding.rule));
            if now[0] & 1 == 0 {
                let paused = scanner.pause(&mut state).expect("short content");
                assert!(paused.clear >= clear);
                found.extend(paused.findings.iter().map(|finding| finding.rule));
            }
        }
        let end = scanner.finish(&mut state).expect("short content");
        assert_eq!(end.clear, content.len() as u64);
        found.extend(end.findings.iter().map(|finding| finding.rule));
        assert!(
            whole.iter().all(|rule| found.contains(rule)),
            "{whole:?} {found:?}"
        );
    });
}

/// Whatever a file of secrets holds, it is refused or can be asked; and whatever the bytes are, a known value that
/// stands in them is found, within them.
pub fn secrets(content: &[u8]) {
    const VALUE: &[u8] = b"blue+Harbour9/tide";
    let key = SecretKey::from_bytes([3; 32]);
    if let Some(index) = index_of(content, &key) {
        let index = Arc::new(index);
        for finding in SecretFinder::new(Arc::clone(&index)).find(content).findings {
            let _ = (index.name(finding.secret), index.kind(finding.secret));
        }
    }
    let mut store = SecretStore::new(key.clone());
    store
        .add("value", SecretKind::Value, VALUE)
        .expect("long enough");
    let mut finder = SecretFinder::new(Arc::new(store.index()));
    let found = finder.find(content);
    for finding in found.findings {
        assert!(finding.span.start < finding.span.end && finding.span.end <= content.len());
    }
    for (at, part) in content.windows(VALUE.len()).enumerate() {
        let covers =
            |span: &std::ops::Range<usize>| span.start <= at && at + VALUE.len() <= span.end;
        assert!(part != VALUE || found.more || found.findings.iter().any(|one| covers(&one.span)));
    }
    let _ = key.see(content);
}

/// Every view of these bytes stays within its bounds, and every span maps into them.
pub fn views(content: &[u8]) {
    let mut views = Views::default();
    let mut limits = LimitsReached::default();
    views.start(content, None, &mut limits);
    while let Some(at) = views.next(content, &mut limits) {
        let len = views.bytes(at).len() as u32;
        for start in (0..len).step_by(7) {
            let span = views.original(at, start..(start + 5).min(len));
            assert!(span.start < span.end && span.end as usize <= content.len());
        }
    }
}

/// The views these bytes ask for and their lengths: what a scan costs beside the content itself.
pub fn view_sizes(content: &[u8]) -> Vec<(View, usize)> {
    let mut views = Views::default();
    let mut limits = LimitsReached::default();
    let mut sizes = Vec::new();
    views.start(content, None, &mut limits);
    while let Some(at) = views.next(content, &mut limits) {
        sizes.push((views.kind(at), views.bytes(at).len()));
    }
    sizes
}
