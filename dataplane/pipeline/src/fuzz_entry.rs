//! What fuzzing calls: any bytes in, an assertion or nothing out.

use crate::parse::{Buffers, Headers, ParsedMessage};
use ahash::RandomState;
use bytes::Bytes;
use oktsec_contract::clock::Timestamp;

/// The body of a message.
pub fn message(bytes: &[u8]) {
    let now = Timestamp::from_secs(1_771_754_400);
    let headers = Headers {
        session: bytes.get(..8),
        key_version: bytes.get(8..10),
        delegation: None,
    };
    for headers in [Headers::default(), headers] {
        let body = Bytes::copy_from_slice(bytes);
        let state = RandomState::with_seeds(1, 2, 3, 4);
        let parsed = ParsedMessage::parse(body, headers, Buffers::default(), &state, now);
        if let Ok(parsed) = parsed {
            let view = parsed.view();
            assert!(!view.from.is_empty() && !view.to.is_empty() && !view.content.is_empty());
            assert!(
                !view.from.chars().any(char::is_control),
                "no line end in a name"
            );
        }
    }
}
