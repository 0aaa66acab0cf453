//! Searches for one byte or two, which the library's automata use to skip ahead.
//!
//! The library brings its own. One of them (`rvermicelliDoubleExec`, all versions up to 5.4.12)
//! still holds a debugging aid: it prints the text from the search's beginning *to its end or the
//! first zero byte* into 255 bytes of stack. Content of an attacker overwrites the return address.
//! There is no switch to avoid it, so the whole object file is kept out of the program: we define
//! every symbol it has, and [`keep`] makes the linker meet ours first. Were theirs linked too, the
//! duplicate symbols would stop the build; a test scans what used to crash.
//!
//! All of them take `buf < buf_end` of one allocation. With `nocase`, `c` is upper case and bytes
//! are compared without bit 5.

use std::ffi::c_char;

const CASE_CLEAR: u8 = 0xDF;

fn mask(nocase: c_char) -> u8 {
    if nocase == 0 { 0xFF } else { CASE_CLEAR }
}

/// The bytes from `buf` to `buf_end`.
///
/// # Safety
/// Both point into, or one past the end of, one allocation that outlives `'a`, and its bytes
/// between them are initialised.
unsafe fn bytes<'a>(buf: *const u8, buf_end: *const u8) -> &'a [u8] {
    debug_assert!(buf < buf_end);
    let length = (buf_end as usize).saturating_sub(buf as usize);
    // SAFETY: the caller promises that the range lies in one allocation.
    unsafe { std::slice::from_raw_parts(buf, length) }
}

/// The address `at` bytes behind `buf`; `None` is one byte before it, as the library expects of a
/// search from the end. `wrapping_*` because that address is compared, never read.
fn from_end(buf: *const u8, at: Option<usize>) -> *const u8 {
    at.map_or(buf.wrapping_sub(1), |at| buf.wrapping_add(at))
}

fn from_start(buf: *const u8, buf_end: *const u8, at: Option<usize>) -> *const u8 {
    at.map_or(buf_end, |at| buf.wrapping_add(at))
}

/// First byte that is `c`, or `buf_end`.
// SAFETY: the name is the library's; its object file of that name stays out of the program.
#[unsafe(no_mangle)]
unsafe extern "C" fn vermicelliExec(
    c: c_char,
    nocase: c_char,
    buf: *const u8,
    buf_end: *const u8,
) -> *const u8 {
    // SAFETY: the library passes a range of the text it scans.
    let text = unsafe { bytes(buf, buf_end) };
    let c = c as u8;
    let at = if nocase == 0 {
        memchr::memchr(c, text)
    } else {
        memchr::memchr2(c, c | 0x20, text)
    };
    from_start(buf, buf_end, at)
}

/// First byte that is not `c`, or `buf_end`.
// SAFETY: as `vermicelliExec`.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvermicelliExec(
    c: c_char,
    nocase: c_char,
    buf: *const u8,
    buf_end: *const u8,
) -> *const u8 {
    // SAFETY: the library passes a range of the text it scans.
    let text = unsafe { bytes(buf, buf_end) };
    let (c, mask) = (c as u8, mask(nocase));
    from_start(buf, buf_end, text.iter().position(|byte| byte & mask != c))
}

/// Last byte that is `c`, or `buf - 1`.
// SAFETY: as `vermicelliExec`.
#[unsafe(no_mangle)]
unsafe extern "C" fn rvermicelliExec(
    c: c_char,
    nocase: c_char,
    buf: *const u8,
    buf_end: *const u8,
) -> *const u8 {
    // SAFETY: the library passes a range of the text it scans.
    let text = unsafe { bytes(buf, buf_end) };
    let c = c as u8;
    let at = if nocase == 0 {
        memchr::memrchr(c, text)
    } else {
        memchr::memrchr2(c, c | 0x20, text)
    };
    from_end(buf, at)
}

/// Last byte that is not `c`, or `buf - 1`.
// SAFETY: as `vermicelliExec`.
#[unsafe(no_mangle)]
unsafe extern "C" fn rnvermicelliExec(
    c: c_char,
    nocase: c_char,
    buf: *const u8,
    buf_end: *const u8,
) -> *const u8 {
    // SAFETY: the library passes a range of the text it scans.
    let text = unsafe { bytes(buf, buf_end) };
    let (c, mask) = (c as u8, mask(nocase));
    from_end(buf, text.iter().rposition(|byte| byte & mask != c))
}

/// First `c1` that `c2` follows; or the last byte, if it is `c1`; or `buf_end`.
// SAFETY: as `vermicelliExec`.
#[unsafe(no_mangle)]
unsafe extern "C" fn vermicelliDoubleExec(
    c1: c_char,
    c2: c_char,
    nocase: c_char,
    buf: *const u8,
    buf_end: *const u8,
) -> *const u8 {
    // SAFETY: the library passes a range of the text it scans.
    let text = unsafe { bytes(buf, buf_end) };
    let mask = mask(nocase);
    from_start(
        buf,
        buf_end,
        first_pair(text, (c1 as u8, mask), (c2 as u8, mask)),
    )
}

/// The same with a mask for each byte.
// SAFETY: as `vermicelliExec`.
#[unsafe(no_mangle)]
unsafe extern "C" fn vermicelliDoubleMaskedExec(
    c1: c_char,
    c2: c_char,
    m1: c_char,
    m2: c_char,
    buf: *const u8,
    buf_end: *const u8,
) -> *const u8 {
    // SAFETY: the library passes a range of the text it scans.
    let text = unsafe { bytes(buf, buf_end) };
    from_start(
        buf,
        buf_end,
        first_pair(text, (c1 as u8, m1 as u8), (c2 as u8, m2 as u8)),
    )
}

/// Last `c2` that follows a `c1`, or `buf - 1`.
// SAFETY: as `vermicelliExec`.
#[unsafe(no_mangle)]
unsafe extern "C" fn rvermicelliDoubleExec(
    c1: c_char,
    c2: c_char,
    nocase: c_char,
    buf: *const u8,
    buf_end: *const u8,
) -> *const u8 {
    // SAFETY: the library passes a range of the text it scans.
    let text = unsafe { bytes(buf, buf_end) };
    let (c1, c2, mask) = (c1 as u8, c2 as u8, mask(nocase));
    let at = text
        .windows(2)
        .rposition(|pair| pair[0] & mask == c1 && pair[1] & mask == c2);
    from_end(buf, at.map(|at| at + 1))
}

/// A byte to find and the bits that count.
type Masked = (u8, u8);

/// Bytes compared at once; the compiler turns the loop over them into vector instructions.
const LANES: usize = 32;

fn first_pair(text: &[u8], (c1, m1): Masked, (c2, m2): Masked) -> Option<usize> {
    let mut at = 0;
    while let Some(block) = text.get(at..at + LANES + 1) {
        let mut any = false;
        for lane in 0..LANES {
            any |= (block[lane] & m1 == c1) & (block[lane + 1] & m2 == c2);
        }
        if any {
            break;
        }
        at += LANES;
    }
    let rest = &text[at..];
    let pair = rest
        .windows(2)
        .position(|pair| pair[0] & m1 == c1 && pair[1] & m2 == c2);
    let last = || (text.last()? & m1 == c1).then(|| text.len() - 1);
    pair.map(|pair| at + pair).or_else(last)
}

/// Called before the library is: whoever links the library links these first.
pub(super) fn keep() {
    let ours: [*const (); 7] = [
        vermicelliExec as *const (),
        nvermicelliExec as *const (),
        rvermicelliExec as *const (),
        rnvermicelliExec as *const (),
        vermicelliDoubleExec as *const (),
        vermicelliDoubleMaskedExec as *const (),
        rvermicelliDoubleExec as *const (),
    ];
    std::hint::black_box(ours);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offset of the answer; -1 is the byte before.
    fn offset(text: &[u8], answer: *const u8) -> isize {
        (answer as isize) - (text.as_ptr() as isize)
    }

    #[test]
    fn searches_answer_as_their_definitions_say() {
        let mut seed = 7_u32;
        for round in 0..2000 {
            let len = 1 + round % 90;
            let text: Vec<u8> = (0..len)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    b"AaBb\0"[(seed >> 24) as usize % 5]
                })
                .collect();
            let (buf, end) = (text.as_ptr(), text.as_ptr_range().end);
            for nocase in [0, 1] {
                let is = |byte: u8, c: u8| {
                    if nocase == 1 {
                        byte & CASE_CLEAR == c
                    } else {
                        byte == c
                    }
                };
                let (a, b) = (b'A', b'B');
                let at = |found: Option<usize>, none: isize| found.map_or(none, |at| at as isize);
                let len = text.len() as isize;
                let pair = |at: usize| is(text[at], a) && is(text[at + 1], b);
                let pairs = 0..text.len() - 1;
                let partial = if is(text[text.len() - 1], a) {
                    len - 1
                } else {
                    len
                };
                // SAFETY: both pointers are of `text`, which is not empty.
                let found = unsafe {
                    [
                        vermicelliExec(a as c_char, nocase, buf, end),
                        nvermicelliExec(a as c_char, nocase, buf, end),
                        rvermicelliExec(a as c_char, nocase, buf, end),
                        rnvermicelliExec(a as c_char, nocase, buf, end),
                        vermicelliDoubleExec(a as c_char, b as c_char, nocase, buf, end),
                        rvermicelliDoubleExec(a as c_char, b as c_char, nocase, buf, end),
                    ]
                };
                let expected = [
                    at(text.iter().position(|byte| is(*byte, a)), len),
                    at(text.iter().position(|byte| !is(*byte, a)), len),
                    at(text.iter().rposition(|byte| is(*byte, a)), -1),
                    at(text.iter().rposition(|byte| !is(*byte, a)), -1),
                    at(pairs.clone().find(|at| pair(*at)), partial),
                    at(
                        pairs.clone().rev().find(|at| pair(*at)).map(|at| at + 1),
                        -1,
                    ),
                ];
                assert_eq!(
                    found.map(|answer| offset(&text, answer)),
                    expected,
                    "{text:?} {nocase}"
                );
            }
        }
    }
}
