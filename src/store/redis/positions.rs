//! The last known positions of topics.
//!
//! An older copy may replace the stored data while the server runs, fence included. Then versions would be issued again
//! under the same epoch, until a node notices. A script that is told how far its caller has seen the topic notices first,
//! and begins an epoch before it writes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::Position;
use crate::store::Topic;

/// The most topics that are remembered, at about 150 bytes each.
const MOST_TOPICS: usize = 16_384;

/// The last known position of each topic. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Positions(
    /// Held for a map access only, never across an await.
    Arc<Mutex<HashMap<Topic, Position>>>,
);

impl Positions {
    /// Learns a position that the store has told.
    pub fn learn(&self, topic: Topic, at: &Position) {
        let mut known = self.0.lock();
        if known.len() >= MOST_TOPICS && !known.contains_key(&topic) {
            known.clear();
        }
        match known.entry(topic) {
            Entry::Occupied(mut before) => {
                if before.get().epoch != at.epoch || before.get().version < at.version {
                    before.insert(at.clone());
                }
            }
            Entry::Vacant(place) => drop(place.insert(at.clone())),
        }
    }

    /// A topic's position as scripts take it: epoch and version with a colon between; empty if it is not known.
    pub(super) fn arg(&self, topic: Topic) -> String {
        let known = self.0.lock();
        known.get(&topic).map_or_else(String::new, |at| format!("{}:{}", at.epoch, at.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Bucket, SiteId, SpaceId, SpaceKey};

    fn space(number: u64) -> Topic {
        Topic::Space(SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() })
    }

    fn at(epoch: &str, version: u64) -> Position {
        Position { epoch: epoch.into(), version }
    }

    #[test]
    fn the_highest_of_an_epoch_is_known_and_the_last_epoch() {
        let positions = Positions::default();
        positions.learn(Topic::Bucket(Bucket::EVERYONE), &at("a", 1));
        assert_eq!((&*positions.arg(space(1)), &*positions.arg(Topic::Bucket(Bucket::EVERYONE))), ("", "a:1"));
        for (told, known) in [(at("a", 2), "a:2"), (at("a", 1), "a:2"), (at("b", 1), "b:1"), (at("b", 3), "b:3")] {
            positions.learn(space(1), &told);
            assert_eq!(positions.arg(space(1)), known);
        }
    }

    #[test]
    fn of_no_more_topics_than_there_is_room_for() {
        let positions = Positions::default();
        for number in 1..=MOST_TOPICS as u64 + 1 {
            positions.learn(space(number), &at("a", number));
        }
        assert_eq!(positions.arg(space(1)), "");
        assert_eq!(positions.arg(space(MOST_TOPICS as u64 + 1)), format!("a:{}", MOST_TOPICS + 1));
    }
}
