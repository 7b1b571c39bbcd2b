//! The journal: the scripts' arguments to write it, and how it is read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::future::try_join_all;
use redis::Value;

use super::call::{Budget, Call};
use super::reads::bad_value;
use super::{RedisStore, scripts};
use crate::clock;
use crate::domain::{Bucket, JournalAct, Origin, UserId};
use crate::store::journal::{StoredEntry, generation_at};
use crate::store::{NumberedEntry, StoreError};

/// The key with the people of entries that are written now. Its month is by this machine's clock. A wrong month does no
/// harm: people are only kept in another key.
pub(super) fn people_key(store: &RedisStore, bucket: Bucket) -> String {
    store.keys.people(bucket, generation_at(clock::wall()))
}

/// A script's arguments for writing an entry: the lines of `open_journal` in `journal.lua`.
pub(super) fn about(store: &RedisStore, act: JournalAct, origin: Option<&Origin>) -> String {
    let bounds = store.journal;
    let max = if bounds.is_kept() { bounds.max } else { 0 };
    let actor = origin.map_or("", |origin| origin.user.as_str());
    let role = origin.and_then(|origin| origin.role.as_deref()).unwrap_or_default();
    let request = origin.and_then(|origin| origin.request_id.as_deref()).unwrap_or_default();
    let generation = generation_at(clock::wall());
    format!("{}\n{max}\n{}\n{generation}\n{actor}\n{role}\n{request}", act.as_str(), bounds.days)
}

/// Entries of a bucket from a number on.
pub(super) async fn read(
    store: &RedisStore,
    bucket: Bucket,
    from: u64,
    limit: usize,
) -> Result<Vec<NumberedEntry>, StoreError> {
    let key = store.keys.journal(bucket);
    let mut range = redis::cmd("XRANGE");
    range.arg(&key).arg(format!("0-{from}")).arg("+").arg("COUNT").arg(limit);
    let stored = entries_of(&key, store.runner.command("xrange", &range, Budget::of_a_call()).await?)?;
    let people = read_people(store, bucket, &stored).await?;
    let entries = stored.into_iter().map(|(number, stored)| {
        let entry = stored.map(|StoredEntry { generation, entry }| {
            entry.with_people(|reference| people.get(&(generation, reference)).cloned())
        });
        NumberedEntry { number, entry }
    });
    Ok(entries.collect())
}

fn entries_of(key: &str, reply: Value) -> Result<Vec<(u64, Option<StoredEntry>)>, StoreError> {
    let reply: Vec<(String, HashMap<String, String>)> = redis::from_redis_value(reply).map_err(|_| bad_value(key))?;
    let mut entries = Vec::with_capacity(reply.len());
    for (id, fields) in reply {
        let number = id.strip_prefix("0-").and_then(|number| number.parse().ok()).ok_or_else(|| bad_value(key))?;
        let entry = fields.get("j").and_then(|text| StoredEntry::parse(text));
        if entry.is_none() {
            tracing::error!(key, id, "left out an entry of the journal that cannot be read");
        }
        entries.push((number, entry));
    }
    Ok(entries)
}

/// The users of all references in entries, by generation and reference.
async fn read_people(
    store: &RedisStore,
    bucket: Bucket,
    entries: &[(u64, Option<StoredEntry>)],
) -> Result<HashMap<(u32, u64), UserId>, StoreError> {
    let mut wanted: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    for stored in entries.iter().filter_map(|(_, stored)| stored.as_ref()) {
        wanted.entry(stored.generation).or_default().extend(stored.entry.people());
    }
    let mut people = HashMap::new();
    for (generation, references) in wanted.into_iter().filter(|(_, references)| !references.is_empty()) {
        let key = store.keys.people(bucket, generation);
        let mut get = redis::cmd("HMGET");
        get.arg(&key);
        for reference in &references {
            get.arg(format!("r{reference}"));
        }
        let users = store.runner.command("hmget", &get, Budget::of_a_call()).await?;
        let users: Vec<Option<String>> = redis::from_redis_value(users).map_err(|_| bad_value(&key))?;
        for (reference, user) in references.into_iter().zip(users) {
            if let Some(user) = user.as_deref().and_then(UserId::new) {
                people.insert((generation, reference), user);
            }
        }
    }
    Ok(people)
}

/// The number of the last entry of each bucket, by one command for each, all sent at once.
pub(super) async fn tails(store: &RedisStore, buckets: &[Bucket]) -> Result<Vec<u64>, StoreError> {
    let budget = Budget::of_a_call();
    let tails = buckets.iter().map(|bucket| async move {
        let key = store.keys.journal(*bucket);
        let mut last = redis::cmd("XREVRANGE");
        last.arg(&key).arg("+").arg("-").arg("COUNT").arg(1);
        let reply = store.runner.command("xrevrange", &last, budget).await?;
        let reply: Vec<(String, Value)> = redis::from_redis_value(reply).map_err(|_| bad_value(&key))?;
        let Some((id, _)) = reply.first() else { return Ok(0) };
        id.strip_prefix("0-").and_then(|number| number.parse().ok()).ok_or_else(|| bad_value(&key))
    });
    try_join_all(tails).await
}

/// The places of a reader in each bucket, as the reader wrote them, by one command for each, all sent at once.
pub(super) async fn reader_places(
    store: &RedisStore,
    reader: &str,
    buckets: &[Bucket],
) -> Result<Vec<Option<String>>, StoreError> {
    let budget = Budget::of_a_call();
    let places = buckets.iter().map(|bucket| async move {
        let key = store.keys.readers(*bucket);
        let mut get = redis::cmd("HGET");
        get.arg(&key).arg(reader);
        let place = store.runner.command("hget", &get, budget).await?;
        redis::from_redis_value(place).map_err(|_| bad_value(&key))
    });
    try_join_all(places).await
}

/// Writes a reader's place in a bucket, unless another node has moved the reader.
pub(super) async fn move_reader(
    store: &RedisStore,
    reader: &str,
    bucket: Bucket,
    known: Option<&str>,
    place: &str,
) -> Result<bool, StoreError> {
    let call = Call::new(&scripts::MOVE_READER).key(store.keys.readers(bucket));
    let call = call.arg(reader).arg(known.unwrap_or_default()).arg(place);
    Ok(store.runner.repeatable(&call, Budget::of_a_call()).await?.text_at(0)? == "1")
}

/// Removes entries of a bucket's journal that are too old, except the last one. Any number of nodes may do so at once.
pub(super) async fn trim(store: &RedisStore, bucket: Bucket) -> Result<(), StoreError> {
    let call = Call::new(&scripts::TRIM_JOURNAL).key(store.keys.journal(bucket)).arg(store.journal.days);
    while store.runner.repeatable(&call, Budget::of_a_call()).await?.text_at(0)? == "1" {}
    Ok(())
}

/// Removes entries that all readers of a bucket have read, except the last one.
pub(super) async fn forget_read(
    store: &RedisStore,
    bucket: Bucket,
    before: u64,
    readers: &[(String, String)],
) -> Result<bool, StoreError> {
    let keys = &store.keys;
    let call = Call::new(&scripts::FORGET_READ).key(keys.journal(bucket)).key(keys.readers(bucket)).arg(before);
    let call = readers.iter().fold(call, |call, (reader, known)| call.arg(reader).arg(known));
    Ok(store.runner.repeatable(&call, Budget::of_a_call()).await?.text_at(0)? == "1")
}
