//! What fuzzing calls: any bytes in, an assertion or nothing out.

use crate::load_text;

/// A rule file, in any of the formats we read.
pub fn rules(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let loaded = load_text("fuzz.yaml", &text);
    for rule in &loaded.rules {
        assert!(
            !rule.patterns.is_empty() && !rule.surfaces.is_empty(),
            "loaded rules keep their invariants"
        );
    }
}
