//! The days that members look at, and the next start of a slot on each. A slot that has started must be shown as past,
//! although the store has changed nothing.

use std::collections::BTreeMap;

use crate::domain::{Day, Schedule, StoreTime};

/// The days that members asked for.
#[derive(Debug, Default)]
pub(super) struct Days(BTreeMap<Day, AskedDay>);

#[derive(Debug)]
struct AskedDay {
    members: usize,
    /// `None` if no schedule is known, and after the day's last start.
    next_start: Option<StoreTime>,
}

impl Days {
    /// Notes that one more member looks at a day.
    pub(super) fn ask_for(&mut self, day: Day, schedule: Option<&Schedule>, now: StoreTime) {
        let asked =
            self.0.entry(day).or_insert_with(|| AskedDay { members: 0, next_start: start_after(schedule, day, now) });
        asked.members += 1;
    }

    /// Counts one member less that looks at a day.
    pub(super) fn give_up(&mut self, day: Day) {
        let Some(asked) = self.0.get_mut(&day) else { return };
        asked.members = asked.members.saturating_sub(1);
        if asked.members == 0 {
            self.0.remove(&day);
        }
    }

    /// Whether anybody looks at a day.
    pub(super) fn has(&self, day: Day) -> bool {
        self.0.contains_key(&day)
    }

    /// Plans by a schedule that has just become known. A due start stays due.
    pub(super) fn learn(&mut self, schedule: Option<&Schedule>, now: StoreTime) {
        for (day, asked) in self.0.iter_mut().filter(|(_, asked)| !asked.is_due(now)) {
            asked.next_start = start_after(schedule, *day, now);
        }
    }

    /// Plans nothing until the next schedule is known.
    pub(super) fn forget_schedule(&mut self) {
        self.0.values_mut().for_each(|asked| asked.next_start = None);
    }

    /// The next start of a slot on any day.
    pub(super) fn next_start(&self) -> Option<StoreTime> {
        self.0.values().filter_map(|asked| asked.next_start).min()
    }

    /// The days on which a slot has started, each once.
    pub(super) fn take_started(&mut self, schedule: Option<&Schedule>, now: StoreTime) -> Vec<Day> {
        let due = self.0.iter_mut().filter(|(_, asked)| asked.is_due(now));
        let started = due.map(|(day, asked)| {
            asked.next_start = start_after(schedule, *day, now);
            *day
        });
        started.collect()
    }
}

impl AskedDay {
    fn is_due(&self, now: StoreTime) -> bool {
        self.next_start.is_some_and(|start| start <= now)
    }
}

fn start_after(schedule: Option<&Schedule>, day: Day, now: StoreTime) -> Option<StoreTime> {
    let mut starts = schedule?.slots(day).into_iter().map(|slot| slot.start);
    starts.find(|start| *start > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_told_once_and_a_day_that_nobody_looks_at_never() {
        let schedule = Schedule::default();
        let day = Day::parse("2026-11-24").unwrap();
        let starts: Vec<StoreTime> = schedule.slots(day).into_iter().map(|slot| slot.start).collect();
        let mut days = Days::default();
        days.ask_for(day, Some(&schedule), starts[0].plus_millis(-1));
        days.ask_for(day, Some(&schedule), starts[0].plus_millis(-1));
        assert_eq!(days.next_start(), Some(starts[0]));
        // The starts are planned again while the first one is due. It stays due.
        days.learn(Some(&schedule), starts[0]);
        assert_eq!(days.take_started(Some(&schedule), starts[0]), [day]);
        assert_eq!(days.take_started(Some(&schedule), starts[0]), []);
        assert_eq!(days.next_start(), Some(starts[1]));
        days.forget_schedule();
        assert_eq!(days.next_start(), None);
        days.learn(Some(&schedule), starts[0]);
        days.give_up(day);
        assert_eq!(days.next_start(), Some(starts[1]));
        days.give_up(day);
        assert_eq!(days.next_start(), None);
    }
}
