//! What a record about an outbound request or a tunnel says besides: where it went, how much, how long.
//!
//! These fields stand behind those of every record and only there ([`super::codec`]: format 4), so records about
//! messages keep the bytes they always had.

use super::codec::{DecodeError, Reader, put_address, put_str};
use serde::Serialize;
use std::net::IpAddr;

/// Where an outbound request went, how much moved and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EgressRef<'a> {
    /// The method; `CONNECT` for a tunnel.
    pub method: &'a str,
    /// The host as compared with the policy: lower case, ASCII, no trailing dot.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// Path and query, what a finding covers replaced; empty for a tunnel.
    pub path: &'a str,
    /// The address we connected to; `None` if it did not come to that.
    pub address: Option<IpAddr>,
    /// Bytes of bodies or of the tunnel towards the host.
    pub bytes_up: u64,
    /// Bytes of bodies or of the tunnel towards the agent.
    pub bytes_down: u64,
    /// Microseconds from looking up the name to being connected; 0 for a connection used again.
    pub connect_us: u32,
    /// Microseconds from the request to the first byte of the answer.
    pub first_byte_us: u32,
    /// Milliseconds from the request to its end.
    pub duration_ms: u64,
}

impl<'a> EgressRef<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for text in [self.method, self.host, self.path] {
            put_str(out, text);
        }
        out.extend_from_slice(&self.port.to_le_bytes());
        put_address(out, self.address);
        out.extend_from_slice(&self.bytes_up.to_le_bytes());
        out.extend_from_slice(&self.bytes_down.to_le_bytes());
        out.extend_from_slice(&self.connect_us.to_le_bytes());
        out.extend_from_slice(&self.first_byte_us.to_le_bytes());
        out.extend_from_slice(&self.duration_ms.to_le_bytes());
    }

    pub(super) fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (method, host, path) = (r.str()?, r.str()?, r.str()?);
        Ok(Self {
            method,
            host,
            path,
            port: u16::from_le_bytes(r.array()?),
            address: r.address("address")?,
            bytes_up: r.u64()?,
            bytes_down: r.u64()?,
            connect_us: r.u32()?,
            first_byte_us: r.u32()?,
            duration_ms: r.u64()?,
        })
    }
}
