//! The messages of a bucket's topic that a node was told, and the messages that it reads to continue. This works across
//! epochs, so that nothing is lost or told twice if the store restarts, fails over or goes back.

use std::sync::Arc;

use super::Message;
use crate::domain::{Position, StoreTime};

/// How many epochs a node remembers of a bucket.
const EPOCHS: usize = 8;

/// The last messages of a bucket that a node was told, under each epoch that had messages.
///
/// A log keeps its messages in the order in which they were written, through all epochs. So the last told message divides
/// it: messages before it were told, or are older than the node; messages after it were not told.
#[derive(Clone, Debug)]
pub struct Told {
    /// When the node began to follow the bucket, in the store's time. A message of an epoch that is not in `up_to` counts
    /// as told if it is not younger.
    pub began: StoreTime,
    /// The last told position. Everything up to it was told, or is lost.
    pub at: Position,
    /// The last told version under each epoch. The epoch that was met last is last.
    up_to: Vec<Position>,
}

impl Told {
    /// The state of a node that begins at `at`, when the store's time is `began`. `last` is the log's last message,
    /// which may have been written under an earlier epoch.
    pub fn begin(began: StoreTime, at: Position, last: Option<Position>) -> Self {
        let mut told = Self { began, at: at.clone(), up_to: Vec::new() };
        last.into_iter().chain([at]).for_each(|position| told.note(position));
        told
    }

    /// Notes that everything up to `at` that had to be told was told.
    pub fn note(&mut self, at: Position) {
        let before = self.up_to.iter().position(|known| known.epoch == at.epoch).map(|index| self.up_to.remove(index));
        let version = before.map_or(0, |before| before.version).max(at.version);
        self.up_to.push(Position { epoch: at.epoch.clone(), version });
        if self.up_to.len() > EPOCHS {
            self.up_to.remove(0);
        }
        self.at = at;
    }

    /// Notes that the store has gone back, and that its messages under `epoch` from `version` on were not told.
    pub fn forget_from(&mut self, epoch: &Arc<str>, version: u64) {
        for known in self.up_to.iter_mut().filter(|known| known.epoch == *epoch) {
            known.version = known.version.min(version.saturating_sub(1));
        }
    }

    /// The last versions that were told, each under its epoch.
    pub fn up_to(&self) -> &[Position] {
        &self.up_to
    }
}

/// The part of a bucket's log that a node was not told.
#[derive(Clone, Debug)]
pub struct BucketRead {
    /// The position of the bucket's topic.
    pub head: Position,
    /// How many slots were ever freed in the bucket until then; `None` if the store does not count them.
    pub freed: Option<u64>,
    /// Kept messages that were not told, in order, each at the position under which it was written. Versions may be missing
    /// if the log does not reach back far enough. The read may stop before the head, like any read of a log.
    pub messages: Vec<Message>,
}

/// The position of a bucket, for a node that begins to follow it.
#[derive(Clone, Debug)]
pub struct BucketStart {
    /// The messages that count as told to the node.
    pub told: Told,
    /// How many slots were ever freed in the bucket; `None` if the store does not count them.
    pub freed: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: &str, version: u64) -> Position {
        Position { epoch: epoch.into(), version }
    }

    #[test]
    fn each_epoch_is_remembered_by_its_last_version() {
        let mut told = Told::begin(StoreTime::from_millis(5), at("b", 9), Some(at("a", 9)));
        assert_eq!(told.up_to(), [at("a", 9), at("b", 9)]);
        told.note(at("b", 10));
        assert_eq!((told.up_to(), &told.at), (&[at("a", 9), at("b", 10)][..], &at("b", 10)));
        // The store has lost two messages, and issued their versions again.
        told.note(at("c", 8));
        told.note(at("c", 9));
        assert_eq!(told.up_to(), [at("a", 9), at("b", 10), at("c", 9)]);
        told.forget_from(&"b".into(), 4);
        assert_eq!(told.up_to(), [at("a", 9), at("b", 3), at("c", 9)]);
        (0..10).for_each(|number| told.note(at(&number.to_string(), 1)));
        assert_eq!((told.up_to().len(), told.up_to().last()), (EPOCHS, Some(&at("9", 1))));
    }
}
