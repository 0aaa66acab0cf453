//! The answer to a head that pingora refuses by itself.
//!
//! pingora reads heads before it asks us anything. One that it cannot read (two lengths, a zero byte, a mebibyte
//! of headers, CONNECT) gets an empty 400 or 405 from it, and the connection ends. A peer deserves the reason and
//! an operator the count, so [`crate::connection::Guarded`] puts this answer in the place of that one.

use crate::answer;
use crate::metrics::Counters;
use crate::respond::{self, Kind};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use oktsec_contract::limits::HEADER_BYTES_MAX;
use oktsec_contract::reason::Reason;
use pingora::protocols::http::date;
use std::time::Duration;

/// What every answer of pingora's to such a head begins with.
const THEIRS: &[u8] = b"HTTP/1.1 4";

/// Our answer, on its way out.
pub(crate) struct RefusedHead {
    bytes: Vec<u8>,
    /// Invariant: at most as many as `bytes` has.
    sent: usize,
}

impl RefusedHead {
    /// Takes the place of `theirs`, if that is an answer to a head. `read` counts the bytes of the head so far.
    pub(crate) fn instead_of(theirs: &[u8], read: usize, counters: &Counters) -> Option<Self> {
        if !theirs.starts_with(THEIRS) {
            return None;
        }
        let (status, reading) = match read {
            _ if theirs.starts_with(b"HTTP/1.1 405") => (405, "405 Method Not Allowed"),
            read if read > HEADER_BYTES_MAX => (431, "431 Request Header Fields Too Large"),
            _ => (400, "400 Bad Request"),
        };
        let reason = Reason::RequestInvalid;
        counters.requests.add(1);
        counters.answered(reason, reason.status(), Duration::ZERO);
        Some(Self {
            bytes: wire(status, reading, &answer::refusal(reason).body),
            sent: 0,
        })
    }

    /// What is still to be written.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// So many bytes more were written.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        debug_assert!(
            self.sent <= self.bytes.len(),
            "a stream takes what it was given"
        );
    }
}

/// A whole answer that ends its connection.
fn wire(status: u16, reading: &str, body: &Bytes) -> Vec<u8> {
    let mut out = Vec::with_capacity(1_024);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(reading.as_bytes());
    out.extend_from_slice(b"\r\n");
    // Without its other headers the answer is still one.
    if let Ok(mut head) = respond::head(status, Kind::Json) {
        let length = HeaderValue::from(body.len());
        let closing = HeaderValue::from_static("close");
        let _ = head.insert_header(header::CONTENT_LENGTH, length);
        let _ = head.insert_header(header::CONNECTION, closing);
        let _ = head.insert_header(header::DATE, date::get_cached_date());
        if status == 405 {
            let methods = HeaderValue::from_static("GET, POST, PUT, DELETE");
            let _ = head.insert_header(header::ALLOW, methods);
        }
        head.header_to_h1_wire(&mut out);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}
