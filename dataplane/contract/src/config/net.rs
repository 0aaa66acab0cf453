//! Networks in CIDR notation (RFC 4632, RFC 4291 §2.3).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A network: an address and the number of leading bits that count. IPv4 lives in ::ffff:0:0/96, so one comparison
/// serves both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: u128,
    mask: u128,
}

impl Cidr {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or one address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                (address, Some(bits.parse::<u32>().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then(|| Self::new(address, bits))
    }

    /// The network of an address: its first `bits` bits, at most 32 of an IPv4 and 128 of an IPv6 address.
    pub const fn new(address: IpAddr, bits: u32) -> Self {
        let bits = match address {
            IpAddr::V4(_) => bits + 96,
            IpAddr::V6(_) => bits,
        };
        let mask = match u128::MAX.checked_shl(128 - bits) {
            Some(mask) => mask,
            None => 0,
        };
        Self {
            network: number(address) & mask,
            mask,
        }
    }

    /// Whether the address lies in it; IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        number(address) & self.mask == self.network
    }

    /// Whether every address of `other` lies in it.
    pub const fn covers(&self, other: &Self) -> bool {
        other.network & self.mask == self.network && self.mask & other.mask == self.mask
    }

    /// Whether there is an address in both: networks nest or are apart.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// How many leading bits count, of the 128 that IPv4 networks have here, too: the more, the narrower.
    pub const fn bits(&self) -> u32 {
        self.mask.leading_ones()
    }

    /// The one address it holds, if it holds one.
    pub fn single(&self) -> Option<IpAddr> {
        (self.mask == u128::MAX).then(|| self.first())
    }

    /// Its first address.
    pub fn first(&self) -> IpAddr {
        address(self.network)
    }

    /// Its last address.
    pub fn last(&self) -> IpAddr {
        address(self.network | !self.mask)
    }
}

fn address(number: u128) -> IpAddr {
    crate::host::canonical(IpAddr::V6(Ipv6Addr::from_bits(number)))
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.first();
        let bits = self.mask.leading_ones() - if first.is_ipv4() { 96 } else { 0 };
        write!(f, "{first}/{bits}")
    }
}

const fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::Cidr;

    #[test]
    fn addresses_lie_in_their_networks_and_nowhere_else() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:1::", true),
            ("2001:db8::/32", "2001:db9::", false),
        ] {
            let cidr = Cidr::parse(network).expect("a network");
            assert_eq!(
                cidr.contains(address.parse().expect("an address")),
                inside,
                "{network} {address}"
            );
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "host",
        ] {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
    }
}
