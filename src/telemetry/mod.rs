//! Logs, metrics, and the listener that serves metrics.

pub mod build;
pub mod log;
pub mod users;
#[cfg(feature = "server")]
pub mod request;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod admin;
