//! Changes of spaces, as the store takes them.

use std::sync::Arc;

use crate::domain::schedule::ScheduleSpec;
use crate::domain::{Day, Origin, Position, Schedule, SlotNumber, SlotRecord, SlotTime, SpaceKey};

/// A change of a space by [`SlotStore::put_space`](super::SlotStore::put_space).
#[derive(Clone, Debug)]
pub struct SpaceChange {
    /// The space.
    pub space: SpaceKey,
    /// The registered schedule; `None` removes the registration.
    pub spec: Option<ScheduleSpec>,
    /// The schedule in force afterwards: `spec`, or the default one if unregistered spaces exist; `None` for a space
    /// without slots.
    pub schedule: Option<Arc<Schedule>>,
    /// The position of the schedule's last change when the caller read the space:
    /// [`SpaceState::revised_at`](super::SpaceState::revised_at).
    pub revised_at: Option<Position>,
    /// The caller, for the journal.
    pub origin: Option<Origin>,
}

impl SpaceChange {
    /// The change that registers `spec`, or without it makes the space one without slots.
    ///
    /// # Errors
    ///
    /// The schedule is inconsistent. The text names the field.
    pub fn new(space: SpaceKey, spec: Option<ScheduleSpec>, revised_at: Option<Position>) -> Result<Self, String> {
        let schedule = spec.clone().map(Schedule::new).transpose()?.map(Arc::new);
        Ok(Self { space, spec, schedule, revised_at, origin: None })
    }

    /// A slot after the change.
    pub fn slot(&self, day: Day, number: SlotNumber) -> Option<SlotTime> {
        self.schedule.as_ref()?.slot(day, number)
    }

    /// A slot after the change, if it keeps the start and end of its record.
    pub fn kept_slot(&self, day: Day, number: SlotNumber, record: &SlotRecord) -> Option<SlotTime> {
        self.slot(day, number).filter(|slot| slot.start == record.start && slot.end == record.end)
    }
}
