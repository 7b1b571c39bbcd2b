//! Commands that a space's task does together, and the positions that the task must reach before it shows their members
//! anything.

use std::collections::HashMap;

use super::snapshots::Shown;
use crate::domain::{Day, Position, SpaceKey, StoreTime};
use crate::feed::Shared;
use crate::feed::follower::Follower;

/// Commands, or due snapshots, that are done together. All were asked for before the batch began.
pub(super) struct Batch {
    pub(super) begun: StoreTime,
    /// The positions that the node had answered when the batch began.
    acknowledged: Vec<Position>,
    /// Whether the head was read and reached since the batch began.
    pub(super) is_at_head: bool,
    /// The head that was read in this batch, while the other members are still behind it.
    pub(super) head: Option<Position>,
    /// Snapshots that were read in this batch, at positions that the other members are still behind.
    pub(super) ahead: HashMap<Day, Shown>,
}

impl Batch {
    /// An empty batch, for the time before the first one begins.
    pub(super) fn none() -> Self {
        Self {
            begun: StoreTime::from_millis(0),
            acknowledged: Vec::new(),
            is_at_head: false,
            head: None,
            ahead: HashMap::new(),
        }
    }

    /// Begins at an instant of the store's clock.
    pub(super) fn begin(shared: &Shared, space: SpaceKey, begun: StoreTime) -> Self {
        Self {
            begun,
            acknowledged: shared.app.acknowledged.last(space),
            is_at_head: false,
            head: None,
            ahead: HashMap::new(),
        }
    }

    /// Whether the follower's position may count as the head. The store must have confirmed it lately, and it must include
    /// everything that this node had answered before the batch began. A newer event may be on its way: a socket that is
    /// told the position gets that event next.
    pub(super) fn is_confirmed(&self, shared: &Shared, follower: &Follower) -> bool {
        let health = &shared.app.health;
        let at = follower.at();
        let is_reached = |noted: &Position| noted.epoch == at.epoch && noted.version <= at.version;
        // A store that may lose writes without telling is asked each time.
        health.is_store_reachable()
            && !health.is_unfenced()
            && follower.is_in_step()
            && self.acknowledged.iter().all(is_reached)
    }

    /// Notes that the store was read in this batch, and that all members have reached what the read showed.
    pub(super) fn reach(&mut self, shared: &Shared, space: SpaceKey) {
        let reached = std::mem::take(&mut self.acknowledged);
        if !reached.is_empty() {
            shared.app.acknowledged.reach(space, &reached);
        }
    }
}
