//! The one place that reads a clock; `.clippy.toml` forbids it elsewhere.
//!
//! Rules about slots use the store's time ([`crate::domain::StoreTime`]), never this node's. What is read here measures
//! durations, bounds waiting, and checks tokens.

use std::time::{Duration, Instant};

use crate::domain::StoreTime;

/// This machine's wall clock. The embedded store's clock, and what a token's times are checked against.
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
