//! Writes JSON the way Go's encoder does, byte for byte: clients and their tests compare text (compat §2.1).

/// Appends `text` as a JSON string. `<`, `>`, `&`, U+2028 and U+2029 are escaped, so an answer can stand inside
/// HTML without ending it.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let class = CLASS[usize::from(byte)];
        if class == PLAIN {
            continue;
        }
        if class == LINE_SEPARATOR {
            let rest = &bytes[at..];
            if rest.starts_with(b"\xe2\x80\xa8") || rest.starts_with(b"\xe2\x80\xa9") {
                out.extend_from_slice(&bytes[copied..at]);
                out.extend_from_slice(if rest[2] == 0xa8 {
                    b"\\u2028"
                } else {
                    b"\\u2029"
                });
                copied = at + 3;
            }
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        if class == UNICODE {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        } else {
            out.extend_from_slice(&[b'\\', class]);
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Appends `"key":"text"`, after a comma unless it is the first of its object.
pub(crate) fn push_field(out: &mut Vec<u8>, key: &'static str, text: &str) {
    push_key(out, key);
    push_string(out, text);
}

/// Appends `"key":`, after a comma unless it is the first of its object.
pub(crate) fn push_key(out: &mut Vec<u8>, key: &'static str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

const PLAIN: u8 = 0;
const UNICODE: u8 = 1;
const LINE_SEPARATOR: u8 = 2;

/// For each byte: nothing to do, the letter behind the backslash, or one of the classes above.
const CLASS: [u8; 256] = {
    let mut class = [PLAIN; 256];
    let mut i = 0;
    while i < 0x20 {
        class[i] = UNICODE;
        i += 1;
    }
    class[0x08] = b'b';
    class[0x0c] = b'f';
    class[b'\n' as usize] = b'n';
    class[b'\r' as usize] = b'r';
    class[b'\t' as usize] = b't';
    class[b'"' as usize] = b'"';
    class[b'\\' as usize] = b'\\';
    class[b'<' as usize] = UNICODE;
    class[b'>' as usize] = UNICODE;
    class[b'&' as usize] = UNICODE;
    class[0xe2] = LINE_SEPARATOR;
    class
};

#[cfg(test)]
mod tests {
    use super::{push_field, push_string};

    #[test]
    fn strings_look_as_go_writes_them() {
        for (text, json) in [
            ("", r#""""#),
            ("plain ✓ é", r#""plain ✓ é""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            (
                "<script>&</script>",
                r#""\u003cscript\u003e\u0026\u003c/script\u003e""#,
            ),
            (
                "\n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f}",
                "\"\\n\\r\\t\\b\\f\\u0000\\u001f\u{7f}\"",
            ),
            (
                "a\u{2028}b\u{2029}c\u{2027}d",
                "\"a\\u2028b\\u2029c\u{2027}d\"",
            ),
        ] {
            let mut out = Vec::new();
            push_string(&mut out, text);
            assert_eq!(String::from_utf8_lossy(&out), json);
        }
    }

    #[test]
    fn fields_are_separated_by_commas() {
        let mut out = b"{".to_vec();
        push_field(&mut out, "a", "1");
        push_field(&mut out, "b", "2");
        assert_eq!(out, br#"{"a":"1","b":"2""#);
    }
}
