//! Cards and bank accounts.

use super::digits;

/// ISO/IEC 7812 annex B.
pub(super) fn luhn(matched: &[u8]) -> bool {
    let Some((digits, len)) = digits::<19>(matched) else {
        return false;
    };
    let digits = &digits[..len];
    if len < 12 || digits.iter().all(|digit| *digit == digits[0]) {
        return false;
    }
    luhn_sum(digits).is_multiple_of(10)
}

/// The sum that is a multiple of ten in numbers with a Luhn digit.
pub(super) fn luhn_sum(digits: &[u8]) -> u32 {
    digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum()
}

/// Lengths by country, SWIFT IBAN registry.
const IBAN_LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
];

/// ISO 13616.
pub(super) fn iban(matched: &[u8]) -> bool {
    let mut text = [0_u8; 34];
    let mut len = 0;
    for byte in matched.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        let Some(slot) = text.get_mut(len) else {
            return false;
        };
        *slot = byte.to_ascii_uppercase();
        len += 1;
    }
    let text = &text[..len];
    if len < 15 {
        return false;
    }
    if !IBAN_LENGTHS
        .iter()
        .any(|(country, length)| &text[..2] == *country && len == *length)
    {
        return false;
    }
    let remainder = text[4..]
        .iter()
        .chain(&text[..4])
        .fold(0_u32, |remainder, byte| match byte {
            b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
            _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
        });
    remainder == 1
}

/// American Bankers Association routing number.
pub(super) fn aba(matched: &[u8]) -> bool {
    let Some((digits, 9)) = digits::<9>(matched) else {
        return false;
    };
    let prefix = digits[0] * 10 + digits[1];
    let issued = matches!(prefix, 1..=12 | 21..=32 | 61..=72 | 80);
    let weights = [3_u32, 7, 1, 3, 7, 1, 3, 7, 1];
    let sum: u32 = digits
        .iter()
        .zip(weights)
        .map(|(digit, weight)| u32::from(*digit) * weight)
        .sum();
    issued && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luhn_knows_published_test_numbers() {
        for good in [
            "4111 1111 1111 1111",
            "5555555555554444",
            "3782-822463-10005",
            "6011111111111117",
        ] {
            assert!(luhn(good.as_bytes()), "{good}");
        }
        for bad in [
            "4111 1111 1111 1112",
            "0000000000000000",
            "411111",
            "41111111111111111111111",
        ] {
            assert!(!luhn(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn iban_knows_the_registry_examples() {
        for good in [
            "DE89 3704 0044 0532 0130 00",
            "GB29NWBK60161331926819",
            "FR1420041010050500013M02606",
        ] {
            assert!(iban(good.as_bytes()), "{good}");
        }
        for bad in [
            "DE88 3704 0044 0532 0130 00",
            "XX29NWBK60161331926819",
            "GB29NWBK6016133192681",
            "DE",
        ] {
            assert!(!iban(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn aba_knows_routing_numbers() {
        assert!(aba(b"021000021"));
        assert!(aba(b"011401533"));
        assert!(!aba(b"021000022"));
        assert!(!aba(b"991000021"));
    }
}
