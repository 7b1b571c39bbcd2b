//! The reads.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use serde_json::value::RawValue;

use super::RedisStore;
use super::call::{Budget, Call};
use super::keys::{parse_compact, parse_owned, space_key};
use super::record::{parse_record, parse_time, parse_token};
use super::reply::Reply;
use super::scripts;
use crate::domain::ids::parse_id;
use crate::domain::schedule::ScheduleSpec;
use crate::domain::{Bucket, Day, Position, SiteId, SlotNumber, SlotRecord, SpaceId, SpaceKey, UserId};
use crate::store::{
    DayState, HeldSlot, LOG_PORTION, LogRead, Message, MessageKind, ScheduleState, SpaceState, StoreError, Topic,
};
use crate::telemetry::users::logged;

/// How many times a day is read again for changes since the first read.
const DAY_PASSES: usize = 32;

pub(super) async fn read_day(store: &RedisStore, space: SpaceKey, day: Day) -> Result<DayState, StoreError> {
    let keys = &store.keys;
    let (reply, texts) = read_day_texts(store, space, day).await?;
    let (now, key) = (reply.time_at(0)?, keys.day(space, day));
    let (mut records, mut unreadable) = (BTreeMap::new(), Vec::new());
    for (number, text) in texts {
        let record = parse_record(&text, now);
        if let Some(number) = parse_number(&number) {
            records.insert(number, record.clone().unwrap_or_else(SlotRecord::unreadable));
        }
        if record.is_none() {
            unreadable.push(number);
        }
    }
    store.health.set_unreadable(&key, unreadable);
    let at = reply.position_at(1)?;
    store.runner.positions.learn(Topic::Space(space), &at);
    Ok(DayState { at, revision: reply.number_at(3)?, now, records })
}

/// A day's records by slot number, at the position in the reply. Many large records are read in portions, each with the
/// time of a call of its own. Then the changes since the first portion are read, until one portion has them all.
async fn read_day_texts(
    store: &RedisStore,
    space: SpaceKey,
    day: Day,
) -> Result<(Reply, BTreeMap<String, String>), StoreError> {
    let mut texts = BTreeMap::new();
    // `texts` has all changes up to this position.
    let mut known: Option<Position> = None;
    for _ in 0..DAY_PASSES {
        let since = known.as_ref().map_or(0, |known| known.version);
        let first = read_day_portion(store, space, day, since, "").await?;
        let at = first.position_at(1)?;
        if known.as_ref().is_some_and(|known| known.epoch != at.epoch) {
            texts.clear();
            known = None;
            continue;
        }
        if known.is_some() {
            let all = first.array_at(6)?;
            texts.retain(|number, _| all.contains(number));
        }
        take_texts(&first, &mut texts)?;
        let mut last = first.text_at(4)?.to_owned();
        if last.is_empty() {
            return Ok((first, texts));
        }
        while !last.is_empty() {
            let portion = read_day_portion(store, space, day, since, &last).await?;
            take_texts(&portion, &mut texts)?;
            last = portion.text_at(4)?.to_owned();
        }
        known = Some(at);
    }
    Err(StoreError(format!("Redis: the day {day} of {space} changes faster than it can be read")))
}

async fn read_day_portion(
    store: &RedisStore,
    space: SpaceKey,
    day: Day,
    since: u64,
    after: &str,
) -> Result<Reply, StoreError> {
    let call = Call::new(&scripts::READ_DAY)
        .fence(space.bucket())
        .key(store.keys.head(Topic::Space(space)))
        .key(store.keys.day(space, day))
        .arg(LOG_PORTION)
        .arg(since)
        .arg(after);
    store.runner.repeatable(&call, Budget::of_a_call()).await
}

fn take_texts(reply: &Reply, texts: &mut BTreeMap<String, String>) -> Result<(), StoreError> {
    let mut parts = reply.array_at(5)?.into_iter();
    while let (Some(number), Some(text)) = (parts.next(), parts.next()) {
        texts.insert(number, text);
    }
    Ok(())
}

pub(super) async fn read_schedule(store: &RedisStore, space: SpaceKey) -> Result<ScheduleState, StoreError> {
    let key = store.keys.head(Topic::Space(space));
    let call = Call::new(&scripts::READ_SCHEDULE).fence(space.bucket()).key(key.clone());
    let reply = store.runner.repeatable(&call, Budget::of_a_call()).await?;
    let schedule = parse_schedule(reply.text_at(4)?, &key)?;
    let state =
        ScheduleState { at: reply.position_at(1)?, revision: reply.number_at(3)?, schedule, now: reply.time_at(0)? };
    store.runner.positions.learn(Topic::Space(space), &state.at);
    Ok(state)
}

/// The schedule in a head; an empty text stands for none.
fn parse_schedule(json: &str, key: &str) -> Result<Option<ScheduleSpec>, StoreError> {
    if json.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(json).map(Some).map_err(|_| bad_value(key))
}

pub(super) async fn read_space(store: &RedisStore, space: SpaceKey) -> Result<SpaceState, StoreError> {
    let budget = Budget::of_a_call();
    let keys = &store.keys;
    let mut days: Vec<String> = Vec::new();
    loop {
        let mut call = Call::new(&scripts::READ_SPACE)
            .fence(space.bucket())
            .key(keys.head(Topic::Space(space)))
            .key(keys.days(space));
        for day in &days {
            call = call.key(keys.day_of_text(space, day)).arg(day);
        }
        let reply = store.runner.repeatable(&call, budget).await?;
        if reply.text_at(0)? == "days" {
            // Each round knows all days of the round before. It ends unless days are added without end, and then the time
            // runs out.
            days = reply.texts_from(1)?.into_iter().map(str::to_owned).collect();
            continue;
        }
        let schedule = parse_schedule(reply.text_at(5)?, &keys.head(Topic::Space(space)))?;
        let now = reply.time_at(1)?;
        let mut taken = Vec::new();
        for part in reply.texts_from(6)?.chunks_exact(3) {
            if let [day, number, record] = part {
                // The day's board shows an unreadable record as blocked and reports it.
                let read = (parse_compact(day), parse_number(number), parse_record(record, now));
                if let (Some(day), Some(number), Some(record)) = read {
                    taken.push((day, number, record));
                }
            }
        }
        taken.sort_by_key(|(day, number, _)| (*day, *number));
        let (at, revision) = (reply.position_at(2)?, reply.number_at(4)?);
        return Ok(SpaceState { at, revision, schedule, now, taken });
    }
}

fn parse_number(text: &str) -> Option<SlotNumber> {
    SlotNumber::new(text.parse().ok()?)
}

pub(super) async fn sites_of(store: &RedisStore, space: SpaceId) -> Result<Vec<SiteId>, StoreError> {
    let (from, to) = (format!("[{space}|"), format!("({space}}}"));
    let mut sites = Vec::new();
    for member in lex_ranges(store, |bucket| store.keys.spaces(bucket), &from, &to).await? {
        let site = member.split_once('|').and_then(|(_, site)| SiteId::new(parse_id(site)?));
        sites.push(site.ok_or_else(|| bad_value("the registered spaces"))?);
    }
    sites.sort_unstable();
    Ok(sites)
}

pub(super) async fn registered_spaces(store: &RedisStore) -> Result<Vec<SpaceKey>, StoreError> {
    let mut spaces = Vec::new();
    for member in lex_ranges(store, |bucket| store.keys.spaces(bucket), "-", "+").await? {
        let space = member.split_once('|').and_then(|(space, site)| space_key(site, space));
        spaces.push(space.ok_or_else(|| bad_value("the registered spaces"))?);
    }
    spaces.sort_unstable_by_key(|space| (space.site, space.space));
    Ok(spaces)
}

pub(super) async fn schedules_of(
    store: &RedisStore,
    spaces: &[SpaceKey],
) -> Result<Vec<Option<ScheduleSpec>>, StoreError> {
    let budget = Budget::of_a_call();
    let reads = spaces.iter().map(|space| async move {
        let key = store.keys.head(Topic::Space(*space));
        let mut get = redis::cmd("HGET");
        get.arg(&key).arg("j");
        let json = store.runner.command("hget", &get, budget).await?;
        let json: Option<String> = redis::from_redis_value(json).map_err(|_| bad_value(&key))?;
        let json = json.filter(|json| !json.is_empty());
        json.map(|json| serde_json::from_str(&json).map_err(|_| bad_value(&key))).transpose()
    });
    try_join_all(reads).await
}

pub(super) async fn holds_of(store: &RedisStore, user: &UserId) -> Result<Vec<HeldSlot>, StoreError> {
    // No user's id has a control character, so nobody else's holds are in this range.
    let (from, to) = (format!("[{user}\n"), format!("({user}\u{b}"));
    let budget = Budget::of_a_call();
    let buckets = Bucket::all().map(|bucket| {
        let call = Call::new(&scripts::USER_HOLDS).key(store.keys.holds(bucket)).arg(&from).arg(&to);
        async move { live_holds(&store.runner.repeatable(&call, budget).await?, user) }
    });
    let mut holds: Vec<HeldSlot> = try_join_all(buckets).await?.concat();
    holds.sort_by_key(|hold| (hold.space, hold.day, hold.slot));
    Ok(holds)
}

/// The holds of one bucket that were live at the instant of the read. For any other instant, a hold that was extended
/// in between would be missing: its old end has passed, and its new end was not read.
fn live_holds(reply: &Reply, user: &UserId) -> Result<Vec<HeldSlot>, StoreError> {
    let now = reply.time_at(0)?;
    let mut holds = Vec::new();
    for member in reply.texts_from(1)? {
        match parse_hold(member) {
            Some(hold) if now < hold.until => holds.push(hold),
            Some(_) => {}
            None => tracing::debug!(user.id = %logged(user), "an entry of the index of holds cannot be read"),
        }
    }
    Ok(holds)
}

fn parse_hold(member: &str) -> Option<HeldSlot> {
    let mut lines = member.splitn(8, '\n').skip(1);
    let mut line = || lines.next();
    let (site, space, day, slot, token, until, label) = (line()?, line()?, line()?, line()?, line()?, line()?, line()?);
    Some(HeldSlot {
        space: space_key(site, space)?,
        day: Day::parse(day)?,
        slot: SlotNumber::new(slot.parse().ok()?)?,
        label: label.into(),
        token: parse_token(token)?,
        until: parse_time(until)?,
    })
}

/// The members of one sorted set of each bucket between two ends.
pub(super) async fn lex_ranges(
    store: &RedisStore,
    key: impl Fn(Bucket) -> String,
    from: &str,
    to: &str,
) -> Result<Vec<String>, StoreError> {
    let budget = Budget::of_a_call();
    let ranges = Bucket::all().map(|bucket| {
        let mut range = redis::cmd("ZRANGEBYLEX");
        range.arg(key(bucket)).arg(from).arg(to);
        async move {
            let members = store.runner.command("zrangebylex", &range, budget).await?;
            redis::from_redis_value::<Vec<String>>(members)
                .map_err(|error| StoreError::new("Redis: members of a sorted set", error))
        }
    });
    Ok(try_join_all(ranges).await?.concat())
}

pub(super) async fn read_log(store: &RedisStore, topic: Topic, since: &Position) -> Result<LogRead, StoreError> {
    let keys = &store.keys;
    let call = Call::new(&scripts::READ_LOG)
        .fence(topic.bucket())
        .key(keys.head(topic))
        .key(keys.log(topic))
        .arg(&since.epoch)
        .arg(since.version)
        .arg(LOG_PORTION);
    let reply = store.runner.repeatable(&call, Budget::of_a_call()).await?;
    let head = reply.position_at(1)?;
    if reply.text_at(0)? == "gone" {
        return Ok(LogRead::Gone(head));
    }
    let mut messages = Vec::new();
    for (part, version) in reply.texts_from(3)?.chunks_exact(3).zip(since.version + 1..) {
        if let [kind, payload, owned] = part {
            let message = MessageKind::parse(kind).and_then(|kind| {
                let payload = RawValue::from_string((*payload).into()).ok()?.into();
                let at = Position { epoch: head.epoch.clone(), version };
                Some(Message { at, kind, payload, owned: parse_owned(owned), written: None })
            });
            messages.push(message.ok_or_else(|| bad_value(&keys.log(topic)))?);
        }
    }
    Ok(LogRead::Messages(messages))
}

pub(super) async fn heads(store: &RedisStore, topics: &[Topic]) -> Result<Vec<Position>, StoreError> {
    let budget = Budget::of_a_call();
    let mut by_bucket: BTreeMap<Bucket, Vec<usize>> = BTreeMap::new();
    for (index, topic) in topics.iter().enumerate() {
        by_bucket.entry(topic.bucket()).or_default().push(index);
    }
    let reads = by_bucket.into_iter().map(|(bucket, indexes)| {
        let mut call = Call::new(&scripts::HEADS).fence(bucket);
        for topic in indexes.iter().filter_map(|index| topics.get(*index)) {
            call = call.key(store.keys.head(*topic));
        }
        async move {
            let reply = store.runner.repeatable(&call, budget).await?;
            let epoch: std::sync::Arc<str> = reply.text_at(0)?.into();
            let position =
                |(place, index)| Ok((index, Position { epoch: epoch.clone(), version: reply.number_at(place)? }));
            (1..).zip(indexes).map(position).collect::<Result<Vec<(usize, Position)>, StoreError>>()
        }
    });
    let mut positions: Vec<(usize, Position)> = try_join_all(reads).await?.concat();
    positions.sort_by_key(|(index, _)| *index);
    Ok(positions.into_iter().map(|(_, position)| position).collect())
}

/// The error for a stored value that this store never wrote.
pub(super) fn bad_value(key: &str) -> StoreError {
    StoreError(format!("Redis: the value of {key:?} cannot be read: another program has written it"))
}
