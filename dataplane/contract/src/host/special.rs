//! Addresses that are not the public internet: the IANA special-purpose registries, multicast, what lies outside
//! global unicast, and the metadata services of clouds (some of which have public addresses).
//!
//! Source: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and updates), IPv6 address space registry.

use super::canonical;
use crate::config::Cidr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range that no request may reach unless a private target says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Special {
    /// What it is for, as messages and records say it.
    pub name: &'static str,
    /// Whether it serves credentials to whoever asks: a private target must name such an address itself.
    pub metadata: bool,
}

struct V4(Ipv4Addr, u32, Special);
struct V6(Ipv6Addr, u32, Special);

const fn range(name: &'static str) -> Special {
    Special {
        name,
        metadata: false,
    }
}

const METADATA: Special = Special {
    name: "cloud metadata",
    metadata: true,
};

macro_rules! v4 {
    ($address:expr, $bits:literal, $special:expr) => {{
        let [a, b, c, d] = $address;
        V4(Ipv4Addr::new(a, b, c, d), $bits, $special)
    }};
}

/// The most telling first: the first that contains an address names it.
const IPV4: &[V4] = &[
    v4!([169, 254, 169, 254], 32, METADATA),
    v4!([169, 254, 169, 253], 32, METADATA),
    v4!([169, 254, 170, 2], 32, METADATA),
    v4!([169, 254, 170, 23], 32, METADATA),
    v4!([168, 63, 129, 16], 32, METADATA),
    v4!([100, 100, 100, 200], 32, METADATA),
    v4!([192, 0, 0, 192], 32, METADATA),
    v4!([0, 0, 0, 0], 8, range("this network")),
    v4!([10, 0, 0, 0], 8, range("private")),
    v4!([100, 64, 0, 0], 10, range("carrier-grade NAT")),
    v4!([127, 0, 0, 0], 8, range("loopback")),
    v4!([169, 254, 0, 0], 16, range("link-local")),
    v4!([172, 16, 0, 0], 12, range("private")),
    v4!([192, 0, 0, 0], 24, range("IETF protocol assignments")),
    v4!([192, 0, 2, 0], 24, range("documentation")),
    v4!([192, 31, 196, 0], 24, range("AS112")),
    v4!([192, 52, 193, 0], 24, range("AMT")),
    v4!([192, 88, 99, 0], 24, range("6to4 relay")),
    v4!([192, 168, 0, 0], 16, range("private")),
    v4!([192, 175, 48, 0], 24, range("AS112")),
    v4!([198, 18, 0, 0], 15, range("benchmarking")),
    v4!([198, 51, 100, 0], 24, range("documentation")),
    v4!([203, 0, 113, 0], 24, range("documentation")),
    v4!([224, 0, 0, 0], 4, range("multicast")),
    v4!([255, 255, 255, 255], 32, range("broadcast")),
    v4!([240, 0, 0, 0], 4, range("reserved")),
];

macro_rules! v6 {
    ($address:expr, $bits:literal, $special:expr) => {{
        let [a, b, c, d, e, f, g, h] = $address;
        V6(Ipv6Addr::new(a, b, c, d, e, f, g, h), $bits, $special)
    }};
}

/// Mapped addresses are IPv4 before they come here.
const IPV6: &[V6] = &[
    v6!([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, METADATA),
    v6!([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128, METADATA),
    v6!([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253], 128, METADATA),
    v6!([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, METADATA),
    v6!([0, 0, 0, 0, 0, 0, 0, 0], 128, range("unspecified")),
    v6!([0, 0, 0, 0, 0, 0, 0, 1], 128, range("loopback")),
    v6!([0, 0, 0, 0, 0, 0, 0, 0], 96, range("IPv4-compatible")),
    v6!([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, range("IPv4-translated")),
    v6!([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, range("NAT64")),
    v6!([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, range("local NAT64")),
    v6!([0x100, 0, 0, 0, 0, 0, 0, 0], 64, range("discard-only")),
    v6!([0x100, 0, 0, 1, 0, 0, 0, 0], 64, range("dummy prefix")),
    v6!([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, range("Teredo")),
    v6!([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, range("benchmarking")),
    v6!([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, range("ORCHID")),
    v6!([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, range("ORCHIDv2")),
    v6!(
        [0x2001, 0, 0, 0, 0, 0, 0, 0],
        23,
        range("IETF protocol assignments")
    ),
    v6!(
        [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0],
        32,
        range("documentation")
    ),
    v6!([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, range("6to4")),
    v6!([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, range("AS112")),
    v6!([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, range("documentation")),
    v6!([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, range("segment routing")),
    v6!([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, range("unique local")),
    v6!([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, range("link-local")),
    v6!([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, range("site-local")),
    v6!([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, range("multicast")),
];

/// Everything IPv6 that is not 2000::/3, the only global unicast space there is.
const NOT_GLOBAL_UNICAST: Special = range("not global unicast");

/// The range an address lies in; `None` is the public internet.
pub fn special(address: IpAddr) -> Option<Special> {
    match canonical(address) {
        IpAddr::V4(v4) => IPV4
            .iter()
            .find(|V4(network, bits, _)| (v4.to_bits() ^ network.to_bits()) >> (32 - bits) == 0)
            .map(|V4(_, _, special)| *special),
        IpAddr::V6(v6) => IPV6
            .iter()
            .find(|V6(network, bits, _)| (v6.to_bits() ^ network.to_bits()) >> (128 - bits) == 0)
            .map(|V6(_, _, special)| *special)
            .or((v6.segments()[0] >> 13 != 1).then_some(NOT_GLOBAL_UNICAST)),
    }
}

/// Whether a network holds any special address.
pub fn touches(network: &Cidr) -> bool {
    let v4 = IPV4
        .iter()
        .map(|V4(first, bits, _)| Cidr::new(IpAddr::V4(*first), *bits));
    let v6 = IPV6
        .iter()
        .map(|V6(first, bits, _)| Cidr::new(IpAddr::V6(*first), *bits));
    // Everything outside global unicast is special, so both ends of a network in it are inside.
    let ends = [network.first(), network.last()];
    ends.into_iter().any(|end| special(end).is_some())
        || v4.chain(v6).any(|range| range.overlaps(network))
}

/// The IPv4 address that a packet to this IPv6 address ends up at: NAT64, 6to4, Teredo, IPv4-compatible and -translated.
pub fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = |n: u128| Ipv4Addr::from_bits((n & u128::from(u32::MAX)) as u32);
    let bits = address.to_bits();
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, low_16] if high != 0 || low_16 > 1 => Some(low(bits)),
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Some(low(bits)),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(low(bits)),
        // RFC 8215 leaves the place of the address to the operator; the last 32 bits are the common one.
        [0x64, 0xff9b, 1, ..] => Some(low(bits)),
        [0x2002, ..] => Some(low(bits >> 80)),
        [0x2001, 0, ..] => Some(low(!bits)),
        _ => None,
    }
}
