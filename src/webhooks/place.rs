//! The place of an endpoint in a bucket's journal: how far it has looked, and which spaces have waiting entries. The
//! place is kept in the store, and is moved by compare-and-set. It has only numbers, because an entry is read when it
//! is sent.
//!
//! The text of a place has lines, whose members have a space between them:
//!
//! | line | content |
//! |---|---|
//! | 1 | `1`, the shape |
//! | 2 | number and mark of the last entry that was looked at |
//! | others, a space each | site, space; the number up to which it is settled; instants in ms: of its first entry that waits, and of that one's first try (`-` before it); how often that one was tried; when it is due |

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::domain::ids::parse_id;
use crate::domain::{SiteId, SpaceId, SpaceKey, StoreTime};
use crate::journal::Place;

/// How many spaces of a bucket may wait at an endpoint, however many wait in other buckets. So memory and stored data stay
/// bounded while an endpoint is away.
pub const OWN_ROOM: usize = 256;

/// How many more spaces may wait at an endpoint, from all buckets together. So a few failing spaces do not hold back the
/// others of their bucket. A bucket without room is read no further.
pub const SHARED_ROOM: usize = 8_192;

/// The first line.
const SHAPE: &str = "1";

/// The place of an endpoint in a bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BucketPlace {
    /// The last entry that was looked at.
    pub seen: Place,
    /// The spaces with an unsettled entry up to that entry.
    pub waiting: BTreeMap<SpaceKey, Waiting>,
}

/// The waiting entries of a space.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The number up to which all of the space's entries are settled.
    pub settled: u64,
    /// The number of the space's last entry that was looked at; `None` if an earlier process looked.
    pub last: Option<u64>,
    /// When the first waiting entry was written, or the one before it.
    pub at: StoreTime,
    /// When the first waiting entry was first tried.
    pub first_try: Option<StoreTime>,
    /// How many times it was tried.
    pub tries: u32,
    /// When it is tried next.
    pub due: StoreTime,
}

impl BucketPlace {
    /// Notes an entry that must be sent. Answers whether its space was not waiting before; `None` if `room` spaces wait
    /// already.
    pub fn note(&mut self, space: SpaceKey, number: u64, at: StoreTime, now: StoreTime, room: usize) -> Option<bool> {
        if let Some(waiting) = self.waiting.get_mut(&space) {
            waiting.last = Some(number);
            return Some(false);
        }
        if self.waiting.len() >= room {
            return None;
        }
        let settled = number.saturating_sub(1);
        let waiting = Waiting { settled, last: Some(number), at, first_try: None, tries: 0, due: now };
        self.waiting.insert(space, waiting);
        Some(true)
    }

    /// How much of the shared room its spaces take.
    pub fn shared(&self) -> usize {
        self.waiting.len().saturating_sub(OWN_ROOM)
    }

    /// How many of its spaces may wait, if all buckets together take `taken` of the shared room.
    pub fn room(&self, taken: usize) -> usize {
        OWN_ROOM + self.shared() + SHARED_ROOM.saturating_sub(taken)
    }

    /// The number up to which nothing waits.
    pub fn settled(&self) -> u64 {
        let waiting = self.waiting.values().map(|waiting| waiting.settled).min();
        waiting.map_or(self.seen.number, |settled| settled.min(self.seen.number))
    }

    /// Continues after another place, because the store has lost entries or no longer keeps them. Waiting entries after it
    /// are read again.
    pub fn go_on_after(&mut self, place: Place) {
        self.seen = place;
        self.waiting.retain(|_, waiting| waiting.settled < place.number);
        for waiting in self.waiting.values_mut() {
            waiting.last = waiting.last.filter(|last| *last <= place.number);
        }
    }

    /// Settles a space up to an entry. Answers whether more of it waits.
    pub fn settle(&mut self, space: SpaceKey, number: u64, now: StoreTime) -> bool {
        let Some(waiting) = self.waiting.get_mut(&space) else { return false };
        if waiting.last.is_some_and(|last| last <= number) {
            self.waiting.remove(&space);
            return false;
        }
        *waiting = Waiting { settled: number, first_try: None, tries: 0, due: now, ..waiting.clone() };
        true
    }

    /// Notes that the space has no waiting entry up to a number.
    pub fn pass(&mut self, space: SpaceKey, number: u64) {
        let Some(waiting) = self.waiting.get_mut(&space) else { return };
        if waiting.last.is_none_or(|last| last <= number) {
            self.waiting.remove(&space);
        } else {
            waiting.settled = waiting.settled.max(number);
        }
    }

    /// The text that is stored.
    pub fn to_text(&self) -> String {
        let mut text = format!("{SHAPE}\n{} {}", self.seen.number, self.seen.mark);
        for (space, waiting) in &self.waiting {
            let first_try = waiting.first_try.map_or_else(|| "-".into(), |at| at.as_millis().to_string());
            let (at, due) = (waiting.at.as_millis(), waiting.due.as_millis());
            let Waiting { settled, tries, .. } = waiting;
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{} {} {settled} {at} {first_try} {tries} {due}", space.site, space.space);
        }
        text
    }

    /// Reads what [`Self::to_text`] wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_prefix(SHAPE)?.strip_prefix('\n')?.split('\n');
        let (number, mark) = lines.next()?.split_once(' ')?;
        let seen = Place { number: number.parse().ok()?, mark: mark.parse().ok()? };
        Some(Self { seen, waiting: lines.map(parse_waiting).collect::<Option<_>>()? })
    }
}

fn parse_waiting(line: &str) -> Option<(SpaceKey, Waiting)> {
    let members: Vec<&str> = line.split(' ').collect();
    let [site, space, settled, at, first_try, tries, due] = members[..] else { return None };
    let instant = |text: &str| Some(StoreTime::from_millis(text.parse().ok()?));
    let space = SpaceKey { site: SiteId::new(parse_id(site)?)?, space: SpaceId::new(parse_id(space)?)? };
    let first_try = if first_try == "-" { None } else { Some(instant(first_try)?) };
    let (settled, tries) = (settled.parse().ok()?, tries.parse().ok()?);
    Some((space, Waiting { settled, last: None, at: instant(at)?, first_try, tries, due: instant(due)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(number: u64) -> SpaceKey {
        SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
    }

    fn at(millis: i64) -> StoreTime {
        StoreTime::from_millis(millis)
    }

    fn place_at(number: u64) -> BucketPlace {
        BucketPlace { seen: Place { number, mark: 7 }, ..BucketPlace::default() }
    }

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let mut place = place_at(42);
        place.note(space(3), 40, at(1_000), at(2_000), OWN_ROOM);
        place.note(space(4), 41, at(1_500), at(2_000), OWN_ROOM);
        let failed = place.waiting.get_mut(&space(4)).unwrap();
        (failed.first_try, failed.tries, failed.due) = (Some(at(2_100)), 3, at(9_000));
        assert_eq!(place.to_text(), "1\n42 7\n1 3 39 1000 - 0 2000\n1 4 40 1500 2100 3 9000");
        place.waiting.values_mut().for_each(|waiting| waiting.last = None);
        assert_eq!(BucketPlace::parse(&place.to_text()), Some(place));
        assert_eq!(BucketPlace::parse(&BucketPlace::default().to_text()), Some(BucketPlace::default()));
        for bad in
            ["", "2\n42 7", "1", "1\n42", "1\nx 7", "1\n42 7\n", "1\n42 7\n1 3 39 1000 - 0", "1\n42 7\n0 3 39 1 - 0 2"]
        {
            assert_eq!(BucketPlace::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_space_waits_until_its_last_entry_is_settled() {
        let mut place = place_at(9);
        assert_eq!(place.note(space(3), 4, at(0), at(1), OWN_ROOM), Some(true));
        assert_eq!(place.note(space(3), 9, at(0), at(1), OWN_ROOM), Some(false));
        assert!(place.settle(space(3), 4, at(2)), "the ninth waits");
        assert!(!place.settle(space(3), 9, at(3)));
        assert!(place.waiting.is_empty());
        let mut read = BucketPlace::parse("1\n9 7\n1 3 3 0 - 0 1").unwrap();
        assert!(read.settle(space(3), 9, at(3)), "nobody here has looked for more");
        read.pass(space(3), 9);
        assert!(read.waiting.is_empty());
        assert_eq!(read.note(space(3), 12, at(0), at(1), OWN_ROOM), Some(true));
        read.pass(space(3), 10);
        assert_eq!(read.waiting[&space(3)].settled, 11, "the twelfth came meanwhile");
    }

    #[test]
    fn no_more_spaces_wait_than_may() {
        let mut place = place_at(1);
        let most = OWN_ROOM + SHARED_ROOM;
        let note = |place: &mut BucketPlace, number: u64, taken| {
            let room = place.room(taken);
            place.note(space(number), number, at(0), at(0), room)
        };
        for number in 1..=OWN_ROOM as u64 {
            assert_eq!(note(&mut place, number, SHARED_ROOM), Some(true), "its own room");
        }
        assert_eq!(note(&mut place, 100_000, SHARED_ROOM), None, "others take what is shared");
        assert_eq!(note(&mut place, 7, SHARED_ROOM), Some(false), "it waits already");
        for number in OWN_ROOM as u64 + 1..=most as u64 {
            let taken = place.shared();
            assert_eq!(note(&mut place, number, taken), Some(true));
        }
        assert_eq!((place.shared(), place.room(SHARED_ROOM)), (SHARED_ROOM, most));
        assert_eq!(note(&mut place, 100_000, SHARED_ROOM), None);
        assert!(place.to_text().len() < 1024 * 1024);
    }

    #[test]
    fn what_waits_after_a_lost_entry_is_read_again() {
        let mut place = place_at(50);
        place.note(space(1), 20, at(0), at(0), OWN_ROOM);
        place.note(space(1), 45, at(0), at(0), OWN_ROOM);
        place.note(space(2), 31, at(0), at(0), OWN_ROOM);
        place.note(space(3), 30, at(0), at(0), OWN_ROOM);
        place.go_on_after(Place { number: 30, mark: 7 });
        let waiting: Vec<_> = place.waiting.iter().map(|(space, waiting)| (*space, waiting.last)).collect();
        assert_eq!(waiting, [(space(1), None), (space(3), Some(30))]);
    }
}
