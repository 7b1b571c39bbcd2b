//! What a follower of a bucket remembers, so that it can continue across an epoch and beyond the end of a log. Every
//! message is told once, and the told counts of freed slots add up to the slots that were freed.

use std::sync::Arc;

use super::follower::Step;
use crate::domain::Position;
use crate::store::told::{BucketRead, BucketStart, Told};
use crate::store::{FreedSlots, Message, MessageKind};

/// The position up to which messages of the bucket were told.
#[derive(Debug)]
pub(super) struct BucketMemory {
    told: Told,
    /// How many freed slots of the bucket were ever told; `None` if the store does not count them.
    freed: Option<u64>,
    /// Whether the log that is being read begins after the node's position.
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

    /// Notes that a message was told.
    pub(super) fn note(&mut self, message: &Message) {
        self.told.note(message.at.clone());
        if let Some(freed) = &mut self.freed {
            *freed += freed_in(message);
        }
    }

    /// Forgets the versions of an epoch from `version` on, because the store went back and gave them a second time.
    pub(super) fn forget_from(&mut self, epoch: &Arc<str>, version: u64) {
        self.told.forget_from(epoch, version);
    }

    /// Tells the messages that the log has. At the end of the log it tells how many freed slots the log lacks.
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

    /// Tells once that messages may be missing.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::value::RawValue;

    use super::*;
    use crate::domain::StoreTime;

    fn at(epoch: &str, version: u64) -> Position {
        Position { epoch: epoch.into(), version }
    }

    /// A message that frees this many slots.
    fn freeing(at: Position, slots: u64) -> Message {
        let slots: Vec<u64> = (1..=slots).collect();
        let json = format!(r#"{{"spazioId":1,"sedeId":1,"date":"2026-11-23","slots":{slots:?}}}"#);
        let payload: Arc<RawValue> = RawValue::from_string(json).unwrap().into();
        Message { at, kind: MessageKind::Freed, payload, owned: None, written: None }
    }

    fn read(head: Position, freed: u64, messages: Vec<Message>) -> BucketRead {
        BucketRead { head, freed: Some(freed), messages }
    }

    fn of(steps: Vec<Step>) -> Vec<String> {
        let text = |step| match step {
            Step::Missed(message) | Step::Deliver(message) => format!("{} {}", message.at.epoch, message.at.version),
            Step::FreedUnnamed(count) => format!("{count} unnamed"),
            Step::Restarted => "restarted".into(),
        };
        steps.into_iter().map(text).collect()
    }

    fn memory() -> BucketMemory {
        let told = Told::begin(StoreTime::from_millis(0), at("a", 9), None);
        BucketMemory::new(BucketStart { told, freed: Some(100) })
    }

    #[test]
    fn what_goes_on_through_an_epoch_is_told_and_nothing_else() {
        let mut memory = memory();
        let messages = vec![freeing(at("a", 10), 2), freeing(at("b", 11), 3)];
        assert_eq!(of(memory.take(read(at("b", 11), 105, messages), false)), ["a 10", "b 11"]);
        assert_eq!(memory.at(), &at("b", 11));
        assert_eq!(of(memory.take(read(at("b", 11), 105, Vec::new()), false)), [""; 0]);
        assert_eq!(of(memory.take(read(at("c", 11), 105, Vec::new()), false)), ["restarted"]);
    }

    #[test]
    fn what_the_log_lacks_is_counted_at_its_end() {
        let mut memory = memory();
        let steps = memory.take(read(at("b", 31), 150, vec![freeing(at("b", 30), 4)]), true);
        assert_eq!(of(steps), ["restarted", "b 30"], "there is more to read");
        let steps = memory.take(read(at("b", 31), 150, vec![freeing(at("b", 31), 1)]), false);
        assert_eq!(of(steps), ["b 31", "45 unnamed"]);
        assert_eq!(of(memory.take(read(at("b", 31), 150, Vec::new()), false)), [""; 0]);
    }

    #[test]
    fn a_store_that_lost_what_was_told_owes_nothing() {
        let mut memory = memory();
        memory.note(&freeing(at("a", 10), 6));
        let steps = memory.take(read(at("b", 10), 106, vec![freeing(at("b", 10), 6)]), false);
        assert_eq!(of(steps), ["restarted", "b 10"], "freed once more");
        memory.note(&freeing(at("b", 11), 1));
        assert_eq!(of(memory.take(read(at("b", 12), 109, vec![freeing(at("b", 12), 2)]), false)), ["b 12"]);
    }
}
