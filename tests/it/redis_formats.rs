//! Formats: what a node reads, what it writes while a node of 0.1 lives, and when it moves a bucket to the next one.

use std::time::Duration;

use slotcast::domain::act::StaffStatus;
use slotcast::domain::{
    Bucket, Day, HoldToken, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime, UserId,
};
use slotcast::store::redis::RedisStore;
use slotcast::store::{ApplyError, NodeReport, SlotStore, Topic};

use crate::support::redis::RedisServer;

const LEASE: Duration = Duration::from_secs(6);

fn space() -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() }
}

fn day() -> Day {
    Day::parse("2090-05-05").unwrap()
}

fn act(number: u64, kind: SlotActKind) -> SlotAct {
    let start = StoreTime::from_millis(3_797_000_000_000).plus_millis(number as i64 * 3_600_000);
    let end = start.plus_millis(3_600_000);
    let slot = SlotTime { number: SlotNumber::new(number).unwrap(), start, end, label: format!("{number:02}:00") };
    SlotAct { space: space(), day: day(), slots: vec![slot], revision: None, kind, idempotency: None }
}

fn hold(who: &str) -> SlotActKind {
    let mut token = [7; 16];
    token[..who.len()].copy_from_slice(who.as_bytes());
    let user = UserId::new(who).unwrap();
    SlotActKind::Hold { user, token: HoldToken::from_random(token), millis: 60_000, max_holds: None, max_held: None }
}

fn block() -> SlotActKind {
    SlotActKind::Update { to: StaffStatus::Blocked, data: None }
}

fn key(name: &str) -> String {
    format!("slotcast:{{b{}}}:{name}", space().bucket().get())
}

fn report() -> NodeReport {
    NodeReport {
        id: "new".into(),
        address: "127.0.0.1:1".into(),
        proof: None,
        version: "0.2.0".into(),
        started_at: "2090-01-01T00:00:00.000Z".into(),
        sockets: 0,
        users: 0,
        rooms: std::collections::BTreeMap::new(),
    }
}

/// A node of 0.1 that lives, as far as Redis knows.
fn give_lease_of_0_1(server: &RedisServer, seconds: u64) {
    let now: u64 = server.cli(&["TIME"]).lines().next().unwrap().parse().unwrap();
    server.cli(&["ZADD", "slotcast:{nodes}:leases", &((now + seconds) * 1_000).to_string(), "old"]);
}

async fn wait_for(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = slotcast::clock::instant() + Duration::from_secs(60);
    while !holds().await {
        assert!(slotcast::clock::instant() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn epoch(store: &RedisStore) -> String {
    store.heads(&[Topic::Space(space())]).await.unwrap().remove(0).epoch.to_string()
}

#[tokio::test]
async fn a_new_deployment_has_the_newest_format_and_scripts_of_0_1_fail() {
    let server = RedisServer::start();
    let store = server.store();
    store.apply(act(1, block())).await.unwrap();
    assert_eq!(server.cli(&["HGET", &key("fence"), "format"]), "2");
    assert_eq!(server.cli(&["TYPE", &key("epoch")]), "string");
    // What a script of 0.1 does first.
    let old =
        server.cli(&["EVAL", "#!lua\nreturn redis.call('HMGET', KEYS[1], 'epoch', 'replid')", "1", &key("epoch")]);
    assert!(old.contains("WRONGTYPE"), "{old}");
    assert_eq!(store.formats().of(space().bucket()), Some(2));
}

#[tokio::test]
async fn while_a_node_of_0_1_lives_a_bucket_keeps_its_format_and_moves_afterwards() {
    let server = RedisServer::start();
    give_lease_of_0_1(&server, 600);
    // What 0.1 has written: its fence, a board, a space's head.
    server.cli(&["HSET", &key("epoch"), "epoch", "0123456789abcdef0123456789abcdef", "replid", ""]);
    server.cli(&["HSET", &key("head:1:1"), "v", "41"]);
    let store = server.store();
    store.report_node(report(), LEASE).await.unwrap();
    store.apply(act(1, hold("ada"))).await.unwrap();
    assert_eq!(server.cli(&["EXISTS", &key("fence")]), "0");
    assert_eq!(server.cli(&["TYPE", &key("epoch")]), "hash");
    let record = server.cli(&["HGET", &key("day:1:1:20900505"), "1"]);
    assert!(record.starts_with("h\n42\n"), "a record of format 1: {record}");
    assert_eq!(server.cli(&["EXISTS", "slotcast:{b0}:fence"]), "0", "a new bucket has the old format, too");
    let before = epoch(&store).await;

    server.cli(&["ZREM", "slotcast:{nodes}:leases", "old"]);
    wait_for("the move of every bucket", async || {
        store.report_node(report(), LEASE).await.unwrap();
        Bucket::all().all(|bucket| store.formats().of(bucket) == Some(2))
    })
    .await;
    assert_eq!(server.cli(&["TYPE", &key("epoch")]), "string");
    assert_eq!(epoch(&store).await, before, "versions go on, so the epoch does");
    // The old record is read, and the next ones are of the new form.
    let refused = store.apply(act(1, hold("bob"))).await;
    assert!(matches!(refused, Err(ApplyError::Refused(_))), "{refused:?}");
    let at = store.apply(act(2, hold("bob"))).await.unwrap().at;
    assert_eq!((at.epoch.to_string(), at.version), (before, 43));
}

#[tokio::test]
async fn another_process_hears_of_a_move_by_its_next_script() {
    let server = RedisServer::start();
    give_lease_of_0_1(&server, 600);
    let (one, other) = (server.store(), server.store());
    one.apply(act(1, block())).await.unwrap();
    other.apply(act(2, block())).await.unwrap();
    server.cli(&["ZREM", "slotcast:{nodes}:leases", "old"]);
    wait_for("the move of the bucket", async || {
        one.report_node(report(), LEASE).await.unwrap();
        one.formats().of(space().bucket()) == Some(2)
    })
    .await;
    assert_eq!(other.formats().of(space().bucket()), Some(1));
    assert_eq!(other.apply(act(3, block())).await.unwrap().at.version, 3);
    assert_eq!(other.read_day(space(), day()).await.unwrap().records.len(), 3);
}

#[tokio::test]
async fn a_newer_format_is_refused_in_one_line_and_nothing_is_written() {
    let server = RedisServer::start();
    server.cli(&["HSET", &key("fence"), "format", "3", "epoch", "e", "replid", ""]);
    let store = server.store();
    let refused = store.apply(act(1, block())).await.unwrap_err().to_string();
    assert!(refused.contains("has format 3, which is newer than this version of slotcast knows"), "{refused}");
    assert!(!refused.contains('\n'), "{refused}");
    assert!(store.read_day(space(), day()).await.is_err());
    assert_eq!(server.cli(&["KEYS", "slotcast:*"]).trim(), key("fence"));
}

#[tokio::test]
async fn what_0_1_wrote_after_the_move_gets_another_epoch() {
    let server = RedisServer::start();
    server.store().apply(act(1, block())).await.unwrap();
    let before = epoch(&server.store()).await;
    // The string was deleted, and a node of 0.1 has come: it makes a fence of its own.
    server.cli(&["DEL", &key("epoch")]);
    server.cli(&["HSET", &key("epoch"), "epoch", "0123456789abcdef0123456789abcdef", "replid", ""]);
    let store = server.store();
    store.report_node(report(), LEASE).await.unwrap();
    wait_for("every bucket is open", async || Bucket::all().all(|bucket| store.formats().of(bucket).is_some())).await;
    assert_ne!(epoch(&store).await, before);
    assert_eq!(server.cli(&["TYPE", &key("epoch")]), "string");
}
