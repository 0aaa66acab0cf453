//! What HTTP/2 refuses before a request gets as far as us: headers that are none, frames out of place, floods. The
//! library that speaks it resets the stream or ends the connection by itself and tells nobody, so what it writes is read:
//! the heads of its frames, and the error codes of two kinds.

use crate::metrics::Counter;

/// Error codes and their names (RFC 9113 §7); the last stands for all that are none of them.
pub(crate) const H2_ERRORS: [&str; 15] = [
    "no_error",
    "protocol_error",
    "internal_error",
    "flow_control_error",
    "settings_timeout",
    "stream_closed",
    "frame_size_error",
    "refused_stream",
    "cancel",
    "compression_error",
    "connect_error",
    "enhance_your_calm",
    "inadequate_security",
    "http_1_1_required",
    "other",
];
/// Ends without a fault of the peer's: an answer that came early, a request that was given up.
const FAULTLESS: [usize; 2] = [0, 8];

/// Bytes of a frame's head (RFC 9113 §4.1).
const HEAD_BYTES: usize = 9;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// What was refused so far.
#[derive(Debug, Default)]
pub(crate) struct H2Refusals {
    pub(crate) streams: [Counter; H2_ERRORS.len()],
    pub(crate) connections: [Counter; H2_ERRORS.len()],
}

/// Frames on their way to a peer, in whatever pieces they are written.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that have passed. Invariant: at most [`HEAD_BYTES`].
    passed: usize,
    /// Bytes of the frame behind its head that have not passed.
    left: usize,
    /// The last four bytes before the end of the error code, if there is one.
    code: u32,
    /// Bytes until the error code is whole.
    until_code: usize,
}

impl Frames {
    /// These bytes are written next. Answers the name of the last error among them.
    pub(crate) fn sent(&mut self, mut bytes: &[u8], refusals: &H2Refusals) -> Option<&'static str> {
        let mut last = None;
        while !bytes.is_empty() {
            if self.passed < HEAD_BYTES {
                let piece = bytes.len().min(HEAD_BYTES - self.passed);
                self.head[self.passed..self.passed + piece].copy_from_slice(&bytes[..piece]);
                self.passed += piece;
                bytes = &bytes[piece..];
                if self.passed == HEAD_BYTES {
                    self.begin();
                }
            } else {
                let piece = bytes.len().min(self.left);
                last = self.body(&bytes[..piece], refusals).or(last);
                self.left -= piece;
                bytes = &bytes[piece..];
            }
            if self.passed == HEAD_BYTES && self.left == 0 {
                self.passed = 0;
            }
        }
        last
    }

    fn begin(&mut self) {
        let [a, b, c, kind, ..] = self.head;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.until_code = match kind {
            RST_STREAM => 4,
            // The last stream stands before it.
            GOAWAY => 8,
            _ => 0,
        };
    }

    fn body(&mut self, bytes: &[u8], refusals: &H2Refusals) -> Option<&'static str> {
        for &byte in bytes.iter().take(self.until_code) {
            self.code = self.code << 8 | u32::from(byte);
            self.until_code -= 1;
            if self.until_code == 0 {
                let known = usize::try_from(self.code).unwrap_or(usize::MAX);
                let error = known.min(H2_ERRORS.len() - 1);
                if FAULTLESS.contains(&error) {
                    return None;
                }
                let counters = match self.head[3] {
                    RST_STREAM => &refusals.streams,
                    _ => &refusals.connections,
                };
                counters[error].add(1);
                return Some(H2_ERRORS[error]);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, GOAWAY, H2_ERRORS, H2Refusals, RST_STREAM};

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 1];
        frame.extend_from_slice(body);
        frame
    }

    #[test]
    fn errors_are_counted_in_whatever_pieces_their_frames_are_written() {
        let mut written = Vec::new();
        written.extend(frame(4, &[]));
        written.extend(frame(1, &[3; 40]));
        written.extend(frame(RST_STREAM, &[0, 0, 0, 1]));
        written.extend(frame(0, &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7]));
        written.extend(frame(RST_STREAM, &[0, 0, 0, 8]));
        written.extend(frame(RST_STREAM, &[0, 0, 0, 0]));
        written.extend(frame(RST_STREAM, &[1, 0, 0, 1]));
        written.extend(frame(GOAWAY, b"\0\0\0\x01\0\0\0\x0btoo_many_resets"));
        written.extend(frame(GOAWAY, &[0; 8]));
        for size in 1..=written.len() {
            let refusals = H2Refusals::default();
            let mut frames = Frames::default();
            for piece in written.chunks(size) {
                frames.sent(piece, &refusals);
            }
            let counted = |counters: &[crate::metrics::Counter]| {
                let names = H2_ERRORS.iter().zip(counters);
                let mut counted: Vec<_> = names.map(|(&name, n)| (name, n.get())).collect();
                counted.retain(|&(_, n)| n > 0);
                counted
            };
            let streams = [("protocol_error", 1), ("other", 1)];
            assert_eq!(counted(&refusals.streams), streams, "pieces of {size}");
            let connections = [("enhance_your_calm", 1)];
            assert_eq!(
                counted(&refusals.connections),
                connections,
                "pieces of {size}"
            );
        }
    }
}
