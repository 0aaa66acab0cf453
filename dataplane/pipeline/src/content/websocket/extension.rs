//! What the handshake agreed on about compression: `Sec-WebSocket-Extensions` of the answer.

use super::Side;
use crate::content::ContentError;

/// permessage-deflate, as agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermessageDeflate {
    client_takeover: bool,
    server_takeover: bool,
}

impl PermessageDeflate {
    /// Reads the header of the server's answer; `None` if no extension was agreed on.
    ///
    /// # Errors
    /// [`ContentError::CodingUnknown`] for any other extension: it may change what the frames say.
    pub fn parse(header: &str) -> Result<Option<Self>, ContentError> {
        let mut agreed = None;
        for extension in header
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            let mut words = extension.split(';').map(str::trim);
            let is_ours = words
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("permessage-deflate"));
            if !is_ours || agreed.is_some() {
                return Err(ContentError::CodingUnknown);
            }
            let mut deflate = Self {
                client_takeover: true,
                server_takeover: true,
            };
            for word in words {
                let name = word.split('=').next().unwrap_or_default().trim();
                match name.to_ascii_lowercase().as_str() {
                    "client_no_context_takeover" => deflate.client_takeover = false,
                    "server_no_context_takeover" => deflate.server_takeover = false,
                    // We read any window with the largest one.
                    "client_max_window_bits" | "server_max_window_bits" => {}
                    _ => return Err(ContentError::CodingUnknown),
                }
            }
            agreed = Some(deflate);
        }
        Ok(agreed)
    }

    /// Whether messages of this side build on those before.
    pub(super) fn takeover(self, from: Side) -> bool {
        match from {
            Side::Client => self.client_takeover,
            Side::Server => self.server_takeover,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_a_server_is_read() {
        let deflate = |client_takeover, server_takeover| {
            Ok(Some(PermessageDeflate {
                client_takeover,
                server_takeover,
            }))
        };
        assert_eq!(PermessageDeflate::parse(""), Ok(None));
        assert_eq!(
            PermessageDeflate::parse("permessage-deflate"),
            deflate(true, true)
        );
        assert_eq!(
            PermessageDeflate::parse(
                "Permessage-Deflate; server_no_context_takeover; client_max_window_bits=12"
            ),
            deflate(true, false)
        );
        assert_eq!(
            PermessageDeflate::parse("permessage-deflate;client_no_context_takeover"),
            deflate(false, true)
        );
    }

    #[test]
    fn what_may_change_the_frames_is_refused() {
        for header in [
            "x-webkit-deflate-frame",
            "permessage-deflate; dictionary=1",
            "permessage-deflate, permessage-deflate",
        ] {
            assert_eq!(
                PermessageDeflate::parse(header),
                Err(ContentError::CodingUnknown),
                "{header}"
            );
        }
    }
}
