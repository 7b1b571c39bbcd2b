//! Reading bookings: the caller's own, and for staff all that is taken on a day of a site.

use std::collections::HashMap;

use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::parse_day;
use crate::app::App;
use crate::auth::Claims;
use crate::domain::event::{BoardEntry, Viewer, board};
use crate::domain::{Code, Day, Refusal, SiteId, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime, UserId};
use crate::store::refuse::unavailable;
use crate::store::{BookedSlot, DayState};

/// The most bookings on one page.
pub const PAGE: usize = 500;

/// The first and the last day of the calendar, between which every booking lies.
const ALWAYS: (&str, &str) = ("0001-01-01", "9999-12-31");

/// The caller's own bookings, a page of them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct BookingsAnswer {
    /// In order of their start.
    pub bookings: Vec<OwnBooking>,
    /// What `after` takes for the next page; left out on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One booked slot of the caller.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnBooking {
    /// The space.
    #[schema(value_type = u64)]
    pub spazio_id: SpaceId,
    /// The space's site.
    #[schema(value_type = u64)]
    pub sede_id: SiteId,
    /// The local day.
    #[schema(value_type = String, format = Date)]
    pub date: Day,
    /// The slot.
    #[schema(value_type = u16)]
    pub slot_id: SlotNumber,
    /// Its local start, `HH:MM`.
    #[schema(example = "09:00")]
    pub orario: String,
    /// When it starts, UTC.
    #[schema(format = DateTime)]
    pub starts_at: String,
    /// When it ends, UTC.
    #[schema(format = DateTime)]
    pub ends_at: String,
    /// When it was booked; not known of what slotcast 0.1 stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub booked_at: Option<String>,
    /// Until when the caller can cancel it; `null` for never.
    #[schema(format = DateTime, required)]
    pub cancel_until: Option<String>,
}

/// Selects the caller's bookings of some days.
#[derive(Clone, Debug, Default)]
pub struct OwnQuery {
    /// The first day, `YYYY-MM-DD`; without it and `to`, today.
    pub from: Option<String>,
    /// The last day.
    pub to: Option<String>,
    /// `next` of the previous page.
    pub after: Option<String>,
}

/// The caller's own bookings: from today on, or of the days asked for.
pub async fn list_own(app: &App, caller: &Claims, query: &OwnQuery) -> Result<BookingsAnswer, Refusal> {
    let from = query.from.as_deref().map(parse_day).transpose()?;
    let to = query.to.as_deref().map(parse_day).transpose()?;
    let after = query.after.as_deref().map(Place::parse).transpose()?;
    let [first, last] = [ALWAYS.0, ALWAYS.1].map(parse_day);
    let is_from_today = from.is_none() && to.is_none();
    let now = app.clock.now();
    let from = if is_from_today { day_before(now) } else { from.unwrap_or(first?) };
    let booked = app.store.bookings_of(&caller.user, from, to.unwrap_or(last?)).await;
    let mut booked = booked.map_err(|error| unavailable(&error))?;
    if is_from_today {
        keep_from_today(app, &mut booked, now).await?;
    }
    Ok(page_of(app, booked, after))
}

/// All stored bookings of a user, a page of them.
pub(super) async fn list_all(app: &App, user: &UserId, after: Option<&str>) -> Result<BookingsAnswer, Refusal> {
    let after = after.map(Place::parse).transpose()?;
    let booked = app.store.bookings_of(user, parse_day(ALWAYS.0)?, parse_day(ALWAYS.1)?).await;
    Ok(page_of(app, booked.map_err(|error| unavailable(&error))?, after))
}

/// The bookings of a user that have not started.
pub(super) async fn future_of(app: &App, user: &UserId) -> Result<Vec<BookedSlot>, Refusal> {
    let now = app.clock.now();
    let booked = app.store.bookings_of(user, day_before(now), parse_day(ALWAYS.1)?).await;
    let mut booked = booked.map_err(|error| unavailable(&error))?;
    booked.retain(|slot| slot.start > now);
    Ok(booked)
}

fn page_of(app: &App, mut booked: Vec<BookedSlot>, after: Option<Place>) -> BookingsAnswer {
    booked.sort_by_key(Place::of);
    booked.retain(|slot| after.is_none_or(|after| Place::of(slot) > after));
    let next = (booked.len() > PAGE).then(|| Place::of(&booked[PAGE - 1]).to_string());
    booked.truncate(PAGE);
    BookingsAnswer { bookings: booked.into_iter().map(|slot| own_booking(app, slot)).collect(), next }
}

/// The day before today in UTC. A local day is at most one day off.
fn day_before(now: StoreTime) -> Day {
    let today = utc_day(now).date();
    today.yesterday().unwrap_or(today).into()
}

fn utc_day(now: StoreTime) -> Day {
    now.timestamp().to_zoned_datetime(jiff::tz::TimeZone::UTC).date().into()
}

/// Drops bookings before today, by the day in each booking's own time zone.
async fn keep_from_today(app: &App, booked: &mut Vec<BookedSlot>, now: StoreTime) -> Result<(), Refusal> {
    let mut today: HashMap<SpaceKey, Day> = HashMap::new();
    for slot in booked.iter() {
        if today.contains_key(&slot.space) {
            continue;
        }
        let day = match app.catalog.resolve(slot.space).await {
            Ok(resolved) => resolved.schedule.today(now),
            // The space is not registered any more. Its bookings are shown all the same, by the day in UTC.
            Err(refusal) if refusal.code == Code::SpaceNotFound => utc_day(now),
            Err(refusal) => return Err(refusal),
        };
        today.insert(slot.space, day);
    }
    booked.retain(|slot| today.get(&slot.space).is_none_or(|today| slot.day >= *today));
    Ok(())
}

fn own_booking(app: &App, slot: BookedSlot) -> OwnBooking {
    let before = app.config.holds.own_terms().cancel_before;
    OwnBooking {
        spazio_id: slot.space.space,
        sede_id: slot.space.site,
        date: slot.day,
        slot_id: slot.slot,
        orario: slot.label,
        starts_at: slot.start.rfc3339(),
        ends_at: slot.end.rfc3339(),
        booked_at: slot.booked_at.map(StoreTime::rfc3339),
        cancel_until: before.map(|millis| slot.start.plus_millis(-millis).rfc3339()),
    }
}

/// The place of a booking in the order of all bookings of its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    start: i64,
    site: u64,
    space: u64,
    slot: u16,
}

impl Place {
    fn of(booked: &BookedSlot) -> Self {
        let SpaceKey { site, space } = booked.space;
        Self { start: booked.start.as_millis(), site: site.get(), space: space.get(), slot: booked.slot.get() }
    }

    fn parse(text: &str) -> Result<Self, Refusal> {
        let place = Self::parse_parts(text.split('.'));
        // Only the spelling that a page has given is taken.
        place.filter(|place| place.to_string() == text).ok_or_else(bad_cursor)
    }

    fn parse_parts<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<Self> {
        Some(Self {
            start: parts.next()?.parse().ok()?,
            site: parts.next()?.parse().ok()?,
            space: parts.next()?.parse().ok()?,
            slot: parts.next()?.parse().ok()?,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { start, site, space, slot } = self;
        write!(f, "{start}.{site}.{space}.{slot}")
    }
}

fn bad_cursor() -> Refusal {
    Refusal::because(Code::Malformed, "after: what `next` was")
}

/// All slots of a site's day that are held, booked or closed by staff; a page of them. Answers JSON: `{entries, next?}`.
/// Each entry is as on a board, with `spazioId`, `slotId` and, if a user has the slot, `id_utente`.
pub async fn list_of_day(
    app: &App,
    caller: &Claims,
    site: SiteId,
    date: &str,
    after: Option<&str>,
) -> Result<Box<RawValue>, Refusal> {
    let day = parse_day(date)?;
    let after = after.map(parse_day_cursor).transpose()?;
    if !caller.is_staff_of_site(site) {
        return Err(Code::Forbidden.into());
    }
    let spaces = app.store.spaces_on(site, day).await.map_err(|error| unavailable(&error))?;
    let mut entries = Vec::new();
    let mut next = None;
    for space in spaces.into_iter().filter(|space| after.is_none_or(|(from, _)| *space >= from)) {
        let state = app.store.read_day(SpaceKey { site, space }, day).await.map_err(|error| unavailable(&error))?;
        let seen = after.filter(|(from, _)| *from == space).map(|(_, slot)| slot);
        for (number, entry) in taken_of(space, &state)? {
            if seen.is_some_and(|seen| number.get() <= seen) {
                continue;
            }
            if entries.len() == PAGE {
                return answer(entries, next);
            }
            next = Some(format!("{space}.{number}"));
            entries.push(entry);
        }
    }
    answer(entries, None)
}

fn parse_day_cursor(text: &str) -> Result<(SpaceId, u16), Refusal> {
    let parsed = text.split_once('.').and_then(|(space, slot)| Some((space.parse().ok()?, slot.parse().ok()?)));
    parsed.filter(|(space, slot): &(SpaceId, u16)| format!("{space}.{slot}") == text).ok_or_else(bad_cursor)
}

/// The slots of a day that are held, booked or blocked, as JSON.
fn taken_of(space: SpaceId, state: &DayState) -> Result<Vec<(SlotNumber, Box<RawValue>)>, Refusal> {
    // The stored times are used instead of the schedule's: a taken slot counts even if the schedule no longer has it.
    let times: Vec<SlotTime> = state.records.iter().map(|(number, record)| record.time(*number)).collect();
    let entries = board(&times, &state.records, state.now, &Viewer::Staff, false);
    let taken = entries.iter().filter(|entry| entry.is_taken()).map(|entry| {
        let entry = DayEntry { space, entry };
        let json = serde_json::value::to_raw_value(&entry).map_err(|error| {
            tracing::error!(%error, space.id = %space, "an entry could not be written");
            Refusal::from(Code::Unavailable)
        });
        Ok((entry.entry.number(), json?))
    });
    taken.collect()
}

struct DayEntry<'a> {
    space: SpaceId,
    entry: &'a BoardEntry<'a>,
}

impl Serialize for DayEntry<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("spazioId", &self.space)?;
        map.serialize_entry("slotId", &self.entry.number())?;
        self.entry.add_to(&mut map)?;
        map.end()
    }
}

fn answer(entries: Vec<Box<RawValue>>, next: Option<String>) -> Result<Box<RawValue>, Refusal> {
    #[derive(Serialize)]
    struct DayAnswer {
        entries: Vec<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    }
    serde_json::value::to_raw_value(&DayAnswer { entries, next }).map_err(|_| Code::Unavailable.into())
}
