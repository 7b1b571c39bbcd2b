//! The one place that reads a clock; `.clippy.toml` forbids it elsewhere.
//!
//! Rules about slots use the store's time ([`crate::domain::StoreTime`]), never this node's. These clocks measure
//! durations, bound waiting, and check tokens.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::StoreTime;

/// The store's time counts as recent for this long. The two clocks hardly drift apart until then.
const FRESH_FOR: Duration = Duration::from_secs(60);

/// The store's clock counts as set back if it is this much behind the expected time. A slow answer cannot look like
/// that, because a read is given up before it takes this long.
const STEP_MILLIS: i64 = 1_000;

/// This node's clock may be faster than the store's by 1/1,000 of the passing time.
const DRIFT: u32 = 1_000;

/// This machine's wall clock. It is the embedded store's clock, and tokens' times are checked against it.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn wall() -> StoreTime {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    StoreTime::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// A monotonic instant, for durations.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn instant() -> Instant {
    Instant::now()
}

/// Sleeps until `deadline`, or for ever without one.
pub async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The store's clock as this node knows it: the time that the store last told, and how long ago. No rule may use it,
/// because the store decides by its own clock.
#[derive(Debug, Default)]
pub struct StoreClock {
    /// Held for a copy only, never across an await.
    told: Mutex<Option<(StoreTime, tokio::time::Instant)>>,
}

impl StoreClock {
    /// Notes that the store has just told the time `told`. An answer that took long tells an old time, which does not turn
    /// this clock back.
    pub fn learn(&self, told: StoreTime) {
        let now = tokio::time::Instant::now();
        let mut known = self.told.lock();
        let settled = match *known {
            None => Some(told),
            Some((then, at)) => settle(told, then, now.saturating_duration_since(at)),
        };
        if let Some(settled) = settled {
            *known = Some((settled, now));
        }
    }

    /// The store's time, or this machine's time until the store has told its own.
    pub fn now(&self) -> StoreTime {
        self.told_now().unwrap_or_else(wall)
    }

    /// The store's time; `None` until the store has told it.
    pub fn told_now(&self) -> Option<StoreTime> {
        let (told, at) = self.read()?;
        Some(told.plus(at.elapsed()))
    }

    /// Whether the store told its time in the last minute.
    pub fn is_fresh(&self) -> bool {
        self.read().is_some_and(|(_, at)| at.elapsed() < FRESH_FOR)
    }

    fn read(&self) -> Option<(StoreTime, tokio::time::Instant)> {
        *self.told.lock()
    }
}

/// The time to use from now on. The store tells `told` now, and told `then` a time `since` ago. `None` keeps the known
/// time.
fn settle(told: StoreTime, then: StoreTime, since: Duration) -> Option<StoreTime> {
    let expected = then.plus(since);
    if told >= expected || told < expected.plus_millis(-STEP_MILLIS) {
        return Some(told);
    }
    (since >= FRESH_FOR).then(|| told.max(then.plus(since - since / DRIFT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_does_not_turn_the_clock_back() {
        let at = StoreTime::from_millis;
        let settled = |told, seconds| settle(at(told), at(100_000), Duration::from_secs(seconds));
        assert_eq!(settled(105_000, 5), Some(at(105_000)));
        assert_eq!(settled(105_700, 5), Some(at(105_700)), "the first answer was the slower one");
        assert_eq!(settled(104_300, 5), None, "this one was, or this node's clock is a little fast");
        assert_eq!(settled(219_300, 120), Some(at(219_880)), "followed no faster than clocks drift");
        assert_eq!(settled(219_990, 120), Some(at(219_990)));
        assert_eq!(settled(103_900, 5), Some(at(103_900)), "the store's clock was set back");
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_by_itself_for_a_while() {
        let clock = StoreClock::default();
        assert_eq!((clock.told_now(), clock.is_fresh()), (None, false));
        clock.learn(StoreTime::from_millis(5));
        tokio::time::advance(Duration::from_millis(20)).await;
        assert_eq!((clock.told_now(), clock.is_fresh()), (Some(StoreTime::from_millis(25)), true));
        tokio::time::advance(FRESH_FOR).await;
        assert!(!clock.is_fresh());
    }
}
