//! `oktsec-micro`: single parts of the product, without sockets.

#![allow(clippy::print_stdout, reason = "it prints what it found")]

use clap::Parser;
use oktsec_benches::affinity;
use oktsec_benches::micro::{Context, PARTS};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::process::ExitCode;

/// Counts what the pipeline allocates.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Measures single parts of the product on one core.
#[derive(Debug, Parser)]
#[command(name = "oktsec-micro", version, max_term_width = 100)]
struct Options {
    /// Parts to measure [default: all]; --list names them
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(PARTS.iter().map(|part| part.name)))]
    parts: Vec<String>,
    /// Name the parts and end
    #[arg(long)]
    list: bool,
    /// Short runs; numbers are shown, and nothing fails
    #[arg(long)]
    smoke: bool,
    /// Stay on this CPU; the audit log, which has threads of its own, is never pinned
    #[arg(long)]
    cpu: Option<usize>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        PARTS
            .iter()
            .for_each(|part| println!("{:<12} {}", part.name, part.shows));
        return ExitCode::SUCCESS;
    }
    let mut print = |line: std::fmt::Arguments<'_>| println!("{line}");
    let mut context = Context {
        print: &mut print,
        allocations: || {
            let stats = ALLOCATOR.stats();
            (stats.allocations + stats.reallocations) as u64
        },
        heap_bytes: || {
            let stats = ALLOCATOR.stats();
            (stats.bytes_allocated - stats.bytes_deallocated) as u64
        },
        smoke: options.smoke,
        failed: 0,
    };
    for part in PARTS {
        if !options.parts.is_empty() && !options.parts.iter().any(|name| name == part.name) {
            continue;
        }
        (context.print)(format_args!("\n{}: {}", part.name, part.shows));
        let cpus = options.cpu.filter(|_| part.name != "audit");
        if let Err(error) = affinity::within(cpus.as_slice(), || (part.measure)(&mut context)) {
            (context.print)(format_args!("cannot stay on CPU {cpus:?}: {error}"));
            return ExitCode::from(2);
        }
    }
    if context.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
