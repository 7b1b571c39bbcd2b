//! An older copy replaces the stored keys while the server runs. A process that has seen the space never issues a
//! version twice under one epoch, even before any node has compared heads.

use std::time::Duration;

use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::{
    Bucket, Day, HoldToken, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime, UserId,
};
use slotcast::store::redis::{Commands, Endpoint, RedisSubscriptions};
use slotcast::store::{EveryoneMessage, Publication, Signal, SlotStore, SpaceChange, Subscriptions, Topic};

use crate::support::redis::RedisServer;

fn space() -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() }
}

fn hold(number: u64, millis: i64) -> SlotAct {
    let start = StoreTime::from_millis(3_797_000_000_000).plus_millis(number as i64 * 3_600_000);
    let end = start.plus_millis(3_600_000);
    let slot = SlotTime { number: SlotNumber::new(number).unwrap(), start, end, label: "09:00".into() };
    let kind = SlotActKind::Hold {
        user: UserId::new(&format!("user-{number}")).unwrap(),
        token: HoldToken::from_random([number as u8; 16]),
        millis,
        max_holds: None,
        max_held: None,
    };
    let day = Day::parse("2090-05-05").unwrap();
    SlotAct { space: space(), day, slots: vec![slot], revision: None, kind, idempotency: None, origin: None }
}

/// Copies all keys.
fn back_up(server: &RedisServer) {
    for key in server.cli(&["KEYS", "slotcast:*"]).split_whitespace() {
        server.cli(&["COPY", key, &format!("backup:{key}"), "REPLACE"]);
    }
}

/// Replaces all keys by their copies.
fn restore(server: &RedisServer) {
    for key in server.cli(&["KEYS", "slotcast:*"]).split_whitespace() {
        server.cli(&["DEL", key]);
    }
    for key in server.cli(&["KEYS", "backup:*"]).split_whitespace() {
        server.cli(&["COPY", key, key.strip_prefix("backup:").unwrap(), "REPLACE"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_act_of_a_process_that_has_acted_begins_an_epoch() {
    let server = RedisServer::start();
    let store = server.store();
    let first = store.apply(hold(1, 600_000)).await.unwrap().at;
    back_up(&server);
    let lost = store.apply(hold(2, 600_000)).await.unwrap().at;
    restore(&server);
    let next = store.apply(hold(3, 600_000)).await.unwrap().at;
    assert!(lost.epoch == first.epoch && next.epoch != lost.epoch, "{next:?} after {lost:?}");
    assert_eq!(next.version, 2);
    // The next act stays in this new epoch.
    assert_eq!(store.apply(hold(4, 600_000)).await.unwrap().at.epoch, next.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_act_of_a_process_that_has_only_heard_of_the_space_begins_an_epoch() {
    let server = RedisServer::start();
    let (store, other) = (server.store(), server.store());
    let commands = Commands::start(&Endpoint::parse(&server.url()).unwrap()).unwrap();
    let heard = RedisSubscriptions::connect(&commands, "slotcast", other.formats(), other.positions()).unwrap();
    let mut watch = heard.watch(Topic::Space(space())).await.unwrap();
    store.apply(hold(1, 600_000)).await.unwrap();
    back_up(&server);
    let lost = store.apply(hold(2, 600_000)).await.unwrap().at;
    let all = async {
        loop {
            if let Signal::Message(message) = watch.next().await
                && message.at == lost
            {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
    restore(&server);
    let next = other.apply(hold(3, 600_000)).await.unwrap().at;
    assert!(next.epoch != lost.epoch && next.version == 2, "{next:?} after {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_after_it_begins_an_epoch() {
    let server = RedisServer::start();
    let store = server.store();
    let first = store.apply(hold(1, 1_000)).await.unwrap().at;
    back_up(&server);
    let lost = store.apply(hold(2, 600_000)).await.unwrap().at;
    restore(&server);
    while store.sweep(space().bucket(), 10).await.unwrap().freed == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let at = store.heads(&[Topic::Space(space())]).await.unwrap().remove(0);
    assert!(lost.epoch == first.epoch && at.epoch != lost.epoch && at.version == 2, "{at:?} after {lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_is_changed_after_it_begins_an_epoch() {
    let server = RedisServer::start();
    let store = server.store();
    let put = async |name: &str| {
        let spec = ScheduleSpec { name: Some(name.into()), ..ScheduleSpec::default() };
        let revised_at = store.read_space(space()).await.unwrap().revised_at();
        store.put_space(SpaceChange::new(space(), Some(spec), revised_at).unwrap()).await.unwrap()
    };
    let first = put("one").await;
    back_up(&server);
    let lost = put("two").await;
    restore(&server);
    let next = put("three").await;
    assert!(lost.epoch == first.epoch && next.epoch != lost.epoch && next.version == 2, "{next:?} after {lost:?}");
    assert_eq!(put("four").await.epoch, next.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_after_it_begins_an_epoch() {
    let data = || serde_json::value::RawValue::from_string("1".into()).unwrap();
    let to_user = || Publication::ToUser { user: UserId::new("ada").unwrap(), event: "e".into(), data: data() };
    let to_all = || Publication::ToEveryone(EveryoneMessage { event: "e".into(), data: data() });
    let kinds: [(Bucket, &dyn Fn() -> Publication); 2] =
        [(UserId::new("ada").unwrap().bucket(), &to_user), (Bucket::EVERYONE, &to_all)];
    for (bucket, message) in kinds {
        let server = RedisServer::start();
        let store = server.store();
        let head = async || store.heads(&[Topic::Bucket(bucket)]).await.unwrap().remove(0);
        store.publish(message()).await.unwrap();
        let first = head().await;
        back_up(&server);
        store.publish(message()).await.unwrap();
        let lost = head().await;
        restore(&server);
        store.publish(message()).await.unwrap();
        let next = head().await;
        assert!(lost.epoch == first.epoch && next.epoch != lost.epoch && next.version == 2, "{next:?} after {lost:?}");
        store.publish(message()).await.unwrap();
        assert_eq!(head().await.epoch, next.epoch);
    }
}
