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

/// Fewest pairs of neighbours for [`random`] to judge.
const RANDOM_PAIRS_MIN: u32 = 9;

/// Letters that follow a letter in ordinary words, by letter.
const FOLLOWERS: [&[u8]; 26] = [
    b"bcdgiklmnprstuvwy",
    b"aeijlorsuy",
    b"aehiklorstuy",
    b"adeiorsuy",
    b"abcdefgilmnopqrstvwxy",
    b"aefiloru",
    b"aehilnoru",
    b"aeioruty",
    b"abcdefgklmnoprstvz",
    b"aeosu",
    b"aeilnsy",
    b"adefiloprstuy",
    b"abeimopsuy",
    b"acdefgiknostuvy",
    b"bcdfgiklmnoprstuvwxy",
    b"aehiloprstu",
    b"u",
    b"acdegiklmnoprstuvy",
    b"acehiklmopqstuwy",
    b"aehiloprstuwy",
    b"abcdegilmnprst",
    b"aeio",
    b"aehinors",
    b"aceipt",
    b"aemnopst",
    b"aeioz",
];

/// Whether the value is not made of words: letters and digits alternate, and letters stand side
/// by side that hardly do in words. What is left of an equals sign is its name, not the value.
pub(super) fn random(matched: &[u8]) -> bool {
    let token = longest_token(matched.trim_ascii_end());
    let value = token
        .trim_ascii()
        .split(|byte| *byte == b'=')
        .rfind(|part| !part.is_empty());
    let value = value.unwrap_or_default();
    let (mut pairs, mut odd) = (0_u32, 0_u32);
    for pair in value.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        if !a.is_ascii_alphanumeric() || !b.is_ascii_alphanumeric() {
            continue;
        }
        pairs += 1;
        let letters = a.is_ascii_alphabetic() && b.is_ascii_alphabetic();
        let word = letters
            && !(a.is_ascii_lowercase() && b.is_ascii_uppercase())
            && FOLLOWERS[usize::from(a.to_ascii_lowercase() - b'a')]
                .contains(&b.to_ascii_lowercase());
        let number = a.is_ascii_digit() && b.is_ascii_digit();
        odd += u32::from(!word && !number);
    }
    pairs >= RANDOM_PAIRS_MIN && odd * 5 >= pairs * 2
}

/// Fewest characters for [`typed`] to judge: four keys in a row are a word, sixteen are not.
const TYPED_BYTES_MIN: usize = 16;

/// Rows of a keyboard, left to right.
const KEYBOARD: [&[u8]; 4] = [b"1234567890", b"qwertyuiop", b"asdfghjkl", b"zxcvbnm"];

/// Whether the value was typed, not generated: nearly every character is the neighbour of the one
/// before it, in the alphabet or on the keyboard, forwards or backwards.
pub(super) fn typed(matched: &[u8]) -> bool {
    let token = longest_token(matched.trim_ascii_end());
    let value = token.rsplit(|byte| b"=_-".contains(byte)).next();
    let value = value.unwrap_or_default();
    if value.len() < TYPED_BYTES_MIN {
        return false;
    }
    let beside = |a: u8, b: u8| {
        let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
        (a.abs_diff(b) == 1 && a.is_ascii_digit() == b.is_ascii_digit())
            || KEYBOARD
                .iter()
                .any(|row| row.windows(2).any(|pair| pair == [a, b] || pair == [b, a]))
    };
    let near = value.windows(2).filter(|pair| beside(pair[0], pair[1]));
    near.count() * 5 >= (value.len() - 1) * 4
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

/// Passwords of guides, of test containers and of factories. Lower case.
const DEFAULT_PASSWORDS: &[&[u8]] = &[
    b"admin",
    b"changeit",
    b"changeme",
    b"change_me",
    b"default",
    b"demo",
    b"dev",
    b"development",
    b"example",
    b"foo",
    b"bar",
    b"guest",
    b"letmein",
    b"local",
    b"minioadmin",
    b"mypass",
    b"mypassword",
    b"mysecretpassword",
    b"none",
    b"pass",
    b"passwd",
    b"password",
    b"password123",
    b"postgres",
    b"pwd",
    b"root",
    b"secret",
    b"test",
    b"testing",
    b"testpass",
    b"token",
    b"user",
    b"xxx",
    b"xxxx",
];

/// `scheme://user:password@`: the password is none of the defaults, not the name once more, and no
/// placeholder.
pub(super) fn userinfo(matched: &[u8]) -> bool {
    let lower = matched.to_ascii_lowercase();
    let Some(start) = lower.windows(3).position(|window| window == b"://") else {
        return false;
    };
    let authority = &lower[start + 3..];
    let Some(end) = authority.iter().position(|byte| *byte == b'@') else {
        return false;
    };
    let Some(colon) = authority[..end].iter().position(|byte| *byte == b':') else {
        return false;
    };
    let (user, password) = (&authority[..colon], &authority[colon + 1..end]);
    let mut seen = [false; 256];
    password
        .iter()
        .for_each(|byte| seen[usize::from(*byte)] = true);
    let distinct = seen.iter().filter(|seen| **seen).count();
    password.len() >= 4
        && distinct >= 3
        && !DEFAULT_PASSWORDS.contains(&password)
        && (user.is_empty() || !password.starts_with(user))
        && not_placeholder(password)
        && ![&b"your"[..], b"password", b"<", b"[", b"{", b"$", b"%"]
            .iter()
            .any(|start| password.starts_with(start))
        && !password.ends_with(b"_password")
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
    fn rows_of_keys_are_typed_and_words_and_keys_are_not() {
        for good in [
            "key=abcdefghijklmnopqrstu",
            "token: 'ABCDefghIJKLmnopQRST'",
            "secret = qwertyuiopasdfghjklz",
            "key: zyxwvutsrqponmlkjihg",
        ] {
            assert!(typed(good.as_bytes()), "{good}");
        }
        for bad in [
            "key=abcdefghijklmno",
            "key=getRequiredConfigurationValue",
            "key=q8Zr3TnV6yLw1KpX7dHm",
            "key=aaaaaaaaaaaaaaaaaaaaaaaa",
            "",
        ] {
            assert!(!typed(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn keys_look_random_and_names_do_not() {
        for good in [
            "api_key=q8Zr3TnV6yLw1KpX",
            "token: fa1e0b5c3d7429860fed1cba95e4",
            "SECRET='PhpMBCZvViaqJnR5LbHs'",
            "key=\"tcv8o3i2b26bate139sxi7ohwqmv1asm50lez01z\"",
            "k=Zm9vYmFyMTIzNDU2Nzg5MA==",
        ] {
            assert!(random(good.as_bytes()), "{good}");
        }
        for bad in [
            "key=user_profile_picture_url",
            "token = getRequiredConfigurationValue",
            "secret: projects/example/secrets/database-password",
            "key: customer_address_line_2",
            "token=20240131120000000000",
            "key=short1",
            "",
        ] {
            assert!(!random(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn passwords_of_guides_are_no_secrets() {
        for good in [
            "postgres://app:Tr0ub4dor@db:5432/x",
            "https://u:h7Gq2k@host/",
        ] {
            assert!(userinfo(good.as_bytes()), "{good}");
        }
        for bad in [
            "postgres://postgres:postgres@localhost/x",
            "mysql://root:changeme@127.0.0.1",
            "redis://:$PASSWORD@localhost",
            "https://user:YOUR_PASSWORD@host",
            "postgres://phoenix:phoenix_secret@db/x",
            "https://user@host",
            "no address",
        ] {
            assert!(!userinfo(bad.as_bytes()), "{bad}");
        }
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
