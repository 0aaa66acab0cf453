//! Pages of the program that only its start has used.
//!
//! A start runs through constructors, parsers and the reading of files that are not needed again,
//! and the system maps what surrounds each of them: 24 MB, of which an idle process uses a fifth.
//! It keeps all of it mapped until memory is short, and until then it counts as ours. This has
//! nothing to do with patterns; it lies here because unsafe code has one address.

use std::fs;
use std::io;

/// Gives back pages of the program that are in memory: what is used comes again, from the system's
/// cache. Best done once, after everything has started.
///
/// # Errors
/// Where the system does not say what is mapped; nothing has changed then.
pub fn give_back_program_pages() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/smaps")?;
    for (start, len) in unwritten(&maps, &program.to_string_lossy()) {
        // SAFETY: the range is mapped from the program's file, cannot be written to, and has no
        // page that differs from the file: what is read there afterwards is what was there before.
        // A refusal changes nothing.
        unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_DONTNEED) };
    }
    Ok(())
}

/// Where parts of a file are mapped (address and length) that are neither writable nor written to:
/// addresses that the loader filled in are.
fn unwritten<'a>(maps: &'a str, file: &str) -> impl Iterator<Item = (usize, usize)> + 'a {
    let file = format!(" {file}");
    let (mut current, mut found) = (None, Vec::new());
    for line in maps.lines() {
        if let Some(map) = header(line) {
            current = map.filter(|_| line.ends_with(&file));
        } else if let Some(kib) = line.strip_prefix("Anonymous:") {
            let is_written = kib.trim() != "0 kB";
            found.extend(current.take().filter(|_| !is_written));
        }
    }
    found.into_iter()
}

/// The first line of a map, if it is one; and where that lies, if it is read-only and private.
fn header(line: &str) -> Option<Option<(usize, usize)>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let len = usize::from_str_radix(end, 16).ok()?.checked_sub(start)?;
    let is_read_only = rest.starts_with("r--p") || rest.starts_with("r-xp");
    Some(is_read_only.then_some((start, len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
1000-3000 r--p 00000000 fe:00 7    /bin/oktsec
Rss:                   8 kB
Anonymous:             0 kB
3000-8000 r-xp 00002000 fe:00 7    /bin/oktsec
Anonymous:             0 kB
8000-9000 r--p 00007000 fe:00 7    /bin/oktsec
Anonymous:             4 kB
9000-a000 rw-p 00008000 fe:00 7    /bin/oktsec
Anonymous:             0 kB
b000-c000 r-xp 00000000 fe:00 9    /lib/oktsec
Anonymous:             0 kB
c000-d000 rw-p 00000000 00:00 0
Anonymous:             0 kB
";

    #[test]
    fn what_the_loader_or_anybody_wrote_to_is_left_alone() {
        let maps: Vec<_> = unwritten(MAPS, "/bin/oktsec").collect();
        assert_eq!(maps, [(0x1000, 0x2000), (0x3000, 0x5000)]);
        assert_eq!(unwritten(MAPS, "/bin/other").count(), 0);
        assert_eq!(unwritten("", "/bin/oktsec").count(), 0);
    }

    /// Constants, functions behind addresses, and what the loader filled in: all of it is there.
    #[test]
    fn the_program_goes_on_as_if_nothing_had_happened() {
        static WORDS: [&str; 3] = ["these", "are", "constants"];
        let sort: fn(&mut [u32]) = <[u32]>::sort_unstable;
        let mut before: Vec<u32> = (0..1000).rev().collect();
        give_back_program_pages().unwrap();
        sort(&mut before);
        assert!(before.is_sorted());
        assert_eq!(std::hint::black_box(WORDS).concat(), "theseareconstants");
        let caught = std::panic::catch_unwind(|| std::hint::black_box([1, 2, 3])[before.len()]);
        assert!(caught.is_err(), "unwinding reads its tables again");
    }
}
