//! The `.env` file beside the configuration: `KEY=VALUE` lines. Only `OKTSEC_API_KEY` is used (compat §5).

use super::secret::Secret;
use crate::files::{self, FileError};
use crate::limits::CONFIG_BYTES_MAX;
use std::path::Path;

/// The API key of a `.env` file; `None` if there is no such file or no key in it.
///
/// # Errors
/// Why a file that is there can't be read.
pub(super) fn api_key(path: &Path) -> Result<Option<Secret>, String> {
    match files::read_text(path, CONFIG_BYTES_MAX) {
        Ok(text) => Ok(parse(&text)),
        Err(FileError::Missing) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn parse(text: &str) -> Option<Secret> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (key, value) = line.split_once('=')?;
            (key.trim() == "OKTSEC_API_KEY").then(|| unquoted(value.trim()))
        })
        .rfind(|value| !value.is_empty())
        .map(Secret::from)
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value
            .strip_prefix(quote)
            .and_then(|v| v.strip_suffix(quote))
        {
            return inner;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_the_api_key_is_taken_with_or_without_quotes() {
        for (text, key) in [
            ("OKTSEC_API_KEY=abc", Some("abc")),
            (
                "# x\nOTHER=1\nexport OKTSEC_API_KEY = \"a b=c\"\n",
                Some("a b=c"),
            ),
            ("OKTSEC_API_KEY='q'\r\n", Some("q")),
            ("OKTSEC_API_KEY=\n", None),
            ("# OKTSEC_API_KEY=abc", None),
            ("XOKTSEC_API_KEY=abc", None),
        ] {
            assert_eq!(parse(text).as_ref().map(|s| s.expose()), key, "{text:?}");
        }
    }
}
