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
    // PERF: most bytes occur as often as others do, and a logarithm takes longer than all the rest of their share.
    let mut known = [f64::NAN; KNOWN_SHARES];
    let bits: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = || {
                let share = f64::from(*count) / total;
                -share * share.log2()
            };
            match known.get_mut(*count as usize) {
                Some(known) if known.is_nan() => {
                    *known = share();
                    *known
                }
                Some(known) => *known,
                None => share(),
            }
        })
        .sum();
    bits * 1000.0 >= f64::from(millibits_min)
}

/// Counts of a byte whose share is computed once.
const KNOWN_SHARES: usize = 16;

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

/// The same, a bit for each letter that follows.
const FOLLOWS: [u32; 26] = {
    let mut all = [0; 26];
    let mut letter = 0;
    while letter < 26 {
        let mut at = 0;
        while at < FOLLOWERS[letter].len() {
            all[letter] |= 1 << (FOLLOWERS[letter][at] - b'a');
            at += 1;
        }
        letter += 1;
    }
    all
};

/// Whether the value is not made of words: letters and digits alternate, and letters stand side
/// by side that hardly do in words. What is left of an equals sign is its name, not the value.
pub(super) fn random(matched: &[u8]) -> bool {
    let token = longest_token(matched.trim_ascii_end());
    let value = token
        .trim_ascii()
        .split(|byte| *byte == b'=')
        .rfind(|part| !part.is_empty());
    is_random(value.unwrap_or_default())
}

/// Whether two in five neighbours in a value of ten characters or more do not stand side by side in words.
pub(super) fn is_random(value: &[u8]) -> bool {
    let Pairs { all, odd } = pairs(value);
    all >= RANDOM_PAIRS_MIN && odd * 5 >= all * 2
}

/// Whether what stands last in the match, a value behind its name, can be something else than words:
/// `createNewInstance` and `your_token_here` cannot. What is too short to say passes, and so do hex digits and
/// whatever has a digit for each six letters.
pub(super) fn not_words(matched: &[u8]) -> bool {
    let is_value = |byte: u8| byte.is_ascii_alphanumeric() || b"+/_-.".contains(&byte);
    let end = matched.iter().rposition(|byte| is_value(*byte));
    let matched = end.map_or(&[][..], |end| &matched[..=end]);
    let start = matched.iter().rposition(|byte| !is_value(*byte));
    let value = &matched[start.map_or(0, |start| start + 1)..];
    let count = |is: fn(&u8) -> bool| value.iter().filter(|byte| is(byte)).count();
    let letters = count(u8::is_ascii_alphabetic);
    let digits = count(u8::is_ascii_digit);
    let Pairs { all, odd } = pairs(value);
    digits * LETTERS_PER_DIGIT >= letters
        || count(u8::is_ascii_hexdigit) == letters + digits
        || all < RANDOM_PAIRS_MIN
        || odd * 5 >= all * 2
}

/// Names have fewer digits than one for so many letters.
const LETTERS_PER_DIGIT: usize = 6;

/// Neighbours in a value that are letters or digits.
struct Pairs {
    all: u32,
    /// Those that hardly stand side by side in words and numbers.
    odd: u32,
}

fn pairs(value: &[u8]) -> Pairs {
    let (mut all, mut odd) = (0, 0);
    for pair in value.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        if !a.is_ascii_alphanumeric() || !b.is_ascii_alphanumeric() {
            continue;
        }
        all += 1;
        let letters = a.is_ascii_alphabetic() && b.is_ascii_alphabetic();
        let word = letters
            && !(a.is_ascii_lowercase() && b.is_ascii_uppercase())
            && FOLLOWS[usize::from(a.to_ascii_lowercase() - b'a')]
                >> (b.to_ascii_lowercase() - b'a')
                & 1
                != 0;
        let number = a.is_ascii_digit() && b.is_ascii_digit();
        odd += u32::from(!word && !number);
    }
    Pairs { all, odd }
}

/// Fewest characters for [`typed`] to judge: four keys in a row are a word, sixteen are not.
const TYPED_BYTES_MIN: usize = 16;

/// Rows of a keyboard, left to right.
const KEYBOARD: [&[u8]; 4] = [b"1234567890", b"qwertyuiop", b"asdfghjkl", b"zxcvbnm"];

/// The place of each key, in rows of sixteen from the second on; 0 for what is no key.
const KEYS: [u8; 256] = {
    let mut keys = [0; 256];
    let mut row = 0;
    while row < KEYBOARD.len() {
        let mut at = 0;
        while at < KEYBOARD[row].len() {
            keys[KEYBOARD[row][at] as usize] = ((row + 1) * 16 + at) as u8;
            at += 1;
        }
        row += 1;
    }
    keys
};

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
        let (one, other) = (KEYS[usize::from(a)], KEYS[usize::from(b)]);
        (a.abs_diff(b) == 1 && a.is_ascii_digit() == b.is_ascii_digit())
            || (one != 0 && other != 0 && one.abs_diff(other) == 1)
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
    // References to a value that stands elsewhere, and what was left out.
    b"${",
    b"{{",
    b"$(",
    b"%(",
    b"***",
    b"...",
    b"____",
];

/// A bit for each two bytes that one of the words begins with; others may share it.
const PLACEHOLDER_STARTS: [u64; 64] = {
    let mut starts = [0; 64];
    let mut at = 0;
    while at < PLACEHOLDER_WORDS.len() {
        let word = PLACEHOLDER_WORDS[at];
        starts[(word[0] & 63) as usize] |= 1 << (word[1] & 63);
        at += 1;
    }
    starts
};

/// Whether one of the words occurs in lower case.
///
/// PERF: word by word, a match of sixty bytes took 17 us; a text of nothing else spent a third of its scan here.
fn has_placeholder_word(lower: &[u8]) -> bool {
    lower.windows(2).enumerate().any(|(at, pair)| {
        PLACEHOLDER_STARTS[usize::from(pair[0] & 63)] >> (pair[1] & 63) & 1 != 0
            && PLACEHOLDER_WORDS
                .iter()
                .any(|word| word[0] == pair[0] && lower[at..].starts_with(word))
    })
}

/// Drops examples, variable references and values made of one or two characters.
pub(super) fn not_placeholder(matched: &[u8]) -> bool {
    let lower = matched.to_ascii_lowercase();
    if has_placeholder_word(&lower) {
        return false;
    }
    let bracketed = lower
        .iter()
        .position(|byte| *byte == b'<')
        .is_some_and(|open| lower[open..].iter().take(40).any(|byte| *byte == b'>'));
    if bracketed {
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
    fn the_value_behind_a_name_is_judged_not_the_name() {
        for good in [
            "service_access_key_for_the_nightly_backup = q8Zr3TnV6yLw1KpX7dHm",
            "token: fa1e0b5c3d7429860fed1cba95e4\"",
            "key=20240131120000000000",
            "key=short1",
            "key: Zm9vYmFyMTIzNDU2Nzg5MA==",
            "key: abcdef1234567890abcdef1234567890",
            "key: facadefacadefacadefacade",
            "",
        ] {
            assert!(not_words(good.as_bytes()), "{good}");
        }
        for bad in [
            "K8Zr3TnV6yLw1KpX7dHmSecret = createDiscoveredInstance",
            "token: \"your_access_token_goes_here\",",
            "password = decode_utf8_into_a_copy",
            "key: projects/example/secrets/database-password",
        ] {
            assert!(!not_words(bad.as_bytes()), "{bad}");
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
    fn every_word_of_placeholders_is_found_wherever_it_stands() {
        for word in PLACEHOLDER_WORDS {
            assert_eq!(word.to_ascii_lowercase(), *word);
            for before in 0..3 {
                for behind in 0..2 {
                    let text = [&b"zq"[..before], word, &b"q"[..behind]].concat();
                    assert!(has_placeholder_word(&text));
                    assert!(!not_placeholder(&text.to_ascii_uppercase()));
                }
                let cut = [&b"zq"[..before], &word[..word.len() - 1]].concat();
                let holds = |word: &&[u8]| cut.windows(word.len()).any(|window| window == *word);
                let expected = PLACEHOLDER_WORDS.iter().any(holds);
                assert_eq!(has_placeholder_word(&cut), expected);
            }
        }
    }

    #[test]
    fn entropy_is_the_same_however_often_a_byte_occurs() {
        for text in [
            &b"aab"[..],
            b"aaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbc",
            b"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFabcdefaabb",
        ] {
            let total = text.len() as f64;
            let share = |byte: u8| {
                let share = text.iter().filter(|other| **other == byte).count() as f64 / total;
                if share > 0.0 {
                    -share * share.log2()
                } else {
                    0.0
                }
            };
            let bits: f64 = (0..=u8::MAX).map(share).sum();
            let millibits = (bits * 1000.0) as u16;
            assert!(entropy(text, millibits) && !entropy(text, millibits + 1));
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
