//! Upper bounds of this crate; those that both processes share are in [`oktsec_contract::limits`].

/// Bytes a second a body must bring on average, above its fixed time.
pub const BODY_BYTES_PER_SEC_MIN: u64 = 16 << 10;
/// Bytes of a request that is passed on to the control plane (compat §2.1 has 1 MiB for its largest).
pub const RELAYED_BYTES_MAX: usize = 8 << 20;
/// Connections of one core; further ones are closed at once.
pub const CONNECTIONS_PER_CORE_MAX: usize = 16_384;
/// Lines of `POST /v1/messages` that are decided together.
pub const LINES_IN_FLIGHT_MAX: usize = 64;
/// Bytes of lines after which no further line is taken into the same group.
pub const LINES_BYTES_MAX: usize = 1 << 20;
/// Batches of records of one core that wait for the writer at the same time.
pub const APPENDS_IN_FLIGHT_MAX: usize = 4;
/// Milliseconds a core waits for room in the writer's queue before it refuses.
pub const APPEND_PATIENCE_MS: u64 = 50;
/// Concurrent streams of one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 128;
/// Different rules whose findings are counted one by one; the rest is counted as `other`.
pub const RULES_COUNTED_MAX: usize = 4_096;
/// Bytes pingora reads at once from a connection; one request of the usual size fits.
pub const READ_BUFFER_BYTES: usize = 16 << 10;
/// Bytes of an answer gathered before they are sent; one answer of the usual size fits.
pub const WRITE_BUFFER_BYTES: usize = 8 << 10;

const _: () = assert!(
    LINES_IN_FLIGHT_MAX >= 16,
    "below 16 signatures a batch does not pay"
);
