//! Single parts of the product without sockets: what each costs, beside the simplest thing that could do it.

mod audit;
mod clock;
mod load;
mod pipeline;
mod scan;
mod signatures;
mod stream;
mod worst;

use std::fmt;

/// Takes a line of text.
pub type Print<'a> = dyn FnMut(fmt::Arguments<'_>) + 'a;

/// What a part needs to be measured.
pub struct Context<'a> {
    /// Takes what was found.
    pub print: &'a mut Print<'a>,
    /// Allocations of this process so far.
    pub allocations: fn() -> u64,
    /// Bytes of the heap that this process holds.
    pub heap_bytes: fn() -> u64,
    /// Short runs: numbers are shown, and nothing fails.
    pub smoke: bool,
    /// The lines that failed.
    pub failed: usize,
}

impl Context<'_> {
    /// Prints a line.
    fn say(&mut self, line: fmt::Arguments<'_>) {
        (self.print)(line);
    }

    /// Prints what a claim says and whether it holds.
    fn claim(&mut self, holds: bool, claim: fmt::Arguments<'_>) {
        let verdict = match (holds, self.smoke) {
            (true, _) => "PASS",
            (false, true) => "low ",
            (false, false) => "FAIL",
        };
        self.failed += usize::from(!holds && !self.smoke);
        (self.print)(format_args!("{verdict}  {claim}"));
    }

    /// Seconds to spend on one number.
    const fn seconds(&self) -> f64 {
        if self.smoke { 0.02 } else { 0.5 }
    }
}

/// A part and how it is measured.
pub struct Part {
    /// On the command line.
    pub name: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// Measures it.
    pub measure: fn(&mut Context<'_>),
}

/// All of them.
pub const PARTS: &[Part] = &[
    Part {
        name: "signatures",
        shows: "verifying Ed25519 signatures in batches and one by one",
        measure: signatures::measure,
    },
    Part {
        name: "scan",
        shows: "scanning content of several kinds and sizes, beside memchr and a naive set of expressions",
        measure: scan::measure,
    },
    Part {
        name: "load",
        shows: "compiled rules taken from their file, and what the scanner of one core owns",
        measure: load::measure,
    },
    Part {
        name: "worst",
        shows: "the slowest text that a search finds",
        measure: worst::measure,
    },
    Part {
        name: "stream",
        shows: "scanning a body as it passes, beside one scan of the whole",
        measure: stream::measure,
    },
    Part {
        name: "pipeline",
        shows: "a message from its bytes to its decision, in time and allocations",
        measure: pipeline::measure,
    },
    Part {
        name: "audit",
        shows: "appending records and finding them",
        measure: audit::measure,
    },
];
