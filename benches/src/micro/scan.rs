//! The scanner on the built-in rules: nanoseconds for a message, with the cheapest possible look at the bytes
//! (one pass of memchr) below it and the naive way (every expression in one set of `regex`) above it.

use super::Context;
use super::clock::{nanos, p99};
use crate::content::{Kind, Random, text};
use oktsec_contract::Surface;
use oktsec_rules::{Lane, RuleSet};
use oktsec_scanner::{Database, Scanner};
use regex::bytes::{RegexSet, RegexSetBuilder};
use std::hint::black_box;
use std::sync::Arc;

/// Different texts of each kind and size.
const TEXTS: usize = 32;

/// Single scans of which the hundredth slowest counts: some hundred milliseconds of them.
const fn singles(bytes: usize) -> usize {
    if bytes <= 1_024 { 10_000 } else { 300 }
}

pub(super) fn measure(context: &mut Context<'_>) {
    let seconds = context.seconds();
    let rules = RuleSet::builtin();
    let database =
        Arc::new(Database::compile(&rules).expect("the built-in rules compile: a test says so"));
    let mut scanner =
        Scanner::new(Arc::clone(&database)).expect("there is memory for one scratch space");
    let naive = naive(&rules);
    context.say(format_args!(
        "{} rules; database {:.1} MB, scratch {:.2} MB",
        rules.rules.len(),
        database.size_bytes() as f64 / 1e6,
        scanner.scratch_bytes() as f64 / 1e6
    ));
    let name = naive
        .as_ref()
        .map_or("no regex set", |(_, name)| name.as_str());
    context.say(format_args!(
        "{:<6} {:>6}  {:>10}  {:>8}  {:>10}  {:>10}  {:>12}  findings in {TEXTS}",
        "kind", "bytes", "scan ns", "MB/s", "p99 ns", "memchr ns", name
    ));
    for bytes in [100, 1_024, 65_536] {
        for kind in Kind::ALL {
            let mut random = Random::new(bytes as u64);
            let texts: Vec<String> = (0..TEXTS).map(|_| text(&mut random, kind, bytes)).collect();
            let mut found = 0;
            for text in &texts {
                let scanned = scanner.scan(text.as_bytes(), Surface::Message);
                found += scanned.expect("the content is short enough").findings.len();
            }
            let mut at = 0;
            let mut next = || {
                at = (at + 1) % TEXTS;
                texts[at].as_bytes()
            };
            let scan = nanos(seconds, || {
                let scanned = scanner.scan(next(), Surface::Message);
                black_box(scanned.expect("the content is short enough").findings.len());
            });
            // Of single scans: what one text costs more than another, and what came between.
            let singles = if context.smoke { 10 } else { singles(bytes) };
            let rarely = p99(singles, || {
                let scanned = scanner.scan(next(), Surface::Message);
                black_box(scanned.expect("the content is short enough").findings.len());
            });
            let pass = nanos(seconds / 5.0, || {
                black_box(memchr::memchr(0xff, black_box(next())));
            });
            // Seconds for each long text, so only the short ones.
            let slow = naive.as_ref().filter(|_| bytes <= 1_024).map(|(set, _)| {
                nanos(seconds / 5.0, || {
                    black_box(set.matches(black_box(next())).iter().count());
                })
            });
            context.say(format_args!(
                "{:<6} {bytes:>6}  {scan:>10.0}  {:>8.0}  {rarely:>10}  {pass:>10.0}  {:>12}  {found}",
                kind.as_str(),
                bytes as f64 / scan * 1e3,
                slow.map_or_else(|| String::from("-"), |slow| format!("{slow:.0}")),
            ));
        }
    }
}

/// All expressions in one set; those the library refuses are left out and counted.
fn naive(rules: &RuleSet) -> Option<(RegexSet, String)> {
    let build = |patterns: &[String]| RegexSetBuilder::new(patterns).size_limit(1 << 30).build();
    let all: Vec<String> = rules
        .rules
        .iter()
        .filter(|rule| rule.lane != Lane::Off)
        .flat_map(|rule| &rule.patterns)
        .filter_map(|pattern| Some(pattern.expression.to_hir().ok()?.to_string()))
        .filter(|pattern| build(std::slice::from_ref(pattern)).is_ok())
        .collect();
    let set = build(&all).ok()?;
    let name = format!("regex({})", set.len());
    Some((set, name))
}
