//! `GET /v1/audit/export`: the newest records with as much as the reader may see (compat §2.1, §6.6).
//!
//! Written while it is read, a page at a time: fifty thousand records need no more memory than some dozens. What was
//! asked for and did not fit is said in the last element, so that an export is never taken for complete when it is not.

use super::answer::{ApiError, Query};
use super::audit::{bounded, to_json};
use crate::app::App;
use crate::audit::{AuditError, AuditReader};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_core::Stream;
use oktsec_audit::{Filter, Reader, StoredRecord};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Records of an export, by default and at most.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 50_000;
/// Bytes of an export, about; a page more at most.
const EXPORT_BYTES_MAX: usize = 64 << 20;
/// Records, and bytes of them, read at a time.
const PAGE_RECORDS: usize = 256;
const PAGE_BYTES: usize = 256 << 10;
/// Pages written ahead of a slow reader.
const PAGES_AHEAD: usize = 1;

/// The query string.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Parameters {
    redaction: Redaction,
    limit: Option<usize>,
    before: Option<u64>,
}

/// Who will read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Redaction {
    /// An operator: everything a record has.
    #[default]
    Full,
    /// An analyst: no excerpts, no intent.
    Analyst,
    /// Somebody else: who, to whom, when, what came of it.
    External,
}

/// Exports the newest records.
pub(super) async fn export(
    State(app): State<Arc<App>>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, ApiError> {
    let limit = parameters.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(ApiError::bad(format!(
            "limit must be between 1 and {LIMIT_MAX}"
        )));
    }
    let mut export = Export {
        redaction: parameters.redaction,
        left: limit,
        bytes_left: EXPORT_BYTES_MAX,
        before: parameters.before,
        begun: false,
    };
    // Read before the status is sent: what cannot be read at all is an error and no empty list.
    let first = export.page(&app.audit).await?;
    let (pages, body) = mpsc::channel(PAGES_AHEAD);
    let audit = Arc::clone(&app.audit);
    tokio::spawn(async move {
        let mut page = Ok(first);
        loop {
            let is_last = page.as_ref().map_or(true, |page| page.is_last);
            // A reader that has gone wants no more.
            if pages.send(page.map(|page| page.text)).await.is_err() || is_last {
                return;
            }
            page = export.page(&audit).await.map_err(|error| {
                tracing::error!(%error, "an export broke off");
                io::Error::other("an export broke off")
            });
        }
    });
    let mut response = Response::new(Body::from_stream(Pages(body)));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

/// An export on its way.
struct Export {
    redaction: Redaction,
    /// Records that may still be written, and bytes.
    left: usize,
    bytes_left: usize,
    before: Option<u64>,
    /// Whether something stands in the list, so that what follows needs a comma.
    begun: bool,
}

/// A piece of the list.
struct Page {
    text: Bytes,
    is_last: bool,
}

impl Export {
    async fn page(&mut self, audit: &Arc<AuditReader>) -> Result<Page, AuditError> {
        let filter = Filter {
            limit: self.left.min(PAGE_RECORDS),
            before: self.before,
            ..Filter::default()
        };
        let read = move |reader: &Reader| bounded(reader, filter, PAGE_BYTES);
        match audit.read(read).await {
            Ok((records, more)) => Ok(self.write(&records, more)),
            // Nothing was ever recorded, and that is an answer.
            Err(AuditError::Absent) if !self.begun => Ok(self.write(&[], false)),
            Err(error) => Err(error),
        }
    }

    /// The next piece of the list, and its end if it is the last one.
    fn write(&mut self, records: &[StoredRecord], more: bool) -> Page {
        let mut text = String::from(if self.begun { "" } else { "[" });
        for record in records {
            self.before = Some(record.sequence);
            self.push(&mut text, &redact(to_json(record), self.redaction));
        }
        self.left = self.left.saturating_sub(records.len());
        self.bytes_left = self.bytes_left.saturating_sub(text.len());
        let is_last = !more || self.left == 0 || self.bytes_left == 0;
        if more && self.left > 0 && self.bytes_left == 0 {
            let rest = json!({ "truncated": true, "before": self.before });
            self.push(&mut text, &rest);
        }
        if is_last {
            text.push_str("]\n");
        }
        Page {
            text: text.into(),
            is_last,
        }
    }

    fn push(&mut self, text: &mut String, value: &Value) {
        if std::mem::replace(&mut self.begun, true) {
            text.push(',');
        }
        text.push_str(&value.to_string());
    }
}

/// Pages as a body.
struct Pages(mpsc::Receiver<io::Result<Bytes>>);

impl Stream for Pages {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// Keeps what the reader may see. A list of what stays, so that a new field is not seen by accident.
fn redact(entry: Value, redaction: Redaction) -> Value {
    const EXTERNAL: &[&str] = &[
        "id",
        "timestamp",
        "from_agent",
        "to_agent",
        "status",
        "policy_decision",
        "damaged",
    ];
    const ANALYST: &[&str] = &[
        "id",
        "timestamp",
        "from_agent",
        "to_agent",
        "content_hash",
        "signature_verified",
        "status",
        "rules_triggered",
        "policy_decision",
        "latency_ms",
        "damaged",
    ];
    let kept = match redaction {
        Redaction::Full => return entry,
        Redaction::Analyst => ANALYST,
        Redaction::External => EXTERNAL,
    };
    let Value::Object(mut entry) = entry else {
        return Value::Null;
    };
    let mut out = Map::new();
    for &name in kept {
        if let Some(value) = entry.remove(name) {
            out.insert(name.to_owned(), value);
        }
    }
    if let Some(Value::Array(findings)) = out.get_mut("rules_triggered") {
        for finding in findings.iter_mut().filter_map(Value::as_object_mut) {
            finding.remove("match");
        }
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::{EXPORT_BYTES_MAX, Export, Redaction, redact};
    use crate::audit::AuditReader;
    use oktsec_audit::WriterOptions;
    use oktsec_contract::clock::Timestamp;
    use oktsec_contract::config::Durability;
    use oktsec_contract::id::MessageId;
    use oktsec_contract::keys::KeyPair;
    use oktsec_contract::reason::Reason;
    use oktsec_contract::record::RecordRef;
    use serde_json::{Value, json};
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    const RECORDS: u64 = 600;

    /// A log with so many records.
    fn write_log(dir: &Path) {
        let (log, writer) = oktsec_audit::open(WriterOptions {
            dir: dir.join("audit"),
            node: String::from("n"),
            durability: Durability::Group,
            sync_interval: Duration::from_millis(5),
            key: KeyPair::from_seed("_proxy", &[7; 32]),
            queue_records_max: 4_096,
            queue_bytes_max: 4 << 20,
        })
        .unwrap();
        let mut batch = log.batch();
        for number in 0..RECORDS {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let at = Timestamp(1_771_754_400_000_000 + number);
            let record = RecordRef::empty(MessageId::from_random(id), at, Reason::Allowed);
            batch.push(&record, None).unwrap();
        }
        log.append(batch).unwrap().wait().unwrap();
        writer.shutdown();
    }

    /// The whole export as one text, and in how many pieces it came.
    async fn export(audit: &Arc<AuditReader>, limit: usize, bytes_max: usize) -> (Value, usize) {
        let mut export = Export {
            redaction: Redaction::Full,
            left: limit,
            bytes_left: bytes_max,
            before: None,
            begun: false,
        };
        let (mut text, mut pieces) = (Vec::new(), 0);
        loop {
            let page = export.page(audit).await.unwrap();
            text.extend_from_slice(&page.text);
            pieces += 1;
            if page.is_last {
                return (serde_json::from_slice(&text).unwrap(), pieces);
            }
        }
    }

    #[tokio::test]
    async fn an_export_is_written_in_pieces_and_says_when_it_is_not_all() {
        let dir = tempfile::tempdir().unwrap();
        let audit = |name: &str| {
            let readers = dir.path().join("readers");
            Arc::new(AuditReader::new(dir.path().join(name), readers))
        };
        let (none, _) = export(&audit("nothing"), 10, EXPORT_BYTES_MAX).await;
        assert_eq!(none, json!([]));
        write_log(dir.path());
        let audit = audit("audit");

        let (all, pieces) = export(&audit, 50_000, EXPORT_BYTES_MAX).await;
        let sequences: Vec<_> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|r| &r["sequence"])
            .collect();
        let newest_first: Vec<_> = (1..=RECORDS).rev().map(Value::from).collect();
        assert!(sequences.into_iter().eq(&newest_first));
        assert!(pieces > 2, "never all of it in memory");

        for limit in [1, 256, 257, 599, 600] {
            let (some, _) = export(&audit, limit, EXPORT_BYTES_MAX).await;
            assert_eq!(
                some.as_array().unwrap().len(),
                limit,
                "as asked: nothing to say"
            );
        }

        let (cut, _) = export(&audit, 50_000, 1).await;
        let cut = cut.as_array().unwrap();
        let (last, before_it) = (&cut[cut.len() - 1], &cut[cut.len() - 2]);
        assert_eq!(
            *last,
            json!({"truncated": true, "before": before_it["sequence"]})
        );
    }

    #[test]
    fn an_export_shows_only_what_its_reader_may_see() {
        let entry = json!({
            "id": "1", "timestamp": "t", "from_agent": "a", "to_agent": "b", "content_hash": "h",
            "signature_verified": 1, "status": "blocked", "policy_decision": "content_blocked",
            "latency_ms": 0, "intent": "secret plan", "peer": "10.0.0.1", "some_new_field": "x",
            "rules_triggered": [{"rule_id": "IAP-001", "match": "leaked"}],
        });
        assert_eq!(redact(entry.clone(), Redaction::Full), entry);
        let analyst = redact(entry.clone(), Redaction::Analyst);
        assert_eq!(analyst["rules_triggered"], json!([{"rule_id": "IAP-001"}]));
        assert_eq!(analyst["content_hash"], "h");
        for hidden in ["intent", "peer", "some_new_field"] {
            assert!(analyst.get(hidden).is_none(), "{hidden}");
        }
        let external = redact(entry, Redaction::External);
        assert_eq!(
            external,
            json!({"id": "1", "timestamp": "t", "from_agent": "a", "to_agent": "b",
                   "status": "blocked", "policy_decision": "content_blocked"})
        );
    }
}
