//! The days of a space as its task knows them. A day is read when a member first looks at it, and the store's time once
//! a minute at most. The events that members are sent keep the days in step. So a socket that joins a watched space is
//! shown its board without a read of the store, however far away the store is.

use std::collections::HashMap;
use std::sync::Arc;

use super::days::Days;
use super::own::{DaySnapshot, Owners};
use crate::domain::event;
use crate::domain::{
    Day, OwnTerms, Position, PublicChange, PublicDay, PublicSlot, Refusal, Schedule, SpaceKey, StoreTime,
};
use crate::store::{DayState, Message};

/// The known days, all of them as of the task's position.
#[derive(Debug)]
pub(super) struct Boards {
    space: SpaceKey,
    days: HashMap<Day, KnownDay>,
    /// Snapshots of this position and moment, shared by all that wait for them together.
    fresh: HashMap<Day, Arc<DaySnapshot>>,
}

/// A day, and who has its slots, as far as that is known.
#[derive(Debug)]
struct KnownDay {
    slots: PublicDay,
    owners: Owners,
}

impl From<DayState> for KnownDay {
    fn from(state: DayState) -> Self {
        let owners = Owners::of(&state);
        let slots = state.records.into_iter().map(|(number, record)| (number, PublicSlot::from(record)));
        Self { slots: slots.collect(), owners }
    }
}

impl Boards {
    /// Knows no day.
    pub(super) fn new(space: SpaceKey) -> Self {
        Self { space, days: HashMap::new(), fresh: HashMap::new() }
    }

    /// Learns a day from what the store has of it, at the task's position.
    pub(super) fn learn(&mut self, day: Day, state: DayState) {
        self.days.insert(day, state.into());
        self.fresh.remove(&day);
    }

    /// Takes in the `slot_update` that brought the task to its position.
    pub(super) fn apply(&mut self, update: &Message) {
        self.fresh.clear();
        if self.days.is_empty() {
            return;
        }
        match PublicChange::read(&update.payload) {
            Ok(PublicChange { day, number, slot }) => {
                if let Some(known) = self.days.get_mut(&day) {
                    known.slots.insert(number, slot);
                    known.owners.set(number, update.owned.clone());
                }
            }
            Err(reason) => {
                tracing::error!(space.id = %self.space, reason, "an unreadable update in the feed");
                self.forget();
            }
        }
    }

    /// Forgets all days, because updates do not tell what changed.
    pub(super) fn forget(&mut self) {
        self.days.clear();
        self.fresh.clear();
    }

    /// Ends the moment: shared snapshots are made anew, and days that nobody looks at any more are forgotten.
    pub(super) fn pass(&mut self, wanted: &Days) {
        self.fresh.clear();
        self.days.retain(|day, _| wanted.has(*day));
    }

    /// The snapshot of a day that was made at this position and moment.
    pub(super) fn shared(&self, day: Day) -> Option<Arc<DaySnapshot>> {
        self.fresh.get(&day).cloned()
    }

    /// Makes the snapshot of a day that is known; `None` of any other.
    pub(super) fn show(
        &mut self,
        day: Day,
        schedule: Option<&Schedule>,
        at: &Position,
        now: StoreTime,
        terms: OwnTerms,
    ) -> Result<Option<Arc<DaySnapshot>>, Refusal> {
        let Some(known) = self.days.get(&day) else { return Ok(None) };
        let text = event::slots_status_update(self.space, day, schedule, &known.slots, at, now);
        let snapshot = Arc::new(DaySnapshot::new(text, &known.owners, terms)?);
        self.fresh.insert(day, snapshot.clone());
        Ok(Some(snapshot))
    }
}

/// A day's snapshot of what the store has, at the store's position.
pub(super) fn show_once(
    space: SpaceKey,
    day: Day,
    schedule: Option<&Schedule>,
    state: DayState,
    terms: OwnTerms,
) -> Result<Arc<DaySnapshot>, Refusal> {
    let (at, now) = (state.at.clone(), state.now);
    let known = KnownDay::from(state);
    let text = event::slots_status_update(space, day, schedule, &known.slots, &at, now);
    DaySnapshot::new(text, &known.owners, terms).map(Arc::new)
}
