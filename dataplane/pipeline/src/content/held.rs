//! Original bytes that wait until what they say is clear. Order and bytes stay as they came.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

/// A queue of bytes, by their place in the body.
#[derive(Default)]
pub(super) struct Held {
    parts: VecDeque<Part>,
    /// Offset behind the last byte pushed.
    end: u64,
    /// Bytes in `parts`.
    bytes: usize,
}

/// Bytes that stand for `span` of the body: themselves, or what took their place.
struct Part {
    bytes: Bytes,
    span: Range<u64>,
}

impl Held {
    pub(super) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let span = self.end..self.end + bytes.len() as u64;
        self.end = span.end;
        self.bytes += bytes.len();
        self.parts.push_back(Part { bytes, span });
    }

    /// Offset behind the last byte pushed.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Gives the next bytes that lie before `clear`.
    pub(super) fn release(&mut self, clear: u64) -> Option<Bytes> {
        let first = self.parts.front_mut()?;
        let released = if first.span.end <= clear {
            self.parts.pop_front().map(|part| part.bytes)
        } else if first.span.start < clear && first.is_original() {
            let len = (clear - first.span.start) as usize;
            first.span.start = clear;
            Some(first.bytes.split_to(len))
        } else {
            None
        };
        self.bytes -= released.as_ref().map_or(0, Bytes::len);
        released
    }

    /// Puts `with` where `span` of the body was. Refused if some of it has left or is not here yet.
    pub(super) fn replace(&mut self, span: Range<u64>, with: Bytes) -> bool {
        let start = self
            .parts
            .front()
            .map_or(self.end, |first| first.span.start);
        if span.is_empty() || span.start < start || span.end > self.end {
            return false;
        }
        let (from, to) = (self.split(span.start), self.split(span.end));
        // A part that was replaced before is not split: it is replaced as a whole.
        let first = self
            .parts
            .get(from)
            .map_or(span.start, |part| part.span.start);
        let last = to
            .checked_sub(1)
            .and_then(|at| self.parts.get(at))
            .map_or(span.end, |part| part.span.end);
        let gone: usize = self
            .parts
            .drain(from..to)
            .map(|part| part.bytes.len())
            .sum();
        self.bytes = self.bytes - gone + with.len();
        self.parts.insert(
            from,
            Part {
                bytes: with,
                span: first..last,
            },
        );
        true
    }

    /// The number of parts before `at`; the part it lies in is cut there if it can be.
    fn split(&mut self, at: u64) -> usize {
        let index = self.parts.partition_point(|part| part.span.end <= at);
        let Some(part) = self.parts.get_mut(index) else {
            return index;
        };
        if part.span.start >= at {
            return index;
        }
        if !part.is_original() {
            return index;
        }
        let head = part.bytes.split_to((at - part.span.start) as usize);
        let span = part.span.start..at;
        part.span.start = at;
        self.parts.insert(index, Part { bytes: head, span });
        index + 1
    }
}

impl Part {
    fn is_original(&self) -> bool {
        self.bytes.len() as u64 == self.span.end - self.span.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(held: &mut Held, clear: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(bytes) = held.release(clear) {
            out.extend_from_slice(&bytes);
        }
        out
    }

    #[test]
    fn bytes_leave_in_order_up_to_what_is_clear() {
        let mut held = Held::default();
        held.push(Bytes::from_static(b"hello "));
        held.push(Bytes::from_static(b"world"));
        assert_eq!(drain(&mut held, 0), b"");
        assert_eq!(drain(&mut held, 3), b"hel");
        assert_eq!(drain(&mut held, 8), b"lo wo");
        assert_eq!((held.len(), held.end()), (3, 11));
        assert_eq!(drain(&mut held, 11), b"rld");
        assert_eq!(held.len(), 0);
    }

    #[test]
    fn what_is_replaced_leaves_as_a_whole() {
        let mut held = Held::default();
        for part in [&b"the key is "[..], b"SEC", b"RET", b" ok"] {
            held.push(Bytes::from_static(part));
        }
        assert!(held.replace(11..17, Bytes::from_static(b"[REDACTED]")));
        assert_eq!(held.len(), 24);
        assert_eq!(drain(&mut held, 14), b"the key is ");
        assert_eq!(drain(&mut held, 20), b"[REDACTED] ok");
    }

    #[test]
    fn what_has_left_or_is_not_here_cannot_be_replaced() {
        let mut held = Held::default();
        held.push(Bytes::from_static(b"0123456789"));
        drain(&mut held, 4);
        assert!(!held.replace(3..6, Bytes::new()));
        assert!(!held.replace(8..11, Bytes::new()));
        assert!(held.replace(4..6, Bytes::from_static(b"x")));
        assert!(held.replace(5..7, Bytes::from_static(b"yz")));
        assert_eq!(drain(&mut held, 10), b"yz789");
    }
}
