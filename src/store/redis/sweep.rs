//! Freeing holds that have ended: they are found, then freed only if they are still there and still ended.

use std::collections::BTreeMap;

use super::RedisStore;
use super::call::{Budget, Call};
use super::keys::space_key;
use super::reads::bad_value;
use super::scripts;
use crate::domain::{Bucket, Day, SlotNumber, SpaceKey};
use crate::store::{StoreError, SweepBatch, Topic};

/// The most holds that one script frees: some milliseconds of the server's time.
const MOST: usize = 1_000;

/// Frees up to `limit` ended holds of a bucket, those that ended first. When a reply was lost, the report may count
/// less than was freed; what was freed is announced once all the same.
pub(super) async fn sweep(store: &RedisStore, bucket: Bucket, limit: usize) -> Result<SweepBatch, StoreError> {
    let budget = Budget::of_a_call();
    let due = Call::new(&scripts::DUE).key(store.keys.ends(bucket)).arg(limit.min(MOST));
    let due = store.runner.repeatable(&due, budget).await?;
    let members = due.texts_from(2)?;
    if members.is_empty() {
        return Ok(report_of(due.number_at(0)?, due.optional_number_at(1)?));
    }
    let mut places: BTreeMap<(SpaceKey, Day), Vec<(SlotNumber, &str)>> = BTreeMap::new();
    for member in members {
        let (space, day, number) = parse_member(member).ok_or_else(|| bad_value(&store.keys.ends(bucket)))?;
        places.entry((space, day)).or_default().push((number, member));
    }
    free(store, bucket, places, budget).await
}

async fn free(
    store: &RedisStore,
    bucket: Bucket,
    mut places: BTreeMap<(SpaceKey, Day), Vec<(SlotNumber, &str)>>,
    budget: Budget,
) -> Result<SweepBatch, StoreError> {
    let keys = &store.keys;
    let mut call = Call::new(&scripts::EXPIRE)
        .fence(bucket)
        .key(keys.ends(bucket))
        .key(keys.holds(bucket))
        .key(keys.head(Topic::Bucket(bucket)))
        .key(keys.log(Topic::Bucket(bucket)))
        .arg(keys.channel(Topic::Bucket(bucket)));
    for ((space, day), slots) in &mut places {
        slots.sort_unstable();
        let topic = Topic::Space(*space);
        call = call.key(keys.head(topic)).key(keys.log(topic)).key(keys.day(*space, *day));
        call = call.arg(keys.channel(topic)).arg(space.site).arg(space.space).arg(day).arg(slots.len());
        for (_, member) in slots {
            call = call.arg(member);
        }
    }
    let reply = store.runner.repeatable(&call, budget).await?;
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
