//! What operators see: logs, metrics, and the listener that serves them.

pub mod log;
pub mod metrics;
pub mod admin;
