//! Opening times of a space, and the slots of a local day that follow from them.
//!
//! Slots fill the time from opening to closing. A space that is open around the clock has 23 or 25 one-hour slots on a day
//! of 23 or 25 hours, each of full length. Only if the clock is put forward between opening and closing, the last slot may
//! be shorter: it ends at closing, as on every other day. Numbers count from 1 at opening; labels are local times.

use std::fmt;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::act::SlotTime;
use super::{Day, SlotNumber, StoreTime};

/// The most closures that one space may list.
pub const MAX_CLOSURES: usize = 1_000;

/// The longest name of a space, in bytes.
pub const MAX_NAME_BYTES: usize = 200;

/// A local time of day in whole minutes, from `00:00` to `24:00` (the next midnight).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(u16);

impl WallTime {
    const MIDNIGHT_AFTER: u16 = 24 * 60;

    /// Parses exactly `HH:MM`.
    pub fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        if !two_digits(hours) || !two_digits(minutes) {
            return None;
        }
        let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
        let total = hours * 60 + minutes;
        (minutes < 60 && total <= Self::MIDNIGHT_AFTER).then_some(Self(total))
    }

    /// The instant of this local time on a day. A time that the day skips is the instant at which the clock is put forward.
    /// A time that the day has twice is its first occurrence.
    fn on(self, date: Date, zone: &TimeZone) -> Option<StoreTime> {
        let (date, minutes) = match self.0 {
            Self::MIDNIGHT_AFTER => (date.tomorrow().ok()?, 0),
            minutes => (date, minutes),
        };
        let time = Time::new((minutes / 60) as i8, (minutes % 60) as i8, 0, 0).ok()?;
        let ambiguous = zone.to_ambiguous_timestamp(date.to_datetime(time));
        let is_skipped = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
        // Inside a gap, the offset after the gap gives an instant before it.
        let instant = if is_skipped { ambiguous.earlier().ok()? } else { ambiguous.compatible().ok()? };
        let put_forward = is_skipped.then(|| zone.following(instant).next()).flatten();
        Some(put_forward.map_or(instant, |transition| transition.timestamp()).into())
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        WallTime::parse(&text).ok_or_else(|| D::Error::custom("a time of day is HH:MM, from 00:00 to 24:00"))
    }
}

/// Days on which a space is closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a closure is a day (\"2026-12-25\"), {from, to} or {weekday}, in English and lower case"
)]
pub enum Closure {
    /// One day: `"2026-12-25"`.
    Day(Day),
    /// From one day to another, both included: `{"from": "2026-08-10", "to": "2026-08-21"}`.
    Days {
        /// The first closed day.
        from: Day,
        /// The last closed day.
        to: Day,
    },
    /// The same day each week: `{"weekday": "sunday"}`.
    Weekly {
        /// The English name of the day, in lower case.
        weekday: WeekdayName,
    },
}

/// A day of the week by its English name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum WeekdayName {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl WeekdayName {
    fn weekday(self) -> Weekday {
        match self {
            WeekdayName::Monday => Weekday::Monday,
            WeekdayName::Tuesday => Weekday::Tuesday,
            WeekdayName::Wednesday => Weekday::Wednesday,
            WeekdayName::Thursday => Weekday::Thursday,
            WeekdayName::Friday => Weekday::Friday,
            WeekdayName::Saturday => Weekday::Saturday,
            WeekdayName::Sunday => Weekday::Sunday,
        }
    }
}

impl Closure {
    fn covers(&self, day: Day) -> bool {
        match *self {
            Closure::Day(closed) => day == closed,
            Closure::Days { from, to } => (from..=to).contains(&day),
            Closure::Weekly { weekday } => day.date().weekday() == weekday.weekday(),
        }
    }
}

/// What staff may set for a space. Missing fields have the default schedule's values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ScheduleSpec {
    /// A name for people.
    pub name: Option<String>,
    /// An IANA name, such as `Europe/Rome`.
    pub timezone: String,
    /// Local time of the first slot's start.
    pub opens: WallTime,
    /// Local time that no slot ends after.
    pub closes: WallTime,
    /// The length of a slot, 1 to 1,440 minutes.
    pub slot_minutes: u16,
    /// Days without slots.
    pub closures: Vec<Closure>,
    /// How long a hold lasts and the most that a caller may ask for, in minutes; `None` for the configured length. Nodes of
    /// 0.1 cannot read a schedule with this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_minutes: Option<u16>,
}

impl Default for ScheduleSpec {
    fn default() -> Self {
        Self {
            name: None,
            timezone: "Europe/Rome".into(),
            opens: WallTime(9 * 60),
            closes: WallTime(18 * 60),
            slot_minutes: 60,
            closures: Vec::new(),
            hold_minutes: None,
        }
    }
}

/// A consistent schedule: its time zone exists, and it opens before it closes.
#[derive(Clone, Debug)]
pub struct Schedule {
    spec: ScheduleSpec,
    zone: TimeZone,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Default for Schedule {
    #[expect(clippy::expect_used, reason = "the default specification is a constant, and tested")]
    fn default() -> Self {
        Schedule::new(ScheduleSpec::default()).expect("the default schedule holds together")
    }
}

impl Schedule {
    /// Checks a specification. An error names the field.
    pub fn new(spec: ScheduleSpec) -> Result<Self, String> {
        let zone = TimeZone::get(&spec.timezone)
            .map_err(|_| format!("timezone: {:?} is not an IANA time zone", spec.timezone))?;
        if spec.opens >= spec.closes {
            return Err(format!("opens: {} must be before closes, {}", spec.opens, spec.closes));
        }
        if !(1..=1_440).contains(&spec.slot_minutes) {
            return Err("slotMinutes: from 1 to 1440".into());
        }
        if spec.slot_minutes > spec.closes.0 - spec.opens.0 {
            return Err("slotMinutes: no slot fits between opens and closes".into());
        }
        if spec.hold_minutes == Some(0) {
            return Err("holdMinutes: at least 1".into());
        }
        if spec.closures.len() > MAX_CLOSURES {
            return Err(format!("closures: {MAX_CLOSURES} at most"));
        }
        if spec.name.as_ref().is_some_and(|name| name.len() > MAX_NAME_BYTES) {
            return Err(format!("name: {MAX_NAME_BYTES} bytes at most"));
        }
        Ok(Self { spec, zone })
    }

    /// The specification that it was made of.
    pub fn spec(&self) -> &ScheduleSpec {
        &self.spec
    }

    /// The IANA name of its time zone.
    pub fn time_zone(&self) -> &str {
        &self.spec.timezone
    }

    /// The local day at `now`.
    pub fn today(&self, now: StoreTime) -> Day {
        now.timestamp().to_zoned_datetime(self.zone.clone()).date().into()
    }

    /// The slots of a day in ascending order; none on a closed day.
    pub fn slots(&self, day: Day) -> Vec<SlotTime> {
        let Some(hours) = self.hours(day) else { return Vec::new() };
        (1..=hours.slots).filter_map(|number| self.slot_at(hours, number)).collect()
    }

    /// One slot of a day.
    pub fn slot(&self, day: Day, number: SlotNumber) -> Option<SlotTime> {
        let hours = self.hours(day)?;
        (number.get() <= hours.slots).then(|| self.slot_at(hours, number.get()))?
    }

    fn hours(&self, day: Day) -> Option<Hours> {
        if self.spec.closures.iter().any(|closure| closure.covers(day)) {
            return None;
        }
        let opening = self.spec.opens.on(day.date(), &self.zone)?;
        let closing = self.spec.closes.on(day.date(), &self.zone)?;
        let slots = self.count_slots(closing.as_millis() - opening.as_millis());
        Some(Hours { opening, closing, slots: u16::try_from(slots).ok()? })
    }

    /// How many slots fit into this many milliseconds between opening and closing. A shortened last slot counts only on
    /// a day that is shorter than usual. On other days the rest before closing has no slot.
    fn count_slots(&self, open_millis: i64) -> i64 {
        let usual = i64::from((self.spec.closes.0 - self.spec.opens.0) / self.spec.slot_minutes);
        let whole = open_millis / self.slot_millis();
        let begun = (open_millis + self.slot_millis() - 1) / self.slot_millis();
        whole.max(begun.min(usual))
    }

    fn slot_at(&self, hours: Hours, number: u16) -> Option<SlotTime> {
        let start = hours.opening.plus_millis(i64::from(number - 1) * self.slot_millis());
        let end = start.plus_millis(self.slot_millis()).min(hours.closing);
        let label = start.timestamp().to_zoned_datetime(self.zone.clone()).strftime("%H:%M").to_string();
        let number = SlotNumber::new(u64::from(number))?;
        Some(SlotTime { number, start, end, label })
    }

    fn slot_millis(&self) -> i64 {
        i64::from(self.spec.slot_minutes) * 60_000
    }
}

/// When a space is open on one day, and in how many slots.
#[derive(Clone, Copy)]
struct Hours {
    opening: StoreTime,
    closing: StoreTime,
    slots: u16,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn around_the_clock() -> Schedule {
        let spec = ScheduleSpec {
            opens: WallTime::parse("00:00").unwrap(),
            closes: WallTime::parse("24:00").unwrap(),
            ..ScheduleSpec::default()
        };
        Schedule::new(spec).unwrap()
    }

    fn labels(slots: &[SlotTime]) -> Vec<&str> {
        slots.iter().map(|slot| slot.label.as_str()).collect()
    }

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn the_default_day_has_nine_slots_from_nine_to_five() {
        let slots = Schedule::default().slots(day("2026-11-23"));
        assert_eq!(labels(&slots), ["09:00", "10:00", "11:00", "12:00", "13:00", "14:00", "15:00", "16:00", "17:00"]);
        assert_eq!(slots[0].start.rfc3339(), "2026-11-23T08:00:00.000Z");
        assert_eq!(slots[8].end.rfc3339(), "2026-11-23T17:00:00.000Z");
    }

    #[test]
    fn nine_is_nine_on_both_days_of_the_clock_change() {
        let schedule = Schedule::default();
        assert_eq!(schedule.slots(day("2026-03-29"))[0].start.rfc3339(), "2026-03-29T07:00:00.000Z");
        assert_eq!(schedule.slots(day("2026-03-28"))[0].start.rfc3339(), "2026-03-28T08:00:00.000Z");
        assert_eq!(schedule.slots(day("2026-10-25"))[0].start.rfc3339(), "2026-10-25T08:00:00.000Z");
        assert_eq!(schedule.slots(day("2026-10-24"))[0].start.rfc3339(), "2026-10-24T07:00:00.000Z");
    }

    #[test]
    fn a_day_of_23_hours_has_23_slots() {
        let slots = around_the_clock().slots(day("2026-03-29"));
        assert_eq!(slots.len(), 23);
        assert_eq!(labels(&slots)[..4], ["00:00", "01:00", "03:00", "04:00"]);
        assert_eq!(slots[2].start.rfc3339(), "2026-03-29T01:00:00.000Z");
    }

    #[test]
    fn a_day_of_25_hours_has_25_slots_two_of_them_at_two() {
        let slots = around_the_clock().slots(day("2026-10-25"));
        assert_eq!(slots.len(), 25);
        assert_eq!(labels(&slots)[1..5], ["01:00", "02:00", "02:00", "03:00"]);
        assert_eq!(slots[2].start.rfc3339(), "2026-10-25T00:00:00.000Z");
        assert_eq!(slots[3].start.rfc3339(), "2026-10-25T01:00:00.000Z");
    }

    /// The slots of a day, each as its local start and its minutes.
    fn tiles(zone: &str, hours: [&str; 2], slot_minutes: u16, date: &str) -> Vec<(String, i64)> {
        let [opens, closes] = hours.map(|time| WallTime::parse(time).unwrap());
        let spec = ScheduleSpec { timezone: zone.into(), opens, closes, slot_minutes, ..ScheduleSpec::default() };
        let slots = Schedule::new(spec).unwrap().slots(day(date));
        let minutes = |slot: &SlotTime| (slot.end.as_millis() - slot.start.as_millis()) / 60_000;
        slots.iter().map(|slot| (slot.label.clone(), minutes(slot))).collect()
    }

    fn expected(tiles: &[(&str, i64)]) -> Vec<(String, i64)> {
        tiles.iter().map(|(label, minutes)| (label.to_string(), *minutes)).collect()
    }

    #[test]
    fn what_the_clock_change_cuts_short_is_a_shorter_slot() {
        let (rome, spring) = ("Europe/Rome", "2027-03-28");
        let whole_day = ["00:00", "24:00"];
        assert_eq!(tiles(rome, whole_day, 1_440, spring), expected(&[("00:00", 23 * 60)]));
        assert_eq!(tiles(rome, ["00:00", "08:00"], 480, spring), expected(&[("00:00", 7 * 60)]));
        assert_eq!(tiles(rome, whole_day, 720, spring), expected(&[("00:00", 720), ("13:00", 660)]));
        let lord_howe = "Australia/Lord_Howe";
        assert_eq!(tiles(lord_howe, whole_day, 1_440, "2027-10-03"), expected(&[("00:00", 23 * 60 + 30)]));
        let hours = tiles(lord_howe, whole_day, 60, "2027-10-03");
        assert_eq!((hours.len(), hours.last().unwrap()), (24, &("23:30".to_string(), 30)));
        // A length that fits no usual day gives no slot on a short day, either. A long day gets no extra partial slot.
        assert_eq!(tiles(rome, ["00:00", "10:00"], 540, spring), expected(&[("00:00", 540)]));
        assert_eq!(tiles(rome, ["09:00", "18:00"], 50, spring).len(), 10);
        assert_eq!(tiles(rome, whole_day, 1_440, "2027-10-31"), expected(&[("00:00", 1_440)]));
    }

    #[test]
    fn a_time_that_the_day_skips_is_the_instant_of_the_change() {
        let (rome, spring) = ("Europe/Rome", "2027-03-28");
        let early = tiles(rome, ["00:00", "02:30"], 30, spring);
        assert_eq!(early, expected(&[("00:00", 30), ("00:30", 30), ("01:00", 30), ("01:30", 30)]));
        let late = tiles(rome, ["02:30", "05:00"], 30, spring);
        assert_eq!(late, expected(&[("03:00", 30), ("03:30", 30), ("04:00", 30), ("04:30", 30)]));
        assert_eq!(tiles(rome, ["02:15", "02:45"], 30, spring), []);
        assert_eq!(tiles("Australia/Lord_Howe", ["02:10", "03:00"], 50, "2027-10-03"), expected(&[("02:30", 30)]));
        // The clock is put forward at midnight, so the day begins at 01:00.
        assert_eq!(tiles("Africa/Cairo", ["00:00", "02:00"], 60, "2027-04-30"), expected(&[("01:00", 60)]));
    }

    proptest! {
        #[test]
        fn on_every_day_slots_tile_what_is_open(
            zone in prop::sample::select(vec![
                "Europe/Rome", "Australia/Lord_Howe", "America/St_Johns", "Africa/Cairo", "America/Santiago", "Asia/Gaza",
            ]),
            opens in 0_u16..1_440, open_for in 1_u16..=1_440, slot_minutes in 1_u16..=1_440, ahead in 0_i64..800,
        ) {
            let closes = (opens + open_for).min(WallTime::MIDNIGHT_AFTER);
            prop_assume!(slot_minutes <= closes - opens);
            let (opens, closes) = (WallTime(opens), WallTime(closes));
            let spec = ScheduleSpec { timezone: zone.into(), opens, closes, slot_minutes, ..ScheduleSpec::default() };
            let schedule = Schedule::new(spec).unwrap();
            let date = jiff::civil::date(2026, 1, 1).checked_add(jiff::Span::new().days(ahead)).unwrap();
            let slots = schedule.slots(date.into());
            let closing = closes.on(date, &schedule.zone).unwrap();
            for (index, slot) in slots.iter().enumerate() {
                prop_assert!(slot.start < slot.end && slot.end <= closing);
                prop_assert!(index == 0 || slots[index - 1].end == slot.start);
                let is_whole = slot.end == slot.start.plus_millis(schedule.slot_millis());
                prop_assert!(is_whole || (index == slots.len() - 1 && slot.end == closing));
                prop_assert_eq!(schedule.slot(date.into(), slot.number), Some(slot.clone()));
            }
        }
    }

    #[test]
    fn one_slot_is_the_same_as_in_the_list() {
        let schedule = around_the_clock();
        for date in ["2026-03-29", "2026-10-25", "2026-06-01"] {
            for slot in schedule.slots(day(date)) {
                assert_eq!(schedule.slot(day(date), slot.number), Some(slot));
            }
        }
        assert_eq!(schedule.slot(day("2026-03-29"), SlotNumber::new(24).unwrap()), None);
    }

    #[test]
    fn closed_days_have_no_slots() {
        let spec: ScheduleSpec = serde_json::from_str(
            r#"{"closures": ["2026-12-25", {"from": "2026-08-10", "to": "2026-08-21"}, {"weekday": "sunday"}]}"#,
        )
        .unwrap();
        let schedule = Schedule::new(spec).unwrap();
        for closed in ["2026-12-25", "2026-08-10", "2026-08-21", "2026-11-22"] {
            assert!(schedule.slots(day(closed)).is_empty(), "{closed}");
        }
        for open in ["2026-12-24", "2026-08-22", "2026-11-23"] {
            assert_eq!(schedule.slots(day(open)).len(), 9, "{open}");
        }
    }

    #[test]
    fn a_schedule_that_does_not_hold_together_names_the_field() {
        let refused = |json: &str| {
            let spec: ScheduleSpec = serde_json::from_str(json).unwrap();
            Schedule::new(spec).unwrap_err()
        };
        assert!(refused(r#"{"timezone": "Europe/Atlantis"}"#).starts_with("timezone"));
        assert!(refused(r#"{"opens": "18:00", "closes": "09:00"}"#).starts_with("opens"));
        assert!(refused(r#"{"slotMinutes": 0}"#).starts_with("slotMinutes"));
        assert!(refused(r#"{"slotMinutes": 600}"#).starts_with("slotMinutes"));
    }

    #[test]
    fn the_smallest_slots_stay_within_the_numbers() {
        let spec: ScheduleSpec =
            serde_json::from_str(r#"{"opens": "00:00", "closes": "24:00", "slotMinutes": 1}"#).unwrap();
        let slots = Schedule::new(spec).unwrap().slots(day("2026-10-25"));
        assert_eq!(slots.len(), usize::from(SlotNumber::MAX));
    }
}
