//! Where a topic stands: which of its changes came last.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A place among the changes of a topic: an epoch and a version under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// An opaque name. A different epoch means that continuity is not proved.
    pub epoch: Arc<str>,
    /// Counts the changes of the space.
    pub version: u64,
}
