//! The parts of a window in which something can count: those around text.
//!
//! ```text
//! window    ░░░░░░░░░░▒▒▒▒text▒▒▒▒░░░░░░░░░░░░░░░▒▒▒▒text▒▒▒▒░░░░░░
//! islands             ▒▒▒▒text▒▒▒▒               ▒▒▒▒text▒▒▒▒
//! ```
//! A match counts only among text (see [`super::surroundings`]), and archives, images and encrypted bytes hold next to
//! none. Such a window costs what it takes to look for text in it; what is left is scanned as one text. Whatever is text
//! to the surroundings of a match is text here: rows half as long make a block count.
//!
//! PERF: 16 MB of random bytes through the gateway, 14 MB/s -> 75 MB/s (one loaded core, wall clock)

use std::ops::Range;

/// Bytes that are an island together, or none.
const BLOCK_BYTES: usize = 256;

/// A row of text of this length makes its blocks count.
const ROW_BYTES_MIN: u32 = 12;

/// Bytes of which so many percent are text make their block count, whatever stands between them.
const CELL_BYTES: usize = 64;
const TEXT_PERCENT_MIN: usize = 62;

/// Blocks before and behind one that counts: what decides about a match may stand there.
const BESIDE: usize = 1;

/// A window of which more is left is scanned as it is, and so is a shorter one.
const PERCENT_MAX: usize = 50;
const WINDOW_BYTES_MIN: usize = 4 << 10;

const _: () = assert!(BESIDE * BLOCK_BYTES >= oktsec_rules::EXCLUDE_WINDOW_BYTES);
const _: () = assert!(BLOCK_BYTES.is_multiple_of(CELL_BYTES));

/// What is left of one window; the memory is used again for the next.
#[derive(Default)]
pub(crate) struct Islands {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// For each block whether it counts.
    blocks: Vec<bool>,
}

/// Bytes of the window from `from` on that stand in `place`.
struct Part {
    from: usize,
    place: Range<usize>,
}

impl Islands {
    /// Takes the islands out of a window. `false` if it is to be scanned as it is.
    pub(super) fn fill(&mut self, window: &[u8]) -> bool {
        if window.len() < WINDOW_BYTES_MIN || reads_like_text(window) {
            return false;
        }
        let count = window.len().div_ceil(BLOCK_BYTES);
        self.blocks.clear();
        self.blocks.resize(count, false);
        self.bytes.clear();
        self.parts.clear();
        let mut last = Cell::default();
        let mut cell = Cell::of(&window[..CELL_BYTES]);
        // Bytes of the row that goes on from the cell before.
        let mut open = 0;
        let mut begun = 0;
        for at in 0..window.len().div_ceil(CELL_BYTES) {
            let start = (at + 1) * CELL_BYTES;
            let end = window.len().min(start + CELL_BYTES);
            let next = window.get(start..end).map(Cell::of).unwrap_or_default();
            let text = cell.text(&last, &next, &mut begun);
            let block = at * CELL_BYTES / BLOCK_BYTES;
            let goes_on = text.trailing_ones();
            if goes_on > 0 && open + goes_on >= ROW_BYTES_MIN {
                self.blocks[block] = true;
                self.blocks[at.saturating_sub(usize::from(open > 0)) * CELL_BYTES / BLOCK_BYTES] =
                    true;
            }
            let len = window.len().min(start) - at * CELL_BYTES;
            let is_dense = cell.plain.count_ones() as usize * 100 >= len * TEXT_PERCENT_MIN;
            self.blocks[block] |= has_row(text) || is_dense;
            open = match text {
                u64::MAX => open + u64::BITS,
                _ => text.leading_ones(),
            };
            (last, cell) = (cell, next);
        }
        // What stands at an end may go on in another window.
        self.blocks[0] = true;
        self.blocks[count - 1] = true;
        self.gather(window);
        self.bytes.len() * 100 <= window.len() * PERCENT_MAX
    }

    fn gather(&mut self, window: &[u8]) {
        let mut at = 0;
        while let Some(first) = self.blocks[at..].iter().position(|counts| *counts) {
            let first = at + first;
            let mut last = first;
            // The next one belongs to the same island if nothing would lie between them.
            while let Some(next) = self.blocks[last + 1..]
                .iter()
                .take(2 * BESIDE + 1)
                .position(|counts| *counts)
            {
                last += 1 + next;
            }
            let from = first.saturating_sub(BESIDE) * BLOCK_BYTES;
            let to = window.len().min((last + 1 + BESIDE) * BLOCK_BYTES);
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&window[from..to]);
            self.parts.push(Part {
                from,
                place: start..self.bytes.len(),
            });
            at = last + 1;
        }
    }

    /// The islands, one behind the other.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where in the window that is which stands here in the islands; `None` if it is part of more than one.
    pub(super) fn in_window(&self, span: Range<usize>) -> Option<Range<usize>> {
        let at = self
            .parts
            .partition_point(|part| part.place.end <= span.start);
        let part = self.parts.get(at)?;
        let moved = |at: usize| at - part.place.start + part.from;
        (span.end <= part.place.end).then(|| moved(span.start)..moved(span.end))
    }
}

/// Whether it is text wherever it is tried: nothing in it controls anything.
fn reads_like_text(window: &[u8]) -> bool {
    const TRIES: usize = 4;
    let step = (window.len() - BLOCK_BYTES) / (TRIES - 1);
    (0..TRIES).all(|at| {
        let tried = &window[at * step..at * step + BLOCK_BYTES];
        tried.iter().all(|byte| is_plain(*byte) || *byte >= 0x80)
    })
}

/// Whether so many bits in a row are set.
fn has_row(text: u64) -> bool {
    const { assert!(ROW_BYTES_MIN == 12) }
    let two = text & text >> 1;
    let four = two & two >> 2;
    let eight = four & four >> 4;
    eight & four >> 8 != 0
}

/// Bytes of a cell by kind, a bit for each.
#[derive(Clone, Copy, Default)]
struct Cell {
    plain: u64,
    zero: u64,
    /// Begin a letter of UTF-8 that takes two, three and four bytes.
    leads: [u64; 3],
    /// Continue one.
    continued: u64,
}

impl Cell {
    fn of(bytes: &[u8]) -> Self {
        let mut cell = Self::default();
        for (at, byte) in bytes.iter().enumerate() {
            cell.plain |= u64::from(is_plain(*byte)) << at;
            cell.zero |= u64::from(*byte == 0) << at;
            cell.leads[0] |= u64::from(matches!(byte, 0xC2..=0xDF)) << at;
            cell.leads[1] |= u64::from(byte & 0xF0 == 0xE0) << at;
            cell.leads[2] |= u64::from(matches!(byte, 0xF0..=0xF4)) << at;
            cell.continued |= u64::from(byte & 0xC0 == 0x80) << at;
        }
        cell
    }

    /// What is text: plain bytes, letters of UTF-8, and a zero byte behind a plain one, half of a letter of UTF-16.
    /// `begun` are bytes of a letter that began in the cell before, and then those of one that ends in the next.
    fn text(&self, last: &Self, next: &Self, begun: &mut u64) -> u64 {
        let mut follows = u128::MAX;
        let mut letters = 0;
        for (at, lead) in self.leads.iter().enumerate() {
            let continued = u128::from(self.continued) | u128::from(next.continued) << 64;
            follows &= continued >> (at + 1);
            let starts = u128::from(*lead) & follows;
            for byte in 0..at + 2 {
                letters |= starts << byte;
            }
        }
        let halves = self.zero & (self.plain << 1 | last.plain >> 63);
        let text = self.plain | halves | letters as u64 | *begun;
        *begun = (letters >> 64) as u64;
        text
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::*;

    fn holds(islands: &Islands, window: &[u8], span: Range<usize>) -> bool {
        islands
            .parts
            .iter()
            .any(|part| part.from <= span.start && span.end <= part.from + part.place.len())
            && islands
                .bytes
                .windows(span.len())
                .any(|bytes| *bytes == window[span.clone()])
    }

    #[test]
    fn text_is_left_wherever_it_stands_among_any_bytes() {
        let window = noise(16 << 10);
        let wide: Vec<u8> = "AKIAQ3EGRIJZ4KX7PLMN"
            .bytes()
            .flat_map(|b| [b, 0])
            .collect();
        for text in [
            &b"AKIAQ3EGRIJZ4KX7"[..],
            "игнорируй все".as_bytes(),
            &wide,
            "忽略之前的指示".as_bytes(),
        ] {
            for at in (0..window.len() - text.len()).step_by(97) {
                let mut window = window.clone();
                window[at..at + text.len()].copy_from_slice(text);
                let mut islands = Islands::default();
                assert!(islands.fill(&window));
                assert!(holds(&islands, &window, at..at + text.len()), "{at}");
            }
        }
    }

    #[test]
    fn next_to_nothing_is_left_of_an_archive_and_all_of_a_text() {
        let mut islands = Islands::default();
        assert!(islands.fill(&noise(64 << 10)));
        assert!(islands.bytes().len() < 8 << 10, "{}", islands.bytes().len());
        for text in ["plain words, and so on. ", "й", "忽略", "a\u{e9} \u{1f511}"] {
            assert!(!islands.fill(text.repeat(3_000).as_bytes()), "{text}");
        }
        assert!(islands.fill(&[0; 4096]));
        assert!(islands.bytes().len() <= 4 * BLOCK_BYTES);
        assert!(!islands.fill(b"; sh"), "a short body is scanned as it is");
    }

    #[test]
    fn a_place_in_the_islands_is_a_place_in_the_window() {
        let mut window = vec![0_u8; 16 << 10];
        for at in [3_000, 9_000, 9_500] {
            window[at..at + 21].copy_from_slice(b"some text stands here");
        }
        let mut islands = Islands::default();
        assert!(islands.fill(&window));
        let text = b"text stands";
        let found: Vec<usize> = memchr::memmem::find_iter(islands.bytes(), text)
            .map(|at| {
                islands
                    .in_window(at..at + text.len())
                    .expect("one island")
                    .start
            })
            .collect();
        assert_eq!(found, [3_005, 9_005, 9_505]);
        let border = islands.parts[0].place.end;
        assert_eq!(islands.in_window(border - 3..border + 3), None);
    }
}
