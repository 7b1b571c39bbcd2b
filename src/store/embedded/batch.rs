//! One write transaction as its jobs see it: tables to read, tables to write, topics to append to.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::failure::Failure;
use super::tables::{HeadRow, Tables, TopicKey, day_key, parse_slot, slot_key, topic_key};
use crate::domain::event::{slot_update, to_json};
use crate::domain::rule::Change;
use crate::domain::slot::SlotState;
use crate::domain::{Day, Owned, Position, SlotNumber, SlotRecord, SpaceKey, StoreTime, UserId};
use crate::store::{FreedSlots, JournalBounds, KEEP_MILLIS, LOG_LENGTH, Message, MessageKind, Topic};

/// The transaction of a batch of jobs. Announcements leave only after the commit.
pub(super) struct Batch<'txn> {
    tables: Tables<'txn>,
    wrote: bool,
    epoch: Arc<str>,
    now: StoreTime,
    announcements: Vec<(Topic, Message)>,
    journal: JournalBounds,
}

/// The slots of one day of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) space: SpaceKey,
    pub(super) day: Day,
}

impl<'txn> Batch<'txn> {
    pub(super) fn begin(
        transaction: &'txn WriteTransaction,
        epoch: Arc<str>,
        now: StoreTime,
        journal: JournalBounds,
    ) -> Result<Self, Failure> {
        let tables = Tables::open(transaction)?;
        Ok(Self { tables, wrote: false, epoch, now, announcements: Vec::new(), journal })
    }

    /// How much of the journal is kept.
    pub(super) fn journal_bounds(&self) -> JournalBounds {
        self.journal
    }

    /// The time of the running job.
    pub(super) fn now(&self) -> StoreTime {
        self.now
    }

    /// Sets the time of the next job.
    pub(super) fn set_now(&mut self, now: StoreTime) {
        self.now = now;
    }

    /// The tables, to read.
    pub(super) fn tables(&self) -> &Tables<'txn> {
        &self.tables
    }

    /// The tables for writing. Calling this marks the batch as one to commit.
    pub(super) fn write(&mut self) -> &mut Tables<'txn> {
        self.wrote = true;
        &mut self.tables
    }

    /// Whether anything was written, and the announcements in order.
    pub(super) fn finish(self) -> (bool, Vec<(Topic, Message)>) {
        (self.wrote, self.announcements)
    }

    /// A version of a topic under the file's epoch.
    pub(super) fn position(&self, version: u64) -> Position {
        Position { epoch: self.epoch.clone(), version }
    }

    /// Where a topic stands.
    pub(super) fn head(&self, topic: Topic) -> Result<Position, Failure> {
        let (version, _, _) = self.head_row(topic_key(topic))?;
        Ok(self.position(version))
    }

    /// Takes the next version of a topic for a message, and keeps it in the log.
    pub(super) fn append(
        &mut self,
        topic: Topic,
        kind: MessageKind,
        payload: impl FnOnce(&Position) -> String,
    ) -> Result<Position, Failure> {
        self.append_owned(topic, kind, None, payload)
    }

    /// Like [`Self::append`], for a message that tells nodes the owner of a slot.
    fn append_owned(
        &mut self,
        topic: Topic,
        kind: MessageKind,
        owned: Option<Owned>,
        payload: impl FnOnce(&Position) -> String,
    ) -> Result<Position, Failure> {
        let key @ (tag, first, second) = topic_key(topic);
        let (last_version, last_change, first_kept) = self.head_row(key)?;
        let first_kept = self.drop_ended_log(key, (last_version, last_change, first_kept))?;
        let at = self.position(last_version + 1);
        let payload = raw_json(payload(&at))?;

        let now = self.now.as_millis();
        let kind_text = to_json(&LogKind::new(kind, owned.as_ref()));
        let tables = self.write();
        if first_kept == at.version {
            tables.log_ends.insert((now.saturating_add(KEEP_MILLIS), tag, first, second), ())?;
        }
        tables.log.insert((tag, first, second, at.version), (kind_text.as_str(), payload.get()))?;
        let keep_from = first_kept.max((at.version + 1).saturating_sub(LOG_LENGTH));
        for version in first_kept..keep_from {
            tables.log.remove((tag, first, second, version))?;
        }
        tables.heads.insert(key, (at.version, now, keep_from))?;
        let owned = owned.map(Arc::new);
        self.announce(topic, Message { at: at.clone(), kind, payload, owned, written: None });
        Ok(at)
    }

    /// Announces a message after the commit. A message that is not kept takes no version, and has the topic's head.
    pub(super) fn announce(&mut self, topic: Topic, message: Message) {
        self.announcements.push((topic, message));
    }

    /// Writes changes of slots in their order: a version, a record and an event for each, then one [`FreedSlots`] for
    /// the freed slots. `records` has the day's stored records, and is updated. Answers the position of the last event.
    pub(super) fn write_changes(
        &mut self,
        place: Place,
        records: &mut BTreeMap<SlotNumber, SlotRecord>,
        changes: &[Change],
    ) -> Result<Position, Failure> {
        let mut at = self.head(Topic::Space(place.space))?;
        let mut freed = Vec::new();
        for change in changes {
            at = self.write_change(place, records, change)?;
            if change.freed {
                freed.push(change.slot.number);
            }
        }
        if !freed.is_empty() {
            self.announce_freed(place, freed)?;
        }
        Ok(at)
    }

    fn write_change(
        &mut self,
        place: Place,
        records: &mut BTreeMap<SlotNumber, SlotRecord>,
        change: &Change,
    ) -> Result<Position, Failure> {
        let now = self.now;
        let owned = Owned::of(&change.state, change.slot.start);
        let at = self.append_owned(Topic::Space(place.space), MessageKind::SlotUpdate, owned, |at| {
            slot_update(place.space, place.day, change, at, now)
        })?;
        let number = change.slot.number;
        if let Some(old) = records.remove(&number) {
            self.forget_taken(place, number, &old)?;
        }
        let record = record_of(change, &at);
        self.store_record(place, number, &record)?;
        records.insert(number, record);
        Ok(at)
    }

    fn announce_freed(&mut self, place: Place, mut slots: Vec<SlotNumber>) -> Result<(), Failure> {
        slots.sort_unstable();
        let SpaceKey { space, site } = place.space;
        let freed = FreedSlots { space, site, date: place.day, slots };
        let topic = Topic::Bucket(place.space.bucket());
        self.append(topic, MessageKind::Freed, |_| to_json(&freed))?;
        Ok(())
    }

    /// Writes a slot's record. The caller has removed the former hold from the indexes.
    pub(super) fn store_record(
        &mut self,
        place: Place,
        number: SlotNumber,
        record: &SlotRecord,
    ) -> Result<(), Failure> {
        let key = slot_key(place.space, place.day, number);
        if matches!(record.state, SlotState::Available { data: None }) {
            self.write().slots.remove(key)?;
            return Ok(());
        }
        let json = serde_json::to_string(record).map_err(|error| Failure::BadRow(error.to_string()))?;
        let (site, space, day, slot) = key;
        let bucket = place.space.bucket().get();
        let tables = self.write();
        tables.slots.insert(key, json.as_str())?;
        tables.days.insert((day, site, space), ())?;
        if let SlotState::Held(hold) = &record.state {
            tables.hold_ends.insert((bucket, hold.until.as_millis(), site, space, day, slot), ())?;
            tables.user_holds.insert((hold.user.as_str(), site, space, day, slot), ())?;
        }
        if let Some(user) = booker_of(record) {
            tables.user_bookings.insert((user.as_str(), day, site, space, slot), ())?;
        }
        Ok(())
    }

    /// Removes the hold or the booking of a record from the indexes.
    pub(super) fn forget_taken(&mut self, place: Place, number: SlotNumber, old: &SlotRecord) -> Result<(), Failure> {
        if let Some(user) = booker_of(old) {
            let (site, space, day, slot) = slot_key(place.space, place.day, number);
            self.write().user_bookings.remove((user.as_str(), day, site, space, slot))?;
        }
        self.forget_hold(place, number, old)
    }

    /// Removes the hold of a record from the indexes.
    fn forget_hold(&mut self, place: Place, number: SlotNumber, old: &SlotRecord) -> Result<(), Failure> {
        let SlotState::Held(hold) = &old.state else { return Ok(()) };
        let (site, space, day, slot) = slot_key(place.space, place.day, number);
        let bucket = place.space.bucket().get();
        let tables = self.write();
        tables.hold_ends.remove((bucket, hold.until.as_millis(), site, space, day, slot))?;
        tables.user_holds.remove((hold.user.as_str(), site, space, day, slot))?;
        Ok(())
    }

    /// The first version that the topic's log keeps. Drops a log that has ended, because it must not come back with the
    /// next change.
    /// change.
    fn drop_ended_log(&mut self, (tag, first, second): TopicKey, head: HeadRow) -> Result<u64, Failure> {
        let (version, _, first_kept) = head;
        if !log_has_ended(head, self.now) {
            return Ok(first_kept);
        }
        if first_kept <= version {
            let kept = (tag, first, second, first_kept)..=(tag, first, second, version);
            self.write().log.retain_in(kept, |_, _| false)?;
        }
        Ok(version + 1)
    }

    /// A topic's row. A topic without changes is at 0, and its log begins at 1.
    pub(super) fn head_row(&self, key: TopicKey) -> Result<HeadRow, Failure> {
        Ok(read_head(&self.tables.heads, key)?)
    }

    /// The records of a day; none if the day is so long ago that its slots are forgotten.
    pub(super) fn day_records(&self, place: Place) -> Result<BTreeMap<SlotNumber, SlotRecord>, Failure> {
        read_day(&self.tables.slots, place, self.now)
    }
}

/// Whether a log has reached its end.
pub(super) fn log_has_ended((_, last_change, _): HeadRow, now: StoreTime) -> bool {
    last_change.saturating_add(KEEP_MILLIS) <= now.as_millis()
}

/// Reads a topic's row; see [`Batch::head_row`].
pub(super) fn read_head(heads: &impl ReadableTable<TopicKey, HeadRow>, key: TopicKey) -> redb::Result<HeadRow> {
    Ok(heads.get(key)?.map_or((0, 0, 1), |row| row.value()))
}

/// Reads the records of a day; see [`Batch::day_records`].
pub(super) fn read_day(
    slots: &impl ReadableTable<super::tables::SlotKey, &'static str>,
    place: Place,
    now: StoreTime,
) -> Result<BTreeMap<SlotNumber, SlotRecord>, Failure> {
    if day_key(place.day) < oldest_kept_day(now) {
        return Ok(BTreeMap::new());
    }
    let mut records = BTreeMap::new();
    for row in slots.range(super::tables::day_range(place.space, place.day))? {
        let (key, record) = row?;
        let (_, _, _, number) = key.value();
        let record = parse_slot(record.value()).unwrap_or_else(SlotRecord::unreadable);
        records.insert(super::tables::number_of(number)?, record);
    }
    Ok(records)
}

/// The key of the oldest day whose slots are kept, by the UTC date. A local day is at most one day off, and a day must not
/// be forgotten before it has ended everywhere.
pub(super) fn oldest_kept_day(now: StoreTime) -> i32 {
    let today = now.timestamp().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    let oldest = today.saturating_sub(jiff::Span::new().days(i64::from(crate::store::DAYS_KEPT) + 1));
    day_key(oldest.into())
}

/// The user who has booked a slot.
pub(super) fn booker_of(record: &SlotRecord) -> Option<&UserId> {
    match &record.state {
        SlotState::Booked { user, .. } => user.as_ref(),
        _ => None,
    }
}

fn record_of(change: &Change, at: &Position) -> SlotRecord {
    let mut state = change.state.clone();
    state.fill_first(&at.epoch, at.version);
    let slot = &change.slot;
    SlotRecord { state, version: at.version, start: slot.start, end: slot.end, label: slot.label.clone() }
}

/// Checks that a text is JSON, and shares it.
pub(super) fn raw_json(json: String) -> Result<Arc<RawValue>, Failure> {
    let raw = RawValue::from_string(json).map_err(|error| Failure::BadRow(error.to_string()))?;
    Ok(raw.into())
}

/// The log's fields of a message besides the payload: the kind alone, or the kind with the slot's owner.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum LogKind<O> {
    Plain(MessageKind),
    Owned { kind: MessageKind, owned: O },
}

impl<O> LogKind<O> {
    fn new(kind: MessageKind, owned: Option<O>) -> Self {
        match owned {
            None => LogKind::Plain(kind),
            Some(owned) => LogKind::Owned { kind, owned },
        }
    }

    pub(super) fn into_parts(self) -> (MessageKind, Option<O>) {
        match self {
            LogKind::Plain(kind) => (kind, None),
            LogKind::Owned { kind, owned } => (kind, Some(owned)),
        }
    }
}
