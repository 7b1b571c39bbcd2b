//! The tables of the file, with their keys and values. They are a part of the stored format: a changed meaning needs the
//! next [`FORMAT`].
//!
//! Numbers in keys sort as numbers. Text values are JSON if their table says so. Instants are milliseconds of the store's
//! clock.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::failure::Failure;
use crate::domain::{Day, SiteId, SlotNumber, SlotRecord, SpaceId, SpaceKey, UserId};
use crate::store::Topic;

/// The format that this program writes, which is 2 since 0.2.
pub(super) const FORMAT: u64 = 2;

/// The oldest format that this program reads. It moves such a file to [`FORMAT`] when it opens it. Format 1 is that of 0.1:
/// the same tables, whose records lack the optional fields of `Hold` and `Booked`.
pub(super) const OLDEST_FORMAT: u64 = 1;

/// `format`, `epoch` and `identity` of the file, as text.
pub(super) const META: TableDefinition<&str, &str> = TableDefinition::new("meta");

/// One row: the number of commits of this file, which is compared with the mark beside it (`mark.rs`).
pub(super) const COMMITS: TableDefinition<(), u64> = TableDefinition::new("commits");

/// Topic: its version, its last change, and the lowest version in its log. The log is empty if that is above the version.
/// Rows are never deleted, so that no version is used twice.
pub(super) const HEADS: TableDefinition<TopicKey, HeadRow> = TableDefinition::new("heads");

/// Topic and version: the message's kind as a JSON string, or an object of `kind` and `owned` (an [`Owned`]) where nodes are
/// told who has a slot; and its payload as JSON.
///
/// [`Owned`]: crate::domain::Owned
pub(super) const LOG: TableDefinition<(u8, u64, u64, u64), (&str, &str)> = TableDefinition::new("log");

/// The time at which a log may end, and the log's topic. The log is checked then, and again later if the topic has
/// changed since.
pub(super) const LOG_ENDS: TableDefinition<(i64, u8, u64, u64), ()> = TableDefinition::new("log_ends");

/// Site and space: the version at which the schedule last changed, and the schedule as JSON while it is registered.
pub(super) const SPACES: TableDefinition<(u64, u64), (u64, Option<&str>)> = TableDefinition::new("spaces");

/// Space and site of each registered space, so that all sites of a space are neighbours.
pub(super) const REGISTERED: TableDefinition<(u64, u64), ()> = TableDefinition::new("registered");

/// Site, space, day, slot: a [`SlotRecord`] as JSON. An available slot without data has no row.
pub(super) const SLOTS: TableDefinition<SlotKey, &str> = TableDefinition::new("slots");

/// Day, site, space: the days that have rows in [`SLOTS`].
pub(super) const DAYS: TableDefinition<(i32, u64, u64), ()> = TableDefinition::new("days");

/// Bucket, end, site, space, day and slot of every stored hold, live or ended.
pub(super) const HOLD_ENDS: TableDefinition<(u8, i64, u64, u64, i32, u16), ()> = TableDefinition::new("hold_ends");

/// User, site, space, day and slot of every stored hold, live or ended.
pub(super) const USER_HOLDS: TableDefinition<(&str, u64, u64, i32, u16), ()> = TableDefinition::new("user_holds");

/// User, day, site, space and slot of every booking of a user.
pub(super) const USER_BOOKINGS: TableDefinition<BookingKey, ()> = TableDefinition::new("user_bookings");

/// Caller and the digest of an `Idempotency-Key`: the answer, as JSON.
pub(super) const ANSWERS: TableDefinition<(&str, &str), &str> = TableDefinition::new("answers");

/// The time at which an answer ends, and the answer's key.
pub(super) const ANSWER_ENDS: TableDefinition<(i64, &str, &str), ()> = TableDefinition::new("answer_ends");

/// User: the sequences of the last message, and of the last one that a socket has received. Removed when the user is
/// erased. No sequence is used twice, because each is at least the time in ms.
pub(super) const USERS: TableDefinition<&str, (u64, u64)> = TableDefinition::new("users");

/// Caller, the space's bucket, the answer's end, and the digest of its key: in the order in which the answers were given.
pub(super) const ANSWER_ORDER: TableDefinition<(&str, u8, i64, &str), ()> = TableDefinition::new("answer_order");

/// User and sequence: when the message ends, and the `UserMessage` as JSON.
pub(super) const USER_LOG: TableDefinition<(&str, u64), (i64, &str)> = TableDefinition::new("user_log");

/// The time at which a user's message ends, and the message's key.
pub(super) const USER_LOG_ENDS: TableDefinition<(i64, &str, u64), ()> = TableDefinition::new("user_log_ends");

/// Bucket and number: an entry of the journal, lines as `store::journal` says.
pub(super) const JOURNAL: TableDefinition<(u8, u64), &str> = TableDefinition::new("journal");

/// Generation and reference: the user that entries of the journal name with the reference.
pub(super) const PEOPLE: TableDefinition<(u32, u64), &str> = TableDefinition::new("journal_people");

/// Generation and user: the reference of the user.
pub(super) const REFERENCES: TableDefinition<(u32, &str), u64> = TableDefinition::new("journal_references");

/// User: the id that replaces the user's while the user is being erased.
pub(super) const ERASING: TableDefinition<&str, &str> = TableDefinition::new("erasing");

/// Reader of the journal and bucket: the reader's place, as the reader wrote it.
pub(super) const READERS: TableDefinition<(&str, u8), &str> = TableDefinition::new("journal_readers");

/// A topic in keys: 0 and the bucket, or 1, the site and the space.
pub(super) type TopicKey = (u8, u64, u64);

/// A topic's version, last change, and first kept version.
pub(super) type HeadRow = (u64, i64, u64);

/// Site, space, day, slot.
pub(super) type SlotKey = (u64, u64, i32, u16);

/// User, day, site, space, slot.
pub(super) type BookingKey = (&'static str, i32, u64, u64, u16);

/// All tables, opened for writing.
pub(super) struct Tables<'txn> {
    pub(super) heads: Table<'txn, TopicKey, HeadRow>,
    pub(super) log: Table<'txn, (u8, u64, u64, u64), (&'static str, &'static str)>,
    pub(super) log_ends: Table<'txn, (i64, u8, u64, u64), ()>,
    pub(super) spaces: Table<'txn, (u64, u64), (u64, Option<&'static str>)>,
    pub(super) registered: Table<'txn, (u64, u64), ()>,
    pub(super) slots: Table<'txn, SlotKey, &'static str>,
    pub(super) days: Table<'txn, (i32, u64, u64), ()>,
    pub(super) hold_ends: Table<'txn, (u8, i64, u64, u64, i32, u16), ()>,
    pub(super) user_holds: Table<'txn, (&'static str, u64, u64, i32, u16), ()>,
    pub(super) user_bookings: Table<'txn, BookingKey, ()>,
    pub(super) answers: Table<'txn, (&'static str, &'static str), &'static str>,
    pub(super) answer_ends: Table<'txn, (i64, &'static str, &'static str), ()>,
    pub(super) answer_order: Table<'txn, (&'static str, u8, i64, &'static str), ()>,
    pub(super) users: Table<'txn, &'static str, (u64, u64)>,
    pub(super) user_log: Table<'txn, (&'static str, u64), (i64, &'static str)>,
    pub(super) user_log_ends: Table<'txn, (i64, &'static str, u64), ()>,
    pub(super) journal: Table<'txn, (u8, u64), &'static str>,
    pub(super) people: Table<'txn, (u32, u64), &'static str>,
    pub(super) references: Table<'txn, (u32, &'static str), u64>,
    pub(super) erasing: Table<'txn, &'static str, &'static str>,
    pub(super) readers: Table<'txn, (&'static str, u8), &'static str>,
}

impl<'txn> Tables<'txn> {
    /// Opens all tables, and makes missing ones.
    pub(super) fn open(transaction: &'txn WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            heads: transaction.open_table(HEADS)?,
            log: transaction.open_table(LOG)?,
            log_ends: transaction.open_table(LOG_ENDS)?,
            spaces: transaction.open_table(SPACES)?,
            registered: transaction.open_table(REGISTERED)?,
            slots: transaction.open_table(SLOTS)?,
            days: transaction.open_table(DAYS)?,
            hold_ends: transaction.open_table(HOLD_ENDS)?,
            user_holds: transaction.open_table(USER_HOLDS)?,
            user_bookings: transaction.open_table(USER_BOOKINGS)?,
            answers: transaction.open_table(ANSWERS)?,
            answer_ends: transaction.open_table(ANSWER_ENDS)?,
            answer_order: transaction.open_table(ANSWER_ORDER)?,
            users: transaction.open_table(USERS)?,
            user_log: transaction.open_table(USER_LOG)?,
            user_log_ends: transaction.open_table(USER_LOG_ENDS)?,
            journal: transaction.open_table(JOURNAL)?,
            people: transaction.open_table(PEOPLE)?,
            references: transaction.open_table(REFERENCES)?,
            erasing: transaction.open_table(ERASING)?,
            readers: transaction.open_table(READERS)?,
        })
    }
}

/// A topic in keys.
pub(super) fn topic_key(topic: Topic) -> TopicKey {
    match topic {
        Topic::Bucket(bucket) => (0, u64::from(bucket.get()), 0),
        Topic::Space(space) => (1, space.site.get(), space.space.get()),
    }
}

/// A day in keys: its digits, `20261123`.
pub(super) fn day_key(day: Day) -> i32 {
    let date = day.date();
    i32::from(date.year()) * 10_000 + i32::from(date.month()) * 100 + i32::from(date.day())
}

/// The day of a key.
pub(super) fn day_of(key: i32) -> Result<Day, Failure> {
    let parts = (i16::try_from(key / 10_000), i8::try_from(key / 100 % 100), i8::try_from(key % 100));
    let (Ok(year), Ok(month), Ok(day)) = parts else { return Err(bad_key("day", key)) };
    jiff::civil::Date::new(year, month, day).map(Day::from).map_err(|_| bad_key("day", key))
}

/// The space of two numbers in a key.
pub(super) fn space_of(site: u64, space: u64) -> Result<SpaceKey, Failure> {
    match (SiteId::new(site), SpaceId::new(space)) {
        (Some(site), Some(space)) => Ok(SpaceKey { site, space }),
        _ => Err(bad_key("space", format_args!("{site}/{space}"))),
    }
}

/// The slot of a number in a key.
pub(super) fn number_of(key: u16) -> Result<SlotNumber, Failure> {
    SlotNumber::new(u64::from(key)).ok_or_else(|| bad_key("slot", key))
}

/// A slot in keys.
pub(super) fn slot_key(space: SpaceKey, day: Day, number: SlotNumber) -> SlotKey {
    (space.site.get(), space.space.get(), day_key(day), number.get())
}

/// The keys of all slots of a day.
pub(super) fn day_range(space: SpaceKey, day: Day) -> std::ops::RangeInclusive<SlotKey> {
    let (site, space, day) = (space.site.get(), space.space.get(), day_key(day));
    (site, space, day, 0)..=(site, space, day, u16::MAX)
}

/// The keys of all slots of a space, from a day on.
pub(super) fn space_range(space: SpaceKey, from: Day) -> std::ops::RangeInclusive<SlotKey> {
    let (site, space) = (space.site.get(), space.space.get());
    (site, space, day_key(from), 0)..=(site, space, i32::MAX, u16::MAX)
}

/// The keys of all of a user's holds.
pub(super) fn user_range(user: &UserId) -> std::ops::RangeInclusive<(&str, u64, u64, i32, u16)> {
    let user = user.as_str();
    (user, 0, 0, i32::MIN, 0)..=(user, u64::MAX, u64::MAX, i32::MAX, u16::MAX)
}

/// The keys of a user's bookings of the days from one to another.
pub(super) fn booking_range(user: &UserId, from: Day, to: Day) -> std::ops::RangeInclusive<(&str, i32, u64, u64, u16)> {
    let user = user.as_str();
    (user, day_key(from), 0, 0, 0)..=(user, day_key(to), u64::MAX, u64::MAX, u16::MAX)
}

/// The keys of all of a user's holds in one space.
pub(super) fn user_space_range(user: &UserId, space: SpaceKey) -> std::ops::RangeInclusive<(&str, u64, u64, i32, u16)> {
    let (user, site, space) = (user.as_str(), space.site.get(), space.space.get());
    (user, site, space, i32::MIN, 0)..=(user, site, space, i32::MAX, u16::MAX)
}

/// Reads one slot's record.
pub(super) fn read_slot(
    slots: &impl ReadableTable<SlotKey, &'static str>,
    key: SlotKey,
) -> Result<Option<SlotRecord>, Failure> {
    Ok(slots.get(key)?.map(|row| parse_slot(row.value()).unwrap_or_else(SlotRecord::unreadable)))
}

/// Reads a record; `None` if it is unreadable. Then only this slot suffers, not its day: it is shown as blocked until staff
/// sets it anew.
pub(super) fn parse_slot(json: &str) -> Option<SlotRecord> {
    serde_json::from_str(json).ok()
}

/// Reads a JSON value. An error names the row.
pub(super) fn parse<'a, T: serde::Deserialize<'a>>(
    json: &'a str,
    table: &str,
    key: impl std::fmt::Debug,
) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|error| Failure::BadRow(format!("table {table}, row {key:?}: {error}")))
}

fn bad_key(what: &str, key: impl std::fmt::Display) -> Failure {
    Failure::BadRow(format!("no {what} has the key {key}"))
}

/// Opens a table for reading; [`super::open`] has made them all.
pub(super) fn open_for_reading<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<redb::ReadOnlyTable<K, V>, Failure> {
    Ok(transaction.open_table(table)?)
}
