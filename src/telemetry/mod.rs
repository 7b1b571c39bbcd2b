//! What operators see: logs, metrics, and the listener that serves them.

pub mod log;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod admin;
