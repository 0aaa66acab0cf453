//! A held message as clients of the Go version know it (compat §6.1, `quarantine_queue`).

use oktsec_audit::HeldItem;
use oktsec_contract::clock::Timestamp;
use serde_json::{Map, Value, json};

/// The item with its content, if it was read with it. Content that is no UTF-8 is shown as far as it can be.
pub fn held_json(item: &HeldItem) -> Value {
    let mut findings = Vec::new();
    let record = item
        .record
        .as_ref()
        .and_then(|stored| stored.record(&mut findings).ok());
    let mut out = Map::new();
    out.insert("id".into(), json!(item.id));
    out.insert("audit_entry_id".into(), json!(item.id));
    if let Some(content) = &item.content {
        out.insert("content".into(), json!(String::from_utf8_lossy(content)));
    }
    out.insert(
        "from_agent".into(),
        json!(record.as_ref().map_or("", |r| r.from)),
    );
    out.insert(
        "to_agent".into(),
        json!(record.as_ref().map_or("", |r| r.to)),
    );
    out.insert("status".into(), json!(item.status.as_str()));
    out.insert("reviewed_by".into(), json!(item.reviewed_by));
    out.insert(
        "reviewed_at".into(),
        json!(
            item.reviewed_at
                .map_or_else(String::new, Timestamp::to_rfc3339)
        ),
    );
    out.insert("expires_at".into(), json!(item.expires_at.to_rfc3339()));
    out.insert("created_at".into(), json!(item.created_at.to_rfc3339()));
    out.insert(
        "rules_triggered".into(),
        json!(record.as_ref().map_or(&[][..], |r| r.findings)),
    );
    out.insert(
        "timestamp".into(),
        json!(record.as_ref().map_or("", |r| r.timestamp)),
    );
    if record.is_none() {
        // Said, not hidden: whoever damaged it would like it to look ordinary.
        out.insert("damaged".into(), json!(true));
    }
    Value::Object(out)
}
