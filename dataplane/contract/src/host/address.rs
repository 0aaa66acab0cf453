//! Addresses in every spelling that some reader understands (WHATWG URL §3.5; `inet_aton`; RFC 4291 §2.2).

use super::{Host, HostError, v6_canonical};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a reader may take the text for an IPv4 address: its last label is a number.
pub(super) fn ends_in_a_number(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    if last.is_empty() {
        return false;
    }
    let hex = last
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    hex || last.bytes().all(|b| b.is_ascii_digit())
}

/// One to four numbers, each decimal, octal (`0…`) or hexadecimal (`0x…`); the last one fills what is left.
pub(super) fn v4(text: &str) -> Option<Ipv4Addr> {
    let mut numbers = [0_u64; 4];
    let mut count = 0;
    for part in text.split('.') {
        *numbers.get_mut(count)? = number(part)?;
        count += 1;
    }
    let (&last, leading) = numbers[..count].split_last()?;
    if leading.iter().any(|&n| n > 255) || last >= 1 << (8 * (5 - count)) {
        return None;
    }
    let mut address = u32::try_from(last).ok()?;
    for (index, &n) in leading.iter().enumerate() {
        address |= u32::try_from(n).ok()? << (24 - 8 * index);
    }
    Some(Ipv4Addr::from_bits(address))
}

fn number(part: &str) -> Option<u64> {
    let (digits, radix) = match part.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if part.len() > 1 && part.starts_with('0') => (&part[1..], 8),
        None => (part, 10),
    };
    if part.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    if digits.is_empty() {
        return Some(0);
    }
    // Leading zeros mean nothing; what is then longer than eleven digits is above 32 bits in every radix.
    let significant = digits.trim_start_matches('0');
    if significant.len() > 11 {
        return None;
    }
    u64::from_str_radix(
        if significant.is_empty() {
            "0"
        } else {
            significant
        },
        radix,
    )
    .ok()
}

/// The inside of brackets.
pub(super) fn v6(text: &str) -> Result<Host, HostError> {
    if text.contains('%') {
        return Err(HostError::Zone);
    }
    let address: Ipv6Addr = text.parse().map_err(|_| HostError::Address)?;
    Ok(Host::Address(v6_canonical(address)))
}
