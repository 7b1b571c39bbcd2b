//! Registering spaces and changing their schedules. No change may move a slot that is taken.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;

use super::act_log::{self, About, Done};
use super::{origin_of, require_staff_of};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::schedule::{Closure, ScheduleSpec};
use crate::domain::{Code, Day, Position, Refusal, SiteId, SlotNumber, SpaceId, SpaceKey};
use crate::store::refuse::{ATTEMPTS, unavailable, unsettled};
use crate::store::{ApplyError, ScheduleState, SpaceChange};

/// How many conflicting slots the text of a refusal names.
const NAMED_IN_TEXT: usize = 5;

/// Time zones of the database that are not the time of any place.
const NO_TIME_ZONES: [&str; 2] = ["Factory", "Etc/Unknown"];

/// How many spaces one page has at most.
const PAGE: usize = 500;

/// A space as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpaceAnswer {
    /// The space's site.
    #[schema(value_type = u64)]
    pub sede_id: SiteId,
    /// The space.
    #[schema(value_type = u64)]
    pub spazio_id: SpaceId,
    /// A name for people.
    #[schema(required)]
    pub name: Option<String>,
    /// An IANA name.
    pub timezone: String,
    /// Local time of the first slot's start, `HH:MM`.
    pub opens: String,
    /// Local time that no slot ends after, `HH:MM`.
    pub closes: String,
    /// The length of a slot.
    pub slot_minutes: u16,
    /// Days without slots.
    #[schema(value_type = Vec<Object>)]
    pub closures: Vec<Closure>,
    /// How long holds last here, and at most what `holdSeconds` may ask for, where that is not the configured duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_minutes: Option<u16>,
    /// `false`: nobody registered it, and this is the default schedule.
    pub registered: bool,
    /// The space's epoch.
    pub epoch: String,
    /// Where the space stands.
    pub version: u64,
}

/// The name of registering, changing and removing a space in the log.
const ACT: &str = "space";

/// Registers a space or changes its schedule. A change that would move or remove a taken slot is `space_in_use`.
pub async fn put_space(
    app: &App,
    caller: &Claims,
    space: SpaceKey,
    spec: ScheduleSpec,
) -> Result<SpaceAnswer, Refusal> {
    let running = act_log::begin(app, ACT, caller);
    let result = try_put_space(app, caller, space, spec).await;
    running.end(&about(space), &result, |answer| Done { version: answer.version, is_repeat: false });
    result
}

fn about(space: SpaceKey) -> About<'static> {
    About { space, date: None, slots: &[], user: None }
}

async fn try_put_space(
    app: &App,
    caller: &Claims,
    space: SpaceKey,
    spec: ScheduleSpec,
) -> Result<SpaceAnswer, Refusal> {
    let change = change_to(app, space, &spec)?;
    require_staff_of(caller, space)?;
    for _ in 0..ATTEMPTS {
        let state = read_state(app, space).await?;
        if state.schedule.as_ref() == Some(&spec) {
            return Ok(answer(app, space, &spec, true, state.at));
        }
        let origin = Some(origin_of(caller));
        let change = SpaceChange { revised_at: state.revised_at(), origin, ..change.clone() };
        if let Some(at) = write(app, change).await? {
            return Ok(answer(app, space, &spec, true, at));
        }
    }
    Err(unsettled(space))
}

/// The change that gives a space a schedule. The schedule must be consistent.
pub(super) fn change_to(app: &App, space: SpaceKey, spec: &ScheduleSpec) -> Result<SpaceChange, Refusal> {
    let change = SpaceChange::new(space, Some(spec.clone()), None)
        .map_err(|reason| Refusal::because(Code::Malformed, reason))?;
    require_hold_minutes(app, spec)?;
    require_time_zone(spec)?;
    require_order(spec)?;
    Ok(change)
}

/// Refuses time zones that stand for "unknown", which no browser can show. Spaces that have such a zone already keep
/// working.
fn require_time_zone(spec: &ScheduleSpec) -> Result<(), Refusal> {
    if NO_TIME_ZONES.iter().any(|name| name.eq_ignore_ascii_case(&spec.timezone)) {
        return Err(Refusal::because(
            Code::Malformed,
            format_args!("timezone: {} is not a place's time zone", spec.timezone),
        ));
    }
    Ok(())
}

/// Refuses closures that end before they begin: they would close nothing.
fn require_order(spec: &ScheduleSpec) -> Result<(), Refusal> {
    for (index, closure) in spec.closures.iter().enumerate() {
        if let Closure::Days { from, to } = closure
            && from > to
        {
            let reason = format_args!("closures[{index}]: from ({from}) must not be after to ({to})");
            return Err(Refusal::because(Code::Malformed, reason));
        }
    }
    Ok(())
}

fn require_hold_minutes(app: &App, spec: &ScheduleSpec) -> Result<(), Refusal> {
    let longest = app.config.holds.max.as_secs() / 60;
    match spec.hold_minutes {
        Some(minutes) if u64::from(minutes) > longest => {
            Err(Refusal::because(Code::Malformed, format_args!("holdMinutes: 1 to {longest}")))
        }
        _ => Ok(()),
    }
}

/// One page of the registered spaces.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SpacesAnswer {
    /// By site and number.
    pub spaces: Vec<ListedSpace>,
    /// What `after` takes for the next page; left out on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A registered space.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedSpace {
    /// The space's site.
    #[schema(value_type = u64)]
    pub sede_id: SiteId,
    /// The space.
    #[schema(value_type = u64)]
    pub spazio_id: SpaceId,
    /// A name for people.
    #[schema(required)]
    pub name: Option<String>,
    /// An IANA name.
    pub timezone: String,
    /// Local time of the first slot's start, `HH:MM`.
    pub opens: String,
    /// Local time that no slot ends after, `HH:MM`.
    pub closes: String,
    /// The length of a slot.
    pub slot_minutes: u16,
    /// How long holds last here, where that is not the configured duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_minutes: Option<u16>,
}

/// One page of the registered spaces. A token with `sedi` is shown these sites only.
pub async fn list_spaces(
    app: &App,
    caller: Option<&Claims>,
    site: Option<SiteId>,
    after: Option<&str>,
) -> Result<SpacesAnswer, Refusal> {
    let after = after.map(parse_cursor).transpose()?;
    let spaces = app.store.registered_spaces().await.map_err(|error| unavailable(&error))?;
    let is_wanted = |space: &SpaceKey| {
        site.is_none_or(|site| site == space.site)
            && caller.is_none_or(|caller| caller.may_enter(space.site))
            && after.is_none_or(|after| (space.site, space.space) > after)
    };
    let mut wanted: Vec<SpaceKey> = spaces.into_iter().filter(is_wanted).collect();
    let has_more = wanted.len() > PAGE;
    wanted.truncate(PAGE);
    let next = wanted.last().filter(|_| has_more).map(|last| format!("{}.{}", last.site, last.space));
    let schedules = app.store.schedules_of(&wanted).await.map_err(|error| unavailable(&error))?;
    let listed = wanted.into_iter().zip(schedules).filter_map(|(space, spec)| Some(listed(space, spec?)));
    Ok(SpacesAnswer { spaces: listed.collect(), next })
}

fn listed(space: SpaceKey, spec: ScheduleSpec) -> ListedSpace {
    ListedSpace {
        sede_id: space.site,
        spazio_id: space.space,
        opens: spec.opens.to_string(),
        closes: spec.closes.to_string(),
        name: spec.name,
        timezone: spec.timezone,
        slot_minutes: spec.slot_minutes,
        hold_minutes: spec.hold_minutes,
    }
}

fn parse_cursor(text: &str) -> Result<(SiteId, SpaceId), Refusal> {
    let parsed = text.split_once('.').and_then(|(site, space)| Some((site.parse().ok()?, space.parse().ok()?)));
    parsed.ok_or_else(|| Refusal::because(Code::Malformed, "after: what `next` was"))
}

/// The space's own schedule, or the default one if unregistered spaces exist.
pub async fn read_space(app: &App, space: SpaceKey) -> Result<SpaceAnswer, Refusal> {
    let state = read_state(app, space).await?;
    let schedule = app.catalog.schedule_of(space, state.schedule.as_ref()).ok_or(Code::SpaceNotFound)?;
    Ok(answer(app, space, schedule.spec(), state.schedule.is_some(), state.at))
}

/// Removes a space's registration; its version stays and continues. Taken slots must be the same without the registration:
/// under the default schedule, or, if unregistered spaces do not exist, there must be none.
pub async fn delete_space(app: &App, caller: &Claims, space: SpaceKey) -> Result<SpaceAnswer, Refusal> {
    let running = act_log::begin(app, ACT, caller);
    let result = try_delete_space(app, caller, space).await;
    running.end(&about(space), &result, |answer| Done { version: answer.version, is_repeat: false });
    result
}

async fn try_delete_space(app: &App, caller: &Claims, space: SpaceKey) -> Result<SpaceAnswer, Refusal> {
    require_staff_of(caller, space)?;
    for _ in 0..ATTEMPTS {
        let state = read_state(app, space).await?;
        let Some(spec) = &state.schedule else { return Err(Code::SpaceNotFound.into()) };
        let origin = Some(origin_of(caller));
        let change = SpaceChange { revised_at: state.revised_at(), origin, ..removal_of(app, space) };
        if let Some(at) = write(app, change).await? {
            return Ok(answer(app, space, spec, false, at));
        }
    }
    Err(unsettled(space))
}

/// The change that makes a space unregistered.
pub(super) fn removal_of(app: &App, space: SpaceKey) -> SpaceChange {
    let schedule = app.catalog.schedule_of_unregistered();
    SpaceChange { space, spec: None, schedule, revised_at: None, origin: None }
}

async fn read_state(app: &App, space: SpaceKey) -> Result<ScheduleState, Refusal> {
    app.store.read_schedule(space).await.map_err(|error| unavailable(&error))
}

/// Writes a change; `None` if the schedule was changed since it was read.
async fn write(app: &App, change: SpaceChange) -> Result<Option<Position>, Refusal> {
    let space = change.space;
    let written = app.store.put_space(change).await;
    app.catalog.forget(space);
    match written {
        Ok(at) => Ok(Some(at)),
        Err(ApplyError::Stale) => Ok(None),
        Err(ApplyError::InUse(slots)) => Err(in_use(&slots)),
        Err(ApplyError::Refused(refusal)) => Err(refusal),
        Err(ApplyError::Store(error)) => Err(unavailable(&error)),
    }
}

/// The refusal that names the taken slots.
fn in_use(slots: &[(Day, SlotNumber)]) -> Refusal {
    let named: Vec<String> = slots.iter().take(NAMED_IN_TEXT).map(|(day, slot)| format!("{day} #{slot}")).collect();
    let more = if slots.len() > NAMED_IN_TEXT { ", ..." } else { "" };
    let conflicts: BTreeSet<SlotNumber> = slots.iter().map(|(_, slot)| *slot).collect();
    let refusal = Refusal::telling(Code::SpaceInUse, format_args!("{}{more}", named.join(", ")));
    Refusal { conflicts: conflicts.into_iter().collect(), ..refusal }
}

fn answer(app: &App, space: SpaceKey, spec: &ScheduleSpec, registered: bool, at: Position) -> SpaceAnswer {
    app.acknowledged.note(space, &at);
    SpaceAnswer {
        sede_id: space.site,
        spazio_id: space.space,
        name: spec.name.clone(),
        timezone: spec.timezone.clone(),
        opens: spec.opens.to_string(),
        closes: spec.closes.to_string(),
        slot_minutes: spec.slot_minutes,
        closures: spec.closures.clone(),
        hold_minutes: spec.hold_minutes,
        registered,
        epoch: at.epoch.to_string(),
        version: at.version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_first_slots_in_the_way_and_each_number_once() {
        let slots = |days: std::ops::Range<u8>| -> Vec<(Day, SlotNumber)> {
            let day = |day: u8| Day::parse(&format!("2026-11-{day:02}")).unwrap();
            days.map(|number| (day(number), SlotNumber::new(2).unwrap())).collect()
        };
        let refusal = in_use(&slots(25..26));
        assert_eq!((refusal.code, refusal.conflicts.len()), (Code::SpaceInUse, 1));
        assert!(refusal.message.contains("2026-11-25 #2"), "{}", refusal.message);
        let refusal = in_use(&slots(10..17));
        assert_eq!(refusal.conflicts.len(), 1);
        assert!(
            refusal.message.contains("2026-11-14 #2, ...") && !refusal.message.contains("-15"),
            "{}",
            refusal.message
        );
    }
}
