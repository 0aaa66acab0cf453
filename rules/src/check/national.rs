//! Numbers of persons, vehicles and devices whose check digits are one of a few known sums.
//!
//! One table: the word a rule writes, and the test. The numbers in the tests are the examples of
//! the authorities or of the standards, not those of anybody.

use super::digits;
use super::finance::luhn_sum;

type Test = fn(&[u8]) -> bool;

/// Word and test, in alphabetical order.
const SCHEMES: &[(&str, Test)] = &[
    ("ar_cuit", ar_cuit),
    ("at_svnr", at_svnr),
    ("au_abn", au_abn),
    ("au_medicare", au_medicare),
    ("au_tfn", au_tfn),
    ("be_nrn", be_nrn),
    ("bg_egn", bg_egn),
    ("br_cnpj", br_cnpj),
    ("ca_sin", ca_sin),
    ("ch_ahv", ch_ahv),
    ("cl_rut", cl_rut),
    ("cn_id", cn_id),
    ("cz_rc", cz_rc),
    ("de_steuer_id", de_steuer_id),
    ("fi_hetu", fi_hetu),
    ("fr_nir", fr_nir),
    ("hk_id", hk_id),
    ("il_id", il_id),
    ("imei", imei),
    ("it_cf", it_cf),
    ("jp_my_number", jp_my_number),
    ("kr_rrn", kr_rrn),
    ("mx_curp", mx_curp),
    ("nl_bsn", nl_bsn),
    ("no_fnr", no_fnr),
    ("nz_ird", nz_ird),
    ("pl_nip", pl_nip),
    ("pl_pesel", pl_pesel),
    ("pt_nif", pt_nif),
    ("ro_cnp", ro_cnp),
    ("se_pnr", se_pnr),
    ("sg_nric", sg_nric),
    ("tr_kimlik", tr_kimlik),
    ("uk_nhs", uk_nhs),
    ("us_dea", us_dea),
    ("us_npi", us_npi),
    ("vin", vin),
    ("za_id", za_id),
];

/// A known numbering scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scheme(
    /// Index into [`SCHEMES`]. Invariant: in range.
    u8,
);

impl Scheme {
    pub(super) fn of(word: &str) -> Option<Self> {
        let at = SCHEMES.binary_search_by_key(&word, |(name, _)| name).ok()?;
        u8::try_from(at).ok().map(Self)
    }

    pub(super) fn as_str(self) -> &'static str {
        SCHEMES[usize::from(self.0)].0
    }

    pub(super) fn passes(self, matched: &[u8]) -> bool {
        (SCHEMES[usize::from(self.0)].1)(matched)
    }

    pub(super) fn words() -> impl Iterator<Item = &'static str> {
        SCHEMES.iter().map(|(word, _)| *word)
    }
}

/// Exactly `N` digits that are not all the same.
fn exactly<const N: usize>(matched: &[u8]) -> Option<[u8; N]> {
    let (found, len) = digits::<N>(matched)?;
    (len == N && found.iter().any(|digit| *digit != found[0])).then_some(found)
}

fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits
        .iter()
        .zip(weights)
        .map(|(digit, weight)| u32::from(*digit) * weight)
        .sum()
}

fn number(digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(*digit))
}

/// The last `N` letters and digits of a match, in upper case: what stands before is the word for it.
fn tail<const N: usize>(matched: &[u8]) -> Option<[u8; N]> {
    let text: Vec<u8> = matched
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric())
        .map(u8::to_ascii_uppercase)
        .collect();
    text.last_chunk::<N>().copied()
}

fn ar_cuit(matched: &[u8]) -> bool {
    exactly::<11>(matched).is_some_and(|d| {
        let sum = weighted(&d[..10], &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2]);
        (11 - sum % 11) % 11 == u32::from(d[10])
    })
}

fn at_svnr(matched: &[u8]) -> bool {
    exactly::<10>(matched).is_some_and(|d| {
        d[0] != 0 && weighted(&d, &[3, 7, 9, 0, 5, 8, 4, 2, 1, 6]) % 11 == u32::from(d[3])
    })
}

/// A business, and with sole traders a person.
fn au_abn(matched: &[u8]) -> bool {
    exactly::<11>(matched).is_some_and(|d| {
        // The first digit counts one less than it says, so a zero there is no number.
        d[0] > 0 && (weighted(&d, &[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]) - 10).is_multiple_of(89)
    })
}

fn au_medicare(matched: &[u8]) -> bool {
    let Some((d, len @ 10..=11)) = digits::<11>(matched) else {
        return false;
    };
    len >= 10
        && (2..=6).contains(&d[0])
        && weighted(&d[..8], &[1, 3, 7, 9, 1, 3, 7, 9]) % 10 == u32::from(d[8])
}

fn au_tfn(matched: &[u8]) -> bool {
    exactly::<9>(matched)
        .is_some_and(|d| weighted(&d, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11))
}

fn be_nrn(matched: &[u8]) -> bool {
    exactly::<11>(matched).is_some_and(|d| {
        let (born, check) = (number(&d[..9]), number(&d[9..]));
        97 - born % 97 == check || 97 - (2_000_000_000 + born) % 97 == check
    })
}

fn bg_egn(matched: &[u8]) -> bool {
    exactly::<10>(matched).is_some_and(|d| {
        weighted(&d[..9], &[2, 4, 8, 5, 10, 9, 7, 3, 6]) % 11 % 10 == u32::from(d[9])
    })
}

fn br_cnpj(matched: &[u8]) -> bool {
    exactly::<14>(matched).is_some_and(|d| {
        let check = |sum: u32| if sum % 11 < 2 { 0 } else { 11 - sum % 11 };
        let weights = [6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2];
        check(weighted(&d[..12], &weights[1..])) == u32::from(d[12])
            && check(weighted(&d[..13], &weights)) == u32::from(d[13])
    })
}

fn ca_sin(matched: &[u8]) -> bool {
    exactly::<9>(matched).is_some_and(|d| d[0] != 8 && luhn_sum(&d).is_multiple_of(10))
}

/// EAN-13 with the country code 756.
fn ch_ahv(matched: &[u8]) -> bool {
    exactly::<13>(matched).is_some_and(|d| {
        let sum = weighted(&d, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]);
        d[..3] == [7, 5, 6] && sum.is_multiple_of(10)
    })
}

fn cl_rut(matched: &[u8]) -> bool {
    let text: Vec<u8> = matched
        .iter()
        .filter(|byte| byte.is_ascii_digit() || matches!(byte, b'k' | b'K'))
        .map(u8::to_ascii_uppercase)
        .collect();
    let Some((check, body)) = text.split_last() else {
        return false;
    };
    if !(7..=8).contains(&body.len()) || !body.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = body
        .iter()
        .rev()
        .zip((2..=7).cycle())
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    b"0K987654321"[(sum % 11) as usize] == *check
}

/// ISO 7064 MOD 11-2.
fn cn_id(matched: &[u8]) -> bool {
    let Some(text) = tail::<18>(matched) else {
        return false;
    };
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let mut sum = 0;
    for (byte, weight) in text.iter().zip(weights) {
        if !byte.is_ascii_digit() {
            return false;
        }
        sum += u32::from(byte - b'0') * weight;
    }
    b"10X98765432"[(sum % 11) as usize] == text[17]
}

fn cz_rc(matched: &[u8]) -> bool {
    exactly::<10>(matched).is_some_and(|d| number(&d).is_multiple_of(11))
}

/// ISO 7064 MOD 11,10.
fn de_steuer_id(matched: &[u8]) -> bool {
    exactly::<11>(matched).is_some_and(|d| {
        let product = d[..10].iter().fold(10, |product, digit| {
            let sum = (u32::from(*digit) + product) % 10;
            (if sum == 0 { 10 } else { sum }) * 2 % 11
        });
        d[0] != 0 && (11 - product) % 10 == u32::from(d[10])
    })
}

fn fi_hetu(matched: &[u8]) -> bool {
    let text: Vec<u8> = matched.to_ascii_uppercase();
    let Some(at) = text.windows(11).position(|window| {
        window[..6].iter().all(u8::is_ascii_digit) && window[7..10].iter().all(u8::is_ascii_digit)
    }) else {
        return false;
    };
    let value = |part: &[u8]| {
        part.iter()
            .fold(0_usize, |sum, byte| sum * 10 + usize::from(byte - b'0'))
    };
    let window = &text[at..at + 11];
    let all = value(&window[..6]) * 1000 + value(&window[7..10]);
    b"0123456789ABCDEFHJKLMNPRSTUVWXY"[all % 31] == window[10]
}

fn fr_nir(matched: &[u8]) -> bool {
    exactly::<15>(matched)
        .is_some_and(|d| d[0] != 0 && 97 - number(&d[..13]) % 97 == number(&d[13..]))
}

/// One or two letters, six digits, and a check digit (`A` for ten) that may stand in brackets.
fn hk_id(matched: &[u8]) -> bool {
    let token = matched
        .rsplit(|b| !matches!(b, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'(' | b')'))
        .next()
        .unwrap_or_default();
    let mut value = [36; 9];
    let mut at = value.len();
    for b in token.iter().rev().filter(|b| b.is_ascii_alphanumeric()) {
        let Some(next) = at.checked_sub(1) else {
            return false;
        };
        at = next;
        value[at] = match b {
            b'0'..=b'9' => u32::from(b - b'0'),
            letter => u32::from(letter.to_ascii_uppercase() - b'A') + 10,
        };
    }
    let shape = at <= 1 && value[1] >= 10 && value[2..8].iter().all(|v| *v < 10) && value[8] <= 10;
    let sum: u32 = value.iter().zip((1..=9).rev()).map(|(v, w)| v * w).sum();
    shape && sum.is_multiple_of(11)
}

fn il_id(matched: &[u8]) -> bool {
    exactly::<9>(matched).is_some_and(|d| luhn_sum(&d).is_multiple_of(10))
}

fn imei(matched: &[u8]) -> bool {
    exactly::<15>(matched).is_some_and(|d| luhn_sum(&d).is_multiple_of(10))
}

/// Decree of the Italian Ministry of Finance of 23 December 1976.
fn it_cf(matched: &[u8]) -> bool {
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    let Some(text) = tail::<16>(matched) else {
        return false;
    };
    let value = |byte: u8| match byte {
        b'0'..=b'9' => usize::from(byte - b'0'),
        _ => usize::from(byte - b'A'),
    };
    let sum: u32 = text[..15]
        .iter()
        .enumerate()
        .map(|(at, byte)| match at % 2 {
            0 => ODD[value(*byte)],
            _ => value(*byte) as u32,
        })
        .sum();
    u32::from(text[15]) == u32::from(b'A') + sum % 26
}

fn jp_my_number(matched: &[u8]) -> bool {
    exactly::<12>(matched).is_some_and(|d| {
        let rest = weighted(&d[..11], &[6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
        u32::from(d[11]) == if rest <= 1 { 0 } else { 11 - rest }
    })
}

fn kr_rrn(matched: &[u8]) -> bool {
    exactly::<13>(matched).is_some_and(|d| {
        let sum = weighted(&d[..12], &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]);
        (11 - sum % 11) % 10 == u32::from(d[12])
    })
}

fn mx_curp(matched: &[u8]) -> bool {
    let Some(text) = tail::<18>(matched) else {
        return false;
    };
    // The Spanish alphabet counts a letter between N and O.
    let value = |byte: u8| match byte {
        b'0'..=b'9' => u32::from(byte - b'0'),
        b'A'..=b'N' => u32::from(byte - b'A') + 10,
        _ => u32::from(byte - b'A') + 11,
    };
    let sum: u32 = text[..17]
        .iter()
        .zip((2..=18).rev())
        .map(|(byte, weight)| value(*byte) * weight)
        .sum();
    u32::from(text[17]) == u32::from(b'0') + (10 - sum % 10) % 10
}

fn nl_bsn(matched: &[u8]) -> bool {
    exactly::<9>(matched).is_some_and(|d| {
        let sum = weighted(&d[..8], &[9, 8, 7, 6, 5, 4, 3, 2]);
        sum % 11 == u32::from(d[8])
    })
}

fn no_fnr(matched: &[u8]) -> bool {
    exactly::<11>(matched).is_some_and(|d| {
        let check = |sum: u32| (11 - sum % 11) % 11;
        check(weighted(&d[..9], &[3, 7, 6, 1, 8, 9, 4, 5, 2])) == u32::from(d[9])
            && check(weighted(&d[..10], &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2])) == u32::from(d[10])
    })
}

fn nz_ird(matched: &[u8]) -> bool {
    let Some((d, len @ 8..=9)) = digits::<9>(matched) else {
        return false;
    };
    let mut nine = [0; 9];
    nine[9 - len..].copy_from_slice(&d[..len]);
    let check = |weights: &[u32; 8]| (11 - weighted(&nine[..8], weights) % 11) % 11;
    let check = match check(&[3, 2, 7, 6, 5, 4, 3, 2]) {
        10 => check(&[7, 4, 3, 2, 5, 2, 7, 6]),
        check => check,
    };
    check == u32::from(nine[8])
}

fn pl_nip(matched: &[u8]) -> bool {
    exactly::<10>(matched)
        .is_some_and(|d| weighted(&d, &[6, 5, 7, 2, 3, 4, 5, 6, 7]) % 11 == u32::from(d[9]))
}

fn pl_pesel(matched: &[u8]) -> bool {
    exactly::<11>(matched)
        .is_some_and(|d| weighted(&d, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).is_multiple_of(10))
}

fn pt_nif(matched: &[u8]) -> bool {
    exactly::<9>(matched).is_some_and(|d| {
        let sum = weighted(&d[..8], &[9, 8, 7, 6, 5, 4, 3, 2]);
        let check = if sum % 11 < 2 { 0 } else { 11 - sum % 11 };
        check == u32::from(d[8])
    })
}

fn ro_cnp(matched: &[u8]) -> bool {
    exactly::<13>(matched).is_some_and(|d| {
        let sum = weighted(&d[..12], &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]);
        let check = if sum % 11 == 10 { 1 } else { sum % 11 };
        d[0] != 0 && check == u32::from(d[12])
    })
}

/// Ten digits, or twelve with the century.
fn se_pnr(matched: &[u8]) -> bool {
    let Some((d, len)) = digits::<12>(matched) else {
        return false;
    };
    matches!(len, 10 | 12) && luhn_sum(&d[len - 10..len]).is_multiple_of(10)
}

fn sg_nric(matched: &[u8]) -> bool {
    let Some([series, body @ .., check]) = tail::<9>(matched) else {
        return false;
    };
    if !body.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = body
        .iter()
        .zip([2, 7, 6, 5, 4, 3, 2])
        .map(|(byte, weight)| u32::from(byte - b'0') * weight)
        .sum();
    let letter = |offset: u32, letters: &[u8; 11]| letters[((sum + offset) % 11) as usize] == check;
    match series {
        b'S' => letter(0, b"JZIHGFEDCBA"),
        b'T' => letter(4, b"JZIHGFEDCBA"),
        b'F' => letter(0, b"XWUTRQPNMLK"),
        b'G' => letter(4, b"XWUTRQPNMLK"),
        b'M' => letter(3, b"XWUTRQPNJLK"),
        _ => false,
    }
}

fn tr_kimlik(matched: &[u8]) -> bool {
    exactly::<11>(matched).is_some_and(|d| {
        let odd = weighted(&d[..9], &[1, 0, 1, 0, 1, 0, 1, 0, 1]);
        let even = weighted(&d[..8], &[0, 1, 0, 1, 0, 1, 0, 1]);
        let all: u32 = d[..10].iter().map(|digit| u32::from(*digit)).sum();
        // One more multiple of ten than `even` can reach keeps the difference above zero.
        d[0] != 0 && (odd * 7 + 100 - even) % 10 == u32::from(d[9]) && all % 10 == u32::from(d[10])
    })
}

fn uk_nhs(matched: &[u8]) -> bool {
    exactly::<10>(matched).is_some_and(|d| {
        let sum = weighted(&d[..9], &[10, 9, 8, 7, 6, 5, 4, 3, 2]);
        (11 - sum % 11) % 11 == u32::from(d[9])
    })
}

fn us_dea(matched: &[u8]) -> bool {
    let Some([a, b, body @ .., check]) = tail::<9>(matched) else {
        return false;
    };
    if !a.is_ascii_alphabetic() || !(b.is_ascii_alphabetic() || b == b'9') {
        return false;
    }
    if !body.iter().chain([&check]).all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = body
        .iter()
        .zip([1, 2, 1, 2, 1, 2])
        .map(|(byte, weight)| u32::from(byte - b'0') * weight)
        .sum();
    sum % 10 == u32::from(check - b'0')
}

/// Luhn over the number behind the prefix 80840 of the United States.
fn us_npi(matched: &[u8]) -> bool {
    exactly::<10>(matched)
        .is_some_and(|d| matches!(d[0], 1 | 2) && (luhn_sum(&d) + 24).is_multiple_of(10))
}

/// ISO 3779 with the check digit of 49 CFR 565.
fn vin(matched: &[u8]) -> bool {
    let Some(text) = tail::<17>(matched) else {
        return false;
    };
    let weights = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    let mut sum = 0;
    for (byte, weight) in text.iter().zip(weights) {
        let value = match byte {
            b'0'..=b'9' => u32::from(byte - b'0'),
            b'A'..=b'H' => u32::from(byte - b'A') + 1,
            b'J'..=b'N' => u32::from(byte - b'J') + 1,
            b'P' => 7,
            b'R' => 9,
            b'S'..=b'Z' => u32::from(byte - b'S') + 2,
            _ => return false,
        };
        sum += value * weight;
    }
    b"0123456789X"[(sum % 11) as usize] == text[8]
}

fn za_id(matched: &[u8]) -> bool {
    exactly::<13>(matched).is_some_and(|d| luhn_sum(&d).is_multiple_of(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_order_so_that_they_can_be_looked_up() {
        assert!(SCHEMES.is_sorted_by_key(|(word, _)| *word));
        for word in Scheme::words() {
            assert_eq!(Scheme::of(word).unwrap().as_str(), word);
        }
        assert_eq!(Scheme::of("xx"), None);
    }

    #[test]
    fn published_numbers_pass_and_their_neighbours_do_not() {
        for (word, good) in [
            ("ar_cuit", "20-05536168-2"),
            ("at_svnr", "1237 010180"),
            ("au_abn", "51 824 753 556"),
            ("au_medicare", "2123 45670 1"),
            ("au_tfn", "123 456 782"),
            ("be_nrn", "85.07.30-033 28"),
            ("bg_egn", "7523169263"),
            ("br_cnpj", "11.222.333/0001-81"),
            ("ca_sin", "046 454 286"),
            ("ch_ahv", "756.9217.0769.85"),
            ("cl_rut", "12.345.678-5"),
            ("cn_id", "11010519491231002X"),
            ("cz_rc", "710319/2745"),
            ("de_steuer_id", "86 095 742 719"),
            ("fi_hetu", "131052-308T"),
            ("fr_nir", "1 85 05 78 006 084 91"),
            ("hk_id", "HKID A123456(3)"),
            ("il_id", "123456782"),
            ("imei", "49-015420-323751-8"),
            ("it_cf", "RSSMRA85T10A562S"),
            ("jp_my_number", "1234 5678 9018"),
            ("kr_rrn", "971013-9019902"),
            ("mx_curp", "BOXW310820HNERXN09"),
            ("nl_bsn", "111222333"),
            ("no_fnr", "15108695088"),
            ("nz_ird", "49-091-850"),
            ("pl_nip", "856-734-62-15"),
            ("pl_pesel", "44051401359"),
            ("pt_nif", "501 964 843"),
            ("ro_cnp", "1630615123457"),
            ("se_pnr", "811228-9874"),
            ("sg_nric", "S1234567D"),
            ("tr_kimlik", "10000000146"),
            ("uk_nhs", "943 476 5919"),
            ("us_dea", "AB1234563"),
            ("us_npi", "1234567893"),
            ("vin", "1HGCM82633A004352"),
            ("za_id", "8001015009087"),
        ] {
            let scheme = Scheme::of(word).unwrap();
            assert!(scheme.passes(good.as_bytes()), "{word} {good}");
            // Every scheme sees one wrong digit: change the second one.
            let at = good
                .bytes()
                .enumerate()
                .filter(|(_, b)| b.is_ascii_digit())
                .nth(1)
                .unwrap()
                .0;
            let mut bad = good.as_bytes().to_vec();
            bad[at] = if bad[at] == b'9' { b'0' } else { bad[at] + 1 };
            assert!(
                !scheme.passes(&bad),
                "{word} {}",
                String::from_utf8_lossy(&bad)
            );
            for bytes in [
                &b""[..],
                b"\xff\xfe-",
                b"0",
                b"zzzzzzzzzzzzzzzzzzzzzz",
                &[b'7'; 300],
            ] {
                let _ = scheme.passes(bytes);
            }
        }
    }
}
