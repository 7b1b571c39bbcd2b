//! Where something stands among the changes of a topic.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Where in a topic something stands: an epoch and the version under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Opaque; another one means that continuity is not proved.
    pub epoch: Arc<str>,
    /// Counts the changes of the space.
    pub version: u64,
}
