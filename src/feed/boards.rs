//! The days of a space as its task knows them: read when they are first looked at,
//! and once a minute at most for the store's time, and kept in step by the very events that members are sent. So
//! a socket that joins a watched space is shown its board without a read of the store, however far away that is.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::days::Days;
use super::payload::raw;
use crate::domain::event;
use crate::domain::{Day, Position, PublicChange, PublicDay, PublicSlot, Refusal, Schedule, SpaceKey, StoreTime};
use crate::store::DayState;

/// The days that are known, all of them as of the task's position.
#[derive(Debug)]
pub(super) struct Boards {
    space: SpaceKey,
    days: HashMap<Day, PublicDay>,
    /// Snapshots of this position and moment, shared by what waits for them together.
    fresh: HashMap<Day, Arc<RawValue>>,
}

impl Boards {
    /// Knows no day.
    pub(super) fn new(space: SpaceKey) -> Self {
        Self { space, days: HashMap::new(), fresh: HashMap::new() }
    }

    /// Learns a day from what the store has of it, at the task's position.
    pub(super) fn learn(&mut self, day: Day, state: DayState) {
        let slots = state.records.into_iter().map(|(number, record)| (number, PublicSlot::from(record)));
        self.days.insert(day, slots.collect());
        self.fresh.remove(&day);
    }

    /// Takes in the `slot_update` that brought the task to its position.
    pub(super) fn apply(&mut self, update: &RawValue) {
        self.fresh.clear();
        if self.days.is_empty() {
            return;
        }
        match PublicChange::read(update) {
            Ok(PublicChange { day, number, slot }) => {
                if let Some(known) = self.days.get_mut(&day) {
                    known.insert(number, slot);
                }
            }
            Err(reason) => {
                tracing::error!(space = %self.space, reason, "an unreadable update in the feed");
                self.forget();
            }
        }
    }

    /// Knows no day any more: what follows is not told by updates.
    pub(super) fn forget(&mut self) {
        self.days.clear();
        self.fresh.clear();
    }

    /// The moment has passed: what was shared is made anew, and days that nobody looks at any more are let go.
    pub(super) fn pass(&mut self, wanted: &Days) {
        self.fresh.clear();
        self.days.retain(|day, _| wanted.has(*day));
    }

    /// The snapshot of a day that was made at this position and moment.
    pub(super) fn shared(&self, day: Day) -> Option<Arc<RawValue>> {
        self.fresh.get(&day).cloned()
    }

    /// Makes the snapshot of a day that is known; `None` of any other.
    pub(super) fn show(
        &mut self,
        day: Day,
        schedule: Option<&Schedule>,
        at: &Position,
        now: StoreTime,
    ) -> Result<Option<Arc<RawValue>>, Refusal> {
        let Some(known) = self.days.get(&day) else { return Ok(None) };
        let payload = raw(event::slots_status_update(self.space, day, schedule, known, at, now))?;
        self.fresh.insert(day, payload.clone());
        Ok(Some(payload))
    }
}

/// A day's snapshot of what the store has of it, at the position of that.
pub(super) fn show_once(
    space: SpaceKey,
    day: Day,
    schedule: Option<&Schedule>,
    state: DayState,
) -> Result<Arc<RawValue>, Refusal> {
    let slots: PublicDay =
        state.records.into_iter().map(|(number, record)| (number, PublicSlot::from(record))).collect();
    raw(event::slots_status_update(space, day, schedule, &slots, &state.at, state.now))
}
