//! What a start waits for when the rules were compiled before, and the memory of a core's scanner: after the texts of the
//! benches, and after every example of every rule, which use all there is.

use super::Context;
use crate::content::{Kind, Random, text};
use oktsec_contract::Surface;
use oktsec_rules::RuleSet;
use oktsec_scanner::{Database, Scanner};
use std::sync::Arc;
use std::time::Instant;

const LOAD_MILLIS_MAX: f64 = 20.0;
const SCRATCH_BYTES_MAX: usize = 1 << 20;
/// Three kinds of search caches, each of 16 MiB at most, and buffers.
const SCANNER_BYTES_MAX: u64 = 64 << 20;
/// Different texts of each kind.
const TEXTS: usize = 32;
const TEXT_BYTES: usize = 64 << 10;

pub(super) fn measure(context: &mut Context<'_>) {
    let rules = RuleSet::builtin();
    let folder = tempfile::tempdir().expect("a folder for files that go away");
    Database::load_or_compile(&rules, folder.path())
        .expect("the built-in rules compile: a test says so");
    let times = if context.smoke { 3 } else { 51 };
    let mut millis: Vec<f64> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            let database = Database::load(&rules, folder.path());
            let millis = begun.elapsed().as_secs_f64() * 1e3;
            drop(database.expect("it was written above"));
            millis
        })
        .collect();
    millis.sort_by(f64::total_cmp);
    let median = millis[millis.len() / 2];
    context.claim(
        median <= LOAD_MILLIS_MAX,
        format_args!(
            "loaded in {median:.1} ms, at best {:.1} (at most {LOAD_MILLIS_MAX} wanted)",
            millis[0]
        ),
    );
    let database = Database::load(&rules, folder.path()).expect("it was written above");
    let database = Arc::new(database);
    for (what, texts) in [
        ("texts of the benches", plain()),
        ("every example", examples(&rules)),
    ] {
        // What the database makes of a rule that is used for the first time is not the scanner's.
        drop(scanner_after(&database, &texts));
        let before = (context.heap_bytes)();
        let scanner = scanner_after(&database, &texts);
        let bytes = (context.heap_bytes)().saturating_sub(before);
        context.claim(
            bytes <= SCANNER_BYTES_MAX,
            format_args!(
                "after {what} a scanner owns {:.1} MB of the heap",
                bytes as f64 / 1e6
            ),
        );
        let scratch = scanner.scratch_bytes();
        context.claim(
            scratch <= SCRATCH_BYTES_MAX,
            format_args!("the engine's scratch space takes {scratch} bytes of it"),
        );
    }
}

fn scanner_after(database: &Arc<Database>, texts: &[String]) -> Scanner {
    let mut scanner =
        Scanner::new(Arc::clone(database)).expect("there is memory for one scratch space");
    for text in texts {
        let scanned = scanner.scan(text.as_bytes(), Surface::Message);
        scanned.expect("the content is short enough");
    }
    scanner
}

fn plain() -> Vec<String> {
    let mut random = Random::new(1);
    let kinds = Kind::ALL.into_iter().cycle().take(TEXTS * Kind::ALL.len());
    kinds
        .map(|kind| text(&mut random, kind, TEXT_BYTES))
        .collect()
}

fn examples(rules: &RuleSet) -> Vec<String> {
    let mut texts = vec![String::new()];
    for rule in &rules.rules {
        for example in &rule.examples.matching {
            if texts.last().is_none_or(|text| text.len() > TEXT_BYTES) {
                texts.push(String::new());
            }
            if let Some(text) = texts.last_mut() {
                text.push_str(example);
                text.push('\n');
            }
        }
    }
    texts
}
