//! The answers of a store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::UserMessage;
use crate::domain::rule::HoldAnswer;
use crate::domain::schedule::ScheduleSpec;
use crate::domain::{Day, HoldToken, Position, SlotNumber, SlotRecord, SpaceKey, StoreTime};

/// The store's answer to an act on slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActOutcome {
    /// The position of its last event.
    pub at: Position,
    /// For `hold` and `extend`.
    pub hold: Option<HoldAnswer>,
    /// Whether the act had been done before, so that nothing was written now. Not stored.
    #[serde(skip)]
    pub is_repeat: bool,
}

/// The records of one day, as of the position `at`.
#[derive(Clone, Debug)]
pub struct DayState {
    /// Where the space stands.
    pub at: Position,
    /// The version of the schedule's last change; 0 if it never changed.
    pub revision: u64,
    /// The store's time of the read.
    pub now: StoreTime,
    /// The records. A slot without a record is available.
    pub records: BTreeMap<SlotNumber, SlotRecord>,
}

impl DayState {
    /// The position of the schedule's last change; `None` if it never changed. Acts carry it.
    pub fn revised_at(&self) -> Option<Position> {
        (self.revision > 0).then(|| Position { epoch: self.at.epoch.clone(), version: self.revision })
    }
}

/// A space's schedule as the store has it.
#[derive(Clone, Debug)]
pub struct ScheduleState {
    /// Where the space stands.
    pub at: Position,
    /// The version of the schedule's last change; 0 if it never changed.
    pub revision: u64,
    /// `None` if the space is not registered.
    pub schedule: Option<ScheduleSpec>,
    /// The store's time of the read.
    pub now: StoreTime,
}

impl ScheduleState {
    /// The position of the schedule's last change; `None` if it never changed. Acts and changes carry it.
    pub fn revised_at(&self) -> Option<Position> {
        (self.revision > 0).then(|| Position { epoch: self.at.epoch.clone(), version: self.revision })
    }
}

/// A space as the store has it.
#[derive(Clone, Debug)]
pub struct SpaceState {
    /// Where the space stands.
    pub at: Position,
    /// The version of the schedule's last change; 0 if it never changed.
    pub revision: u64,
    /// `None` if the space is not registered.
    pub schedule: Option<ScheduleSpec>,
    /// The store's time of the read.
    pub now: StoreTime,
    /// Slots that start in the future and are held live, booked or blocked.
    pub taken: Vec<(Day, SlotNumber, SlotRecord)>,
}

impl SpaceState {
    /// The position of the schedule's last change; `None` if it never changed. Acts and changes carry it.
    pub fn revised_at(&self) -> Option<Position> {
        (self.revision > 0).then(|| Position { epoch: self.at.epoch.clone(), version: self.revision })
    }
}

/// A slot that a user has booked.
#[derive(Clone, Debug, PartialEq)]
pub struct BookedSlot {
    /// The space.
    pub space: SpaceKey,
    /// The day.
    pub day: Day,
    /// The slot.
    pub slot: SlotNumber,
    /// Its local start, `HH:MM`.
    pub label: String,
    /// When it starts.
    pub start: StoreTime,
    /// When it ends.
    pub end: StoreTime,
    /// When it was booked; missing in records of slotcast 0.1.
    pub booked_at: Option<StoreTime>,
}

/// A live hold of one slot.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldSlot {
    /// The space.
    pub space: SpaceKey,
    /// The day.
    pub day: Day,
    /// The slot.
    pub slot: SlotNumber,
    /// Its local start, `HH:MM`.
    pub label: String,
    /// The hold's token.
    pub token: HoldToken,
    /// The hold's end.
    pub until: StoreTime,
}

/// Messages to its user that a socket has missed.
#[derive(Clone, Debug, Default)]
pub struct UserBacklog {
    /// The sequence after which they begin.
    pub after: u64,
    /// Oldest first.
    pub messages: Vec<UserMessage>,
    /// Whether the user may have more messages after these.
    pub has_more: bool,
}

/// The result of one bounded sweep of a bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SweepBatch {
    /// How many holds were freed.
    pub freed: u64,
    /// Their spaces, each once.
    pub spaces: Vec<SpaceKey>,
    /// How late the oldest of them was freed, in milliseconds.
    pub oldest_late_ms: u64,
    /// Whether more had ended than the limit allowed to free.
    pub more: bool,
    /// The time in milliseconds until the bucket's next hold ends; `None` if it has no hold.
    pub next_end_in_ms: Option<u64>,
}

/// The report of `slotcast migrate`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    /// The format that everything has now.
    pub format: u64,
    /// How many buckets, or files, were moved to it; 0 if all had it.
    pub moved: u64,
    /// How many records of slots there are.
    pub records: u64,
    /// How many records were rewritten.
    pub rewritten: u64,
    /// The places of unreadable records.
    pub unreadable: Vec<String>,
}

/// One node's report about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Random, new with each start.
    pub id: String,
    /// Where other nodes reach it.
    pub address: String,
    /// The node's signature of its own address; `None` if nodes share no key.
    pub proof: Option<String>,
    /// The version of the program.
    pub version: String,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// Connected sockets.
    pub sockets: u64,
    /// Distinct users among them.
    pub users: u64,
    /// Members of each room.
    pub rooms: BTreeMap<String, u64>,
}
