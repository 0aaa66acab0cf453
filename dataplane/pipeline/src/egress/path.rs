//! Paths as different servers read them. A rule that allows must fit every reading, one that blocks needs only one.

/// The two readings of a path that differ most.
#[derive(Debug)]
pub(crate) struct Path {
    /// Segments as written, decoded where decoding changes no segment; `%2F` stays.
    cautious: Vec<u8>,
    /// Decoded as often as it goes, `\` as `/`, without parameters, empty and dot segments.
    eager: Vec<u8>,
    /// Still encoded after [`DECODINGS_MAX`] rounds: nobody encodes like that by accident.
    ambiguous: bool,
}

/// Rounds of percent-decoding.
const DECODINGS_MAX: usize = 4;

impl Path {
    /// Reads path and query.
    pub(crate) fn new(path_and_query: &str) -> Self {
        let path = path_and_query
            .split(['?', '#'])
            .next()
            .unwrap_or_default()
            .as_bytes();
        let cautious = without_dots(&decode(path, |byte| !matches!(byte, b'/' | b'\\' | b'%')));
        let mut eager = path.to_vec();
        let mut ambiguous = true;
        for _ in 0..DECODINGS_MAX {
            let decoded = decode(&eager, |_| true);
            if decoded == eager {
                ambiguous = false;
                break;
            }
            eager = decoded;
        }
        for byte in &mut eager {
            if *byte == b'\\' {
                *byte = b'/';
            }
        }
        Self {
            cautious,
            eager: without_dots(&without_parameters(&eager)),
            ambiguous,
        }
    }

    /// Whether it is below the prefix however it is read.
    pub(crate) fn is_surely_below(&self, prefix: &str) -> bool {
        let prefix = prefix.as_bytes();
        !self.ambiguous && below(&self.cautious, prefix) && below(&self.eager, prefix)
    }

    /// Whether somebody could read it as below the prefix. Case does not count: to some servers it doesn't.
    pub(crate) fn may_be_below(&self, prefix: &str) -> bool {
        let prefix = prefix.to_ascii_lowercase();
        let below = |path: &[u8]| below(&path.to_ascii_lowercase(), prefix.as_bytes());
        self.ambiguous || below(&self.cautious) || below(&self.eager)
    }
}

/// Whole segments only: `/v1` covers `/v1` and `/v1/x`, not `/v10`.
fn below(path: &[u8], prefix: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(prefix) else {
        return false;
    };
    let slash = |rest: &[u8]| rest.starts_with(b"/") || rest.get(..3).is_some_and(is_encoded_slash);
    prefix.ends_with(b"/") || rest.is_empty() || slash(rest)
}

fn is_encoded_slash(bytes: &[u8]) -> bool {
    bytes.eq_ignore_ascii_case(b"%2f") || bytes.eq_ignore_ascii_case(b"%5c")
}

/// One round of percent-decoding of the bytes that `decodes` takes.
fn decode(path: &[u8], decodes: impl Fn(u8) -> bool) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
            && decodes(high << 4 | low)
        {
            decoded.push(high << 4 | low);
            rest = after;
            continue;
        }
        decoded.push(*first);
        rest = tail;
    }
    decoded
}

/// Drops `;name=value` from segments, and empty segments but the last.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let segments = path.split(|b| *b == b'/').map(|segment| {
        let end = segment
            .iter()
            .position(|b| *b == b';')
            .unwrap_or(segment.len());
        &segment[..end]
    });
    let last_is_empty = path.ends_with(b"/");
    for segment in segments.filter(|segment| !segment.is_empty()) {
        plain.push(b'/');
        plain.extend_from_slice(segment);
    }
    if last_is_empty || plain.is_empty() {
        plain.push(b'/');
    }
    plain
}

/// Removes dot segments (RFC 3986 §5.2.4); `..` above the root stays at the root.
fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split(|b| *b == b'/').skip(1) {
        ends_in_folder = false;
        match segment {
            b"." => ends_in_folder = true,
            b".." => {
                kept.pop();
                ends_in_folder = true;
            }
            segment => kept.push(segment),
        }
    }
    let mut plain = Vec::with_capacity(path.len());
    for segment in kept {
        plain.push(b'/');
        plain.extend_from_slice(segment);
    }
    if ends_in_folder || plain.is_empty() {
        plain.push(b'/');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::Path;
    use proptest::prelude::*;

    #[test]
    fn a_path_is_allowed_in_every_reading_and_blocked_in_any() {
        for (path, prefix, surely, maybe) in [
            ("/v1/chat", "/v1", true, true),
            ("/v1", "/v1", true, true),
            ("/v1?x=/v2", "/v1", true, true),
            ("/v10", "/v1", false, false),
            ("/v1/chat", "/v1/", true, true),
            ("/v1", "/v1/", false, false),
            ("/V1/chat", "/v1", false, true),
            ("/v1/../admin", "/v1", false, false),
            ("/v1/../admin", "/admin", true, true),
            ("/v1/%2e%2e/admin", "/admin", true, true),
            ("/v1/..%2fadmin", "/v1", false, true),
            ("/v1/..%2fadmin", "/admin", false, true),
            ("/v1/..%5cadmin", "/admin", false, true),
            ("/v1/%252e%252e/admin", "/v1", false, true),
            ("/v1/%252e%252e/admin", "/admin", false, true),
            ("//admin", "/admin", false, true),
            ("/admin;x=1/y", "/admin", false, true),
            ("/.;/admin", "/admin", false, true),
            ("/%61dmin", "/admin", true, true),
            ("/@scope%2fname", "/@scope", true, true),
            ("/@scope%2Fname", "/@scope/", false, true),
            ("/%2525252525252561", "/b", false, true),
            ("*", "/", true, true),
            ("", "/", true, true),
        ] {
            let read = Path::new(path);
            assert_eq!(
                read.is_surely_below(prefix),
                surely,
                "{path} {prefix} surely"
            );
            assert_eq!(read.may_be_below(prefix), maybe, "{path} {prefix} maybe");
        }
    }

    proptest! {
        #[test]
        fn what_is_surely_below_may_be_below(path in "(/|[a-c.;%]|%2[eEfF5]|%5c|\\\\){0,20}", prefix in "/[a-c]{0,2}/?") {
            let read = Path::new(&path);
            prop_assert!(!read.is_surely_below(&prefix) || read.may_be_below(&prefix));
        }
    }
}
