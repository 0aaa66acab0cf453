//! Access tokens that carry a checksum or a structure.

use super::longest_token;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// GitHub and npm: `<prefix>_<body><CRC-32 of the body in base 62, six characters>`.
pub(super) fn crc32_base62(matched: &[u8]) -> bool {
    let token = longest_token(matched);
    let Some(at) = token.iter().rposition(|byte| *byte == b'_') else {
        return false;
    };
    let body = &token[at + 1..];
    let Some((body, sum)) = body.len().checked_sub(6).map(|at| body.split_at(at)) else {
        return false;
    };
    if body.is_empty() {
        return false;
    }
    let mut crc = crc32(body);
    let mut expected = [b'0'; 6];
    for slot in expected.iter_mut().rev() {
        *slot = BASE62[(crc % 62) as usize];
        crc /= 62;
    }
    sum == expected
}

/// GitLab's routable tokens: `glpat-<payload>.<two of length><CRC-32 in base 36, seven digits>`,
/// the sum over everything before it.
pub(super) fn gitlab(matched: &[u8]) -> bool {
    let token = matched
        .split(|byte| !(byte.is_ascii_alphanumeric() || b"_-.".contains(byte)))
        .max_by_key(|run| run.len())
        .unwrap_or_default();
    let Some(at) = token.windows(2).position(|window| window == b"gl") else {
        return false;
    };
    let Some((body, sum)) = token[at..].split_last_chunk::<7>() else {
        return false;
    };
    let mut crc = crc32(body);
    let mut expected = [b'0'; 7];
    for slot in expected.iter_mut().rev() {
        *slot = b"0123456789abcdefghijklmnopqrstuvwxyz"[(crc % 36) as usize];
        crc /= 36;
    }
    *sum == expected
}

/// CRC-32 (IEEE 802.3).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// RFC 7519: the header is base64url JSON that names an algorithm.
pub(super) fn jwt(matched: &[u8]) -> bool {
    let token = matched
        .split(|byte| !(byte.is_ascii_alphanumeric() || b"-_.=".contains(byte)))
        .max_by_key(|run| run.len())
        .unwrap_or_default();
    let Some(start) = token.windows(3).position(|window| window == b"eyJ") else {
        return false;
    };
    let mut parts = token[start..].split(|byte| *byte == b'.');
    let (Some(header), Some(payload), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Some(header) = base64url(header) else {
        return false;
    };
    let named = serde_json::from_slice::<serde_json::Value>(&header)
        .is_ok_and(|header| header.get("alg").is_some_and(serde_json::Value::is_string));
    named && base64url(payload).is_some_and(|payload| payload.first() == Some(&b'{'))
}

fn base64url(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let mut bits = 0_u32;
    let mut count = 0;
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            b'=' => break,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_knows_its_check_value() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn token_checksum_is_the_one_github_published() {
        // Body and sum of the example in GitHub's own article on its token format.
        let example = ["ghp_", "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ", "0mLq17"].concat();
        assert!(crc32_base62(example.as_bytes()));
        assert!(crc32_base62(format!("token={example};").as_bytes()) || example.contains('='));
        assert!(!crc32_base62(example.replace('z', "y").as_bytes()));
        assert!(!crc32_base62(b"ghp_"));
        assert!(!crc32_base62(b"no underscore"));
    }

    #[test]
    fn gitlab_tokens_end_with_the_sum_of_the_rest() {
        let body = "glpat-made0up0for0this0test0only.01";
        let mut crc = crc32(body.as_bytes());
        let mut sum = String::new();
        while sum.len() < 7 {
            let digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(crc % 36) as usize];
            sum.insert(0, char::from(digit));
            crc /= 36;
        }
        assert!(gitlab(format!("token={body}{sum}").as_bytes()));
        assert!(!gitlab(
            format!("token={}{sum}", body.replace('0', "1")).as_bytes()
        ));
        assert!(!gitlab(b"glpat-"));
    }

    #[test]
    fn jwt_header_must_name_an_algorithm() {
        assert!(jwt(b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"));
        assert!(jwt(b"Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln,"));
        assert!(!jwt(b"eyJmb28iOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"), "no alg");
        assert!(!jwt(b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0"), "two parts");
        assert!(!jwt(b"eyJabc.eyJabc.abc"));
    }
}
