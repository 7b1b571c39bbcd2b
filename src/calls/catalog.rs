//! Knows the schedules.
/// Stub.
pub struct Catalog;
