//! Decides which space is tried next, and how many messages are sent at once.

use std::collections::{BTreeSet, HashMap};

use crate::domain::{SpaceKey, StoreTime};

/// How many messages to one endpoint may be on their way.
const MOST_AT_ONCE: usize = 16;

/// How many of these may have failed before. So an endpoint that hangs for some spaces does not keep the other spaces
/// waiting.
const MOST_TRIED: usize = 8;

/// The waiting spaces, by the time when they are due. A space may be in the queue several times, and even when it no
/// longer waits. The caller that takes a space out checks that.
#[derive(Debug, Default)]
pub struct Queue {
    fresh: BTreeSet<(StoreTime, SpaceKey)>,
    tried: BTreeSet<(StoreTime, SpaceKey)>,
    /// The spaces with a message on its way, and whether that message failed before.
    under_way: HashMap<SpaceKey, bool>,
}

impl Queue {
    /// Adds a space. `tries` is how often its message was tried.
    pub fn push(&mut self, space: SpaceKey, due: StoreTime, tries: u32) {
        let set = if tries == 0 { &mut self.fresh } else { &mut self.tried };
        set.insert((due, space));
    }

    /// Takes out a space that is due, if one more message may be sent.
    pub fn pop(&mut self, now: StoreTime) -> Option<SpaceKey> {
        let (due, space) = self.first().filter(|(due, _)| *due <= now)?;
        self.fresh.remove(&(due, space));
        if self.may_try_again() {
            self.tried.remove(&(due, space));
        }
        Some(space)
    }

    /// When the next space is due; `None` if no more messages may be sent.
    pub fn next_due(&self) -> Option<StoreTime> {
        self.first().map(|(due, _)| due)
    }

    /// Notes that a message of the space is on its way. Answers `false` if one is already.
    pub fn begin(&mut self, space: SpaceKey, tries: u32) -> bool {
        let is_free = !self.under_way.contains_key(&space);
        if is_free {
            self.under_way.insert(space, tries > 0);
        }
        is_free
    }

    /// Notes that the message of the space is over.
    pub fn end(&mut self, space: SpaceKey) {
        self.under_way.remove(&space);
    }

    fn first(&self) -> Option<(StoreTime, SpaceKey)> {
        if self.under_way.len() >= MOST_AT_ONCE {
            return None;
        }
        let tried = self.tried.first().filter(|_| self.may_try_again());
        self.fresh.first().into_iter().chain(tried).min().copied()
    }

    fn may_try_again(&self) -> bool {
        self.under_way.values().filter(|was_tried| **was_tried).count() < MOST_TRIED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{SiteId, SpaceId};

    fn space(number: u64) -> SpaceKey {
        SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
    }

    fn at(millis: i64) -> StoreTime {
        StoreTime::from_millis(millis)
    }

    #[test]
    fn the_space_that_is_due_first_comes_first() {
        let mut queue = Queue::default();
        queue.push(space(1), at(30), 0);
        queue.push(space(2), at(20), 3);
        queue.push(space(3), at(90), 0);
        assert_eq!(queue.next_due(), Some(at(20)));
        assert_eq!([queue.pop(at(50)), queue.pop(at(50)), queue.pop(at(50))], [Some(space(2)), Some(space(1)), None]);
        assert_eq!(queue.next_due(), Some(at(90)));
    }

    #[test]
    fn what_failed_before_leaves_room_for_others() {
        let mut queue = Queue::default();
        for number in 1..=20 {
            queue.push(space(number), at(0), 1);
            queue.push(space(100 + number), at(1), 0);
        }
        let mut tried = 0;
        while let Some(next) = queue.pop(at(5)) {
            let tries = u32::from(next.space.get() <= 20);
            tried += tries;
            assert!(queue.begin(next, tries) && !queue.begin(next, tries));
        }
        assert_eq!((tried, queue.under_way.len(), queue.next_due()), (8, 16, None));
        queue.end(space(101));
        assert_eq!(queue.pop(at(5)), Some(space(109)), "of those that were not tried");
        assert!(queue.begin(space(109), 0));
        queue.end(space(1));
        assert_eq!(queue.pop(at(5)), Some(space(9)));
    }
}
