//! Reads and erases the data under a user's id, bucket by bucket, because each bucket may be on another server.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::RedisStore;
use super::call::{Budget, Call};
use super::keys::{compact, space_key};
use super::reads::bad_value;
use super::record::parse_time;
use super::{scripts, taken};
use crate::clock;
use crate::domain::event::to_json;
use crate::domain::{Bucket, Day, Position, SpaceKey, UserId};
use crate::random;
use crate::store::journal::{DAY_MILLIS, PEOPLE_DAYS_MORE, generation_at};
use crate::store::privacy::{BOOKINGS_A_STEP, stand_in};
use crate::store::{Erasure, ErasureStep, KeptCall, KeptOfUser, StoreError, Topic};

/// The largest `SLOTCAST_JOURNAL_DAYS`. People may be left from a time when it was larger than now.
const MOST_JOURNAL_DAYS: i64 = 3_650;

/// The longest pause before another look at a log whose entries are too young to be trimmed.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The user's calls in all buckets, and the sequences of the notifications.
pub(super) async fn kept_of(store: &RedisStore, user: &UserId) -> Result<KeptOfUser, StoreError> {
    let budget = Budget::of_a_call();
    let calls = Bucket::all().map(|bucket| async move {
        let key = store.keys.calls(bucket, user);
        let mut get = redis::cmd("HGETALL");
        get.arg(&key);
        let fields = store.runner.command("hgetall", &get, budget).await?;
        let fields: HashMap<String, String> = redis::from_redis_value(fields).map_err(|_| bad_value(&key))?;
        Ok::<_, StoreError>(calls_of(&fields))
    });
    let mut calls: Vec<KeptCall> = try_join_all(calls).await?.concat();
    calls.sort_by_key(|call| call.at);
    let key = store.keys.user(user);
    let mut get = redis::cmd("HMGET");
    get.arg(&key).arg("sent").arg("received");
    let counts = store.runner.command("hmget", &get, budget).await?;
    let counts: (Option<u64>, Option<u64>) = redis::from_redis_value(counts).map_err(|_| bad_value(&key))?;
    let (last_sent, last_received) = (counts.0.unwrap_or_default(), counts.1.unwrap_or_default());
    Ok(KeptOfUser { calls, last_sent, last_received })
}

/// The calls in a bucket's own spaces. The other calls are copies in the caller's own bucket.
fn calls_of(fields: &HashMap<String, String>) -> Vec<KeptCall> {
    let is_call = |name: &str| name.len() > 32 && name.starts_with('k');
    fields.iter().filter(|(name, _)| is_call(name)).filter_map(|(_, text)| parse_call(text)).collect()
}

fn parse_call(text: &str) -> Option<KeptCall> {
    let mut lines = text.split('\n').skip(1);
    let at = parse_time(lines.next()?)?;
    let position = Position { epoch: lines.next()?.into(), version: lines.next()?.parse().ok()? };
    Some(KeptCall { at, position })
}

pub(super) async fn begin(store: &RedisStore, user: &UserId) -> Result<UserId, StoreError> {
    for bucket in Bucket::all() {
        store.runner.require_newest(bucket).await?;
    }
    store.require_indexes().await?;
    let new = stand_in(&random::hex()?).ok_or_else(|| StoreError("Redis: no id for an erased user".into()))?;
    let key = store.keys.erasing(user);
    let call = Call::new(&scripts::BEGIN_ERASURE).fence(user.bucket()).key(key.clone()).arg(new);
    let reply = store.runner.repeatable(&call, Budget::of_a_call()).await?;
    UserId::new(reply.text_at(0)?).ok_or_else(|| bad_value(&key))
}

pub(super) async fn end(store: &RedisStore, user: &UserId) -> Result<(), StoreError> {
    let call = Call::new(&scripts::END_ERASURE).fence(user.bucket()).key(store.keys.erasing(user));
    store.runner.repeatable(&call, Budget::of_a_call()).await.map(drop)
}

/// One step in a bucket: gives away some bookings, or, if there are none, everything else.
pub(super) async fn erase_in(store: &RedisStore, bucket: Bucket, erasure: &Erasure) -> Result<ErasureStep, StoreError> {
    let members = members_of(store, bucket, &erasure.user).await?;
    if !members.is_empty() {
        return erase_bookings(store, bucket, erasure, &members).await;
    }
    taken::forget(&store.runner, bucket, &erasure.user).await?;
    match erase_rest(store, bucket, erasure).await? {
        ErasureStep::Done => {}
        other => return Ok(other),
    }
    for topic in topics_of(store, bucket, &erasure.user).await? {
        erase_log(store, topic, &erasure.user).await?;
    }
    Ok(ErasureStep::Done)
}

/// The first of the user's bookings in a bucket, as the index has them.
async fn members_of(store: &RedisStore, bucket: Bucket, user: &UserId) -> Result<Vec<String>, StoreError> {
    let (from, to) = range_of(user);
    let key = store.keys.bookings(bucket);
    let mut range = redis::cmd("ZRANGEBYLEX");
    range.arg(&key).arg(from).arg(to).arg("LIMIT").arg(0).arg(BOOKINGS_A_STEP);
    let members = store.runner.command("zrangebylex", &range, Budget::of_a_call()).await?;
    redis::from_redis_value(members).map_err(|_| bad_value(&key))
}

/// The ends of the range of a user's members in an index. No id has a control character, so nobody else's members are
/// inside.
fn range_of(user: &UserId) -> (String, String) {
    (format!("[{user}\n"), format!("({user}\u{b}"))
}

async fn erase_bookings(
    store: &RedisStore,
    bucket: Bucket,
    erasure: &Erasure,
    members: &[String],
) -> Result<ErasureStep, StoreError> {
    let index = store.keys.bookings(bucket);
    let mut call = Call::new(&scripts::ERASE_BOOKINGS).fence(bucket).key(index.clone());
    for member in members {
        let (space, day) = place_of(member).ok_or_else(|| StoreError("Redis: a booking cannot be read".into()))?;
        call = call.key(store.keys.day_of_text(space, &compact(day)));
    }
    call = call.arg(&erasure.user).arg(&erasure.stand_in);
    for member in members {
        call = call.arg(member);
    }
    let reply = store.runner.repeatable(&call, Budget::of_a_call()).await?;
    match reply.text_at(0)? {
        "done" => Ok(ErasureStep::More),
        "taken" => Ok(ErasureStep::Taken),
        _ => Err(reply.unexpected(0)),
    }
}

/// The space and the day of a booking in the index.
fn place_of(member: &str) -> Option<(SpaceKey, Day)> {
    let mut lines = member.split('\n').skip(1);
    let (day, site, space) = (lines.next()?, lines.next()?, lines.next()?);
    Some((space_key(site, space)?, Day::parse(day)?))
}

async fn erase_rest(store: &RedisStore, bucket: Bucket, erasure: &Erasure) -> Result<ErasureStep, StoreError> {
    let Erasure { user, stand_in } = erasure;
    let keys = &store.keys;
    let mut call = Call::new(&scripts::ERASE_USER).fence(bucket).key(keys.holds(bucket)).key(keys.bookings(bucket));
    let generations = generations();
    for generation in generations.clone() {
        call = call.key(keys.people(bucket, generation));
    }
    call = call.key(keys.calls(bucket, user));
    if bucket == user.bucket() {
        call = call.key(keys.user(user)).key(keys.mail(user));
    }
    let (from, to) = range_of(user);
    call = call.arg(user).arg(stand_in).arg(&from).arg(&to).arg(&from).arg(&to).arg(generations.count());
    let reply = store.runner.repeatable(&call, Budget::of_a_call()).await?;
    match reply.text_at(0)? {
        "done" => Ok(ErasureStep::Done),
        "more" => Ok(ErasureStep::More),
        "taken" => Ok(ErasureStep::Taken),
        _ => Err(reply.unexpected(0)),
    }
}

/// All generations that may have people, for the longest time that a journal may be kept.
fn generations() -> std::ops::RangeInclusive<u32> {
    let now = clock::wall();
    let oldest = now.plus_millis(-(MOST_JOURNAL_DAYS + PEOPLE_DAYS_MORE) * DAY_MILLIS);
    generation_at(oldest)..=generation_at(now) + 1
}

/// The topics of a bucket whose logs may name the user: the bucket's own if it has the user's notifications, and those of
/// spaces with slots on any day.
async fn topics_of(store: &RedisStore, bucket: Bucket, user: &UserId) -> Result<Vec<Topic>, StoreError> {
    let key = store.keys.places(bucket);
    let mut range = redis::cmd("ZRANGE");
    range.arg(&key).arg(0).arg(-1);
    let members = store.runner.command("zrange", &range, Budget::of_a_call()).await?;
    let members: Vec<String> = redis::from_redis_value(members).map_err(|_| bad_value(&key))?;
    let mut spaces = Vec::new();
    for member in &members {
        let mut parts = member.split(':');
        let place = parts.next().zip(parts.next()).and_then(|(site, space)| space_key(site, space));
        spaces.push(place.ok_or_else(|| bad_value(&key))?);
    }
    spaces.sort_unstable();
    spaces.dedup();
    let own = (bucket == user.bucket()).then_some(Topic::Bucket(bucket));
    Ok(own.into_iter().chain(spaces.into_iter().map(Topic::Space)).collect())
}

/// Trims a log, after waiting until no caller looks there for an act. Entries of the user's later acts stay, because
/// waiting for an active user would never end.
async fn erase_log(store: &RedisStore, topic: Topic, user: &UserId) -> Result<(), StoreError> {
    let mut up_to = String::new();
    loop {
        let call = Call::new(&scripts::ERASE_LOG)
            .fence(topic.bucket())
            .key(store.keys.log(topic))
            .arg(user)
            .arg(format_args!("{{\"user\":{},", to_json(user)))
            .arg(&up_to);
        let reply = store.runner.repeatable(&call, Budget::of_a_call()).await?;
        if reply.text_at(0)? == "done" {
            return Ok(());
        }
        let pause = Duration::from_millis(reply.number_at(1)?);
        reply.text_at(2)?.clone_into(&mut up_to);
        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_in_the_spaces_of_a_bucket_are_read_and_counts_are_none() {
        let digest = "0".repeat(32);
        let fields = [
            (format!("k{digest}"), "3\n1700000000000\nepoch\n17\n\n\ndigest".to_owned()),
            (format!("c{digest}"), "3\n1700000000000\ndigest".to_owned()),
            ("kn".to_owned(), "3".to_owned()),
            ("ks3".to_owned(), digest),
        ];
        let calls = calls_of(&fields.into_iter().collect());
        let position = Position { epoch: "epoch".into(), version: 17 };
        assert_eq!(calls, [KeptCall { at: crate::domain::StoreTime::from_millis(1_700_000_000_000), position }]);
    }

    #[test]
    fn the_generations_of_the_longest_journal_are_looked_at() {
        let now = generation_at(clock::wall());
        assert!(generations().contains(&now) && generations().contains(&(now - 120)));
    }
}
