//! `GET /v1/audit/export`: the newest records with as much as the reader may see (compat §2.1, §6.6).

use super::answer::{Answered, ApiError, Query, ok};
use super::audit::to_json;
use crate::app::App;
use crate::audit::AuditError;
use axum::extract::State;
use oktsec_audit::Filter;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Records of an export, by default and at most.
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 50_000;

/// The query string.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Parameters {
    redaction: Redaction,
    limit: Option<usize>,
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
) -> Answered<Vec<Value>> {
    let limit = parameters.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(ApiError::bad(format!(
            "limit must be between 1 and {LIMIT_MAX}"
        )));
    }
    let filter = Filter {
        limit,
        ..Filter::default()
    };
    let records = match app.audit.read(move |reader| reader.query(&filter)).await {
        Ok(records) => records,
        Err(AuditError::Absent) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let redacted = to_json(&records)
        .into_iter()
        .map(|entry| redact(entry, parameters.redaction));
    Ok(ok(redacted.collect()))
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
    use super::{Redaction, redact};
    use serde_json::json;

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
