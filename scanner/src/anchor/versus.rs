//! The first stage beside the pattern engine doing the same: every row of bytes that patterns are
//! found by, in one Vectorscan database, all places reported.
//!
//! ```text
//! cargo test --release -p oktsec-scanner --lib versus -- --ignored --nocapture
//! ```

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oktsec_rules::RuleSet;

use super::index::Batch;
use super::item::Item;
use super::plan::{Rates, choose};
use super::{Anchors, Builder, WINDOW_BYTES};
use crate::anchor::Set;
use crate::engine::{Engine, RawMatch, Session, Source};

/// Longest row asked for.
const ROW_BYTES_MAX: usize = 8;

/// Places reported in one text, at most.
const HITS_MAX: usize = 1 << 20;

#[test]
#[ignore = "measures: takes a minute and prints"]
fn the_table_beside_one_database_of_the_same_rows() {
    let rules = RuleSet::builtin();
    let texts = texts(&rules);
    let bytes: usize = texts.iter().map(String::len).sum();
    let started = Instant::now();
    let (mut builder, mut short, mut long) = (Builder::default(), BTreeSet::new(), BTreeSet::new());
    let rates = Rates::default();
    let patterns = rules.rules.iter().flat_map(|rule| &rule.patterns);
    for (at, pattern) in patterns.enumerate() {
        let hir = pattern.expression.to_hir().expect("the catalog is good");
        builder.add(at as u32, &hir, 0);
        let Some(choice) = choose(&hir, &rates) else {
            continue;
        };
        short.extend(choice.marks.iter().flatten().map(|window| asked(window)));
        long.extend(choice.marks.iter().flatten().map(|window| asked(window)));
        for place in choice.places {
            short.insert(asked(&place.window));
            let mut row = place.window.to_vec();
            for item in place.items[place.at..]
                .iter()
                .skip(WINDOW_BYTES - place.lead)
            {
                match item {
                    Item::Byte(set) if row.len() < ROW_BYTES_MAX => row.push(*set),
                    _ => break,
                }
            }
            long.insert(asked(&row));
        }
    }
    let anchors = builder.finish();
    report("planning both", started.elapsed(), 0, 0.0, 0.0);
    let (ns, hits) = least(&texts, |text| table(&anchors, text));
    let per = |ns: f64| ns * 1024.0 / bytes as f64;
    report(
        "table",
        Duration::ZERO,
        anchors.index.size_bytes(),
        per(ns),
        per(hits),
    );
    for (name, rows) in [
        ("vectorscan, 4 bytes", short),
        ("vectorscan, up to 8", long),
    ] {
        let started = Instant::now();
        let sources: Vec<Source> = rows
            .into_iter()
            .enumerate()
            .map(|(id, expression)| Source {
                expression: CString::new(expression).expect("hex digits"),
                flags: 0,
                id: id as u32,
            })
            .collect();
        let engine = Arc::new(Engine::compile(&sources).expect("rows of bytes compile"));
        let took = started.elapsed();
        let size = engine.size_bytes();
        let mut session = Session::new(engine).expect("memory for one scratch");
        let mut hits = Vec::with_capacity(HITS_MAX);
        let (ns, hits) = least(&texts, |text| vectorscan(&mut session, &mut hits, text));
        report(name, took, size, per(ns), per(hits));
    }
}

fn table(anchors: &Anchors, text: &[u8]) -> usize {
    let mut hits = 0;
    Batch::default().pieces(text, 0..text.len(), |piece, batch| {
        anchors.index.scan(text, piece, batch, &mut |found| {
            black_box(found);
            hits += found.len();
        });
    });
    hits
}

fn vectorscan(session: &mut Session, hits: &mut Vec<RawMatch>, text: &[u8]) -> usize {
    hits.clear();
    session.scan(text, hits).expect("fewer hits than fit");
    hits.len()
}

/// Nanoseconds and hits of the fastest of some passes over all texts.
fn least(texts: &[String], mut scan: impl FnMut(&[u8]) -> usize) -> (f64, f64) {
    let (mut least, mut hits) = (f64::MAX, 0);
    for _ in 0..7 {
        let started = Instant::now();
        hits = texts.iter().map(|text| scan(text.as_bytes())).sum();
        least = least.min(started.elapsed().as_secs_f64() * 1e9);
    }
    (least, hits as f64)
}

#[expect(clippy::print_stdout, reason = "the numbers are what it is for")]
fn report(name: &str, took: Duration, bytes: usize, ns_per_kib: f64, hits_per_kib: f64) {
    println!(
        "{name:<20} built in {:>6.0} ms, {:>6} KiB, {ns_per_kib:>8.0} ns/KiB, {hits_per_kib:.1} hits/KiB",
        took.as_secs_f64() * 1e3,
        bytes >> 10,
    );
}

/// What the engine is asked for.
fn asked(row: &[Set]) -> String {
    let mut out = String::new();
    for set in row {
        out.push('[');
        for byte in set.iter() {
            write!(out, "\\x{byte:02X}").expect("writing to a string");
        }
        out.push(']');
    }
    out
}

/// About 1 KiB each: what rules say of themselves, and their clean examples.
fn texts(rules: &RuleSet) -> Vec<String> {
    let mut texts = vec![String::new()];
    for rule in &rules.rules {
        let examples = rule.examples.clean.iter().map(String::as_str);
        for text in [rule.description.as_str(), rule.remediation.as_str()]
            .into_iter()
            .chain(examples)
        {
            if texts.last().is_none_or(|last| last.len() >= 1024) {
                texts.push(String::new());
            }
            if let Some(last) = texts.last_mut() {
                last.push_str(text);
                last.push('\n');
            }
        }
    }
    texts
}
