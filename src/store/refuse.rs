//! How callers hear that the store failed, or that a space does not keep still.

use super::StoreError;
use crate::domain::{Code, Refusal, SpaceKey};

/// How often a call resolves a space that keeps changing under it, before it gives up as `unavailable`.
pub const ATTEMPTS: usize = 4;

/// The refusal that stands for a store that failed. The cause is logged here, once, and never told to the caller.
pub fn unavailable(error: &StoreError) -> Refusal {
    tracing::warn!(%error, "the store could not answer");
    Code::Unavailable.into()
}

/// The refusal of a space that changed at every attempt to read it.
pub fn unsettled(space: SpaceKey) -> Refusal {
    tracing::warn!(space.id = %space, "the space changed at each of {ATTEMPTS} attempts");
    Code::Unavailable.into()
}
