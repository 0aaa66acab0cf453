//! Whether a match stands by itself, or by chance in the middle of encoded bytes.
//!
//! `-` and `_` are digits of base64url and borders of words: in half a megabyte of it stands every short prefix of a
//! credential, with letters enough behind it. What was found behind a long run of such digits is no credential.

use super::quality;

/// Digits of an encoding right before a match that make it a part of them.
const RUN_BYTES_MIN: usize = 64;

/// Whether no long run of an encoding's digits ends where the match begins. Names that long are made of words, and do
/// not count.
pub(super) fn apart(text: &[u8], start: usize) -> bool {
    let Some(first) = start.checked_sub(RUN_BYTES_MIN) else {
        return true;
    };
    let run = &text[first..start];
    !(run
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+/_-".contains(byte))
        && quality::is_random(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCODED: &str = "Zk3N0tR34lS4mpl3OnLy7Q2zB9wKdFakQ8Zr3TnV6yLw1KpX7dHm_PhpMBCZvVia";

    #[test]
    fn what_stands_in_encoded_bytes_is_not_apart() {
        for before in ["", "x", "body="] {
            let text = format!("{before}{ENCODED}-key_abc");
            assert!(!apart(text.as_bytes(), text.len() - 3));
            assert!(!apart(text.as_bytes(), text.len() - 7));
        }
    }

    #[test]
    fn what_stands_behind_words_marks_or_little_is_apart() {
        let short = &ENCODED[ENCODED.len() - 60..];
        for before in [
            "",
            short,
            &format!("{ENCODED} "),
            &format!("{ENCODED}\n"),
            &format!("{ENCODED}.{short}"),
            &"-".repeat(80),
            "the_name_of_a_variable_that_goes_on_and_on_until_nobody_wants_to_read_it_",
            "/home/somebody/projects/2026/gateway/configuration/production/services/",
        ] {
            assert!(
                apart(format!("{before}key_abc").as_bytes(), before.len()),
                "{before}"
            );
        }
    }
}
