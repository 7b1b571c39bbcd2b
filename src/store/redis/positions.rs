//! Where spaces stood when this process last heard of them.
//!
//! What is stored may be replaced by a copy from before while the server runs, fence and all. Then versions would be issued
//! again under the same epoch, until a node notices. A script that is told how far its caller has seen the space notices
//! first, and begins an epoch before it writes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::{Position, SpaceKey};
use crate::store::Topic;

/// Of how many spaces at most: about 150 bytes each.
const MOST_SPACES: usize = 16_384;

/// The last known position of each space. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Positions(
    /// Held for a map access only, never across an await.
    Arc<Mutex<HashMap<SpaceKey, Position>>>,
);

impl Positions {
    /// Takes a position that the store has told.
    pub fn learn(&self, topic: Topic, at: &Position) {
        let Topic::Space(space) = topic else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_SPACES && !known.contains_key(&space) {
            known.clear();
        }
        match known.entry(space) {
            Entry::Occupied(mut before) => {
                if before.get().epoch != at.epoch || before.get().version < at.version {
                    before.insert(at.clone());
                }
            }
            Entry::Vacant(place) => drop(place.insert(at.clone())),
        }
    }

    /// A space's position as scripts take it: epoch and version, a colon between; empty where it is not known.
    pub(super) fn arg(&self, space: SpaceKey) -> String {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&space).map_or_else(String::new, |at| format!("{}:{}", at.epoch, at.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Bucket, SiteId, SpaceId};

    fn space(number: u64) -> SpaceKey {
        SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
    }

    fn at(epoch: &str, version: u64) -> Position {
        Position { epoch: epoch.into(), version }
    }

    #[test]
    fn the_highest_of_an_epoch_is_known_and_the_last_epoch() {
        let positions = Positions::default();
        positions.learn(Topic::Bucket(Bucket::EVERYONE), &at("a", 1));
        assert_eq!(positions.arg(space(1)), "");
        for (told, known) in [(at("a", 2), "a:2"), (at("a", 1), "a:2"), (at("b", 1), "b:1"), (at("b", 3), "b:3")] {
            positions.learn(Topic::Space(space(1)), &told);
            assert_eq!(positions.arg(space(1)), known);
        }
    }

    #[test]
    fn of_no_more_spaces_than_there_is_room_for() {
        let positions = Positions::default();
        for number in 1..=MOST_SPACES as u64 + 1 {
            positions.learn(Topic::Space(space(number)), &at("a", number));
        }
        assert_eq!(positions.arg(space(1)), "");
        assert_eq!(positions.arg(space(MOST_SPACES as u64 + 1)), format!("a:{}", MOST_SPACES + 1));
    }
}
