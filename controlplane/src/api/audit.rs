//! `GET /v1/audit`: records, newest first (ours; the words of the filter are those of compat §6.5).

use super::answer::{Answered, ApiError, Query, ok};
use crate::app::App;
use crate::audit::AuditError;
use axum::extract::State;
use oktsec_audit::{Filter, ReadError, Reader, StoredRecord};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::verdict::Status;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// Records of one answer, and how many by default.
const LIMIT_MAX: usize = 1_000;
const LIMIT_DEFAULT: usize = 50;
/// Bytes of the records of one answer, about: past them a page ends early and says where the next one begins.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// The query string.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Parameters {
    /// One status, or several with commas.
    status: Option<String>,
    agent: Option<String>,
    from: Option<String>,
    to: Option<String>,
    session: Option<String>,
    rule: Option<String>,
    decision: Option<String>,
    unverified: Option<bool>,
    since: Option<String>,
    until: Option<String>,
    search: Option<String>,
    limit: Option<usize>,
    before: Option<u64>,
    after: Option<u64>,
}

/// A page of records.
#[derive(Serialize)]
pub(super) struct Page {
    entries: Vec<Value>,
    /// `before` of the next page; null when this was the last one.
    before: Option<u64>,
}

/// Queries the log.
pub(super) async fn query(
    State(app): State<Arc<App>>,
    Query(parameters): Query<Parameters>,
) -> Answered<Page> {
    let filter = parameters.filter()?;
    let read = move |reader: &Reader| bounded(reader, filter, PAGE_BYTES_MAX);
    let (records, more) = match app.audit.read(read).await {
        Ok(read) => read,
        // Nothing has been recorded yet, and that is an answer.
        Err(AuditError::Absent) => (Vec::new(), false),
        Err(error) => return Err(error.into()),
    };
    let before = records
        .iter()
        .map(|record| record.sequence)
        .min()
        .filter(|_| more);
    Ok(ok(Page {
        entries: records.iter().map(to_json).collect(),
        before,
    }))
}

/// Records that fit, until the filter's limit or about `bytes_max` is reached; and whether there may be more.
pub(super) fn bounded(
    reader: &Reader,
    mut filter: Filter,
    bytes_max: usize,
) -> Result<(Vec<StoredRecord>, bool), ReadError> {
    /// So many of the largest records (`RECORD_BYTES_MAX`) are read beyond the bound at most.
    const AT_ONCE: usize = 32;
    let limit = filter.limit;
    let (mut records, mut bytes) = (Vec::new(), 0);
    while records.len() < limit && bytes < bytes_max {
        filter.limit = AT_ONCE.min(limit - records.len());
        let part = reader.query(&filter)?;
        let Some(last) = part.last().map(|record| record.sequence) else {
            return Ok((records, false));
        };
        let is_end = part.len() < filter.limit;
        bytes += part
            .iter()
            .map(|record| record.bytes().len())
            .sum::<usize>();
        records.extend(part);
        if is_end {
            return Ok((records, false));
        }
        match &mut filter.after {
            Some(after) => *after = last,
            None => filter.before = Some(last),
        }
    }
    Ok((records, true))
}

/// A record as JSON; a damaged one is said to be, never left out.
pub(super) fn to_json(record: &StoredRecord) -> Value {
    record
        .to_json()
        .unwrap_or_else(|_| json!({ "sequence": record.sequence, "damaged": true }))
}

impl Parameters {
    fn filter(self) -> Result<Filter, ApiError> {
        let mut statuses = Vec::new();
        for word in self
            .status
            .iter()
            .flat_map(|list| list.split(','))
            .filter(|w| !w.is_empty())
        {
            statuses.push(Status::parse(word).ok_or_else(|| {
                let known: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
                ApiError::bad(format!(
                    "unknown status {word:?}; one of: {}",
                    known.join(", ")
                ))
            })?);
        }
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if limit == 0 || limit > LIMIT_MAX {
            return Err(ApiError::bad(format!(
                "limit must be between 1 and {LIMIT_MAX}"
            )));
        }
        Ok(Filter {
            statuses,
            agent: self.agent,
            from: self.from,
            to: self.to,
            session: self.session,
            rule: self.rule,
            decision: self.decision,
            unverified: self.unverified.unwrap_or(false),
            since: time("since", self.since.as_deref())?,
            until: time("until", self.until.as_deref())?,
            search: self.search,
            limit,
            before: self.before,
            after: self.after,
        })
    }
}

/// Any offset is fine: times are compared as times, not as text (compat §6.5).
fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    text.map(|text| {
        Timestamp::parse_rfc3339(text).ok_or_else(|| {
            ApiError::bad(format!(
                "{name} must be an RFC 3339 time such as 2026-02-22T10:00:00Z"
            ))
        })
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use super::Parameters;
    use oktsec_contract::verdict::Status;

    #[test]
    fn a_filter_names_what_it_does_not_understand() {
        let parameters = Parameters {
            status: Some("blocked,quarantined".into()),
            ..Default::default()
        };
        assert_eq!(
            parameters.filter().unwrap().statuses,
            [Status::Blocked, Status::Quarantined]
        );
        for parameters in [
            Parameters {
                status: Some("bloked".into()),
                ..Default::default()
            },
            Parameters {
                since: Some("yesterday".into()),
                ..Default::default()
            },
            Parameters {
                limit: Some(0),
                ..Default::default()
            },
            Parameters {
                limit: Some(100_000),
                ..Default::default()
            },
        ] {
            assert!(parameters.filter().is_err());
        }
    }
}
