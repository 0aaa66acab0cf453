//! A `git push` that is refused gets an answer in git's own words: of a status and the body behind it, git shows the
//! number only.
//!
//! ```text
//! 200 OK, application/x-git-receive-pack-result (gitprotocol-pack, "report-status")
//!   band 2   oktsec refused this push: …                     git prints it behind `remote:`
//!   band 1   unpack refused by oktsec                        and each ref as `[remote rejected]`
//!            ng refs/heads/main refused by oktsec: …
//! ```
//! The host took nothing over: the end of what was pushed never reached it. Our own headers and the record say what they
//! say of any refusal.

use super::answer::adorn;
use super::sieve::SCAN_LIMIT;
use super::trail::Trail;
use crate::limits::{PUSH_DRAINED_BYTES_MAX, PUSH_DRAINED_SECS_MAX};
use crate::respond::{self, Answer, Kind};
use bytes::Bytes;
use oktsec_contract::reason::Reason;
use oktsec_pipeline::content::PushAsked;
use oktsec_pipeline::egress::Refusal;
use pingora::Result;
use pingora::protocols::http::ServerSession;
use std::time::Duration;

/// Whether there are words of git for it, and somebody who waits for them.
pub(super) fn can_be_told(asked: &PushAsked, reason: Reason) -> bool {
    let is_about_content = matches!(
        reason,
        Reason::EgressRequestContent | Reason::EgressUndecodable
    );
    is_about_content && asked.wants_report() && !asked.refs().is_empty()
}

/// Tells it.
pub(super) async fn refuse(
    session: &mut ServerSession,
    trail: &Trail,
    refusal: &Refusal,
    asked: &PushAsked,
) -> Result<()> {
    drain(session).await;
    let reason = refusal.reason;
    let id = trail.id.encode();
    let id = std::str::from_utf8(&id).expect("hex digits and dashes are UTF-8");
    let detail = &refusal.detail;
    let more = format!("More: oktsec explain {id}");
    let is_about_findings =
        reason == Reason::EgressRequestContent && !detail.starts_with(SCAN_LIMIT);
    let (why, told) = match trail.gravest() {
        // A limit of the scan is its detail, whatever was found besides.
        Some(rule) if is_about_findings => (
            format!("it holds what must not leave ({rule})"),
            vec![
                "No ref was moved. Take it out of every commit that is pushed (git commit --amend,",
                "git rebase -i), and treat a secret that was committed as known to others.",
                &*more,
            ],
        ),
        _ if reason == Reason::EgressUndecodable => (
            format!("its pack cannot be read ({detail})"),
            vec!["No ref was moved.", &*more],
        ),
        _ => (
            format!("it could not be scanned as a whole ({detail})"),
            vec!["No ref was moved. Smaller pushes may pass.", &*more],
        ),
    };
    let first = format!("oktsec refused this push: {why}.");
    let told: Vec<&str> = std::iter::once(&*first).chain(told).collect();
    let answer = Answer {
        kind: Kind::GitPush,
        ..Answer::json(200, report(asked, &why, &told))
    };
    respond::send_on(session, answer, |head| adorn(head, reason, id)).await
}

/// git reads no answer before it has sent everything. What it sends is dropped, for a while.
async fn drain(session: &mut ServerSession) {
    let mut dropped = 0;
    let draining = async {
        while dropped < PUSH_DRAINED_BYTES_MAX
            && let Ok(Some(bytes)) = session.read_request_body().await
        {
            dropped += bytes.len();
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(PUSH_DRAINED_SECS_MAX), draining).await;
}

/// The whole answer: what becomes of each ref, and `told` for people.
fn report(asked: &PushAsked, why: &str, told: &[&str]) -> Bytes {
    let mut status = Vec::new();
    line(&mut status, &[b"unpack refused by oktsec\n"]);
    for name in asked.refs() {
        let words = format!("ng {name} refused by oktsec: {why}\n");
        line(&mut status, &[words.as_bytes()]);
    }
    status.extend_from_slice(END);
    if !asked.has_side_band() {
        return status.into();
    }
    let mut out = Vec::with_capacity(status.len() + 512);
    for text in told {
        line(&mut out, &[&[PEOPLE], text.as_bytes(), b"\n"]);
    }
    for part in status.chunks(BAND_BYTES_MAX) {
        line(&mut out, &[&[DATA], part]);
    }
    out.extend_from_slice(END);
    out.into()
}

/// The end of lines.
const END: &[u8] = b"0000";

/// Bands of `side-band-64k`: what the other end reads, and what is shown to people.
const DATA: u8 = 1;
const PEOPLE: u8 = 2;

/// Bytes of one line of a band.
const BAND_BYTES_MAX: usize = 32 << 10;

/// Appends a line of git's protocol.
fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(format!("{:04x}", length + 4).as_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oktsec_pipeline::content::{DecodeLimits, PushReader, Stop};

    fn asked(able: &str) -> PushAsked {
        let id = "0a".repeat(20);
        let command = format!("{id} {id} refs/heads/main\0{able}");
        let mut push = Vec::new();
        line(&mut push, &[command.as_bytes()]);
        let mut reader = PushReader::new(DecodeLimits::default());
        let read: Result<(), Stop<()>> = reader.push(&push, &mut |_| Ok(()));
        read.unwrap();
        reader.asked().clone()
    }

    #[test]
    fn each_ref_is_told_why_it_did_not_move() {
        let told = ["Words for people."];
        let plain = report(&asked("report-status"), "a reason", &told);
        let status = "001dunpack refused by oktsec\n0033ng refs/heads/main refused by oktsec: a reason\n0000";
        assert_eq!(plain, status.as_bytes());
        let beside = report(&asked("report-status side-band-64k"), "a reason", &told);
        let expected = format!("0017\x02Words for people.\n0059\x01{status}0000");
        assert_eq!(String::from_utf8_lossy(&beside), expected);
    }

    #[test]
    fn only_who_waits_for_a_report_gets_one() {
        let content = Reason::EgressRequestContent;
        assert!(can_be_told(&asked("report-status"), content));
        assert!(!can_be_told(&asked("atomic"), content));
        assert!(!can_be_told(&PushAsked::default(), content));
        assert!(!can_be_told(&asked("report-status"), Reason::EgressStopped));
    }
}
