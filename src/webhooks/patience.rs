//! How long to wait before an entry is sent again, and when to give up.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;

use crate::domain::StoreTime;

/// The longest pause that an endpoint may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);

/// A pause may be up to 1/4 shorter, so that messages that failed together are not sent again together.
const JITTER: f64 = 0.25;

/// When an entry is tried again, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The first pause. Each later one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// An entry is skipped this long after its first try.
    pub all: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(10 * 60),
            all: Duration::from_secs(3 * 24 * 60 * 60),
        }
    }
}

impl Patience {
    /// The pause after this many tries, but at least as long as the endpoint asked for. `random` is from 0 to 1.
    pub fn pause(&self, tries: u32, asked: Option<Duration>, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(self.longest);
        doubled.mul_f64(1.0 - JITTER * random).max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }
}

/// The pause that a `Retry-After` asks for: seconds, or a date. `None` for anything else.
pub fn parse_retry_after(value: &str, now: StoreTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit()) {
        // A number beyond 64 bits stands for the longest time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(now.until(date.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_minutes() {
        let patience = Patience::default();
        let longest = |tries| patience.pause(tries, None, 0.0).as_secs();
        assert_eq!([1, 2, 3, 10, 11, 1_000, u32::MAX].map(longest), [1, 2, 4, 512, 600, 600, 600]);
        assert_eq!(patience.pause(3, None, 1.0), Duration::from_secs(3));
        let asked = |seconds| patience.pause(1, Some(Duration::from_secs(seconds)), 0.0).as_secs();
        assert_eq!([0, 30, 1_000_000].map(asked), [1, 30, 3_600]);
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_a_date() {
        let now: jiff::Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let asked = |value| parse_retry_after(value, now.into()).map(|pause| pause.as_secs());
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked(" 0 "), Some(0));
        assert_eq!(asked("99999999999999999999"), Some(u64::MAX));
        assert_eq!(asked("Mon, 30 Nov 2026 12:01:30 GMT"), Some(90));
        assert_eq!(asked("Mon, 30 Nov 2026 11:00:00 GMT"), Some(0));
        for bad in ["", "soon", "-1", "1.5", "2026-11-30T12:00:00Z"] {
            assert_eq!(asked(bad), None, "{bad}");
        }
    }
}
