//! Tokens that open nothing: an agent is given one, and where it turns up, that agent leaked.

/// Letters and digits of a token: nothing in it tells it from a key of some service.
const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Letters of a token: 28 * log2(62) = 166 bits.
const TOKEN_BYTES: usize = 28;

/// A token out of 32 bytes of good chance.
pub(super) fn token(chance: &[u8; 32]) -> String {
    let mut stream = blake3::Hasher::new_keyed(chance)
        .update(b"oktsec canary")
        .finalize_xof();
    let mut token = String::with_capacity(TOKEN_BYTES);
    let mut byte = [0];
    while token.len() < TOKEN_BYTES {
        stream.fill(&mut byte);
        // 248 = 4 * 62: every letter is as likely as any other.
        if byte[0] < 248 {
            token.push(char::from(LETTERS[usize::from(byte[0] % 62)]));
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_follow_chance_alone() {
        assert_eq!(token(&[1; 32]), token(&[1; 32]));
        assert_ne!(token(&[1; 32]), token(&[2; 32]));
        assert!(token(&[3; 32]).bytes().all(|byte| LETTERS.contains(&byte)));
        assert_eq!(token(&[3; 32]).len(), TOKEN_BYTES);
    }
}
