//! Reads. Each uses one snapshot of committed data, with a time that is taken after the snapshot.

use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable};

use super::Shared;
use super::batch::{LogKind, Place, log_has_ended, oldest_kept_day, raw_json, read_day, read_head};
use super::failure::Failure;
use super::publish::read_user;
use super::spaces::{read_revision, read_schedule, read_taken};
use super::tables::{
    DAYS, HEADS, LOG, REGISTERED, SLOTS, SPACES, USER_BOOKINGS, USER_HOLDS, USER_LOG, USERS, booking_range, day_key,
    day_of, number_of, open_for_reading, parse, parse_slot, read_slot, space_of, topic_key, user_range,
};
use crate::domain::schedule::ScheduleSpec;
use crate::domain::slot::SlotState;
use crate::domain::{
    Bucket, Day, Owned, Position, SiteId, SlotNumber, SlotRecord, SpaceId, SpaceKey, StoreTime, UserId,
};
use crate::store::health::StoreHealth;
use crate::store::{
    BookedSlot, DayState, HeldSlot, KeptOfUser, LOG_PORTION, LogRead, Message, NumberedEntry, ScheduleState,
    SpaceState, Topic, UserBacklog,
};

/// One snapshot.
pub(super) struct Snapshot {
    transaction: ReadTransaction,
    epoch: Arc<str>,
    now: StoreTime,
    health: Arc<StoreHealth>,
}

impl Snapshot {
    /// Takes a snapshot of the data that is committed now.
    pub(super) fn take(shared: &Shared) -> Result<Self, Failure> {
        let (transaction, epoch) = shared.begin_read()?;
        // The time is taken after the snapshot, so that nothing in the snapshot is of the future.
        Ok(Self { transaction, epoch, now: shared.clock.now(), health: shared.health.clone() })
    }

    pub(super) fn read_schedule(&self, space: SpaceKey) -> Result<ScheduleState, Failure> {
        let spaces = open_for_reading(&self.transaction, SPACES)?;
        Ok(ScheduleState {
            at: self.head(Topic::Space(space))?,
            revision: read_revision(&spaces, space)?,
            schedule: read_schedule(&spaces, space)?,
            now: self.now,
        })
    }

    pub(super) fn read_space(&self, space: SpaceKey) -> Result<SpaceState, Failure> {
        let ScheduleState { at, revision, schedule, now } = self.read_schedule(space)?;
        let taken = read_taken(&open_for_reading(&self.transaction, SLOTS)?, space, now)?;
        Ok(SpaceState { at, revision, schedule, now, taken })
    }

    pub(super) fn read_day(&self, space: SpaceKey, day: Day) -> Result<DayState, Failure> {
        let revision = read_revision(&open_for_reading(&self.transaction, SPACES)?, space)?;
        let slots = open_for_reading(&self.transaction, SLOTS)?;
        let records = read_day(&slots, Place { space, day }, self.now)?;
        self.tell_unreadable(Place { space, day }, &records);
        Ok(DayState { at: self.head(Topic::Space(space))?, revision, now: self.now, records })
    }

    /// The number of records, and the places of unreadable ones.
    pub(super) fn count_records(&self) -> Result<(u64, Vec<String>), Failure> {
        let (mut count, mut unreadable) = (0, Vec::new());
        for row in open_for_reading(&self.transaction, SLOTS)?.iter()? {
            let (key, record) = row?;
            count += 1;
            if parse_slot(record.value()).is_none() {
                let (site, space, day, slot) = key.value();
                unreadable.push(format!("site {site} space {space} {day} slot {slot}"));
            }
        }
        Ok((count, unreadable))
    }

    fn tell_unreadable(&self, place: Place, records: &std::collections::BTreeMap<SlotNumber, SlotRecord>) {
        let unreadable = SlotRecord::unreadable();
        let slots = records.iter().filter(|(_, record)| **record == unreadable).map(|(number, _)| number.to_string());
        let slots: Vec<String> = slots.collect();
        let Place { space, day } = place;
        self.health.set_unreadable(&format!("site {} space {} {day}", space.site, space.space), slots);
    }

    pub(super) fn sites_of(&self, space: SpaceId) -> Result<Vec<SiteId>, Failure> {
        let registered = open_for_reading(&self.transaction, REGISTERED)?;
        let mut sites = Vec::new();
        for row in registered.range((space.get(), 0)..=(space.get(), u64::MAX))? {
            let (space, site) = row?.0.value();
            sites.push(space_of(site, space)?.site);
        }
        Ok(sites)
    }

    pub(super) fn registered_spaces(&self) -> Result<Vec<SpaceKey>, Failure> {
        let mut spaces = Vec::new();
        for row in open_for_reading(&self.transaction, REGISTERED)?.iter()? {
            let (space, site) = row?.0.value();
            spaces.push(space_of(site, space)?);
        }
        spaces.sort_by_key(|space| (space.site, space.space));
        Ok(spaces)
    }

    pub(super) fn schedules_of(&self, spaces: &[SpaceKey]) -> Result<Vec<Option<ScheduleSpec>>, Failure> {
        let table = open_for_reading(&self.transaction, SPACES)?;
        spaces.iter().map(|space| read_schedule(&table, *space)).collect()
    }

    pub(super) fn bookings_of(&self, user: &UserId, from: Day, to: Day) -> Result<Vec<BookedSlot>, Failure> {
        let from = from.max(day_of(oldest_kept_day(self.now))?);
        if from > to {
            return Ok(Vec::new());
        }
        let user_bookings = open_for_reading(&self.transaction, USER_BOOKINGS)?;
        let slots = open_for_reading(&self.transaction, SLOTS)?;
        let mut booked = Vec::new();
        for row in user_bookings.range(booking_range(user, from, to))? {
            let (_, day, site, space, number) = row?.0.value();
            let Some(record) = read_slot(&slots, (site, space, day, number))? else { continue };
            let SlotState::Booked { booked_at, .. } = record.state else { continue };
            booked.push(BookedSlot {
                space: space_of(site, space)?,
                day: day_of(day)?,
                slot: number_of(number)?,
                label: record.label,
                start: record.start,
                end: record.end,
                booked_at,
            });
        }
        Ok(booked)
    }

    pub(super) fn spaces_on(&self, site: SiteId, day: Day) -> Result<Vec<SpaceId>, Failure> {
        let (day, site) = (day_key(day), site.get());
        if day < oldest_kept_day(self.now) {
            return Ok(Vec::new());
        }
        let days = open_for_reading(&self.transaction, DAYS)?;
        let spaces = days.range((day, site, 0)..=(day, site, u64::MAX))?;
        spaces.map(|row| Ok(space_of(site, row?.0.value().2)?.space)).collect()
    }

    /// The user's holds that were live at `asked`, the instant of the call, and those that began or were extended since.
    /// With an instant after the snapshot instead, a hold that is extended in between would be missing. Also answers when
    /// the last of the other holds ended.
    pub(super) fn holds_of(
        &self,
        user: &UserId,
        asked: StoreTime,
    ) -> Result<(Vec<HeldSlot>, Option<StoreTime>), Failure> {
        let mut last_ended = None;
        let user_holds = open_for_reading(&self.transaction, USER_HOLDS)?;
        let slots = open_for_reading(&self.transaction, SLOTS)?;
        let mut holds = Vec::new();
        for row in user_holds.range(user_range(user))? {
            let (_, site, space, day, number) = row?.0.value();
            let Some(record) = read_slot(&slots, (site, space, day, number))? else { continue };
            let Some(hold) = record.live_hold(asked) else {
                if let SlotState::Held(hold) = &record.state {
                    last_ended = last_ended.max(Some(hold.ends(asked)));
                }
                continue;
            };
            holds.push(HeldSlot {
                space: space_of(site, space)?,
                day: day_of(day)?,
                slot: number_of(number)?,
                label: record.label.clone(),
                token: hold.token.clone(),
                until: hold.until,
            });
        }
        Ok((holds, last_ended))
    }

    pub(super) fn messages_of(&self, user: &UserId, since: Option<u64>, bytes: usize) -> Result<UserBacklog, Failure> {
        let (_, received) = read_user(&open_for_reading(&self.transaction, USERS)?, user)?;
        let after = since.unwrap_or(received);
        let user_log = open_for_reading(&self.transaction, USER_LOG)?;
        let (mut messages, mut read) = (Vec::new(), 0);
        for row in user_log.range((user.as_str(), after.saturating_add(1))..=(user.as_str(), u64::MAX))? {
            if !messages.is_empty() && read >= bytes {
                return Ok(UserBacklog { after, messages, has_more: true });
            }
            let (key, row) = row?;
            let (ends, json) = row.value();
            if ends > self.now.as_millis() {
                read += json.len();
                messages.push(parse(json, "user_log", key.value())?);
            }
        }
        Ok(UserBacklog { after, messages, has_more: false })
    }

    pub(super) fn read_log(&self, topic: Topic, since: &Position) -> Result<LogRead, Failure> {
        let key @ (tag, first, second) = topic_key(topic);
        let head_row @ (version, _, first_kept) = read_head(&open_for_reading(&self.transaction, HEADS)?, key)?;
        let head = self.position(version);
        if since.epoch != head.epoch || since.version > version {
            return Ok(LogRead::Gone(head));
        }
        if since.version == version {
            return Ok(LogRead::Messages(Vec::new()));
        }
        if since.version + 1 < first_kept || log_has_ended(head_row, self.now) {
            return Ok(LogRead::Gone(head));
        }
        let log = open_for_reading(&self.transaction, LOG)?;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for row in log.range((tag, first, second, since.version + 1)..=(tag, first, second, version))? {
            let (key, row) = row?;
            let (kind, payload) = row.value();
            bytes += payload.len();
            let (kind, owned) = parse::<LogKind<Arc<Owned>>>(kind, "log", key.value())?.into_parts();
            messages.push(Message {
                at: self.position(key.value().3),
                kind,
                payload: raw_json(payload.to_owned())?,
                owned,
                written: None,
            });
            if bytes >= LOG_PORTION {
                return Ok(LogRead::Messages(messages));
            }
        }
        if messages.len() as u64 != version - since.version {
            return Err(Failure::BadRow(format!(
                "table log, topic {topic:?}: not every version up to {version} is there"
            )));
        }
        Ok(LogRead::Messages(messages))
    }

    pub(super) fn heads(&self, topics: &[Topic]) -> Result<Vec<Position>, Failure> {
        let heads = open_for_reading(&self.transaction, HEADS)?;
        let position = |topic: &Topic| Ok(self.position(read_head(&heads, topic_key(*topic))?.0));
        topics.iter().map(position).collect()
    }

    pub(super) fn read_journal(&self, bucket: Bucket, from: u64, limit: usize) -> Result<Vec<NumberedEntry>, Failure> {
        super::journal::read(&self.transaction, bucket, from, limit)
    }

    pub(super) fn reader_places(&self, reader: &str, buckets: &[Bucket]) -> Result<Vec<Option<String>>, Failure> {
        super::journal::reader_places(&self.transaction, reader, buckets)
    }

    pub(super) fn journal_tails(&self, buckets: &[Bucket]) -> Result<Vec<u64>, Failure> {
        super::journal::tails(&self.transaction, buckets)
    }

    pub(super) fn kept_of(&self, user: &UserId) -> Result<KeptOfUser, Failure> {
        super::privacy::kept_of(&self.transaction, user)
    }

    fn head(&self, topic: Topic) -> Result<Position, Failure> {
        let heads = open_for_reading(&self.transaction, HEADS)?;
        Ok(self.position(read_head(&heads, topic_key(topic))?.0))
    }

    fn position(&self, version: u64) -> Position {
        Position { epoch: self.epoch.clone(), version }
    }
}
