//! Registering, changing and removing spaces.

use std::fmt::Write;

use super::RedisStore;
use super::call::{Budget, Call};
use super::journal;
use super::keys::{compact, parse_compact};
use super::reads::bad_value;
use super::reply::Reply;
use super::scripts;
use super::sweep::{self, MOST};
use crate::domain::Position;
use crate::domain::event::to_json;
use crate::domain::{Day, JournalAct, SlotNumber, SlotTime};
use crate::store::{ApplyError, SpaceChange, StoreError, Topic};

/// Makes a change. The script answers with the days that it must check until the call names all of them.
pub(super) async fn put_space(store: &RedisStore, change: &SpaceChange) -> Result<Position, ApplyError> {
    let budget = Budget::of_a_call();
    let bucket = change.space.bucket();
    if change.spec.as_ref().is_some_and(|spec| spec.hold_minutes.is_some()) {
        store.runner.require_newest(bucket).await?;
    }
    let mut days: Vec<Day> = Vec::new();
    // Each round knows the days of the round before, and there are at most as many days as dates may lie ahead. So the
    // rounds end, or the time runs out.
    loop {
        let reply = store.runner.once(&call_of(store, change, &days), budget).await?;
        match reply.text_at(0)? {
            "done" => {
                let at = reply.position_at(2)?;
                store.runner.positions.learn(Topic::Space(change.space), &at);
                return Ok(at);
            }
            "stale" => return Err(ApplyError::Stale),
            "in_use" => return Err(ApplyError::InUse(read_slots(store, change, &reply)?)),
            "days" => days = read_days(store, change, &reply)?,
            "sweep" => drop(sweep::sweep(store, bucket, MOST).await?),
            _ => return Err(reply.unexpected(0).into()),
        }
    }
}

fn call_of(store: &RedisStore, change: &SpaceChange, days: &[Day]) -> Call {
    let (keys, space, bucket) = (&store.keys, change.space, change.space.bucket());
    let (of_space, of_bucket) = (Topic::Space(space), Topic::Bucket(bucket));
    let revision = change.revised_at.as_ref().map_or_else(String::new, |at| format!("{}:{}", at.epoch, at.version));
    let mut call = Call::writing(&scripts::PUT_SPACE, of_space)
        .key(keys.head(of_space))
        .key(keys.log(of_space))
        .key(keys.spaces(bucket))
        .key(keys.days(space))
        .key(keys.ends(bucket))
        .key(keys.holds(bucket))
        .key(keys.head(of_bucket))
        .key(keys.log(of_bucket))
        .key(keys.journal(bucket))
        .key(journal::people_key(store, bucket))
        .key(keys.bookings(bucket))
        .arg(keys.channel(of_space))
        .arg(keys.channel(of_bucket))
        .arg(space.site)
        .arg(space.space)
        .arg(format_args!("{revision}\n{}", store.runner.positions.arg(of_space)))
        .arg(change.spec.as_ref().map_or_else(String::new, to_json))
        .arg(format_args!("{}|{}", space.space, space.site))
        .arg(MOST)
        .arg(journal::about(store, JournalAct::Space, change.origin.as_ref()));
    for day in days {
        let slots = change.schedule.as_ref().map(|schedule| schedule.slots(*day)).unwrap_or_default();
        call = call.key(keys.day(space, *day)).arg(compact(*day)).arg(runs_of(&slots));
    }
    call
}

fn read_days(store: &RedisStore, change: &SpaceChange, reply: &Reply) -> Result<Vec<Day>, StoreError> {
    let named = reply.texts_from(2)?.into_iter().map(parse_compact).collect::<Option<Vec<Day>>>();
    named.ok_or_else(|| bad_value(&store.keys.days(change.space)))
}

fn read_slots(store: &RedisStore, change: &SpaceChange, reply: &Reply) -> Result<Vec<(Day, SlotNumber)>, StoreError> {
    let read = |pair: &[&str]| match pair {
        [day, number] => Some((parse_compact(day)?, SlotNumber::new(number.parse().ok()?)?)),
        _ => None,
    };
    let slots: Option<Vec<_>> = reply.texts_from(2)?.chunks(2).map(read).collect();
    let mut slots = slots.ok_or_else(|| bad_value(&store.keys.days(change.space)))?;
    slots.sort_unstable();
    Ok(slots)
}

/// Slots whose starts and labels follow each other at even distances.
struct Run<'a> {
    first: &'a SlotTime,
    count: i64,
    step: i64,
    minute: i64,
}

impl Run<'_> {
    fn continues_with(&self, slot: &SlotTime) -> bool {
        let first = self.first;
        let length = |slot: &SlotTime| slot.end.as_millis() - slot.start.as_millis();
        let step = if self.count == 1 { slot.start.as_millis() - first.start.as_millis() } else { self.step };
        step > 0
            && i64::from(slot.number.get()) == i64::from(first.number.get()) + self.count
            && slot.start.as_millis() == first.start.as_millis() + self.count * step
            && length(slot) == length(first)
            && minute_of(&slot.label) == (self.minute + self.count * step / 60_000) % 1_440
    }
}

/// The slots of a day in few words. Most days are one run.
fn runs_of(slots: &[SlotTime]) -> String {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for slot in slots {
        match runs.last_mut() {
            Some(run) if run.continues_with(slot) => {
                run.step = if run.count == 1 { slot.start.as_millis() - run.first.start.as_millis() } else { run.step };
                run.count += 1;
            }
            _ => runs.push(Run { first: slot, count: 1, step: 0, minute: minute_of(&slot.label) }),
        }
    }
    let mut text = String::new();
    for Run { first, count, step, minute } in runs {
        let (start, end) = (first.start.as_millis(), first.end.as_millis());
        let blank = if text.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{blank}{}:{count}:{start}:{step}:{}:{minute}", first.number, end - start);
    }
    text
}

/// A label's minute of the day, `HH:MM`.
fn minute_of(label: &str) -> i64 {
    let (hours, minutes) = label.split_once(':').unwrap_or_default();
    hours.parse().unwrap_or(0) * 60 + minutes.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Schedule;

    /// Reads the runs as the script does.
    fn read_runs(text: &str) -> Vec<(i64, i64, i64, String)> {
        let mut slots = Vec::new();
        for run in text.split_whitespace() {
            let parts: Vec<i64> = run.split(':').map(|part| part.parse().unwrap()).collect();
            let [first, count, start, step, length, minute] = parts[..] else { panic!("{run}") };
            for index in 0..count {
                let starts = start + index * step;
                let at = (minute + index * step / 60_000) % 1_440;
                slots.push((first + index, starts, starts + length, format!("{:02}:{:02}", at / 60, at % 60)));
            }
        }
        slots
    }

    #[test]
    fn runs_say_what_a_day_has_and_most_days_are_one() {
        for (spec, day, runs) in [
            (r#"{}"#, "2026-11-25", 1),
            (r#"{"closures": ["2026-11-25"]}"#, "2026-11-25", 0),
            (r#"{"opens": "00:00", "closes": "24:00"}"#, "2026-11-25", 1),
            (r#"{"opens": "00:00", "closes": "24:00", "slotMinutes": 1}"#, "2026-11-25", 1),
        ] {
            let schedule = Schedule::new(serde_json::from_str(spec).unwrap()).unwrap();
            let text = runs_of(&schedule.slots(Day::parse(day).unwrap()));
            assert_eq!(text.split_whitespace().count(), runs, "{spec}: {text}");
        }
        for (spec, day) in [
            (r#"{"opens": "00:00", "closes": "24:00"}"#, "2026-10-25"),
            (r#"{"opens": "00:00", "closes": "24:00", "slotMinutes": 30}"#, "2027-03-28"),
            (
                r#"{"opens": "00:00", "closes": "24:00", "slotMinutes": 45, "timezone": "Australia/Lord_Howe"}"#,
                "2027-10-03",
            ),
            (r#"{"opens": "00:00", "closes": "24:00", "timezone": "America/St_Johns"}"#, "2026-11-01"),
        ] {
            let schedule = Schedule::new(serde_json::from_str(spec).unwrap()).unwrap();
            let slots = schedule.slots(Day::parse(day).unwrap());
            let expected: Vec<_> = slots
                .iter()
                .map(|slot| {
                    let (start, end) = (slot.start.as_millis(), slot.end.as_millis());
                    (i64::from(slot.number.get()), start, end, slot.label.clone())
                })
                .collect();
            assert_eq!(read_runs(&runs_of(&slots)), expected, "{spec} {day}");
        }
    }
}
