//! Tells what a change of a space's schedule would move or remove, without making the change.

use serde::Serialize;
use utoipa::ToSchema;

use super::require_staff_of;
use super::spaces::{SpaceAnswer, change_to, removal_of};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::schedule::ScheduleSpec;
use crate::domain::{Code, Day, Refusal, SlotNumber, SpaceKey};
use crate::store::refuse::unavailable;
use crate::store::{SpaceChange, SpaceState};

/// The space as it is after a change; or, with `dryRun=true`, what the change would move or remove.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum SpaceOrTrial {
    /// The change was made.
    Space(Box<SpaceAnswer>),
    /// Nothing was changed.
    Trial(TrialAnswer),
}

/// What a change would do to slots that somebody has.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TrialAnswer {
    /// The occupied, booked and blocked slots of the future that would move or go, by day. Where there are any, the change is
    /// `space_in_use`.
    pub affected: Vec<AffectedDay>,
}

/// The slots of one day.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AffectedDay {
    /// The local day.
    #[schema(value_type = String, format = Date)]
    pub date: Day,
    /// Ascending.
    #[schema(value_type = Vec<u16>)]
    pub slots: Vec<SlotNumber>,
}

/// Answers the slots for which [`super::spaces::put_space`] would answer `space_in_use`. Refuses every other request
/// that it refuses.
pub async fn try_put(app: &App, caller: &Claims, space: SpaceKey, spec: ScheduleSpec) -> Result<TrialAnswer, Refusal> {
    let change = change_to(app, space, &spec)?;
    require_staff_of(caller, space)?;
    let state = read_state(app, space).await?;
    let changes_nothing = state.schedule.as_ref() == Some(&spec);
    Ok(if changes_nothing { TrialAnswer { affected: Vec::new() } } else { affected_by(&change, &state) })
}

/// Like [`try_put`], for [`super::spaces::delete_space`].
pub async fn try_delete(app: &App, caller: &Claims, space: SpaceKey) -> Result<TrialAnswer, Refusal> {
    require_staff_of(caller, space)?;
    let state = read_state(app, space).await?;
    if state.schedule.is_none() {
        return Err(Code::SpaceNotFound.into());
    }
    Ok(affected_by(&removal_of(app, space), &state))
}

async fn read_state(app: &App, space: SpaceKey) -> Result<SpaceState, Refusal> {
    app.store.read_space(space).await.map_err(|error| unavailable(&error))
}

fn affected_by(change: &SpaceChange, state: &SpaceState) -> TrialAnswer {
    let mut affected: Vec<AffectedDay> = Vec::new();
    for (day, number, record) in &state.taken {
        if change.kept_slot(*day, *number, record).is_some() {
            continue;
        }
        match affected.last_mut() {
            Some(last) if last.date == *day => last.slots.push(*number),
            _ => affected.push(AffectedDay { date: *day, slots: vec![*number] }),
        }
    }
    TrialAnswer { affected }
}
