//! Instants of the store's clock, and local days.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant of the store's clock, in whole milliseconds since 1970 UTC. It is serialized as that number. Clients get RFC
/// 3339 UTC with milliseconds, by [`Self::rfc3339`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreTime(i64);

impl StoreTime {
    /// From milliseconds since 1970 UTC.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970 UTC.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This instant `millis` later; saturates at the ends of the range.
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// This instant plus a duration; saturates at the ends of the range.
    pub fn plus(self, duration: Duration) -> Self {
        self.plus_millis(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }

    /// The time until `later`; zero if `later` has passed.
    pub fn until(self, later: StoreTime) -> Duration {
        Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// The text of the instant, such as `2026-11-23T12:00:00.000Z`.
    pub fn rfc3339(self) -> String {
        format!("{:.3}", self.timestamp())
    }

    /// As jiff's type, clamped to the years that jiff knows.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0).unwrap_or(if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX })
    }
}

impl From<Timestamp> for StoreTime {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp.as_millisecond())
    }
}

/// A local day of a space, `YYYY-MM-DD` on the wire and in storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// Parses exactly `YYYY-MM-DD`, a day that exists.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |range: std::ops::Range<usize>| -> Option<i16> {
            let part = text.get(range)?;
            part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
        };
        let bytes = text.as_bytes();
        if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
            return None;
        }
        let month = i8::try_from(digits(5..7)?).ok()?;
        let day = i8::try_from(digits(8..10)?).ok()?;
        Date::new(digits(0..4)?, month, day).ok().map(Self)
    }

    /// As jiff's type.
    pub fn date(self) -> Date {
        self.0
    }
}

impl From<Date> for Day {
    fn from(date: Date) -> Self {
        Self(date)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Day::parse(&text).ok_or_else(|| D::Error::custom("a date is YYYY-MM-DD and exists"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_exact_and_exists() {
        assert_eq!(Day::parse("2028-02-29").unwrap().to_string(), "2028-02-29");
        for bad in
            ["2026-02-30", "2026-2-3", "2026-13-01", "+026-01-01", "2026-01-01T00:00", "", "２026-01-01", "2026-01-0é"]
        {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_instant_has_milliseconds_and_a_z() {
        assert_eq!(StoreTime::from_millis(1_795_000_000_007).rfc3339(), "2026-11-18T11:06:40.007Z");
        assert_eq!(StoreTime::from_millis(0).rfc3339(), "1970-01-01T00:00:00.000Z");
        assert!(StoreTime::from_millis(i64::MAX).rfc3339().ends_with('Z'));
    }
}
