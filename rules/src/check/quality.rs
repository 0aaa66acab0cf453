//! Whether a value looks like a real secret at all.

use super::longest_token;

/// Shannon entropy of the longest token, in thousandths of a bit per character.
pub(super) fn entropy(matched: &[u8], millibits_min: u16) -> bool {
    let token = longest_token(matched);
    if token.is_empty() {
        return false;
    }
    let mut counts = [0_u32; 256];
    for byte in token {
        counts[usize::from(*byte)] += 1;
    }
    let total = token.len() as f64;
    let bits: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / total;
            -share * share.log2()
        })
        .sum();
    bits * 1000.0 >= f64::from(millibits_min)
}

/// Words that people write where a secret would be. Lower case.
const PLACEHOLDER_WORDS: &[&[u8]] = &[
    b"example",
    b"sample",
    b"placeholder",
    b"changeme",
    b"change_me",
    b"change-me",
    b"replaceme",
    b"replace_me",
    b"replace-me",
    b"replace_with",
    b"your_",
    b"your-",
    b"yourkey",
    b"yourtoken",
    b"yourpassword",
    b"yoursecret",
    b"insert_",
    b"insert-",
    b"dummy",
    b"redacted",
    b"fake",
    b"foobar",
    b"xxxx",
    b"todo",
    b"lorem",
    b"notreal",
    b"not_real",
    b"not-a-real",
    b"<your",
    b"my_secret",
    b"mysecret",
    b"my-secret",
    b"mypassword",
    b"my_password",
    b"test_key",
    b"testkey",
    b"test-key",
    b"testtoken",
    b"test_token",
    b"s3cr3t",
    b"deadbeef",
    b"0123456789abcdef",
    b"1234567890abcdef",
    b"abcdefghijklmnop",
    b"1234567890123456",
    b"process.env",
    b"os.environ",
    b"getenv",
    b"secrets.",
    b"vault:",
];

/// Drops examples, variable references and values made of one or two characters.
pub(super) fn not_placeholder(matched: &[u8]) -> bool {
    let lower = matched.to_ascii_lowercase();
    let holds = |word: &[u8]| lower.windows(word.len()).any(|window| window == word);
    if PLACEHOLDER_WORDS.iter().any(|word| holds(word)) {
        return false;
    }
    let reference = holds(b"${")
        || holds(b"{{")
        || holds(b"$(")
        || holds(b"%(")
        || holds(b"***")
        || holds(b"...")
        || holds(b"____");
    let bracketed = lower
        .iter()
        .position(|byte| *byte == b'<')
        .is_some_and(|open| lower[open..].iter().take(40).any(|byte| *byte == b'>'));
    if reference || bracketed {
        return false;
    }
    let token = longest_token(matched);
    let body = token
        .rsplit(|byte| *byte == b'_' || *byte == b'-' || *byte == b'=')
        .next()
        .unwrap_or(token);
    let mut seen = [false; 256];
    body.iter()
        .for_each(|byte| seen[usize::from(byte.to_ascii_lowercase())] = true);
    let distinct = seen.iter().filter(|seen| **seen).count();
    let longest_repeat = body
        .chunk_by(|a, b| a == b)
        .map(<[u8]>::len)
        .max()
        .unwrap_or(0);
    body.len() < 8 || (distinct > 3 && longest_repeat < 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_bits_per_character_of_the_longest_token() {
        assert!(entropy(b"abcdefgh", 3000));
        assert!(!entropy(b"abcdefgh", 3001));
        assert!(!entropy(b"aaaaaaaa", 100));
        assert!(entropy(b"key: \"q8Zr3TnV6yLw1KpX\"", 3500));
        assert!(!entropy(b"", 0));
    }

    #[test]
    fn placeholders_are_known() {
        for bad in [
            "AKIAIOSFODNN7EXAMPLE",
            "password=${DB_PASSWORD}",
            "sk-xxxxxxxxxxxxxxxxxxxx",
            "token: <your-token-here>",
            "api_key=YOUR_API_KEY_GOES_HERE",
            "aaaaaaaaaaaaaaaaaaaa",
            "key = {{ secret }}",
            "ghp_0000000000000000000000000000000000000",
        ] {
            assert!(!not_placeholder(bad.as_bytes()), "{bad}");
        }
        for good in [
            "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",
            "password=Tr0ub4dor&3",
            "hunter2",
        ] {
            assert!(not_placeholder(good.as_bytes()), "{good}");
        }
    }
}
