//! Time as the product counts it: microseconds since the Unix epoch, UTC. Reading the clock happens at the
//! edges only; stages take a [`Timestamp`] as an argument.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The wall clock, read once. Before 1970 it is the epoch.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }

    /// From whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Whole seconds, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Later by so many seconds; stops at the end of time.
    #[must_use]
    pub const fn plus_secs(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Earlier by so many seconds; stops at the epoch.
    #[must_use]
    pub const fn minus_secs(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds.saturating_mul(1_000_000)))
    }

    /// Microseconds from `earlier` to here, 0 if the clock went back.
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// RFC 3339 in UTC with whole seconds: `2026-02-22T10:00:00Z`.
    pub fn to_rfc3339(self) -> String {
        let seconds = i64::try_from(self.as_secs()).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(seconds)
            .ok()
            .and_then(|t| t.format(&Rfc3339).ok())
            .unwrap_or_else(|| String::from("9999-12-31T23:59:59Z"))
    }

    /// RFC 3339 in UTC with microseconds.
    pub fn to_rfc3339_micros(self) -> String {
        let whole = self.to_rfc3339();
        format!("{}.{:06}Z", whole.trim_end_matches('Z'), self.0 % 1_000_000)
    }

    /// Reads RFC 3339 (fractions and offsets allowed); `None` if it is not, or lies outside 1970 to 9999 in UTC.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        const END_SECS: u64 = 253_402_300_800;
        let t = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let micros = u64::try_from(t.unix_timestamp_nanos().div_euclid(1_000)).ok()?;
        Some(Self(micros)).filter(|t| t.as_secs() < END_SECS)
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn rfc3339_round_trips_in_utc() {
        let t = Timestamp::from_secs(1_771_754_400);
        assert_eq!(t.to_rfc3339(), "2026-02-22T10:00:00Z");
        assert_eq!(
            Timestamp::parse_rfc3339("2026-02-22T11:00:00+01:00"),
            Some(t)
        );
        assert_eq!(
            Timestamp(t.0 + 1_500).to_rfc3339_micros(),
            "2026-02-22T10:00:00.001500Z"
        );
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
        assert_eq!(Timestamp::parse_rfc3339("1969-12-31T23:59:58Z"), None);
        assert_eq!(
            Timestamp::parse_rfc3339("1969-12-31T23:59:59.9999999Z"),
            None
        );
        assert_eq!(Timestamp::parse_rfc3339("9999-12-31T23:59:59-01:00"), None);
    }
}
