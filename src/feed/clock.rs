//! The store's time as a space's task knows it: what the store said with the last board that was read, and how long ago
//! that was.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::StoreTime;

/// After how long the store is asked again: until then the two clocks have hardly drifted apart.
const FRESH_FOR: Duration = Duration::from_secs(60);

/// By how much the store's time must be behind what was expected to have been set back, rather than to have been long on
/// its way: a read is given up before that.
const STEP_MILLIS: i64 = 1_000;

/// By what part of the time that goes by this node's clock may be the faster one: one in so many.
const DRIFT: i64 = 1_000;

/// The store's clock as the last boards told it.
#[derive(Debug, Default)]
pub(super) struct BoardClock(Option<(StoreTime, Instant)>);

impl BoardClock {
    /// The store has just said `told`. An answer that was long on its way tells an old time, and what is known already
    /// is not turned back for it.
    pub(super) fn learn(&mut self, told: StoreTime) {
        let now = Instant::now();
        let settled = match self.0 {
            None => Some(told),
            Some((then, at)) => settle(told, then, now.saturating_duration_since(at)),
        };
        if let Some(settled) = settled {
            self.0 = Some((settled, now));
        }
    }

    /// The store's time; `None` when it never said it.
    pub(super) fn now(&self) -> Option<StoreTime> {
        let (told, at) = self.0?;
        Some(told.plus_millis(millis(at.elapsed())))
    }

    /// Whether the store said its time lately.
    pub(super) fn is_fresh(&self) -> bool {
        self.0.is_some_and(|(_, at)| at.elapsed() < FRESH_FOR)
    }
}

/// The time to go by from now on when the store says `told`, `since` after it was `then`; `None` for what is known.
fn settle(told: StoreTime, then: StoreTime, since: Duration) -> Option<StoreTime> {
    let since_millis = millis(since);
    let expected = then.plus_millis(since_millis);
    if told >= expected || told < expected.plus_millis(-STEP_MILLIS) {
        return Some(told);
    }
    (since >= FRESH_FOR).then(|| told.max(expected.plus_millis(-since_millis / DRIFT)))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
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
        let mut clock = BoardClock::default();
        assert_eq!((clock.now(), clock.is_fresh()), (None, false));
        clock.learn(StoreTime::from_millis(5));
        tokio::time::advance(Duration::from_millis(20)).await;
        assert_eq!((clock.now(), clock.is_fresh()), (Some(StoreTime::from_millis(25)), true));
        tokio::time::advance(FRESH_FOR).await;
        assert!(!clock.is_fresh());
    }
}
