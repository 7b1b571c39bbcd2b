//! Rates.
/// Stub.
pub struct UserRates;
