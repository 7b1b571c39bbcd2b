//! Metrics.
/// Stub.
pub struct Metrics;
