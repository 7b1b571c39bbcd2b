//! Frees ended holds. First finds them, then frees each that still exists and has still ended.

use std::collections::BTreeMap;

use super::RedisStore;
use super::call::{Budget, Call};
use super::journal;
use super::keys::space_key;
use super::scripts;
use crate::domain::{Bucket, Day, JournalAct, SlotNumber, SpaceKey};
use crate::store::{StoreError, SweepBatch, Topic};

/// The most holds that one script frees, which take the server some milliseconds.
pub(super) const MOST: usize = 1_000;

/// Frees up to `limit` ended holds of a bucket, the longest ended first. If a reply was lost, the report may count fewer
/// than were freed. Freed holds are announced once all the same.
pub(super) async fn sweep(store: &RedisStore, bucket: Bucket, limit: usize) -> Result<SweepBatch, StoreError> {
    let budget = Budget::of_a_call();
    let due = Call::new(&scripts::DUE).key(store.keys.ends(bucket)).arg(limit.min(MOST));
    let due = store.runner.repeatable(&due, budget).await?;
    let members = due.texts_from(2)?;
    if members.is_empty() {
        return Ok(report_of(due.number_at(0)?, due.optional_number_at(1)?));
    }
    let key = store.keys.ends(bucket);
    let mut places: BTreeMap<(SpaceKey, Day), Vec<(SlotNumber, &str)>> = BTreeMap::new();
    let mut unreadable = Vec::new();
    for member in members {
        match parse_member(member) {
            Some((space, day, number)) => places.entry((space, day)).or_default().push((number, member)),
            None => unreadable.push(member),
        }
    }
    if !unreadable.is_empty() {
        // Otherwise each sweep would find these entries first.
        tracing::error!(key, count = unreadable.len(), "removed entries of the index of ends that cannot be read");
        let mut remove = redis::cmd("ZREM");
        remove.arg(&key).arg(unreadable);
        store.runner.command("zrem", &remove, budget).await?;
    }
    free(store, bucket, places, budget).await
}

async fn free(
    store: &RedisStore,
    bucket: Bucket,
    mut places: BTreeMap<(SpaceKey, Day), Vec<(SlotNumber, &str)>>,
    budget: Budget,
) -> Result<SweepBatch, StoreError> {
    places.values_mut().for_each(|slots| slots.sort_unstable());
    let call = call_of(store, bucket, &places);
    store.runner.refuse_without_rights(bucket).await?;
    let mut repairs = 0;
    let reply = loop {
        let reply = store.runner.repeatable(&call, budget).await?;
        if reply.text_at(0)? != "half" {
            break reply;
        }
        // Each day of a space may need one repair.
        if repairs == places.len() {
            return Err(StoreError("Redis: a space stays half done".into()));
        }
        repairs += 1;
        let index: usize = reply.number_at(2)?;
        let (space, _) = places.keys().nth(index).ok_or_else(|| reply.unexpected(2))?;
        store.runner.repair(Topic::Space(*space), reply.text_at(3)?, budget).await?;
    };
    let mut report = report_of(reply.number_at(0)?, reply.optional_number_at(1)?);
    report.oldest_late_ms = reply.number_at(2)?;
    for (index, (space, _)) in (3..).zip(places.into_keys()) {
        let freed: u64 = reply.number_at(index)?;
        report.freed += freed;
        if freed > 0 && report.spaces.last() != Some(&space) {
            report.spaces.push(space);
        }
    }
    Ok(report)
}

fn call_of(store: &RedisStore, bucket: Bucket, places: &BTreeMap<(SpaceKey, Day), Vec<(SlotNumber, &str)>>) -> Call {
    let keys = &store.keys;
    let mut call = Call::new(&scripts::EXPIRE)
        .fence(bucket)
        .key(keys.ends(bucket))
        .key(keys.holds(bucket))
        .key(keys.head(Topic::Bucket(bucket)))
        .key(keys.log(Topic::Bucket(bucket)))
        .key(keys.journal(bucket))
        .key(journal::people_key(store, bucket))
        .arg(keys.channel(Topic::Bucket(bucket)))
        .arg(journal::about(store, JournalAct::Expire, None));
    for ((space, day), slots) in places {
        let topic = Topic::Space(*space);
        call = call.key(keys.head(topic)).key(keys.log(topic)).key(keys.day(*space, *day));
        call = call.arg(keys.channel(topic)).arg(space.site).arg(space.space).arg(day).arg(slots.len());
        call = call.arg(store.runner.positions.arg(topic));
        for (_, member) in slots {
            call = call.arg(member);
        }
    }
    call
}

fn report_of(now: i64, next_end: Option<i64>) -> SweepBatch {
    SweepBatch {
        more: next_end.is_some_and(|next| next <= now),
        next_end_in_ms: next_end.map(|next| u64::try_from(next - now).unwrap_or(0)),
        ..SweepBatch::default()
    }
}

fn parse_member(member: &str) -> Option<(SpaceKey, Day, SlotNumber)> {
    let mut lines = member.split('\n');
    let mut line = || lines.next();
    let space = space_key(line()?, line()?)?;
    Some((space, Day::parse(line()?)?, SlotNumber::new(line()?.parse().ok()?)?))
}
