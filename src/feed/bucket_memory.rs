//! What a follower of a bucket remembers, so that it can go on through an epoch's end and past the end of a log: every
//! message is told once, and the counts of freed slots sum up to what was freed.

use std::sync::Arc;

use super::follower::Step;
use crate::domain::event::Position;
use crate::store::told::{BucketRead, BucketStart, Told};
use crate::store::{FreedSlots, Message, MessageKind};

/// Up to where a bucket was told.
#[derive(Debug)]
pub(super) struct BucketMemory {
    told: Told,
    /// How many slots were ever freed in the bucket, of those that were told; `None` when the store does not count them.
    freed: Option<u64>,
    /// The log that is being read does not begin where the node stood.
    is_torn: bool,
}

impl BucketMemory {
    pub(super) fn new(start: BucketStart) -> Self {
        Self { told: start.told, freed: start.freed, is_torn: false }
    }

    pub(super) fn at(&self) -> &Position {
        &self.told.at
    }

    pub(super) fn told(&self) -> &Told {
        &self.told
    }

    /// A message is told.
    pub(super) fn note(&mut self, message: &Message) {
        self.told.note(message.at.clone());
        if let Some(freed) = &mut self.freed {
            *freed += freed_in(message);
        }
    }

    /// The store has gone back, and has given the versions of an epoch from this one on a second time.
    pub(super) fn forget_from(&mut self, epoch: &Arc<str>, version: u64) {
        self.told.forget_from(epoch, version);
    }

    /// Tells what was read: what the log has, and then, at its end, how many freed slots it does not have.
    pub(super) fn take(&mut self, read: BucketRead, is_more: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        for message in read.messages {
            if message.at.version != self.told.at.version + 1 {
                self.tear(&mut steps);
            }
            self.note(&message);
            steps.push(Step::Missed(message));
        }
        if is_more {
            return steps;
        }
        if read.head != self.told.at {
            self.tear(&mut steps);
            self.told.note(read.head);
        }
        self.is_torn = false;
        let unnamed = read.freed.unwrap_or_default().saturating_sub(self.freed.unwrap_or_default());
        if unnamed > 0 && self.freed.is_some() {
            steps.push(Step::FreedUnnamed(unnamed));
        }
        self.freed = read.freed;
        steps
    }

    /// Says once that something may be missing.
    fn tear(&mut self, steps: &mut Vec<Step>) {
        if !self.is_torn {
            self.is_torn = true;
            steps.push(Step::Restarted);
        }
    }
}

fn freed_in(message: &Message) -> u64 {
    if message.kind != MessageKind::Freed {
        return 0;
    }
    serde_json::from_str::<FreedSlots>(message.payload.get()).map_or(0, |freed| freed.slots.len() as u64)
}
