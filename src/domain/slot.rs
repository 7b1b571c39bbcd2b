//! The stored record of a slot, and the status that follows from it and the clock.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{HoldToken, PublicState, SlotNumber, SlotTime, StoreTime, UserId};

/// The most bytes of a slot's `data` as JSON text.
pub const MAX_DATA_BYTES: usize = 16 * 1024;

/// The most bytes of the `data` of all slots of a space's day. A board carries all of it to anyone who asks. An act may not
/// make it exceed this bound.
pub const MAX_DAY_DATA_BYTES: usize = 256 * 1024;

/// Keys of the protocol, which are dropped from `data`.
pub const RESERVED_DATA_KEYS: [&str; 20] = [
    "id",
    "id_slot",
    "spazioId",
    "sedeId",
    "date",
    "orario",
    "startsAt",
    "endsAt",
    "status",
    "title",
    "held_until",
    "expires_at",
    "mine",
    "id_utente",
    "minutes_remaining",
    "holdToken",
    "heldAt",
    "extendableUntil",
    "cancelUntil",
    "slotId",
];

/// A slot's status as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Free and in the future.
    Available,
    /// Held by one user until the hold's end.
    Occupied,
    /// Confirmed.
    Booked,
    /// Closed by staff.
    Blocked,
    /// Its start has passed, and it is not booked or blocked.
    Past,
}

impl Status {
    /// The status on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Available => "available",
            Status::Occupied => "occupied",
            Status::Booked => "booked",
            Status::Blocked => "blocked",
            Status::Past => "past",
        }
    }

    /// The text that a board shows.
    pub const fn title(self) -> &'static str {
        match self {
            Status::Available => "Slot disponibile",
            Status::Occupied => "Slot occupato",
            Status::Booked => "Slot prenotato",
            Status::Blocked => "Slot chiuso",
            Status::Past => "Orario passato",
        }
    }
}

/// Staff's own object. It stays with a slot until the next change, and is passed on digit for digit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotData(IndexMap<String, Box<RawValue>>);

impl SlotData {
    /// Takes an object, and drops the keys of the protocol ([`RESERVED_DATA_KEYS`]).
    pub fn new(object: IndexMap<String, Box<RawValue>>) -> Self {
        Self(object.into_iter().filter(|(key, _)| !RESERVED_DATA_KEYS.contains(&key.as_str())).collect())
    }

    /// Its length as JSON text, as stored and sent.
    pub fn byte_count(&self) -> usize {
        super::event::to_json(self).len()
    }

    /// The members, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), &**value))
    }
}

impl PartialEq for SlotData {
    fn eq(&self, other: &Self) -> bool {
        self.iter().map(|(k, v)| (k, v.get())).eq(other.iter().map(|(k, v)| (k, v.get())))
    }
}

/// A live or ended hold. All times are the store's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// Who holds the slot.
    pub user: UserId,
    /// One token for all slots that were held in one act.
    pub token: HoldToken,
    /// When it began.
    pub began: StoreTime,
    /// When it ends: at the slot's start at the latest.
    pub until: StoreTime,
    /// The end that it had at first. A repeated `hold` gets the first answer.
    pub first_until: StoreTime,
    /// The version of the hold's first event; 0 until that is known.
    pub first_version: u64,
    /// The epoch of that version, for the answer to a repeated `hold`. Missing in records of 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_epoch: Option<Arc<str>>,
    /// The length in ms when the end was last set; missing in records of 0.1. If the store's clock is set back, the hold
    /// lasts at most this long from any instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<i64>,
}

impl Hold {
    /// When the hold ends by a clock that shows `now`: at its stored end, or earlier if the clock was set back since.
    pub fn ends(&self, now: StoreTime) -> StoreTime {
        self.length.map_or(self.until, |length| self.until.min(now.plus_millis(length)))
    }
}

/// The stored state of a slot. A slot without a record is available and has no data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Free, possibly with staff's data.
    Available {
        /// Staff's object.
        data: Option<SlotData>,
    },
    /// Held. The hold ends by the clock, swept or not.
    Held(Hold),
    /// Booked for `user`; `None` if staff booked it for nobody.
    Booked {
        /// The user; `None` if staff booked it for nobody.
        user: Option<UserId>,
        /// The version of the booking's first event, for the answer to a repeated `book`; 0 until that is known.
        first_version: u64,
        /// The epoch of that version; missing in records of 0.1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_epoch: Option<Arc<str>>,
        /// When the slot was booked; missing in records of 0.1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        booked_at: Option<StoreTime>,
        /// Staff's object.
        data: Option<SlotData>,
    },
    /// Closed by staff.
    Blocked {
        /// Staff's object.
        data: Option<SlotData>,
    },
}

impl SlotState {
    /// Fills in the position of the first event of a new hold or booking. An older one keeps its own.
    pub fn fill_first(&mut self, epoch: &Arc<str>, version: u64) {
        if let SlotState::Held(Hold { first_version, first_epoch, .. })
        | SlotState::Booked { first_version, first_epoch, .. } = self
            && *first_version == 0
        {
            *first_version = version;
            *first_epoch = Some(epoch.clone());
        }
    }
}

/// A slot's record. It has everything that the slot's events need, because a sweeper knows no schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// The state of the slot.
    pub state: SlotState,
    /// The version of its last change.
    pub version: u64,
    /// The slot's start under the schedule of its last change. A free slot may have moved since.
    pub start: StoreTime,
    /// When the slot ends.
    pub end: StoreTime,
    /// Its local start, `HH:MM` (`orario` on the wire).
    pub label: String,
}

impl SlotRecord {
    /// The record in place of an unreadable one. The slot is blocked until staff sets it anew.
    pub fn unreadable() -> Self {
        let (start, end) = (StoreTime::from_millis(0), StoreTime::from_millis(0));
        Self { state: SlotState::Blocked { data: None }, version: 0, start, end, label: String::new() }
    }

    /// The slot's time at its last change.
    pub fn time(&self, number: SlotNumber) -> SlotTime {
        SlotTime { number, start: self.start, end: self.end, label: self.label.clone() }
    }

    /// The hold that is live at `now`.
    pub fn live_hold(&self, now: StoreTime) -> Option<&Hold> {
        match &self.state {
            SlotState::Held(hold) if now < hold.until => Some(hold),
            _ => None,
        }
    }

    /// The hold that has ended at `now` and has not been freed.
    pub fn ended_hold(&self, now: StoreTime) -> Option<&Hold> {
        match &self.state {
            SlotState::Held(hold) if hold.until <= now => Some(hold),
            _ => None,
        }
    }

    /// The status at `now` by the record's own start, for callers that know no schedule.
    pub fn status(&self, now: StoreTime) -> Status {
        status_of(&self.state, self.start, now)
    }

    /// Staff's data, if the state has any.
    pub fn data(&self) -> Option<&SlotData> {
        data_of(&self.state)
    }
}

/// The status of a slot that starts at `start` and has `state` stored, at `now`.
pub fn status_of(state: &SlotState, start: StoreTime, now: StoreTime) -> Status {
    PublicState::from(state).status(start, now)
}

/// The data that staff gave a slot in this state.
pub fn data_of(state: &SlotState) -> Option<&SlotData> {
    match state {
        SlotState::Available { data } | SlotState::Booked { data, .. } | SlotState::Blocked { data } => data.as_ref(),
        SlotState::Held(_) => None,
    }
}
