//! Tests that need to see inside the store: its clock is moved, its storage fails, or its writer is held up.

mod erasing;
mod failing;
mod foreign;
mod held_up;
mod journal;

use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use redb::backends::FileBackend;
use redb::{BackendError, Builder, ReadableTableMetadata, StorageBackend};
use serde_json::value::RawValue;
use tempfile::TempDir;

use super::batch::Batch;
use super::guarded::GuardedBackend;
use super::writer::START_WITHIN;
use super::*;
use crate::domain::act::{Idempotency, SlotActKind, SlotTime, StaffStatus};
use crate::domain::{HoldToken, SlotNumber};
use crate::store::{DAYS_KEPT, KEEP_MILLIS, Signal};

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

fn open_store() -> (TempDir, EmbeddedStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    (folder, store)
}

fn space(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// The day after today, by the store's clock.
fn tomorrow(store: &EmbeddedStore) -> Day {
    let now = store.shared.clock.now().plus_millis(DAY_MILLIS);
    now.timestamp().to_zoned_datetime(jiff::tz::TimeZone::UTC).date().into()
}

/// An act on a slot that starts in an hour, by the store's present clock.
fn act(store: &EmbeddedStore, slot: u64, kind: SlotActKind) -> SlotAct {
    let start = store.shared.clock.now().plus_millis(60 * 60 * 1_000);
    let number = SlotNumber::new(slot).unwrap();
    SlotAct {
        space: space(1),
        day: tomorrow(store),
        slots: vec![SlotTime { number, start, end: start.plus_millis(1), label: "09:00".into() }],
        revision: None,
        kind,
        idempotency: None,
        origin: None,
    }
}

fn block(store: &EmbeddedStore) -> SlotAct {
    act(store, 1, SlotActKind::Update { to: StaffStatus::Blocked, data: None, user: None })
}

fn hold(store: &EmbeddedStore, slot: u64, who: &str) -> SlotAct {
    act(store, slot, hold_for(slot, who, 60_000))
}

fn hold_for(slot: u64, who: &str, millis: i64) -> SlotActKind {
    let token = HoldToken::from_random([slot as u8; 16]);
    SlotActKind::Hold { user: user(who), token, millis, max_holds: None, max_held: None }
}

fn keyed(act: SlotAct, key: &str, fingerprint: &str) -> SlotAct {
    let (caller, key, fingerprint) = (user("a"), key.into(), fingerprint.into());
    SlotAct { idempotency: Some(Idempotency { caller, key, fingerprint }), ..act }
}

async fn head(store: &EmbeddedStore) -> Position {
    store.heads(&[Topic::Space(space(1))]).await.unwrap().remove(0)
}

/// How many messages the log of space 1 has after a version; `None` if it does not reach back that far.
async fn log_length(store: &EmbeddedStore, version: u64) -> Option<usize> {
    let since = Position { version, ..head(store).await };
    match crate::store::read_whole_log(store, Topic::Space(space(1)), &since).await.unwrap() {
        LogRead::Messages(messages) => Some(messages.len()),
        LogRead::Gone(_) => None,
    }
}

/// How many rows there are of answers, answers' ends, messages, messages' ends, logs, logs' ends, slots, days, holds by
/// end, and holds by user.
async fn rows(store: &EmbeddedStore) -> [u64; 10] {
    let count = |batch: &mut Batch<'_>| {
        let tables = batch.tables();
        Ok([
            tables.answers.len()?,
            tables.answer_ends.len()?,
            tables.user_log.len()?,
            tables.user_log_ends.len()?,
            tables.log.len()?,
            tables.log_ends.len()?,
            tables.slots.len()?,
            tables.days.len()?,
            tables.hold_ends.len()?,
            tables.user_holds.len()?,
        ])
    };
    store.write(count).await.unwrap()
}

async fn clean(store: &EmbeddedStore) -> bool {
    store.write(housekeeping::clean).await.unwrap()
}

async fn send(store: &EmbeddedStore, text: &str) {
    let data = RawValue::from_string(text.into()).unwrap();
    store.publish(Publication::ToUser { user: user("a"), event: "e".into(), data }).await.unwrap();
}

/// Does all acts as one job. Single acts that wait for a slow disk for more than a second would be refused.
async fn do_all(store: &EmbeddedStore, acts: impl Iterator<Item = SlotAct>) {
    let acts: Vec<SlotAct> = acts.collect();
    let work = move |batch: &mut Batch<'_>| {
        for act in &acts {
            acts::apply(batch, act)?.unwrap();
        }
        Ok(())
    };
    store.write(work).await.unwrap();
}

#[tokio::test]
async fn an_answer_is_kept_for_a_day_and_then_its_key_is_free() {
    let (_folder, store) = open_store();
    let first = store.apply(keyed(hold(&store, 1, "a"), "k", "one")).await.unwrap();
    store.shared.clock.shift(KEEP_MILLIS - 5_000);
    assert!(!clean(&store).await);
    let again = store.apply(keyed(hold(&store, 1, "a"), "k", "one")).await.unwrap();
    assert_eq!(again, ActOutcome { is_repeat: true, ..first.clone() });

    store.shared.clock.shift(5_001);
    // The answer is invisible before it is removed, so another body under the same key is no mismatch.
    let other = store.apply(keyed(hold(&store, 2, "a"), "k", "two")).await.unwrap();
    assert_ne!(other, first);
    assert_eq!(rows(&store).await[..2], [1, 1]);
    store.apply(keyed(hold(&store, 3, "a"), "k2", "three")).await.unwrap();
    store.shared.clock.shift(KEEP_MILLIS + 1);
    clean(&store).await;
    assert_eq!(rows(&store).await[..2], [0, 0]);
}

#[tokio::test]
async fn a_message_to_a_user_is_kept_for_a_day() {
    let (_folder, store) = open_store();
    send(&store, "1").await;
    store.shared.clock.shift(KEEP_MILLIS / 2);
    send(&store, "2").await;
    let kept = async || -> Vec<u64> {
        let backlog = store.messages_of(&user("a"), None, usize::MAX).await.unwrap().messages;
        backlog.iter().map(|message| message.sequence).collect()
    };
    let both = kept().await;
    assert!(both.len() == 2 && both.is_sorted(), "{both:?}");
    store.shared.clock.shift(KEEP_MILLIS / 2);
    assert_eq!(kept().await, both[1..]);
    assert_eq!(rows(&store).await[2..4], [2, 2]);
    clean(&store).await;
    assert_eq!(rows(&store).await[2..4], [1, 1]);
    store.shared.clock.shift(KEEP_MILLIS);
    assert!(kept().await.is_empty());
    clean(&store).await;
    assert_eq!(rows(&store).await[2..4], [0, 0]);
    // The sequence of messages goes on.
    send(&store, "3").await;
    let third = kept().await;
    assert!(third.len() == 1 && third > both, "{third:?} after {both:?}");
}

#[tokio::test]
async fn messages_beyond_the_last_hundred_leave_no_rows() {
    let (_folder, store) = open_store();
    for _ in 0..crate::store::USER_LOG_LENGTH + 9 {
        send(&store, "1").await;
    }
    assert_eq!(rows(&store).await[2..4], [100, 100]);
}

#[tokio::test]
async fn a_log_ends_a_day_after_its_last_change() {
    let (_folder, store) = open_store();
    for _ in 0..3 {
        store.apply(block(&store)).await.unwrap();
    }
    store.shared.clock.shift(KEEP_MILLIS / 2);
    store.apply(block(&store)).await.unwrap();
    // The first change of the topic is more than a day ago, and the last one is not.
    store.shared.clock.shift(KEEP_MILLIS / 2 + 1);
    clean(&store).await;
    assert_eq!(log_length(&store, 0).await, Some(4));
    assert_eq!(rows(&store).await[4..6], [4, 1]);

    store.shared.clock.shift(KEEP_MILLIS / 2);
    assert_eq!(log_length(&store, 0).await, None);
    assert_eq!(log_length(&store, 3).await, None);
    assert_eq!(log_length(&store, 4).await, Some(0));
    clean(&store).await;
    assert_eq!(rows(&store).await[4..6], [0, 0]);
    assert_eq!(log_length(&store, 3).await, None);

    // The version goes on in a new log.
    assert_eq!(store.apply(block(&store)).await.unwrap().at.version, 5);
    assert_eq!(log_length(&store, 4).await, Some(1));
    assert_eq!(log_length(&store, 3).await, None);
    assert_eq!(rows(&store).await[4..6], [1, 1]);
}

#[tokio::test]
async fn a_log_that_has_ended_does_not_come_back_with_the_next_change() {
    let (_folder, store) = open_store();
    for _ in 0..3 {
        store.apply(block(&store)).await.unwrap();
    }
    store.shared.clock.shift(KEEP_MILLIS + 1);
    assert_eq!(log_length(&store, 1).await, None);
    store.apply(block(&store)).await.unwrap();
    assert_eq!(log_length(&store, 1).await, None);
    assert_eq!(log_length(&store, 3).await, Some(1));
    assert_eq!(rows(&store).await[4], 1);
    // The removal that was planned for the old log does not end the new log.
    clean(&store).await;
    assert_eq!(log_length(&store, 3).await, Some(1));
    store.shared.clock.shift(KEEP_MILLIS);
    clean(&store).await;
    assert_eq!(rows(&store).await[4..6], [0, 0]);
}

#[tokio::test]
async fn a_trimmed_log_leaves_no_rows() {
    let (_folder, store) = open_store();
    do_all(&store, (0..crate::store::LOG_LENGTH + 50).map(|_| block(&store))).await;
    assert_eq!(rows(&store).await[4..6], [crate::store::LOG_LENGTH, 1]);
}

#[tokio::test]
async fn the_slots_of_a_day_are_forgotten_a_month_after_it() {
    let (_folder, store) = open_store();
    let day = tomorrow(&store);
    store.apply(hold(&store, 1, "a")).await.unwrap();
    store.apply(act(&store, 2, SlotActKind::Update { to: StaffStatus::Booked, data: None, user: None })).await.unwrap();
    let records = async || store.read_day(space(1), day).await.unwrap().records.len();

    store.shared.clock.shift(i64::from(DAYS_KEPT) * DAY_MILLIS);
    clean(&store).await;
    assert_eq!(records().await, 2);
    assert_eq!(rows(&store).await[6..], [2, 1, 1, 1]);

    store.shared.clock.shift(4 * DAY_MILLIS);
    assert_eq!(records().await, 0);
    assert_eq!(rows(&store).await[6..], [2, 1, 1, 1]);
    clean(&store).await;
    assert_eq!(rows(&store).await[6..], [0, 0, 0, 0]);
    assert_eq!(head(&store).await.version, 2);
}

#[tokio::test]
async fn what_becomes_free_leaves_no_rows() {
    let (_folder, store) = open_store();
    store.apply(hold(&store, 1, "a")).await.unwrap();
    store
        .apply(act(&store, 1, SlotActKind::Extend { user: user("a"), token: None, millis: 1, max_millis: DAY_MILLIS }))
        .await
        .unwrap();
    assert_eq!(rows(&store).await[6..], [1, 1, 1, 1]);
    store.shared.clock.shift(10);
    assert_eq!(store.sweep(space(1).bucket(), 9).await.unwrap().freed, 1);
    assert_eq!(rows(&store).await[6..], [0, 1, 0, 0]);
}

#[tokio::test]
async fn cleaning_is_done_in_steps() {
    let (_folder, store) = open_store();
    // The writer cleans after its first turn, and then not for a minute. So it has cleaned before its second turn.
    for _ in 0..2 {
        store.write(|_| Ok(())).await.unwrap();
    }
    // More answers end than one step removes. They belong to several callers, because each caller has a bounded number.
    let acts = (0..1_100).map(|n| {
        let mut act = keyed(block(&store), &format!("k{n}"), "f");
        act.idempotency.as_mut().unwrap().caller = user(&format!("u{}", n / 200));
        act
    });
    do_all(&store, acts).await;
    store.shared.clock.shift(KEEP_MILLIS + 1);
    let mut steps = 1;
    while clean(&store).await {
        steps += 1;
    }
    assert_eq!(steps, 2);
    assert_eq!(rows(&store).await[..6], [0; 6]);
    assert_eq!(store.write(|batch| Ok(batch.tables().answer_order.len()?)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_store_cleans_when_it_opens() {
    let (folder, store) = open_store();
    for n in 0..5 {
        let act = keyed(block(&store), &format!("k{n}"), "f");
        store.apply(act).await.unwrap();
    }
    drop(store);
    let clock = StoreClock::default();
    clock.shift(KEEP_MILLIS + 1);
    let opened = open::open(folder.path(), Absent::Refuse).unwrap();
    let store = EmbeddedStore::start(folder.path(), opened, clock, JournalBounds::default()).unwrap();
    // Each step is a turn of the writer, and each look at the rows is one, too.
    let mut looks = 0;
    while rows(&store).await[..2] != [0, 0] {
        looks += 1;
        assert!(looks < 100, "nothing is removed");
    }
}

#[tokio::test]
async fn a_hold_made_by_a_clock_that_was_ahead_ends_after_its_own_length() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    store.shared.clock.shift(DAY_MILLIS);
    let act = hold(&store, 1, "a");
    store.apply(act.clone()).await.unwrap();
    let before = head(&store).await;
    drop(store);
    // The clock was set right while the node was away.
    let store = EmbeddedStore::open(folder.path()).unwrap();
    let read = store.read_day(space(1), act.day).await.unwrap();
    let record = read.records.values().next().unwrap();
    let until = record.live_hold(read.now).unwrap().until;
    assert!(until <= read.now.plus_millis(60_000), "{until:?} at {:?}", read.now);
    assert_ne!(head(&store).await.epoch, before.epoch, "another board is under another epoch");
    let next = store.sweep(space(1).bucket(), 10).await.unwrap().next_end_in_ms;
    assert!(next.is_some_and(|next| next <= 60_000), "{next:?}");
}

/// Waits until one ended hold was freed.
async fn freed_once(store: &EmbeddedStore) {
    let deadline = clock_of_process::instant() + Duration::from_secs(30);
    while store.sweep(space(1).bucket(), 10).await.unwrap().freed == 0 {
        assert!(clock_of_process::instant() < deadline, "the hold does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_hold_ends_after_its_own_length_although_the_clock_was_set_back() {
    let (_folder, store) = open_store();
    let held = act(&store, 1, hold_for(1, "a", 200));
    store.apply(held.clone()).await.unwrap();
    store.shared.clock.shift(-DAY_MILLIS);
    freed_once(&store).await;
    assert!(store.read_day(space(1), held.day).await.unwrap().records.is_empty());
}

#[tokio::test]
async fn what_had_ended_is_not_live_again_after_the_clock_was_set_back() {
    let (folder, store) = open_store();
    let held = hold(&store, 1, "a");
    store.apply(held.clone()).await.unwrap();
    let live = hold(&store, 2, "b");
    store.shared.clock.shift(30_000);
    store.apply(live).await.unwrap();
    store.shared.clock.shift(40_000);
    // The first hold has ended, and nobody has freed it. Somebody may have been shown a free slot since.
    let shown = store.apply(act(&store, 3, SlotActKind::Update { to: StaffStatus::Blocked, data: None, user: None }));
    let before = shown.await.unwrap().at;
    drop(store);
    // This store's clock is 70 s behind the clock of the store before.
    let store = EmbeddedStore::open(folder.path()).unwrap();
    let read = store.read_day(space(1), held.day).await.unwrap();
    let is_live = |n| read.records[&SlotNumber::new(n).unwrap()].live_hold(read.now).is_some();
    assert_eq!((is_live(1), is_live(2)), (false, true));
    assert!(read.now < held.slots[0].start && read.at.epoch != before.epoch);
    assert!(store.holds_of(&user("a")).await.unwrap().is_empty());
    freed_once(&store).await;
    store.apply(hold(&store, 1, "c")).await.unwrap();
}

#[tokio::test]
async fn a_repeat_after_the_clock_was_set_back_is_answered_as_the_first_call() {
    let (folder, store) = open_store();
    store.shared.clock.shift(DAY_MILLIS);
    let (with_key, without) = (keyed(hold(&store, 1, "a"), "k", "one"), hold(&store, 2, "a"));
    // These answers were lost on their way.
    let first = [store.apply(with_key.clone()).await.unwrap(), store.apply(without.clone()).await.unwrap()];
    drop(store);
    let store = EmbeddedStore::open(folder.path()).unwrap();
    let again = [store.apply(with_key).await.unwrap(), store.apply(without).await.unwrap()];
    assert_eq!(again, first.map(|first| ActOutcome { is_repeat: true, ..first }));
    assert_eq!(head(&store).await.version, 2);
}
