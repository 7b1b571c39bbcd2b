//! Registering spaces and changing their schedules, without moving a slot that somebody has.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;

use super::{origin_of, require_staff_of};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::schedule::{Closure, ScheduleSpec};
use crate::domain::{Code, Position, Refusal, Schedule, SiteId, SlotNumber, SpaceId, SpaceKey};
use crate::store::refuse::{ATTEMPTS, unavailable, unsettled};
use crate::store::{ApplyError, SpaceState};

/// How many slots in the way a refusal names in its text.
const NAMED_IN_TEXT: usize = 5;

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
    /// `false`: nobody registered it, and this is the default schedule.
    pub registered: bool,
    /// The space's epoch.
    pub epoch: String,
    /// Where the space stands.
    pub version: u64,
}

/// Registers a space or changes its schedule. What would move or remove a slot that somebody has is `space_in_use`.
pub async fn put_space(
    app: &App,
    caller: &Claims,
    space: SpaceKey,
    spec: ScheduleSpec,
) -> Result<SpaceAnswer, Refusal> {
    let schedule = Schedule::new(spec.clone()).map_err(|reason| Refusal::because(Code::Malformed, reason))?;
    require_staff_of(caller, space)?;
    for _ in 0..ATTEMPTS {
        let state = read_state(app, space).await?;
        if state.schedule.as_ref() == Some(&spec) {
            return Ok(answer(app, space, &spec, true, state.at));
        }
        require_nothing_moves(&state, Some(&schedule))?;
        if let Some(at) = write(app, caller, space, Some(spec.clone()), &state).await? {
            return Ok(answer(app, space, &spec, true, at));
        }
    }
    Err(unsettled(space))
}

/// The space's schedule: its own, or, where unregistered spaces exist, the default.
pub async fn read_space(app: &App, space: SpaceKey) -> Result<SpaceAnswer, Refusal> {
    let state = read_state(app, space).await?;
    let schedule = app.catalog.schedule_of(space, &state).ok_or(Code::SpaceNotFound)?;
    Ok(answer(app, space, schedule.spec(), state.schedule.is_some(), state.at))
}

/// Removes a space's registration; its version stays and goes on. Slots that somebody has must be the same under what
/// is left: the default schedule, or nothing.
pub async fn delete_space(app: &App, caller: &Claims, space: SpaceKey) -> Result<SpaceAnswer, Refusal> {
    require_staff_of(caller, space)?;
    for _ in 0..ATTEMPTS {
        let state = read_state(app, space).await?;
        let Some(spec) = &state.schedule else { return Err(Code::SpaceNotFound.into()) };
        require_nothing_moves(&state, app.catalog.schedule_of_unregistered().as_deref())?;
        if let Some(at) = write(app, caller, space, None, &state).await? {
            return Ok(answer(app, space, spec, false, at));
        }
    }
    Err(unsettled(space))
}

async fn read_state(app: &App, space: SpaceKey) -> Result<SpaceState, Refusal> {
    app.store.read_space(space).await.map_err(|error| unavailable(&error))
}

/// Writes what was checked against `state`; `None` when the space has changed since.
async fn write(
    app: &App,
    caller: &Claims,
    space: SpaceKey,
    spec: Option<ScheduleSpec>,
    state: &SpaceState,
) -> Result<Option<Position>, Refusal> {
    let written = app.store.put_space(space, spec, state.at.clone(), Some(origin_of(caller))).await;
    app.catalog.forget(space);
    match written {
        Ok(at) => Ok(Some(at)),
        Err(ApplyError::Stale) => Ok(None),
        Err(ApplyError::Refused(refusal)) => Err(refusal),
        Err(ApplyError::Store(error)) => Err(unavailable(&error)),
    }
}

/// Every slot that somebody has must keep its number, start and end; without a schedule there must be none.
fn require_nothing_moves(state: &SpaceState, schedule: Option<&Schedule>) -> Result<(), Refusal> {
    let moves = state.taken.iter().filter(|(day, number, record)| {
        let slot = schedule.and_then(|schedule| schedule.slot(*day, *number));
        slot.is_none_or(|slot| slot.start != record.start || slot.end != record.end)
    });
    let moves: Vec<_> = moves.map(|(day, number, _)| (*day, *number)).collect();
    if moves.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = moves.iter().take(NAMED_IN_TEXT).map(|(day, slot)| format!("{day} #{slot}")).collect();
    let more = if moves.len() > NAMED_IN_TEXT { ", ..." } else { "" };
    let conflicts: BTreeSet<SlotNumber> = moves.into_iter().map(|(_, slot)| slot).collect();
    let refusal = Refusal::because(Code::SpaceInUse, format_args!("{}{more}", named.join(", ")));
    Err(Refusal { conflicts: conflicts.into_iter().collect(), ..refusal })
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
        registered,
        epoch: at.epoch.to_string(),
        version: at.version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::slot::SlotState;
    use crate::domain::{Day, SlotRecord, StoreTime};

    fn schedule(json: &str) -> Schedule {
        Schedule::new(serde_json::from_str(json).unwrap()).unwrap()
    }

    fn taken(schedule: &Schedule, date: &str, slot: u64) -> (Day, SlotNumber, SlotRecord) {
        let (day, number) = (Day::parse(date).unwrap(), SlotNumber::new(slot).unwrap());
        let slot = schedule.slot(day, number).unwrap();
        let state = SlotState::Blocked { data: None };
        (day, number, SlotRecord { state, version: 1, start: slot.start, end: slot.end, label: slot.label })
    }

    fn state(taken: Vec<(Day, SlotNumber, SlotRecord)>) -> SpaceState {
        let at = Position { epoch: "e".into(), version: 1 };
        SpaceState { at, revision: 0, schedule: None, now: StoreTime::from_millis(0), taken }
    }

    #[test]
    fn a_taken_slot_keeps_its_number_start_and_end() {
        let default = Schedule::default();
        let state = state(vec![taken(&default, "2026-11-25", 2), taken(&default, "2026-11-26", 2)]);
        assert_eq!(require_nothing_moves(&state, Some(&default)), Ok(()));
        assert_eq!(require_nothing_moves(&state, Some(&schedule(r#"{"closes": "20:00"}"#))), Ok(()));
        assert_eq!(require_nothing_moves(&state, Some(&schedule(r#"{"closures": ["2026-11-27"]}"#))), Ok(()));
        for moving in [
            r#"{"opens": "08:00"}"#,
            r#"{"slotMinutes": 30}"#,
            r#"{"timezone": "Europe/London"}"#,
            r#"{"closes": "10:00"}"#,
            r#"{"closures": ["2026-11-26"]}"#,
        ] {
            let refusal = require_nothing_moves(&state, Some(&schedule(moving))).unwrap_err();
            assert_eq!(refusal.code, Code::SpaceInUse, "{moving}");
            assert_eq!(refusal.conflicts.len(), 1, "{moving}");
            assert!(refusal.message.contains("2026-11-26 #2"), "{}", refusal.message);
        }
    }

    #[test]
    fn without_a_schedule_nothing_may_be_taken() {
        assert_eq!(require_nothing_moves(&state(Vec::new()), None), Ok(()));
        let one = state(vec![taken(&Schedule::default(), "2026-11-25", 2)]);
        assert_eq!(require_nothing_moves(&one, None).unwrap_err().code, Code::SpaceInUse);
    }
}
