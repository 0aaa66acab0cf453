//! Gives memory back to the system after a snapshot was put in force.
//!
//! Reading and compiling one frees tens of megabytes. The allocator keeps them for a second, in case they are wanted
//! again, and looks at the clock only when it is called: a process that nobody sends anything to would keep them for
//! ever. So this is done on threads that end: what they leave half used is given back with them, and one that ends
//! later makes the allocator look. The same thread gives back what of the program only a start uses.

use oktsec_scanner::give_back_program_pages;
use std::sync::Once;
use std::time::Duration;

/// Longer than the allocator keeps what was freed.
const LATER: Duration = Duration::from_millis(1_500);
/// More than the allocator keeps for a thread.
const PAGE_BYTES: usize = 1 << 20;

/// Does something that needs much memory for a moment, on a thread of its own that is waited for.
pub(crate) fn aside<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let ended = std::thread::scope(|scope| scope.spawn(work).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Tidies up in a moment, beside everything else.
pub(crate) fn later() {
    let thread = std::thread::Builder::new().name(String::from("tidy"));
    let spawned = thread.spawn(|| {
        std::thread::sleep(LATER);
        drop(std::hint::black_box(Vec::<u8>::with_capacity(PAGE_BYTES)));
        static STARTED: Once = Once::new();
        STARTED.call_once(|| {
            if let Err(error) = give_back_program_pages() {
                tracing::debug!(%error, "pages that only the start needed stay mapped");
            }
        });
    });
    if let Err(error) = spawned {
        tracing::debug!(%error, "freed memory is given back when it is next used");
    }
}
