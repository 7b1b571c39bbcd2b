//! Up to where this node has answered for the spaces that it follows. An act's answer and its announcement come by
//! different ways, and the answer may be first: whoever has it must not be shown a board from before it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::SpaceKey;
use crate::domain::event::Position;

/// The last position that was answered in each followed space; `None` while there is none.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Held for a map access only, never across an await.
    positions: Mutex<HashMap<SpaceKey, Option<Position>>>,
}

impl Acknowledged {
    /// Notes positions of the space from now on.
    pub fn follow(&self, space: SpaceKey) {
        self.lock().insert(space, None);
    }

    /// Notes none any more.
    pub fn unfollow(&self, space: SpaceKey) {
        self.lock().remove(&space);
    }

    /// An act of the space is about to be answered with this position.
    pub fn note(&self, space: SpaceKey, at: &Position) {
        if let Some(noted) = self.lock().get_mut(&space)
            && noted.as_ref().is_none_or(|noted| noted.epoch != at.epoch || noted.version < at.version)
        {
            *noted = Some(at.clone());
        }
    }

    /// What was answered last, unless it is known to be reached.
    pub fn last(&self, space: SpaceKey) -> Option<Position> {
        self.lock().get(&space).cloned().flatten()
    }

    /// Everything up to `noted`, which [`last`](Self::last) gave, is reached.
    pub fn reach(&self, space: SpaceKey, noted: &Position) {
        if let Some(last) = self.lock().get_mut(&space)
            && last.as_ref() == Some(noted)
        {
            *last = None;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SpaceKey, Option<Position>>> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!(acknowledged.last(space), None, "nobody follows it");
        acknowledged.follow(space);
        acknowledged.note(space, &at("a", 7));
        acknowledged.note(space, &at("a", 5));
        assert_eq!(acknowledged.last(space), Some(at("a", 7)));
        acknowledged.note(space, &at("b", 3));
        acknowledged.reach(space, &at("a", 7));
        assert_eq!(acknowledged.last(space), Some(at("b", 3)), "answered since");
        acknowledged.reach(space, &at("b", 3));
        assert_eq!(acknowledged.last(space), None);
        acknowledged.note(space, &at("b", 4));
        acknowledged.unfollow(space);
        assert_eq!(acknowledged.last(space), None);
    }
}
