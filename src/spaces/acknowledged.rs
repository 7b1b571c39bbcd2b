//! The position up to which this node has answered, for each space that it follows. The answer to an act may come before
//! the act's announcement. A client that has the answer must not be shown an older board.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};

use crate::domain::{Position, SpaceKey};

/// The last answered position in each followed space, one for each epoch: nothing tells which of two epochs is later.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Held for a map access only, never across an await.
    positions: Mutex<HashMap<SpaceKey, Vec<Position>>>,
}

impl Acknowledged {
    /// Notes positions of the space from now on.
    pub fn follow(&self, space: SpaceKey) {
        self.lock().insert(space, Vec::new());
    }

    /// Notes no more positions of the space.
    pub fn unfollow(&self, space: SpaceKey) {
        self.lock().remove(&space);
    }

    /// Notes that a caller is about to be answered with this position of the space.
    pub fn note(&self, space: SpaceKey, at: &Position) {
        let mut positions = self.lock();
        let Some(noted) = positions.get_mut(&space) else { return };
        match noted.iter_mut().find(|noted| noted.epoch == at.epoch) {
            Some(noted) => noted.version = noted.version.max(at.version),
            None => noted.push(at.clone()),
        }
    }

    /// The last answered positions, without those that are known to be reached.
    pub fn last(&self, space: SpaceKey) -> Vec<Position> {
        self.lock().get(&space).cloned().unwrap_or_default()
    }

    /// Notes that the store was read after [`last`](Self::last) gave `noted`, so that the read includes all of it.
    pub fn reach(&self, space: SpaceKey, noted: &[Position]) {
        if let Some(positions) = self.lock().get_mut(&space) {
            positions.retain(|position| !noted.contains(position));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SpaceKey, Vec<Position>>> {
        self.positions.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{SiteId, SpaceId};

    fn at(epoch: &str, version: u64) -> Position {
        Position { epoch: epoch.into(), version }
    }

    #[test]
    fn the_last_answer_stands_until_it_is_reached() {
        let space = SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(2).unwrap() };
        let acknowledged = Acknowledged::default();
        acknowledged.note(space, &at("a", 1));
        assert_eq!(acknowledged.last(space), [], "nobody follows it");
        acknowledged.follow(space);
        acknowledged.note(space, &at("a", 7));
        acknowledged.note(space, &at("a", 5));
        let read = acknowledged.last(space);
        assert_eq!(read, [at("a", 7)]);
        acknowledged.note(space, &at("b", 3));
        acknowledged.reach(space, &read);
        assert_eq!(acknowledged.last(space), [at("b", 3)], "answered since");
        // The repeat of an older act gets the older answer.
        acknowledged.note(space, &at("a", 2));
        acknowledged.note(space, &at("b", 4));
        assert_eq!(acknowledged.last(space), [at("b", 4), at("a", 2)]);
        acknowledged.unfollow(space);
        assert_eq!(acknowledged.last(space), []);
    }
}
