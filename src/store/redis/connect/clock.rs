//! A server's clock, as far as the server's replies have told it. Each connection has its own, because another
//! connection may lead to another server with another clock.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::clock;

/// An estimate of the server's clock that is never ahead of it. It moves on by this node's monotonic clock.
pub(in crate::store::redis) struct ServerClock {
    base: Instant,
    /// The server's time at `base` in ms. Held to read and write it, never across an await.
    offset: Mutex<Option<i64>>,
}

impl Default for ServerClock {
    fn default() -> Self {
        Self { base: clock::instant(), offset: Mutex::default() }
    }
}

impl ServerClock {
    /// The server's time in ms; `None` until a reply has told it.
    pub(in crate::store::redis) fn now(&self) -> Option<i64> {
        let offset = (*self.lock())?;
        Some(offset.saturating_add(self.elapsed(clock::instant())))
    }

    /// Takes the server's time from a reply. The server had that time at some instant between the sending and now.
    pub(in crate::store::redis) fn learn(&self, server_millis: i64, sent: Instant) {
        let latest = server_millis.saturating_add(1).saturating_sub(self.elapsed(sent));
        let earliest = server_millis.saturating_sub(self.elapsed(clock::instant()));
        let mut offset = self.lock();
        *offset = Some(offset.unwrap_or(earliest).clamp(earliest, latest.max(earliest)));
    }

    fn elapsed(&self, instant: Instant) -> i64 {
        as_millis(instant.saturating_duration_since(self.base))
    }

    fn lock(&self) -> MutexGuard<'_, Option<i64>> {
        self.offset.lock()
    }
}

fn as_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stays_within_what_replies_prove() {
        let clock = ServerClock::default();
        let sent = clock.base;
        assert_eq!(clock.now(), None);
        std::thread::sleep(Duration::from_millis(5));
        clock.learn(1_000_000, sent);
        // The server showed this time at some instant in the last 5 ms. So it is at least that time now, and at most 5 ms
        // more.
        let now = clock.now().unwrap();
        assert!((1_000_000..1_000_100).contains(&now), "{now}");
        // The server's clock was set, so the old estimate must be wrong.
        clock.learn(500_000, crate::clock::instant());
        let now = clock.now().unwrap();
        assert!((500_000..500_100).contains(&now), "{now}");
        clock.learn(2_000_000, crate::clock::instant());
        assert!((2_000_000..2_000_100).contains(&clock.now().unwrap()));
    }
}
