//! What is asked of a store about a space.

use std::sync::Arc;

use crate::domain::schedule::ScheduleSpec;
use crate::domain::{Day, Origin, Position, Schedule, SlotNumber, SlotRecord, SlotTime, SpaceKey};

/// What [`SlotStore::put_space`](super::SlotStore::put_space) makes of a space.
#[derive(Clone, Debug)]
pub struct SpaceChange {
    /// The space.
    pub space: SpaceKey,
    /// What is kept of it; `None` removes its registration.
    pub spec: Option<ScheduleSpec>,
    /// The schedule that the space has from then on: of `spec`, or the default one where unregistered spaces exist; `None`
    /// for a space without slots.
    pub schedule: Option<Arc<Schedule>>,
    /// Where the schedule last changed when the caller read the space, as [`SpaceState::revised_at`](super::SpaceState::revised_at) tells.
    pub revised_at: Option<Position>,
    /// Whom the journal names.
    pub origin: Option<Origin>,
}

impl SpaceChange {
    /// The change to a schedule of its own, or without one to a space without slots.
    ///
    /// # Errors
    ///
    /// The schedule does not hold together; the text names the field.
    pub fn new(space: SpaceKey, spec: Option<ScheduleSpec>, revised_at: Option<Position>) -> Result<Self, String> {
        let schedule = spec.clone().map(Schedule::new).transpose()?.map(Arc::new);
        Ok(Self { space, spec, schedule, revised_at, origin: None })
    }

    /// What a slot is from then on.
    pub fn slot(&self, day: Day, number: SlotNumber) -> Option<SlotTime> {
        self.schedule.as_ref()?.slot(day, number)
    }

    /// The slot from then on, where it keeps start and end of the record.
    pub fn kept_slot(&self, day: Day, number: SlotNumber, record: &SlotRecord) -> Option<SlotTime> {
        self.slot(day, number).filter(|slot| slot.start == record.start && slot.end == record.end)
    }
}
