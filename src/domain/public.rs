//! What everybody may know of a slot: its status, and not its user. The events tell exactly this, so a listener who hears
//! all of them knows the day as the store does.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::slot::{SlotData, SlotRecord, SlotState, Status};
use super::{Day, SlotNumber, StoreTime};

/// A day of a space as everybody may know it. A missing slot is available.
pub type PublicDay = BTreeMap<SlotNumber, PublicSlot>;

/// A stored state without its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicState {
    /// Free.
    Available,
    /// Held by one user.
    Held {
        /// The end of the hold.
        until: StoreTime,
    },
    /// Confirmed.
    Booked,
    /// Closed by staff.
    Blocked,
}

impl PublicState {
    /// The status of a slot that starts at `start`, at `now`.
    pub fn status(self, start: StoreTime, now: StoreTime) -> Status {
        match self {
            PublicState::Booked => Status::Booked,
            PublicState::Blocked => Status::Blocked,
            PublicState::Available | PublicState::Held { .. } if start <= now => Status::Past,
            PublicState::Held { until } if now < until => Status::Occupied,
            PublicState::Available | PublicState::Held { .. } => Status::Available,
        }
    }
}

impl From<&SlotState> for PublicState {
    fn from(state: &SlotState) -> Self {
        match state {
            SlotState::Available { .. } => PublicState::Available,
            SlotState::Held(hold) => PublicState::Held { until: hold.until },
            SlotState::Booked { .. } => PublicState::Booked,
            SlotState::Blocked { .. } => PublicState::Blocked,
        }
    }
}

/// A slot without its owner.
#[derive(Clone, Debug, PartialEq)]
pub struct PublicSlot {
    /// The slot's state.
    pub state: PublicState,
    /// Staff's object.
    pub data: Option<SlotData>,
}

impl From<SlotRecord> for PublicSlot {
    fn from(record: SlotRecord) -> Self {
        Self { state: PublicState::from(&record.state), data: record.data().cloned() }
    }
}

/// What a `slot_update` says of a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct PublicChange {
    /// The day.
    pub day: Day,
    /// The slot.
    pub number: SlotNumber,
    /// The slot after the update.
    pub slot: PublicSlot,
}

impl PublicChange {
    /// Reads the payload of a `slot_update`. An error says which part cannot be read.
    pub fn read(payload: &RawValue) -> Result<Self, String> {
        let update: SlotUpdate = serde_json::from_str(payload.get()).map_err(|error| error.to_string())?;
        let day = update.text("date").and_then(|text| Day::parse(&text)).ok_or("no date")?;
        let state = match update.status.as_str() {
            // `past` is never a state of its own: a slot that has started shows as past because of its start, whatever
            // is stored.
            "available" | "past" => PublicState::Available,
            "occupied" => PublicState::Held { until: update.instant("held_until").ok_or("no end of a hold")? },
            "booked" => PublicState::Booked,
            "blocked" => PublicState::Blocked,
            other => return Err(format!("an unknown status {other:?}")),
        };
        let data = Some(SlotData::new(update.data)).filter(|data| data.iter().next().is_some());
        Ok(Self { day, number: update.slot_id, slot: PublicSlot { state, data } })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlotUpdate {
    slot_id: SlotNumber,
    status: String,
    data: IndexMap<String, Box<RawValue>>,
}

impl SlotUpdate {
    fn text(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.data.get(key)?.get()).ok()
    }

    fn instant(&self, key: &str) -> Option<StoreTime> {
        Some(StoreTime::from(self.text(key)?.parse::<jiff::Timestamp>().ok()?))
    }
}
