//! Rates of peer addresses: all that is charged before an identity is proven.
//!
//! Whoever has an IPv6 address has all of its /64 (RFC 6177 §2), so that is what is charged: else one machine would be
//! as many peers as it likes, and would fill the table until strangers are refused.

use super::gcra::{Bucket, Rate};
use ahash::RandomState;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::limits::PEERS_MAX;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;

const SHARDS: usize = 64;
const SHARD_PEERS_MAX: usize = PEERS_MAX / SHARDS;
const _: () = assert!(SHARD_PEERS_MAX >= 64);

/// One bucket per peer, bounded.
#[derive(Debug)]
pub(crate) struct Peers {
    shards: Box<[Mutex<HashMap<IpAddr, Bucket, RandomState>>]>,
    hasher: RandomState,
}

impl Peers {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Charges a peer once; `false` if it sent too much.
    pub(crate) fn take(&self, peer: IpAddr, rate: Rate, now: Timestamp) -> bool {
        let peer = site(peer);
        let index = usize::try_from(self.hasher.hash_one(peer)).unwrap_or(0) % SHARDS;
        let mut shard = self.shards[index].lock();
        if !shard.contains_key(&peer) && shard.len() >= SHARD_PEERS_MAX {
            shard.retain(|_, bucket| !bucket.is_idle(now) && !bucket.is_unexplained(rate, now));
            if shard.len() >= SHARD_PEERS_MAX {
                // Nobody here is idle: this shard is under a flood of addresses. Newcomers wait.
                return false;
            }
        }
        shard.entry(peer).or_default().take(rate, now)
    }
}

/// What one peer has for itself: an IPv4 address, or the first half of an IPv6 address.
pub(crate) fn site(peer: IpAddr) -> IpAddr {
    const HOST_BITS: u32 = 64;
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> HOST_BITS << HOST_BITS).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::{PEERS_MAX, Peers, Rate, Timestamp};
    use std::net::{IpAddr, Ipv4Addr};

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn whoever_has_a_network_of_ipv6_is_one_peer() {
        let peers = Peers::new();
        let rate = Rate::new(2, 60).expect("positive");
        let now = Timestamp::from_secs(1_000);
        let take = |peer: &str| peers.take(address(peer), rate, now);
        assert!(take("2001:db8:0:1::1"));
        assert!(take("2001:db8:0:1:ffff::2"));
        assert!(!take("2001:db8:0:1::3"), "the third of one network");
        assert!(take("2001:db8:0:2::1"), "its neighbour");
        // An IPv4 address in the clothes of IPv6 is what it is.
        assert!(take("::ffff:192.0.2.1"));
        assert!(take("192.0.2.1"));
        assert!(!take("192.0.2.1"));
        assert!(take("::ffff:192.0.2.2"));
    }

    #[test]
    fn newcomers_are_let_in_after_the_clock_was_set_back() {
        let peers = Peers::new();
        let rate = Rate::new(10, 60).expect("positive");
        let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n));
        let many = u32::try_from(4 * PEERS_MAX).expect("below four billion");
        let late = Timestamp::from_secs(100_000);
        for n in 0..many {
            let _ = peers.take(address(n), rate, late);
        }
        assert!(!peers.take(address(many), rate, late), "the table is full");
        assert!(peers.take(address(many), rate, Timestamp::from_secs(1_000)));
    }
}
