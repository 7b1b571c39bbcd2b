//! The days of a space as its task knows them. A day is read when the first member looks at it, and the store's time is
//! read at most once a minute. After that the events keep the days up to date. So a socket that joins a watched space
//! gets its board without a read of the store, however far away the store is.

use std::collections::HashMap;
use std::sync::Arc;

use super::days::Days;
use super::own::{DaySnapshot, Owners};
use crate::domain::event;
use crate::domain::{
    Day, OwnTerms, Position, PublicChange, PublicDay, PublicSlot, Refusal, Schedule, SpaceKey, StoreTime,
};
use crate::store::{DayState, Message};

/// The known days, all at the task's position.
#[derive(Debug)]
pub(super) struct Boards {
    space: SpaceKey,
    days: HashMap<Day, KnownDay>,
    /// Snapshots at this position and instant, shared by all members that wait for them.
    fresh: HashMap<Day, Arc<DaySnapshot>>,
}

/// A day, and the users of its slots as far as they are known.
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
    /// Begins without any day.
    pub(super) fn new(space: SpaceKey) -> Self {
        Self { space, days: HashMap::new(), fresh: HashMap::new() }
    }

    /// Learns a day from the store's records, which have the task's position.
    pub(super) fn learn(&mut self, day: Day, state: DayState) {
        self.days.insert(day, state.into());
        self.fresh.remove(&day);
    }

    /// Applies the `slot_update` that brought the task to its position.
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
                tracing::error!(space.id = %self.space, reason, "ignored an update that cannot be read");
                self.forget();
            }
        }
    }

    /// Forgets all days, because something changed that no update describes.
    pub(super) fn forget(&mut self) {
        self.days.clear();
        self.fresh.clear();
    }

    /// Begins a new instant: shared snapshots are made anew, and days that no member looks at are forgotten.
    pub(super) fn pass(&mut self, wanted: &Days) {
        self.fresh.clear();
        self.days.retain(|day, _| wanted.has(*day));
    }

    /// The snapshot of a day that was made at this position and instant.
    pub(super) fn shared(&self, day: Day) -> Option<Arc<DaySnapshot>> {
        self.fresh.get(&day).cloned()
    }

    /// Makes the snapshot of a known day; `None` for an unknown one.
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

/// A snapshot of the store's records of a day, at the store's position.
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
