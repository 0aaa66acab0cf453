//! `GET /`: says what answers here, and where to go on (compat §2.1).

use crate::respond::{Answer, Kind};

const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>oktsec</title>\n",
    "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:12vh auto;padding:0 1rem}\
     code{font-size:.95em}</style></head>\n",
    "<body><h1>oktsec</h1>\n<p>A security gateway for AI agents answers here, version ",
    env!("CARGO_PKG_VERSION"),
    ".</p>\n<p>Agents send messages to <code>POST /v1/message</code>; <code>GET /readyz</code> tells whether they \
     are decided. On this machine, <code>oktsec status</code> and <code>oktsec logs</code> tell more.</p>\n\
     </body></html>\n",
);

/// The page.
pub(crate) fn splash() -> Answer {
    Answer {
        kind: Kind::Html,
        ..Answer::text(200, PAGE)
    }
}
