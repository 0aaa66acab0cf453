//! What fuzz targets call: one function each, any bytes in, panics are the findings.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use oktsec_rules::{RuleSet, Surface};

use crate::database::Database;
use crate::finding::LimitsReached;
use crate::naive::NaiveScanner;
use crate::scanner::Scanner;
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

/// Every view of these bytes stays within its bounds, and every span maps into them.
pub fn views(content: &[u8]) {
    let mut views = Views::default();
    let mut limits = LimitsReached::default();
    views.start(content, &mut limits);
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
    views.start(content, &mut limits);
    while let Some(at) = views.next(content, &mut limits) {
        sizes.push((views.kind(at), views.bytes(at).len()));
    }
    sizes
}
