//! The embedded store's clock: this machine's wall clock, except that it never goes back while the process lives.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock;
use crate::domain::StoreTime;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct StoreClock {
    last: AtomicI64,
    /// What this module's own tests move the clock by; it does not exist outside of them.
    #[cfg(test)]
    shift: AtomicI64,
}

impl StoreClock {
    /// Now, or the latest instant ever told when the wall clock was set back.
    pub(super) fn now(&self) -> StoreTime {
        let wall = self.wall();
        StoreTime::from_millis(self.last.fetch_max(wall, Ordering::AcqRel).max(wall))
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
    use super::*;

    #[test]
    fn the_clock_stands_still_when_the_wall_clock_is_set_back() {
        let clock = StoreClock::default();
        let first = clock.now();
        clock.shift(-60_000);
        let second = clock.now();
        assert!(second >= first);
        assert_eq!(clock.now(), second);
        clock.shift(120_000);
        assert!(clock.now() > second);
    }
}
