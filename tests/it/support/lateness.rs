//! How late this machine is. If the process itself stood still, a call may take longer.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use slotcast::clock;

/// How often the watch looks at the clock.
const STEP: Duration = Duration::from_millis(20);

/// How soon a call must fail that should fail within a second, on a machine with much else to do.
const BUSY: Duration = Duration::from_secs(3);

/// The longest delay of a step so far, in ms.
static MOST: AtomicU64 = AtomicU64::new(0);

/// Watches from now on, until the process ends.
pub fn watch() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| drop(std::thread::spawn(look_for_ever)));
}

fn look_for_ever() {
    loop {
        let began = clock::instant();
        std::thread::sleep(STEP);
        let late = began.elapsed().saturating_sub(STEP).as_millis();
        MOST.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// How soon a call must fail that should fail within a second. This is longer by twice the longest delay of this
/// process since [`watch`].
pub fn in_time() -> Duration {
    BUSY + 2 * Duration::from_millis(MOST.load(Ordering::Relaxed))
}
