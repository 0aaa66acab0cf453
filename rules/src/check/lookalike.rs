//! Host names in letters that look like Latin ones and are not.

/// Whether a label of the host consists only of what reads as ASCII, and at least one of its
/// letters is another: `аpple.com` with a Cyrillic а, as letters or as `xn--pple-43d` (RFC 3492).
/// A label of another script, or with accents, is somebody's honest name.
pub(super) fn lookalike_host(matched: &[u8]) -> bool {
    let text = String::from_utf8_lossy(matched);
    text.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '-')
        .any(|label| match strip_ace(label) {
            Some(encoded) => decode(encoded).is_some_and(|name| disguised(&name)),
            None => disguised(label),
        })
}

fn strip_ace(label: &str) -> Option<&str> {
    let (prefix, encoded) = label.split_at_checked(4)?;
    prefix.eq_ignore_ascii_case("xn--").then_some(encoded)
}

fn disguised(label: &str) -> bool {
    let (mut letters, mut foreign) = (0, 0);
    for c in label.chars() {
        if LOOKALIKES.contains(c) {
            foreign += 1;
        } else if !(c.is_ascii_alphanumeric() || c == '-') {
            return false;
        }
        letters += usize::from(c != '-');
    }
    // Two letters of another alphabet may well be a word of it.
    foreign > 0 && letters > 2
}

/// Punycode (RFC 3492 §6.2); `None` if it is none.
fn decode(encoded: &str) -> Option<String> {
    if encoded.len() > LABEL_BYTES_MAX || !encoded.is_ascii() {
        return None;
    }
    let (basic, extended) = encoded.rsplit_once('-').unwrap_or(("", encoded));
    let mut name: Vec<char> = basic.chars().collect();
    let (mut code, mut at, mut bias) = (128_u32, 0_u32, 72_u32);
    let mut digits = extended.bytes().peekable();
    while digits.peek().is_some() {
        let (before, mut weight, mut k) = (at, 1_u32, BASE);
        loop {
            let digit = digit(digits.next()?)?;
            at = at.checked_add(digit.checked_mul(weight)?)?;
            let threshold = k.saturating_sub(bias).clamp(1, 26);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(BASE - threshold)?;
            k += BASE;
        }
        let length = u32::try_from(name.len()).ok()? + 1;
        bias = adapt(at - before, length, before == 0);
        code = code.checked_add(at / length)?;
        at %= length;
        name.insert(at as usize, char::from_u32(code)?);
        at += 1;
    }
    Some(name.into_iter().collect())
}

fn digit(byte: u8) -> Option<u32> {
    match byte.to_ascii_lowercase() {
        letter @ b'a'..=b'z' => Some(u32::from(letter - b'a')),
        number @ b'0'..=b'9' => Some(u32::from(number - b'0') + 26),
        _ => None,
    }
}

fn adapt(delta: u32, length: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / length;
    let mut k = 0;
    while delta > 455 {
        delta /= BASE - 1;
        k += BASE;
    }
    k + BASE * delta / (delta + 38)
}

const BASE: u32 = 36;

/// RFC 1035 §2.3.4.
const LABEL_BYTES_MAX: usize = 63;

/// Letters drawn like Latin ones in common fonts: Cyrillic, Greek, Armenian, and Latin letters
/// that no keyboard writes for a plain one.
const LOOKALIKES: &str = "авекмнорстухьѕіјһԁԛԝѵӏүԍ\
    АВЕЗКМНОРСТУХЅІЈҺӀԌԚԜ\
    αβγικνορτυωηϲϳ\
    ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ\
    օոսցհղզ\
    ıɑɡɩʏᴏɴʀᴄᴠᴡᴢ";

#[cfg(test)]
mod tests {
    use super::lookalike_host;

    #[test]
    fn hosts_that_read_as_latin_ones_are_found_in_letters_and_in_punycode() {
        for host in [
            "https://аррӏе.com",
            "раураl.com",
            "xn--80ak6aa92e.com",
            "xn--pple-43d.com",
            "login.gıthub.com",
        ] {
            assert!(lookalike_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn honest_names_of_other_alphabets_pass() {
        for host in [
            "example.com",
            "münchen.de",
            "xn--mnchen-3ya.de",
            "xn--bcher-kva.example",
            "яндекс.рф",
            "xn--d1acpjx3f.xn--p1ai",
            "xn--fiqs8s",
            "xn--",
            "xn--99999999999999999999",
        ] {
            assert!(!lookalike_host(host.as_bytes()), "{host}");
        }
    }
}
