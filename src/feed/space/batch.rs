//! What a space's task does together, and what it must have reached before it shows anything to those who asked.

use std::collections::HashMap;

use super::snapshots::Shown;
use crate::domain::{Day, Position, SpaceKey, StoreTime};
use crate::feed::Shared;
use crate::feed::follower::Follower;

/// What is done together: commands, or snapshots that are due. All of it was asked for before the batch began.
pub(super) struct Batch {
    pub(super) begun: StoreTime,
    /// Up to where the node had answered then.
    acknowledged: Vec<Position>,
    /// Whether the head was read, and reached, since then.
    pub(super) is_at_head: bool,
    /// The head that was read in it, and that everybody else has not reached.
    pub(super) head: Option<Position>,
    /// Snapshots that were read in it, of what everybody else has not reached.
    pub(super) ahead: HashMap<Day, Shown>,
}

impl Batch {
    /// Nothing has begun yet.
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

    /// Whether the follower's position may pass for the head: the store has confirmed it lately, and nothing that this
    /// node had answered before the batch began is missing in it. Something newer may be on its way; whoever is told the
    /// position gets that next.
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

    /// The store was read in this batch, and everybody is brought there.
    pub(super) fn reach(&mut self, shared: &Shared, space: SpaceKey) {
        let reached = std::mem::take(&mut self.acknowledged);
        if !reached.is_empty() {
            shared.app.acknowledged.reach(space, &reached);
        }
    }
}
