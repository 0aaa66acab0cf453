//! PEM (RFC 7468), as little as keys need: the first block of a text. The label is not checked, because the
//! Go version never did and its users have files of both kinds; the length of the body tells them apart.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The body of the first block.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut lines = text.lines().map(str::trim);
    let label = lines
        .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .ok_or("no PEM block (-----BEGIN …-----)")?;
    if label.contains("ENCRYPTED") {
        return Err("encrypted keys can't be read");
    }
    let mut base64 = String::new();
    for line in lines {
        if let Some(end) = line.strip_prefix("-----END ") {
            if end.strip_suffix("-----") != Some(label) {
                return Err("the PEM block ends with another label than it began with");
            }
            return STANDARD
                .decode(&base64)
                .map_err(|_| "the PEM block is not base64");
        }
        if line.contains(':') {
            return Err("PEM headers (encrypted keys) can't be read");
        }
        base64.push_str(line);
    }
    Err("the PEM block has no end")
}

/// One block.
pub(super) fn encode(label: &str, body: &[u8]) -> String {
    let base64 = STANDARD.encode(body);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
