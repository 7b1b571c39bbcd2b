//! The rule is written twice: in Rust, and in Lua for Redis. Random acts must have the same results on both stores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use slotcast::domain::act::{Idempotency, StaffStatus};
use slotcast::domain::slot::SlotState;
use slotcast::domain::{
    Actor, Bucket, Day, HoldToken, Origin, SiteId, SlotAct, SlotActKind, SlotData, SlotNumber, SlotTime, SpaceId,
    SpaceKey, StoreTime, UserId,
};
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::{ActOutcome, ApplyError, LogRead, MessageKind, SlotStore, Topic, read_whole_log};

use crate::support::redis::{RedisServer, store_at};

const MINUTE: i64 = 60_000;
const MAX_HOLDS: u32 = 3;

/// How many slots a user may hold in the space.
const MAX_HELD: u32 = 4;

/// One step, done on both stores.
#[derive(Clone, Debug)]
enum Step {
    Act {
        in_space: u64,
        on_day: u8,
        slots: u8,
        kind: WishKind,
        key: Option<u8>,
    },
    Sweep {
        in_space: u64,
        limit: usize,
    },
    /// Waits until every hold that ends soon has ended.
    Wait,
}

#[derive(Clone, Debug)]
enum WishKind {
    Hold { user: u8, ends_soon: bool },
    Book { user: Option<u8>, with_token: Option<u8> },
    Release { user: Option<u8>, with_token: Option<u8>, as_staff: Option<bool>, cancels: Option<bool> },
    Extend { user: u8, ends_soon: bool, too_long: bool },
    Update { to: StaffStatus, data: Option<u8>, user: Option<u8> },
}

/// The length of a hold that ends soon. The steps up to the next wait should take less time, and the wait takes more.
const SOON: Duration = Duration::from_millis(400);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let user = 0..3_u8;
    let anyone = prop_oneof![4 => user.clone().prop_map(Some), 1 => Just(None)];
    let token = || prop_oneof![3 => Just(None), 1 => (0..30_u8).prop_map(Some)];
    let to = prop_oneof![Just(StaffStatus::Available), Just(StaffStatus::Booked), Just(StaffStatus::Blocked)];
    let kind = prop_oneof![
        8 => (user.clone(), any::<bool>()).prop_map(|(user, ends_soon)| WishKind::Hold { user, ends_soon }),
        4 => (anyone.clone(), token()).prop_map(|(user, with_token)| WishKind::Book { user, with_token }),
        4 => (anyone, token(), any::<Option<bool>>(), any::<Option<bool>>()).prop_map(
            |(user, with_token, as_staff, cancels)| WishKind::Release { user, with_token, as_staff, cancels }
        ),
        3 => (user, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(user, ends_soon, too_long)| WishKind::Extend { user, ends_soon, too_long }),
        2 => (to, prop::option::of(0..3_u8), prop::option::of(0..3_u8))
            .prop_map(|(to, data, user)| WishKind::Update { to, data, user }),
    ];
    let key = prop_oneof![5 => Just(None), 1 => (0..3_u8).prop_map(Some)];
    let act = (1..3_u64, 1..3_u8, 1..16_u8, kind, key).prop_map(|(in_space, on_day, slots, kind, key)| Step::Act {
        in_space,
        on_day,
        slots,
        kind,
        key,
    });
    let step = prop_oneof![
        20 => act,
        1 => (1..3_u64, 1..4_usize).prop_map(|(in_space, limit)| Step::Sweep { in_space, limit }),
        1 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

fn space(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

fn day(number: u8) -> Day {
    Day::parse(&format!("2090-05-0{number}")).unwrap()
}

fn user(index: u8) -> UserId {
    UserId::new(["7", "anna \"é\"", "u:2"][usize::from(index)]).unwrap()
}

fn token(step: u8) -> HoldToken {
    HoldToken::from_random([step; 16])
}

#[expect(clippy::too_many_arguments, reason = "what a step says, one by one")]
fn act_of(
    step: u8,
    began: StoreTime,
    in_space: u64,
    on_day: u8,
    slots: u8,
    wish: &WishKind,
    key: Option<u8>,
    origin: Option<UserId>,
) -> SlotAct {
    let actor = |index: Option<u8>| index.map_or(Actor::Anyone, |index| Actor::User(user(index)));
    let millis = |ends_soon| if ends_soon { SOON.as_millis() as i64 } else { 10 * MINUTE };
    let kind = match wish.clone() {
        WishKind::Hold { user: index, ends_soon } => SlotActKind::Hold {
            user: user(index),
            token: token(step),
            millis: millis(ends_soon),
            max_holds: Some(MAX_HOLDS),
            max_held: Some(MAX_HELD),
        },
        WishKind::Book { user, with_token } => SlotActKind::Book { actor: actor(user), token: with_token.map(token) },
        WishKind::Release { user, with_token, as_staff, cancels } => {
            let booked_by = as_staff.map(|of_all| if of_all { Actor::Anyone } else { actor(user) });
            // Every slot starts late enough to be cancelled, or none does.
            let cancel_before = cancels.map(|in_time| if in_time { 0 } else { i64::from(u32::MAX) * 1_000 });
            SlotActKind::Release { actor: actor(user), token: with_token.map(token), booked_by, cancel_before }
        }
        WishKind::Extend { user: index, ends_soon, too_long } => SlotActKind::Extend {
            user: user(index),
            token: None,
            millis: millis(ends_soon),
            max_millis: if too_long { 1 } else { 60 * MINUTE },
        },
        WishKind::Update { to, data, user: index } => {
            let objects = ["{}", "{\"a\": [1.50,\n 2]}", "{\"note\":\"\\u0041 é/\",\"b\":null}"];
            let data = data.map(|index| SlotData::new(serde_json::from_str(objects[usize::from(index)]).unwrap()));
            let user = index.filter(|_| to == StaffStatus::Booked).map(user);
            SlotActKind::Update { to, data, user }
        }
    };
    let slot = |n: u64| {
        // Slot 1 has started, and the others start much later.
        let start = if n == 1 { began.plus_millis(-1) } else { began.plus_millis(n as i64 * 60 * MINUTE) };
        SlotTime {
            number: SlotNumber::new(n).unwrap(),
            start,
            end: start.plus_millis(MINUTE),
            label: format!("0{n}:30"),
        }
    };
    // Slot 1 has started, so acts on it are refused. Only each seventh act names it.
    let first = if step.is_multiple_of(7) { 1 } else { 2 };
    let idempotency = key.map(|key| Idempotency {
        caller: user(0),
        key: format!("key {key}"),
        fingerprint: format!("{in_space} {on_day} {slots} {wish:?}"),
    });
    SlotAct {
        space: space(in_space),
        day: day(on_day),
        slots: (1..=4).filter(|n| slots & (1 << (n - 1)) != 0).map(|n| slot(n + first - 1)).collect(),
        revision: None,
        kind,
        idempotency,
        origin: origin.map(|user| Origin { user, role: None, request_id: None }),
    }
}

/// An outcome without what differs between the stores: epochs, and instants by a few milliseconds.
fn comparable(result: &Result<ActOutcome, ApplyError>) -> String {
    match result {
        Ok(ActOutcome { at, hold, is_repeat }) => {
            let token = hold.as_ref().map(|hold| hold.token.as_str().to_owned());
            format!("version {}, token {token:?}, repeat {is_repeat}", at.version)
        }
        Err(error) => match error {
            ApplyError::Refused(refusal) => format!("{:?} {:?}", refusal.code, refusal.conflicts),
            other => format!("{other:?}"),
        },
    }
}

async fn board(store: &dyn SlotStore) -> Vec<String> {
    let mut rows = Vec::new();
    for in_space in 1..3 {
        for on_day in 1..3 {
            let read = store.read_day(space(in_space), day(on_day)).await.unwrap();
            rows.push(format!("{in_space} {on_day} at {} under {}", read.at.version, read.revision));
            for (number, record) in read.records {
                let state = match &record.state {
                    SlotState::Held(hold) => {
                        let (user, first) = (&hold.user, hold.first_version);
                        let (live, lasts) =
                            (read.now < hold.until, (hold.until.as_millis() - hold.began.as_millis()) / MINUTE);
                        format!("held by {user} under {} from {first}, live {live}, {lasts} min", hold.token.as_str())
                    }
                    // The epoch is left out, because each store has its own.
                    SlotState::Booked { user, first_version, data, .. } => {
                        format!("booked {user:?} {first_version} {data:?}")
                    }
                    other => format!("{other:?}"),
                };
                let times = (record.start, record.end, record.label);
                rows.push(format!("{number}: {state} at {} {times:?}", record.version));
            }
        }
        let state = store.read_space(space(in_space)).await.unwrap();
        let taken: Vec<_> = state.taken.iter().map(|(day, number, _)| (*day, *number)).collect();
        rows.push(format!("taken {taken:?}"));
    }
    for index in 0..3 {
        for held in store.holds_of(&user(index)).await.unwrap() {
            rows.push(format!(
                "{index}: {:?} {} {} {} {}",
                held.space,
                held.day,
                held.slot,
                held.label,
                held.token.as_str()
            ));
        }
    }
    rows
}

/// The entries of the journal, without epochs and instants.
async fn journal(store: &dyn SlotStore) -> Vec<String> {
    let mut said = Vec::new();
    let buckets: BTreeMap<Bucket, ()> = (1..3).map(|n| (space(n).bucket(), ())).collect();
    for bucket in buckets.into_keys() {
        for numbered in store.read_journal(bucket, 0, usize::MAX >> 1).await.unwrap() {
            let mut entry = serde_json::to_value(numbered.entry.as_ref().unwrap()).unwrap();
            for key in ["id", "at", "epoch"] {
                entry.as_object_mut().unwrap().remove(key);
            }
            said.push(format!("{bucket:?} {}: {entry}", numbered.number));
        }
    }
    said
}

/// What users were told of the slots that they lost, without epochs. It is sorted by space and version, because Redis
/// tells it after the act, in any order.
async fn told(store: &dyn SlotStore) -> Vec<String> {
    let mut told = Vec::new();
    for index in 0..3 {
        for message in store.messages_of(&user(index), None, usize::MAX).await.unwrap().messages {
            let payload: serde_json::Value = serde_json::from_str(message.data.get()).unwrap();
            let epoch = payload["epoch"].as_str().unwrap();
            let text = format!("{} {}", message.event, message.data.get().replace(epoch, "EPOCH"));
            told.push((index, payload["spazioId"].as_u64(), payload["version"].as_u64(), text));
        }
    }
    told.sort_unstable();
    told.into_iter().map(|(index, _, _, text)| format!("{index}: {text}")).collect()
}

/// Waits until the users were told `wanted`, or for 30 s. Answers what they were told.
async fn told_as(store: &dyn SlotStore, wanted: &[String]) -> Vec<String> {
    let patience = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let told = told(store).await;
        if told == wanted || tokio::time::Instant::now() > patience {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The messages of all topics, without epochs and instants.
async fn log(store: &dyn SlotStore) -> Vec<String> {
    let mut said = Vec::new();
    let buckets: BTreeMap<Bucket, ()> = (1..3).map(|n| (space(n).bucket(), ())).collect();
    let topics = (1..3).map(|n| Topic::Space(space(n))).chain(buckets.into_keys().map(Topic::Bucket));
    for topic in topics {
        let head = store.heads(&[topic]).await.unwrap().remove(0);
        let since = slotcast::domain::Position { version: 0, ..head };
        let LogRead::Messages(messages) = read_whole_log(store, topic, &since).await.unwrap() else { panic!("gone") };
        for message in messages {
            let text = match message.kind {
                MessageKind::SlotUpdate => without_instants(message.payload.get(), &message.at.epoch),
                _ => message.payload.get().to_owned(),
            };
            said.push(format!("{topic:?} {} {:?} {text}", message.at.version, message.kind));
        }
    }
    said
}

/// A payload with its epoch and the instants of the clock replaced by fixed words. The rest stays byte for byte.
fn without_instants(payload: &str, epoch: &str) -> String {
    let mut text = payload.replace(epoch, "EPOCH");
    for key in ["held_until", "expires_at", "timestamp"] {
        let name = format!("\"{key}\":\"");
        if let Some(start) = text.find(&name).map(|found| found + name.len()) {
            text.replace_range(start..start + "2026-11-23T12:00:00.000Z".len(), "INSTANT");
        }
    }
    text
}

async fn compare(server: &RedisServer, prefix: &str, steps: &[Step]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let embedded: Arc<dyn SlotStore> = Arc::new(EmbeddedStore::open(folder.path()).unwrap());
    let on_redis: Arc<dyn SlotStore> = Arc::new(store_at(&server.url(), prefix));
    let began = embedded.ping().await.unwrap();
    let mut soonest_end = None;
    for (index, step) in (0..).zip(steps) {
        match step {
            Step::Act { in_space, on_day, slots, kind, key } => {
                // Nobody acts, or one of the users does, who may be the one that has the slot.
                let origin = (index % 4 > 0).then(|| user(index % 4 - 1));
                let act = act_of(index, began, *in_space, *on_day, *slots, kind, *key, origin);
                // The two stores have clocks that may be a little apart. The earlier one counts.
                let before = embedded.ping().await.unwrap().min(on_redis.ping().await.unwrap());
                let one = embedded.apply(act.clone()).await;
                let other = on_redis.apply(act.clone()).await;
                let now = on_redis.ping().await.unwrap();
                // If a hold may have ended between the two acts, the stores may rightly differ. This machine was too
                // slow, and the case proves nothing.
                if soonest_end.is_some_and(|end: StoreTime| now >= end) {
                    return Err(TestCaseError::reject("the machine was too slow"));
                }
                prop_assert_eq!(comparable(&one), comparable(&other), "{:?}", act);
                let soon =
                    matches!(kind, WishKind::Hold { ends_soon: true, .. } | WishKind::Extend { ends_soon: true, .. });
                if one.is_ok() && soon {
                    soonest_end = soonest_end.or(Some(before.plus_millis(SOON.as_millis() as i64)));
                }
            }
            Step::Sweep { in_space, limit } => {
                let bucket = space(*in_space).bucket();
                let (one, other) =
                    (embedded.sweep(bucket, *limit).await.unwrap(), on_redis.sweep(bucket, *limit).await.unwrap());
                let now = on_redis.ping().await.unwrap();
                if soonest_end.is_some_and(|end: StoreTime| now >= end) {
                    return Err(TestCaseError::reject("the machine was too slow"));
                }
                prop_assert_eq!((one.freed, one.spaces, one.more), (other.freed, other.spaces, other.more));
                prop_assert_eq!(one.next_end_in_ms.is_some(), other.next_end_in_ms.is_some());
            }
            Step::Wait => {
                tokio::time::sleep(SOON + Duration::from_millis(20)).await;
                soonest_end = None;
            }
        }
    }
    tokio::time::sleep(SOON + Duration::from_millis(20)).await;
    prop_assert_eq!(board(&*embedded).await, board(&*on_redis).await);
    prop_assert_eq!(log(&*embedded).await, log(&*on_redis).await);
    prop_assert_eq!(journal(&*embedded).await, journal(&*on_redis).await);
    let told = told(&*embedded).await;
    prop_assert_eq!(&told, &told_as(&*on_redis, &told).await);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_global_rejects: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_come_to_the_same(steps in steps(), prefix in "[a-z]{12}") {
        let server = RedisServer::shared();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare(&server, &prefix, &steps))?;
    }
}
