//! The refusals for callers if the store failed, or if a space keeps changing.

use super::StoreError;
use crate::domain::{Code, Refusal, SpaceKey};

/// How many times a call resolves a space that keeps changing, before it gives up as `unavailable`.
pub const ATTEMPTS: usize = 4;

/// The refusal for a failed store. The cause is logged here, once, and callers do not learn it.
pub fn unavailable(error: &StoreError) -> Refusal {
    tracing::warn!(%error, "the store could not answer");
    Code::Unavailable.into()
}

/// The refusal of a space that changed at every attempt to read it.
pub fn unsettled(space: SpaceKey) -> Refusal {
    tracing::warn!(space.id = %space, "the space changed at each of {ATTEMPTS} attempts");
    Code::Unavailable.into()
}
