//! The border between a message and what its sender said before, so an attack cut in pieces is seen whole.
//! Only a finding that starts before the border and ends behind it counts: what one message says alone was
//! decided with that message, and must not follow its sender around (compat §4.8, FIX-7).

use super::{Found, VIEW_WINDOW, Weigh};
use crate::policy::Place;
use oktsec_contract::Surface;
use oktsec_contract::limits::WINDOW_BYTES_MAX;
use oktsec_contract::reason::Reason;
use oktsec_scanner::Scanner;

/// Scans the end of what was said before, joined with the beginning of `content`.
pub(super) fn scan(
    content: &[u8],
    weigh: &mut Weigh<'_>,
    place: &Place<'_>,
    scanner: &mut Scanner,
    joined: &mut Vec<u8>,
    found: &mut Vec<Found>,
    hits: &mut Vec<u32>,
) -> Result<(), Reason> {
    let head = &content[..content.len().min(WINDOW_BYTES_MAX)];
    for spaced in [true, false] {
        place
            .shared
            .senders
            .get(place.sender, place.now)
            .tail(spaced, place.now, joined);
        let Some(&last) = joined.last() else {
            return Ok(());
        };
        // Without a blank it only differs where a word may have been cut in two.
        let may_cut_word =
            head.first().is_some_and(u8::is_ascii_alphanumeric) && last.is_ascii_alphanumeric();
        if !spaced && !may_cut_word {
            return Ok(());
        }
        let border = joined.len();
        joined.extend_from_slice(head);
        let scanned = scanner
            .scan(joined, Surface::Message)
            .map_err(|_| Reason::ScanFailed)?;
        for finding in scanned.findings {
            let (start, end) = (finding.span.start as usize, finding.span.end as usize);
            let spans = start + usize::from(spaced) < border && end > border;
            let known = found.iter().any(|f| f.rule == finding.rule);
            if spans && !known {
                hits.push(finding.rule);
                if weigh.keeps(finding) {
                    let mut one = Found::new(joined, finding, VIEW_WINDOW, weigh.policy);
                    one.start = 0;
                    one.end = u32::try_from(end - border).unwrap_or(u32::MAX);
                    found.push(one);
                }
            }
        }
    }
    Ok(())
}
