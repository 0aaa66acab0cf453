//! The body of a request on its way to a host over HTTP/2.
//!
//! A host gives room for a request in windows. Whoever waits in a write for room does not read the answer, and a host
//! that answers while it reads waits for that. So what has no room waits here, and is moved on beside everything else.

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use std::collections::VecDeque;
use std::task::{Context, Poll};

/// Bytes of one DATA frame, at most.
const FRAME_BYTES_MAX: usize = 16 << 10;

/// What of one request has not been handed over.
pub(crate) struct H2Request {
    stream: SendStream<Bytes>,
    waiting: VecDeque<Bytes>,
    /// Bytes of `waiting`.
    bytes: usize,
    end: End,
}

/// The end of the request.
enum End {
    /// More of it may come.
    Open,
    /// It follows what waits, with these trailers.
    Waiting(HeaderMap),
    Sent,
}

impl H2Request {
    pub(crate) fn new(stream: SendStream<Bytes>) -> Self {
        Self {
            stream,
            waiting: VecDeque::new(),
            bytes: 0,
            end: End::Open,
        }
    }

    /// Bytes that the host has no room for yet.
    pub(crate) const fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more of the body.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.waiting.push_back(bytes);
    }

    /// The request is whole.
    pub(crate) fn finish(&mut self, trailers: &HeaderMap) {
        if matches!(self.end, End::Open) {
            self.end = End::Waiting(trailers.clone());
        }
    }

    /// Hands over what there is room for. Ready when something was, or when the host takes no more.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let mut moved = false;
        while let Some(next) = self.waiting.front_mut() {
            if next.is_empty() {
                self.waiting.pop_front();
                continue;
            }
            self.stream
                .reserve_capacity(next.len().min(FRAME_BYTES_MAX));
            let room = match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(room))) => room.min(next.len()),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Err(h2::Reason::STREAM_CLOSED.into())),
                Poll::Pending if moved => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            };
            if room > 0 {
                let piece = next.split_to(room);
                self.bytes -= room;
                self.stream.send_data(piece, false)?;
                moved = true;
            }
        }
        if let End::Waiting(trailers) = &mut self.end {
            let trailers = std::mem::take(trailers);
            self.end = End::Sent;
            match trailers.is_empty() {
                true => self.stream.send_data(Bytes::new(), true)?,
                false => self.stream.send_trailers(trailers)?,
            }
            return Poll::Ready(Ok(()));
        }
        match moved {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}
