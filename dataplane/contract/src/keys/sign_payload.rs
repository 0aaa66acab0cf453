//! The canonical bytes of a message: exactly what its signature covers (compat §3). Nothing is trimmed or
//! normalised. The fields are joined by line feeds, so callers refuse control characters in names first.

/// Version 1: sender, recipient, content, timestamp.
pub fn v1(from: &str, to: &str, content: &str, timestamp: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_payload(&mut bytes, from, to, content, timestamp, None);
    bytes
}

/// Version 2: version 1 and the generation of the key.
pub fn v2(from: &str, to: &str, content: &str, timestamp: &str, key_version: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_payload(&mut bytes, from, to, content, timestamp, Some(key_version));
    bytes
}

/// Appends the canonical bytes to a buffer; allocates only to grow it. `None` is version 1.
pub fn write_payload(
    out: &mut Vec<u8>,
    from: &str,
    to: &str,
    content: &str,
    timestamp: &str,
    key_version: Option<u32>,
) {
    // Four line feeds and the ten digits of the largest key version.
    out.reserve(from.len() + to.len() + content.len() + timestamp.len() + 14);
    out.extend_from_slice(from.as_bytes());
    for field in [to, content, timestamp] {
        out.push(b'\n');
        out.extend_from_slice(field.as_bytes());
    }
    if let Some(version) = key_version {
        out.push(b'\n');
        let mut digits = [0; 10];
        let mut at = digits.len();
        let mut rest = version;
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit is below 10");
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        out.extend_from_slice(&digits[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::{v1, v2, write_payload};

    #[test]
    fn fields_are_joined_by_line_feeds_and_nothing_else_happens() {
        assert_eq!(v1(" a", "b ", "c\r\n", ""), b" a\nb \nc\r\n\n");
        for version in [0, 7, 10, 4_294_967_295] {
            assert_eq!(
                v2("a", "b", "c", "t", version),
                format!("a\nb\nc\nt\n{version}").into_bytes()
            );
        }
        let mut buffer = Vec::with_capacity(64);
        let room = buffer.as_ptr();
        write_payload(&mut buffer, "a", "b", "c", "t", Some(1));
        assert_eq!(buffer.as_ptr(), room, "no allocation beyond the buffer");
    }
}
