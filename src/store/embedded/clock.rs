//! The embedded store's clock: this machine's wall clock, except that it never goes back while the process lives. If
//! the wall clock is set back, this clock goes on at its pace, so that a hold ends after its own length.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use crate::clock;
use crate::domain::StoreTime;

/// The clock that the module's documentation describes.
#[derive(Debug)]
pub(super) struct StoreClock {
    began: Instant,
    /// The time of the wall clock at `began`, in ms: the latest time that any reading of the wall clock implies for
    /// that instant.
    wall_at_begin: AtomicI64,
    /// The latest instant ever told, in ms.
    last: AtomicI64,
    /// How far this module's own tests have moved the clock. It does not exist outside of them.
    #[cfg(test)]
    shift: AtomicI64,
}

impl Default for StoreClock {
    fn default() -> Self {
        Self {
            began: clock::instant(),
            wall_at_begin: AtomicI64::new(i64::MIN),
            last: AtomicI64::new(i64::MIN),
            #[cfg(test)]
            shift: AtomicI64::default(),
        }
    }
}

impl StoreClock {
    /// The time now. If the wall clock was set back, it is the time that the clock would show otherwise.
    pub(super) fn now(&self) -> StoreTime {
        let passed =
            i64::try_from(clock::instant().saturating_duration_since(self.began).as_millis()).unwrap_or(i64::MAX);
        let wall_at_begin = self.wall().saturating_sub(passed);
        let latest = self.wall_at_begin.fetch_max(wall_at_begin, Ordering::AcqRel).max(wall_at_begin);
        let now = latest.saturating_add(passed);
        StoreTime::from_millis(self.last.fetch_max(now, Ordering::AcqRel).max(now))
    }

    /// By how much the wall clock is behind, in ms.
    pub(super) fn set_back_by(&self) -> i64 {
        self.now().as_millis().saturating_sub(self.wall())
    }

    #[cfg(not(test))]
    fn wall(&self) -> i64 {
        clock::wall().as_millis()
    }

    #[cfg(test)]
    fn wall(&self) -> i64 {
        clock::wall().as_millis() + self.shift.load(Ordering::Acquire)
    }

    /// Moves the clock.
    #[cfg(test)]
    pub(super) fn shift(&self, millis: i64) {
        self.shift.fetch_add(millis, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_clock_goes_on_at_its_pace_when_the_wall_clock_is_set_back() {
        let clock = StoreClock::default();
        let (began, first) = (clock::instant(), clock.now());
        clock.shift(-60_000);
        std::thread::sleep(Duration::from_millis(20));
        let second = clock.now();
        let passed = began.elapsed().as_millis() as i64;
        assert!(
            (first.plus_millis(19)..=first.plus_millis(passed + 1)).contains(&second),
            "{second:?} after {first:?}"
        );
        assert!(clock.set_back_by() >= 59_000);
        // The wall clock is ahead again, so it counts.
        clock.shift(180_000);
        assert!(clock.now() >= second.plus_millis(119_000));
        assert!(clock.set_back_by() < 1_000);
    }
}
