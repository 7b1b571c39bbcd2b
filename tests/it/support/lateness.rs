//! How late this machine is: a bound on how long a call may take is longer where the process itself stood still.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use slotcast::clock;

/// How often it is looked at.
const STEP: Duration = Duration::from_millis(20);

/// Within what a call fails that is to take less than a second, on a machine with much else to do.
const BUSY: Duration = Duration::from_secs(3);

/// The most that a step has taken too long, in ms.
static MOST: AtomicU64 = AtomicU64::new(0);

/// Looks from now on, for as long as the process lives.
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

/// Within what a call fails that is to take less than a second: longer by twice what this process was late since [`watch`].
pub fn in_time() -> Duration {
    BUSY + 2 * Duration::from_millis(MOST.load(Ordering::Relaxed))
}
