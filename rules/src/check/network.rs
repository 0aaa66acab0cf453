//! Addresses of machines and mailboxes.

/// One `@`, a plausible local part, a dotted domain with an alphabetic top level.
pub(super) fn email(matched: &[u8]) -> bool {
    let Some(at) = matched.iter().position(|byte| *byte == b'@') else {
        return false;
    };
    let local_is = |byte: &u8| byte.is_ascii_alphanumeric() || b"._%+-'".contains(byte);
    let domain_is = |byte: &u8| byte.is_ascii_alphanumeric() || b".-".contains(byte);
    let local: Vec<u8> = matched[..at]
        .iter()
        .rev()
        .take_while(|byte| local_is(byte))
        .copied()
        .collect();
    let domain: Vec<u8> = matched[at + 1..]
        .iter()
        .take_while(|byte| domain_is(byte))
        .copied()
        .collect();
    // A full stop may end the sentence, not the domain.
    let end = domain
        .iter()
        .rposition(|byte| *byte != b'.')
        .map_or(0, |at| at + 1);
    let domain = &domain[..end];
    let labels: Vec<&[u8]> = domain.split(|byte| *byte == b'.').collect();
    let top = labels
        .iter()
        .rev()
        .find(|label| !label.is_empty())
        .copied()
        .unwrap_or_default();
    let plausible_label = |label: &&[u8]| !label.is_empty() && label.len() <= 63;
    let reserved = [
        &b"example.com"[..],
        b"example.org",
        b"example.net",
        b"localhost",
    ]
    .iter()
    .any(|reserved| domain.eq_ignore_ascii_case(reserved));
    !local.is_empty()
        && local.len() <= 64
        && labels.len() >= 2
        && labels[..labels.len() - 1].iter().all(plausible_label)
        && (2..=24).contains(&top.len())
        && top.iter().all(u8::is_ascii_alphabetic)
        && !reserved
}

/// An IPv4 address in any spelling `inet_aton` takes (dotted, octal, hex, one number), or IPv6,
/// that is not public.
pub(super) fn private_ip(matched: &[u8]) -> bool {
    let text = String::from_utf8_lossy(matched);
    let host = text.split("://").last().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = host.trim_start_matches(|c: char| !c.is_ascii_hexdigit() && c != '[' && c != ':');
    if let Some(inner) = host.strip_prefix('[') {
        return inner.split([']', '%']).next().is_some_and(private_v6);
    }
    let end = host
        .find(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | 'x' | 'X' | ':')))
        .unwrap_or(host.len());
    let host = &host[..end];
    if host.matches(':').count() >= 2 {
        return private_v6(host);
    }
    let host = host
        .split(':')
        .next()
        .unwrap_or_default()
        .trim_end_matches('.');
    inet_aton(host).is_some_and(not_public_v4)
}

fn private_v6(text: &str) -> bool {
    let Ok(address) = text.parse::<std::net::Ipv6Addr>() else {
        return false;
    };
    if let Some(v4) = address.to_ipv4_mapped() {
        return not_public_v4(u32::from(v4));
    }
    let first = address.segments()[0];
    address.is_loopback()
        || address.is_unspecified()
        || (first & 0xFE00) == 0xFC00
        || (first & 0xFFC0) == 0xFE80
        || (first == 0x64 && address.segments()[1] == 0xFF9B)
}

fn inet_aton(text: &str) -> Option<u32> {
    let parts: Vec<u64> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|part| *part > 255) {
        return None;
    }
    let free_bits = 32 - 8 * first.len() as u32;
    if *last >= 1_u64 << free_bits {
        return None;
    }
    let head = first
        .iter()
        .enumerate()
        .fold(0_u64, |sum, (at, part)| sum | (part << (24 - 8 * at)));
    u32::try_from(head | last).ok()
}

fn number(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()
    } else if lower.len() > 1 && lower.starts_with('0') {
        u64::from_str_radix(&lower, 8).ok()
    } else {
        lower.parse().ok()
    }
}

fn not_public_v4(address: u32) -> bool {
    let [a, b, c, _] = address.to_be_bytes();
    matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0)
            | (198, 18..=19, _)
            | (240..=255, _, _)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn email_needs_a_real_looking_domain() {
        for good in [
            "anna.b@firma.de",
            "<x+y@mail.co.uk>",
            "mailto:o'neil@a-b.io",
            "write to a.b@firma.de.",
        ] {
            assert!(email(good.as_bytes()), "{good}");
        }
        for bad in [
            "@x.de",
            "a@b",
            "a@b.1",
            "user@example.com",
            "user@example.com.",
            "a@.de",
            "git@",
            "a@b..de",
        ] {
            assert!(!email(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn private_ip_reads_every_spelling() {
        for bad in [
            "http://127.0.0.1/",
            "http://0x7f.1/x",
            "http://2130706433",
            "http://017700000001/",
            "http://10.1.2.3:8080/a",
            "192.168.0.1",
            "172.31.255.1",
            "http://[::1]/",
            "[fe80::1%eth0]",
            "http://[::ffff:169.254.169.254]/latest",
            "http://u:p@127.1/",
            "http://169.254.169.254/",
            "fd00::1",
            "0.0.0.0",
        ] {
            assert!(private_ip(bad.as_bytes()), "{bad}");
        }
        for good in [
            "8.8.8.8",
            "http://172.32.0.1/",
            "http://1.1.1.1/",
            "[2606:4700::1111]",
            "999.1.1.1",
            "face",
            "",
        ] {
            assert!(!private_ip(good.as_bytes()), "{good}");
        }
    }
}
