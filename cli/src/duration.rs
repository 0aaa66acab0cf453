//! Times as operators write them: `90s`, `5m`, `2h`, `7d`, `1h30m` ago, or an RFC 3339 time.

use oktsec_contract::clock::Timestamp;

/// Reads a point in time, relative ones before `now`.
pub(crate) fn point(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    time_or(text, |seconds| now.minus_secs(seconds))
}

/// Reads a point in time, relative ones after `now`.
pub(crate) fn point_ahead(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    time_or(text, |seconds| now.plus_secs(seconds))
}

fn time_or(text: &str, relative: impl FnOnce(u64) -> Timestamp) -> Result<Timestamp, String> {
    if let Some(time) = Timestamp::parse_rfc3339(text) {
        return Ok(time);
    }
    seconds(text).map(relative).ok_or_else(|| {
        format!(
            "{text:?} is neither a duration such as 5m, 2h, 7d or 1h30m nor a time such as 2026-02-22T10:00:00Z"
        )
    })
}

/// Reads a duration in whole seconds: at least one number, each with its unit.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[unit..];
    }
    Some(total)
}

/// How long something takes already, in its two largest units.
pub(crate) fn rough(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::{point, point_ahead, rough, seconds};
    use oktsec_contract::clock::Timestamp;

    #[test]
    fn durations_have_a_unit_on_every_number() {
        for (text, expected) in [
            ("5m", Some(300)),
            ("1h30m", Some(5_400)),
            ("7d", Some(604_800)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("m", None),
            ("5m3", None),
            ("-5m", None),
            ("5 m", None),
            ("99999999999999999999d", None),
            ("9999999999999999999d", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_rough_duration_has_its_two_largest_units() {
        for (duration, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (7_300, "2h1m"),
            (90_000, "1d1h"),
        ] {
            assert_eq!(rough(duration), text);
        }
    }

    #[test]
    fn a_point_is_a_duration_ago_or_a_time() {
        let now = Timestamp::from_secs(1_000_000);
        assert_eq!(point("10s", now), Ok(Timestamp::from_secs(999_990)));
        assert_eq!(
            point("1970-01-01T01:00:01+01:00", now),
            Ok(Timestamp::from_secs(1))
        );
        assert!(point("yesterday", now).is_err());
        assert_eq!(point_ahead("10s", now), Ok(Timestamp::from_secs(1_000_010)));
    }
}
