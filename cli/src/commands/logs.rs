//! `oktsec logs`: recorded decisions, newest last as in every log, and as they come with `--follow`.

use super::Global;
use crate::duration;
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use crate::place::Place;
use crate::reader::Log;
use oktsec_audit::{Filter, StoredRecord};
use oktsec_contract::clock::Timestamp;
use oktsec_contract::record::{RecordRef, SignatureState};
use oktsec_contract::verdict::{Mode, Status};
use serde_json::json;
use std::time::Duration;

/// How often `--follow` looks for new records.
const FOLLOW_MS: u64 = 150;
/// Records taken in one look of `--follow`.
const FOLLOW_RECORDS_MAX: usize = 1_000;

/// Which ones.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these: delivered, quarantined, blocked, rejected, error, tunneled, forwarded, system; several with commas
    #[arg(long, value_delimiter = ',', value_parser = parse_status, value_name = "STATUS")]
    status: Vec<Status>,
    /// Only what this agent sent or was sent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only where this rule was found
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Only this decision: allow, content_blocked, acl_denied, identity_rejected, …
    #[arg(long, value_name = "WORD")]
    decision: Option<String>,
    /// Only messages without a valid signature
    #[arg(long)]
    unverified: bool,
    /// Only since then: 5m, 2h, 7d, or 2026-02-22T10:00:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Only until then
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Only where this text occurs in names, rules or status
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// The newest so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// Go on showing records as they come
    #[arg(long, short, alias = "live")]
    follow: bool,
}

fn parse_status(word: &str) -> Result<Status, String> {
    Status::parse(word).ok_or_else(|| {
        let known: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
        format!("one of: {}", known.join(", "))
    })
}

/// Shows records.
pub(crate) fn execute(global: &Global, args: Args) -> Outcome {
    let place = Place::find(global.config.as_deref())?;
    let follow = args.follow;
    let filter = args.filter()?;
    let Some(log) = Log::open(&place.paths)? else {
        if !follow {
            if global.json {
                return Ok(Exit::Done);
            }
            out::note("Nothing has been recorded yet.");
            return Ok(Exit::Done);
        }
        let log = wait_for_log(&place)?;
        return follow_from(global, &Columns::of(&[]), &log, filter, 0);
    };
    // Nothing moves until the next refresh, so what follows starts exactly behind what is shown now.
    let after = log.reader().last_sequence().map_err(Failure::new)?;
    let records = log.reader().query(&filter).map_err(Failure::new)?;
    let columns = Columns::of(&records);
    if !global.json {
        out::line(columns.heading())?;
    }
    for record in records.iter().rev() {
        show(global, &columns, record)?;
    }
    if !follow {
        return Ok(Exit::Done);
    }
    follow_from(global, &columns, &log, filter, after)
}

/// Characters of a column at most: one long name must not push everything else off the screen.
const COLUMN_CHARS_MAX: usize = 40;

/// Widths of the columns that names and words fill; those of what follows later are as wide.
struct Columns {
    from: usize,
    to: usize,
    decision: usize,
}

impl Columns {
    /// As wide as what is shown.
    fn of(records: &[StoredRecord]) -> Self {
        let (mut from, mut to, mut decision) = (16, 16, 19);
        for record in records {
            let mut findings = Vec::new();
            let Ok(record) = record.record(&mut findings) else {
                continue;
            };
            from = from.max(out::printable(record.from).chars().count());
            to = to.max(out::printable(record.to).chars().count());
            decision = decision.max(decided(&record).chars().count());
        }
        Self {
            from: from.min(COLUMN_CHARS_MAX),
            to: to.min(COLUMN_CHARS_MAX),
            decision: decision.min(COLUMN_CHARS_MAX),
        }
    }

    fn heading(&self) -> String {
        self.line([
            "TIME", "FROM", "TO", "STATUS", "DECISION", "VERIFIED", "LATENCY",
        ])
    }

    fn line(&self, [time, from, to, status, decision, verified, latency]: [&str; 7]) -> String {
        let Self {
            from: from_chars,
            to: to_chars,
            decision: decision_chars,
        } = self;
        format!(
            "{time:<20}  {from:<from_chars$}  {to:<to_chars$}  {status:<11}  {decision:<decision_chars$}  {verified:<8}  {latency:>7}"
        )
    }
}

/// The word for what was decided, and whether it only would have been.
fn decided(record: &RecordRef<'_>) -> String {
    let would = match record.mode {
        Mode::Observe if record.reason.status() != record.status => " (observed)",
        Mode::Observe | Mode::Enforce => "",
    };
    format!("{}{would}", record.reason.decision())
}

impl Args {
    fn filter(self) -> Result<Filter, Failure> {
        let now = Timestamp::now();
        let point = |text: Option<&str>| text.map(|text| duration::point(text, now)).transpose();
        if self.limit == 0 {
            return Err(Failure::new("--limit must be 1 or more"));
        }
        Ok(Filter {
            statuses: self.status,
            agent: self.agent,
            from: None,
            to: None,
            session: self.session,
            rule: self.rule,
            decision: self.decision,
            unverified: self.unverified,
            since: point(self.since.as_deref())
                .map_err(|why| Failure::new(format_args!("--since: {why}")))?,
            until: point(self.until.as_deref())
                .map_err(|why| Failure::new(format_args!("--until: {why}")))?,
            search: self.search,
            limit: self.limit,
            before: None,
            after: None,
        })
    }
}

/// Shows what comes, oldest first, until the reader of our output goes away.
fn follow_from(
    global: &Global,
    columns: &Columns,
    log: &Log,
    mut filter: Filter,
    after: u64,
) -> Outcome {
    filter.after = Some(after);
    filter.limit = FOLLOW_RECORDS_MAX;
    loop {
        log.reader().refresh().map_err(Failure::new)?;
        let records = log.reader().query(&filter).map_err(Failure::new)?;
        for record in &records {
            show(global, columns, record)?;
            filter.after = Some(record.sequence);
        }
        if records.len() < FOLLOW_RECORDS_MAX {
            std::thread::sleep(Duration::from_millis(FOLLOW_MS));
        }
    }
}

fn wait_for_log(place: &Place) -> Result<Log, Failure> {
    out::note("Nothing has been recorded yet; waiting.");
    loop {
        if let Some(log) = Log::open(&place.paths)? {
            return Ok(log);
        }
        std::thread::sleep(Duration::from_millis(FOLLOW_MS));
    }
}

fn show(global: &Global, columns: &Columns, record: &StoredRecord) -> Result<(), Failure> {
    // A damaged record is said to be: whoever damaged it would like it to be left out.
    if global.json {
        let damaged = || json!({ "sequence": record.sequence, "damaged": true });
        out::json_line(&record.to_json().unwrap_or_else(|_| damaged()))?;
        return Ok(());
    }
    let mut findings = Vec::new();
    match record.record(&mut findings) {
        Ok(record) => out::line(row(columns, &record))?,
        Err(error) => out::line(format_args!(
            "record {} is DAMAGED: {error}",
            record.sequence
        ))?,
    }
    Ok(())
}

fn row(columns: &Columns, record: &RecordRef<'_>) -> String {
    let verified = match record.signature {
        SignatureState::Verified => "yes",
        SignatureState::Absent if record.status == Status::System => "-",
        SignatureState::Absent => "unsigned",
        SignatureState::Invalid => "INVALID",
    };
    let latency = match record.latency_us {
        us if us < 1_000 => format!("{us}µs"),
        us => format!("{:.1}ms", f64::from(us) / 1_000.0),
    };
    let mut line = columns.line([
        &record.received_at.to_rfc3339(),
        &out::printable(record.from),
        &out::printable(record.to),
        record.status.as_str(),
        &decided(record),
        verified,
        &latency,
    ]);
    // The exact cause, where the decision's word covers several.
    if record.reason.as_str() != record.reason.decision() {
        line.push_str(&format!("  {}", record.reason.as_str()));
    }
    for finding in record.findings.iter().take(3) {
        line.push_str(&format!("  {}", out::printable(finding.rule_id)));
    }
    if !record.detail.is_empty() {
        line.push_str(&format!("  {}", out::printable(record.detail)));
    }
    line
}
