//! The JSON that every client receives. It is made once for each change, and passed on as bytes.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::own::{OwnMembers, OwnTerms, Owned, insert_own};
use super::position::Position;
use super::rule::Change;
use super::slot::{RESERVED_DATA_KEYS, SlotData, SlotRecord, Status, data_of, status_of};
use super::{Day, PublicDay, PublicSlot, PublicState, Schedule, SlotNumber, SlotTime, SpaceKey, StoreTime, UserId};

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

/// The `slot_update` for the user who has the slot, made from the payload for everybody. `None` if the payload is not a
/// `slot_update`.
pub fn own_slot_update(payload: &str, owned: &Owned, terms: OwnTerms) -> Option<String> {
    const DATA: &str = "\"data\":{";
    // The first match is the right one, because no text of other people comes before it.
    let at = payload.find(DATA)? + DATA.len();
    insert_own(payload, std::iter::once((at, OwnMembers::new(owned, terms))))
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

/// Who looks at a board, which decides what it shows besides the statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Anyone. No ids are shown.
    Anyone,
    /// A user, who is shown more of own slots, by a space's terms.
    User(UserId, OwnTerms),
    /// Staff, who are shown the `id_utente` of each holder and booker.
    Staff,
}

/// A slot as it can be shown.
pub trait Shown {
    /// The slot's state.
    fn state(&self) -> PublicState;

    /// Staff's object.
    fn data(&self) -> Option<&SlotData>;

    /// Who holds or booked it, if that is known. The slot starts at `start`.
    fn owned(&self, start: StoreTime) -> Option<Owned>;
}

impl Shown for SlotRecord {
    fn state(&self) -> PublicState {
        PublicState::from(&self.state)
    }

    fn data(&self) -> Option<&SlotData> {
        data_of(&self.state)
    }

    fn owned(&self, start: StoreTime) -> Option<Owned> {
        Owned::of(&self.state, start)
    }
}

impl Shown for PublicSlot {
    fn state(&self) -> PublicState {
        self.state
    }

    fn data(&self) -> Option<&SlotData> {
        self.data.as_ref()
    }

    fn owned(&self, _start: StoreTime) -> Option<Owned> {
        None
    }
}

/// One slot of a day at an instant, as boards and snapshots show it.
pub struct BoardEntry<'a> {
    slot: &'a SlotTime,
    status: Status,
    until: Option<StoreTime>,
    data: Option<&'a SlotData>,
    /// Who holds or booked the slot, if the viewer may know. An ended hold is nobody's.
    owned: Option<Owned>,
    viewer: &'a Viewer,
    /// Whole minutes that a hold has left, rounded up; only boards show it.
    minutes_remaining: Option<i64>,
}

impl BoardEntry<'_> {
    /// The slot's number.
    pub fn number(&self) -> SlotNumber {
        self.slot.number
    }

    /// Whether the slot is held, booked or closed by staff.
    pub fn is_taken(&self) -> bool {
        matches!(self.status, Status::Occupied | Status::Booked | Status::Blocked)
    }

    /// Adds the entry's members to a JSON object.
    pub fn add_to<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("id_slot", &self.slot.number)?;
        map.serialize_entry("orario", &self.slot.label)?;
        map.serialize_entry("startsAt", &self.slot.start.rfc3339())?;
        map.serialize_entry("endsAt", &self.slot.end.rfc3339())?;
        map.serialize_entry("status", self.status.as_str())?;
        map.serialize_entry("title", self.status.title())?;
        serialize_end(map, self.until)?;
        if let Some(minutes) = self.minutes_remaining {
            map.serialize_entry("minutes_remaining", &minutes)?;
        }
        match (self.viewer, &self.owned) {
            (Viewer::User(viewer, terms), Some(owned)) if *viewer == owned.user => {
                OwnMembers::new(owned, *terms).add_to(map)?;
            }
            (Viewer::Staff, Some(owned)) => map.serialize_entry("id_utente", &owned.user)?,
            _ => {}
        }
        serialize_data(map, self.data)
    }
}

impl Serialize for BoardEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.add_to(&mut map)?;
        map.end()
    }
}

/// The entries of a day at `now`. A taken slot is shown with its stored times, even if a later change of the schedule moved
/// it.
pub fn board<'a, R: Shown>(
    slots: &'a [SlotTime],
    records: &'a std::collections::BTreeMap<SlotNumber, R>,
    now: StoreTime,
    viewer: &'a Viewer,
    with_minutes: bool,
) -> Vec<BoardEntry<'a>> {
    let entry = |slot: &'a SlotTime| {
        let record = records.get(&slot.number);
        let state = record.map_or(PublicState::Available, Shown::state);
        let status = state.status(slot.start, now);
        let until = held_until(state, status);
        let has_owner = *viewer != Viewer::Anyone && matches!(status, Status::Occupied | Status::Booked);
        BoardEntry {
            slot,
            status,
            until,
            data: record.and_then(Shown::data),
            owned: record.filter(|_| has_owner).and_then(|record| record.owned(slot.start)),
            viewer,
            minutes_remaining: until
                .filter(|_| with_minutes)
                .map(|until| (until.as_millis() - now.as_millis() + 59_999) / 60_000),
        }
    };
    slots.iter().map(entry).collect()
}

/// The `slots_status_update` of a day.
#[derive(Clone, Debug)]
pub struct DayText {
    /// The payload, as everybody gets it.
    pub json: String,
    /// The taken slots, each with the place in the payload where its owner's members are inserted.
    pub taken: Vec<(SlotNumber, usize)>,
}

/// Makes the `slots_status_update` of a day.
pub fn slots_status_update(
    space: SpaceKey,
    day: Day,
    schedule: Option<&Schedule>,
    known: &PublicDay,
    at: &Position,
    now: StoreTime,
) -> DayText {
    let slots = schedule.map(|schedule| schedule.slots(day)).unwrap_or_default();
    let mut json = String::from(r#"{"type":"slots_status_update","slotsStatus":["#);
    let mut taken = Vec::new();
    for (index, entry) in board(&slots, known, now, &Viewer::Anyone, false).iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        if matches!(entry.status, Status::Occupied | Status::Booked) {
            taken.push((entry.slot.number, json.len() + 1));
        }
        json.push_str(&to_json(entry));
    }
    let rest = to_json(&RestOfDay {
        spazio_id: space.space,
        sede_id: space.site,
        date: day,
        time_zone: schedule.map(Schedule::time_zone),
        timestamp: now.rfc3339(),
        epoch: &at.epoch,
        version: at.version,
    });
    json.push_str("],");
    json.push_str(rest.trim_start_matches('{'));
    DayText { json, taken }
}

/// What comes after the entries.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RestOfDay<'a> {
    spazio_id: super::SpaceId,
    sede_id: super::SiteId,
    date: Day,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<&'a str>,
    timestamp: String,
    epoch: &'a str,
    version: u64,
}

/// The end of a live hold.
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
    // Earlier versions may have stored keys that this version reserves for the protocol. They are dropped.
    let kept = data.into_iter().flat_map(SlotData::iter).filter(|(key, _)| !RESERVED_DATA_KEYS.contains(key));
    for (key, value) in kept {
        map.serialize_entry(key, value)?;
    }
    Ok(())
}

/// Makes JSON of values whose serialization cannot fail: maps with string keys, numbers, text, and valid JSON.
pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

/// Like [`to_json`], as a value that can be a part of other JSON.
pub fn to_raw_json(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_default()
}
