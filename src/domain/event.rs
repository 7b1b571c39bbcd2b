//! The JSON that every client receives, made once per change and forwarded as bytes.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::position::Position;
use super::rule::Change;
use super::slot::{SlotData, SlotRecord, SlotState, Status, data_of, status_of};
use super::{Day, PublicDay, PublicSlot, PublicState, Schedule, SlotNumber, SpaceKey, StoreTime, UserId};

/// The `slot_update` of one change.
pub fn slot_update(space: SpaceKey, day: Day, change: &Change, at: &Position, now: StoreTime) -> String {
    let status = status_of(&change.state, change.slot.start, now);
    to_json(&SlotUpdate {
        r#type: "slot_update",
        slot_id: change.slot.number,
        status: status.as_str(),
        data: SlotUpdateData { space, day, change, status },
        timestamp: now.rfc3339(),
        epoch: &at.epoch,
        version: at.version,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SlotUpdate<'a> {
    r#type: &'static str,
    slot_id: SlotNumber,
    status: &'static str,
    data: SlotUpdateData<'a>,
    timestamp: String,
    epoch: &'a str,
    version: u64,
}

struct SlotUpdateData<'a> {
    space: SpaceKey,
    day: Day,
    change: &'a Change,
    status: Status,
}

impl Serialize for SlotUpdateData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let slot = &self.change.slot;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &slot.number)?;
        map.serialize_entry("id_slot", &slot.number)?;
        map.serialize_entry("spazioId", &self.space.space)?;
        map.serialize_entry("sedeId", &self.space.site)?;
        map.serialize_entry("date", &self.day)?;
        map.serialize_entry("orario", &slot.label)?;
        map.serialize_entry("status", self.status.as_str())?;
        serialize_end(&mut map, held_until(PublicState::from(&self.change.state), self.status))?;
        serialize_data(&mut map, data_of(&self.change.state))?;
        map.end()
    }
}

/// Who looks at a board, and so what it shows besides the statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Anyone: nobody's id.
    Anyone,
    /// A user: own slots have `mine: true`.
    User(UserId),
    /// Staff: `id_utente` of who holds or booked.
    Staff,
}

/// A slot as it can be shown.
pub trait Shown {
    /// What it is.
    fn state(&self) -> PublicState;

    /// Staff's object.
    fn data(&self) -> Option<&SlotData>;

    /// Who holds or booked it, where that is known.
    fn owner(&self) -> Option<&UserId>;
}

impl Shown for SlotRecord {
    fn state(&self) -> PublicState {
        PublicState::from(&self.state)
    }

    fn data(&self) -> Option<&SlotData> {
        data_of(&self.state)
    }

    fn owner(&self) -> Option<&UserId> {
        match &self.state {
            SlotState::Held(hold) => Some(&hold.user),
            SlotState::Booked { user, .. } => user.as_ref(),
            SlotState::Available { .. } | SlotState::Blocked { .. } => None,
        }
    }
}

impl Shown for PublicSlot {
    fn state(&self) -> PublicState {
        self.state
    }

    fn data(&self) -> Option<&SlotData> {
        self.data.as_ref()
    }

    fn owner(&self) -> Option<&UserId> {
        None
    }
}

/// One slot of a day at an instant, as boards and snapshots show it.
pub struct BoardEntry<'a> {
    number: SlotNumber,
    label: &'a str,
    status: Status,
    until: Option<StoreTime>,
    data: Option<&'a SlotData>,
    /// Who holds (live) or booked the slot.
    owner: Option<&'a UserId>,
    viewer: &'a Viewer,
    /// Whole minutes that a hold has left, rounded up; only boards show it.
    minutes_remaining: Option<i64>,
}

impl Serialize for BoardEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id_slot", &self.number)?;
        map.serialize_entry("orario", self.label)?;
        map.serialize_entry("status", self.status.as_str())?;
        map.serialize_entry("title", self.status.title())?;
        serialize_end(&mut map, self.until)?;
        if let Some(minutes) = self.minutes_remaining {
            map.serialize_entry("minutes_remaining", &minutes)?;
        }
        match (self.viewer, self.owner) {
            (Viewer::User(viewer), Some(owner)) if viewer == owner => map.serialize_entry("mine", &true)?,
            (Viewer::Staff, Some(owner)) => map.serialize_entry("id_utente", owner)?,
            _ => {}
        }
        serialize_data(&mut map, self.data)?;
        map.end()
    }
}

/// The entries of a day at `now`. A slot that somebody has is shown as it is stored even where a later change of the
/// schedule moved it in the past.
pub fn board<'a, R: Shown>(
    slots: &'a [super::SlotTime],
    records: &'a std::collections::BTreeMap<SlotNumber, R>,
    now: StoreTime,
    viewer: &'a Viewer,
    with_minutes: bool,
) -> Vec<BoardEntry<'a>> {
    let entry = |slot: &'a super::SlotTime| {
        let record = records.get(&slot.number);
        let state = record.map_or(PublicState::Available, Shown::state);
        let status = state.status(slot.start, now);
        let until = held_until(state, status);
        let has_owner = matches!(status, Status::Occupied | Status::Booked);
        BoardEntry {
            number: slot.number,
            label: &slot.label,
            status,
            until,
            data: record.and_then(Shown::data),
            owner: record.and_then(Shown::owner).filter(|_| has_owner),
            viewer,
            minutes_remaining: until
                .filter(|_| with_minutes)
                .map(|until| (until.as_millis() - now.as_millis() + 59_999) / 60_000),
        }
    };
    slots.iter().map(entry).collect()
}

/// The `slots_status_update` of a day.
pub fn slots_status_update(
    space: SpaceKey,
    day: Day,
    schedule: Option<&Schedule>,
    known: &PublicDay,
    at: &Position,
    now: StoreTime,
) -> String {
    let slots = schedule.map(|schedule| schedule.slots(day)).unwrap_or_default();
    to_json(&SlotsStatusUpdate {
        r#type: "slots_status_update",
        slots_status: board(&slots, known, now, &Viewer::Anyone, false),
        spazio_id: space.space,
        sede_id: space.site,
        date: day,
        timestamp: now.rfc3339(),
        epoch: &at.epoch,
        version: at.version,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SlotsStatusUpdate<'a> {
    r#type: &'static str,
    slots_status: Vec<BoardEntry<'a>>,
    spazio_id: super::SpaceId,
    sede_id: super::SiteId,
    date: Day,
    timestamp: String,
    epoch: &'a str,
    version: u64,
}

/// The end of a hold, while it is live.
fn held_until(state: PublicState, status: Status) -> Option<StoreTime> {
    match (state, status) {
        (PublicState::Held { until }, Status::Occupied) => Some(until),
        _ => None,
    }
}

fn serialize_end<M: SerializeMap>(map: &mut M, until: Option<StoreTime>) -> Result<(), M::Error> {
    if let Some(until) = until.map(StoreTime::rfc3339) {
        map.serialize_entry("held_until", &until)?;
        map.serialize_entry("expires_at", &until)?;
    }
    Ok(())
}

fn serialize_data<M: SerializeMap>(map: &mut M, data: Option<&SlotData>) -> Result<(), M::Error> {
    for (key, value) in data.into_iter().flat_map(SlotData::iter) {
        map.serialize_entry(key, value)?;
    }
    Ok(())
}

/// Serializes what cannot fail: maps with string keys, numbers, text and JSON that was valid when it came.
pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}
