//! Random bytes from the operating system, fetched in blocks: one system call for many messages.

use oktsec_contract::id::MessageId;
use std::cell::RefCell;

const BLOCK_BYTES: usize = 4096;

struct Block {
    bytes: [u8; BLOCK_BYTES],
    used: usize,
}

thread_local! {
    static BLOCK: RefCell<Box<Block>> =
        RefCell::new(Box::new(Block { bytes: [0; BLOCK_BYTES], used: BLOCK_BYTES }));
}

/// Bytes nobody can guess; each is given out once.
///
/// # Panics
/// If the operating system has none to give: then nothing here can be trusted.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= BLOCK_BYTES) };
    BLOCK.with_borrow_mut(|block| {
        if block.used + N > BLOCK_BYTES {
            getrandom::fill(&mut block.bytes).expect("the operating system gives random bytes");
            block.used = 0;
        }
        let from = block.used;
        block.used += N;
        let mut out = [0; N];
        out.copy_from_slice(&block.bytes[from..from + N]);
        block.bytes[from..from + N].fill(0);
        out
    })
}

/// A new id for a request, as text.
pub(crate) fn request_id() -> [u8; 36] {
    MessageId::from_random(bytes()).encode()
}

#[cfg(test)]
mod tests {
    use super::bytes;
    use std::collections::HashSet;

    #[test]
    fn no_bytes_are_given_out_twice() {
        let seen: HashSet<[u8; 32]> = (0..1_000).map(|_| bytes::<32>()).collect();
        assert_eq!(seen.len(), 1_000);
    }
}
