//! The form of the journal in stores, how long it is kept, and how many entries.
//!
//! An entry names people by references: numbers that the bucket gives to users, anew in each generation. An entry cannot be
//! changed, but the meaning of a reference can. A generation is a month. Its people are forgotten with the last entries
//! that name them. An entry consists of lines:
//!
//! | line | content |
//! |---|---|
//! | 1 | when it was done, in ms of the store's clock |
//! | 2 | the act, as on the wire |
//! | 3 | the epoch of its version |
//! | 4, 5 | site, space |
//! | 6 | the local day, `YYYY-MM-DD`; empty for a space's schedule |
//! | 7 | the slots, a comma between |
//! | 8 | what they became: `a` available, `h` held, `b` booked, `c` blocked; empty for a space's schedule |
//! | 9 | the version of the act's last event |
//! | 10 | the generation of the people whom it names |
//! | 11 | the reference of the actor, `?` where there is an actor whom nobody knows; empty without an actor |
//! | 12 | the actor's role, or empty |
//! | 13 | the reference of who has or had the slots, or empty |
//! | 14 | from whom they were taken: a reference, a colon, slots with a comma between; a semicolon between two |
//! | 15 | the request's id, or empty |
//!
//! Later versions may add lines: a reader ignores those that it does not know.

use crate::domain::ids::parse_id;
use crate::domain::journal::{JournalActor, Taken};
use crate::domain::{
    Day, JournalAct, JournalEntry, Position, SiteId, SlotNumber, SpaceId, SpaceKey, Status, StoreTime,
};

/// How much of the journal is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalBounds {
    /// `SLOTCAST_JOURNAL_DAYS`: the oldest age of an entry. With 0 no entry is written.
    pub days: u32,
    /// `SLOTCAST_JOURNAL_MAX`: the most entries of a bucket. It may have a few more.
    pub max: u32,
}

impl Default for JournalBounds {
    fn default() -> Self {
        Self { days: 90, max: 5_000 }
    }
}

impl JournalBounds {
    /// Whether entries are written at all.
    pub const fn is_kept(&self) -> bool {
        self.days > 0
    }

    /// Entries before this instant are too old to be shown.
    pub const fn oldest(&self, now: StoreTime) -> StoreTime {
        now.plus_millis(-(self.days as i64) * DAY_MILLIS)
    }
}

/// A day, in ms.
pub(super) const DAY_MILLIS: i64 = 86_400_000;

/// How many days longer than its entries a generation's people are kept: one month for the generation itself, and one for
/// clocks that differ.
pub(super) const PEOPLE_DAYS_MORE: i64 = 62;

/// An entry with its number in its bucket's journal. Numbers are consecutive from 1; the oldest entries may be gone.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberedEntry {
    /// The number.
    pub number: u64,
    /// The entry; `None` if it is unreadable, which affects no other entry.
    pub entry: Option<JournalEntry>,
}

/// The generation of people that an instant belongs to: its month, counted from the year 0.
pub(super) fn generation_at(instant: StoreTime) -> u32 {
    let date = instant.timestamp().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    let months = i32::from(date.year()) * 12 + i32::from(date.month()) - 1;
    u32::try_from(months).unwrap_or(0)
}

/// An entry as it is stored.
pub(super) struct StoredEntry {
    pub(super) generation: u32,
    pub(super) entry: JournalEntry<u64>,
}

impl StoredEntry {
    /// Reads an entry; `None` if the text is not an entry.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let mut line = || lines.next();
        let at = StoreTime::from_millis(line()?.parse().ok()?);
        let act = JournalAct::parse(line()?)?;
        let epoch = line()?.into();
        let space = SpaceKey { site: SiteId::new(parse_id(line()?)?)?, space: SpaceId::new(parse_id(line()?)?)? };
        let date = optional(line()?, Day::parse)?;
        let slots = parse_slots(line()?)?;
        let status = optional(line()?, parse_status)?;
        let position = Position { epoch, version: line()?.parse().ok()? };
        let generation = line()?.parse().ok()?;
        let (actor, role) = (line()?, line()?);
        let role = (!role.is_empty()).then(|| role.into());
        let actor = (!actor.is_empty()).then(|| JournalActor { id: actor.parse().ok(), role });
        let user = optional(line()?, |reference| reference.parse().ok())?;
        let taken = line()?.split(';').filter(|taken| !taken.is_empty()).map(parse_taken).collect::<Option<_>>()?;
        let request_id = line()?;
        let request_id = (!request_id.is_empty()).then(|| request_id.into());
        let entry = JournalEntry { at, act, actor, user, taken, space, date, slots, status, position, request_id };
        Some(Self { generation, entry })
    }

    /// Writes the entry in the same form as the scripts of Redis.
    #[cfg(any(feature = "server", test))]
    pub(super) fn to_text(&self) -> String {
        let entry = &self.entry;
        let text = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
        let actor = entry.actor.as_ref();
        let taken = entry.taken.iter().map(|taken| format!("{}:{}", text(taken.user), slots_text(&taken.slots)));
        [
            entry.at.as_millis().to_string(),
            entry.act.as_str().to_owned(),
            entry.position.epoch.to_string(),
            entry.space.site.to_string(),
            entry.space.space.to_string(),
            entry.date.map_or_else(String::new, |date| date.to_string()),
            slots_text(&entry.slots),
            entry.status.map_or("", status_letter).to_owned(),
            entry.position.version.to_string(),
            self.generation.to_string(),
            actor.map_or_else(String::new, |actor| actor.id.map_or_else(|| "?".into(), |id| id.to_string())),
            actor.and_then(|actor| actor.role.as_deref()).unwrap_or_default().to_owned(),
            text(entry.user),
            taken.collect::<Vec<_>>().join(";"),
            entry.request_id.as_deref().unwrap_or_default().to_owned(),
        ]
        .join("\n")
    }
}

/// `Some(None)` for an empty text; `None` for a text that cannot be read.
#[expect(clippy::option_option, reason = "the outer one is whether it can be read")]
fn optional<T>(text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { parse(text).map(Some) }
}

fn parse_slots(text: &str) -> Option<Vec<SlotNumber>> {
    let slots = text.split(',').filter(|slot| !slot.is_empty());
    slots.map(|slot| SlotNumber::new(slot.parse().ok()?)).collect()
}

fn parse_taken(text: &str) -> Option<Taken<u64>> {
    let (user, slots) = text.split_once(':')?;
    Some(Taken { user: Some(user.parse().ok()?), slots: parse_slots(slots)? })
}

fn parse_status(letter: &str) -> Option<Status> {
    [Status::Available, Status::Occupied, Status::Booked, Status::Blocked]
        .into_iter()
        .find(|status| status_letter(*status) == letter)
}

/// The letter that records use for a status.
const fn status_letter(status: Status) -> &'static str {
    match status {
        Status::Available | Status::Past => "a",
        Status::Occupied => "h",
        Status::Booked => "b",
        Status::Blocked => "c",
    }
}

#[cfg(any(feature = "server", test))]
fn slots_text(slots: &[SlotNumber]) -> String {
    slots.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "1795900000123\nupdate\n0af3\n1\n12\n2026-11-23\n3,4\nc\n41\n24322\n1\nservizio\n2\n2:3;3:4\nreq-1";

    #[test]
    fn an_entry_is_read_as_it_was_written_and_lines_of_later_versions_are_ignored() {
        for text in
            [TEXT, "5\nspace\ne\n1\n2\n\n\n\n7\n1\n?\n\n\n\n", "5\nexpire\ne\n1\n2\n2026-01-01\n1\na\n7\n1\n\n\n4\n\n"]
        {
            let stored = StoredEntry::parse(text).unwrap();
            assert_eq!(stored.to_text(), text);
            assert_eq!(StoredEntry::parse(&format!("{text}\nlater")).unwrap().entry, stored.entry);
        }
        let entry = StoredEntry::parse(TEXT).unwrap().entry;
        assert_eq!((entry.id().as_str(), entry.taken.len()), ("0af3-1-12-41", 2));
        assert_eq!(entry.people().copied().collect::<Vec<_>>(), [1, 2, 2, 3]);
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for bad in ["", "x", "5\nspace\ne\n1\n2", &TEXT.replace("update", "dance"), &TEXT.replace("3,4", "3,x")] {
            assert!(StoredEntry::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_generation_is_a_month() {
        let at = |text: &str| generation_at(text.parse::<jiff::Timestamp>().unwrap().into());
        assert_eq!(at("2026-11-30T23:59:59Z") + 1, at("2026-12-01T00:00:00Z"));
        assert_eq!(at("2026-12-31T23:59:59Z") + 1, at("2027-01-01T00:00:00Z"));
    }
}
