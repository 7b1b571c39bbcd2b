//! Formats of buckets: which ones a node reads, which one it writes while a node of 0.1 is live, and when it moves a
//! bucket.

use std::time::Duration;

use slotcast::domain::act::StaffStatus;
use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::{
    Actor, Bucket, Day, HoldToken, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime,
    UserId,
};
use slotcast::store::hub::Watch;
use slotcast::store::redis::{Commands, Endpoint, RedisStore, RedisSubscriptions};
use slotcast::store::{ApplyError, NodeReport, Signal, SlotStore, SpaceChange, Subscriptions, Topic};

use crate::support::redis::{PlainSubscriptions, RedisServer, store_at};

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
    SlotAct { space: space(), day: day(), slots: vec![slot], revision: None, kind, idempotency: None, origin: None }
}

fn hold(who: &str) -> SlotActKind {
    let mut token = [7; 16];
    token[..who.len()].copy_from_slice(who.as_bytes());
    let user = UserId::new(who).unwrap();
    SlotActKind::Hold { user, token: HoldToken::from_random(token), millis: 60_000, max_holds: None, max_held: None }
}

fn block() -> SlotActKind {
    SlotActKind::Update { to: StaffStatus::Blocked, data: None, user: None }
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

/// Gives a node of 0.1 a lease, so that it is live as far as Redis knows.
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
    // Each script of 0.1 begins with this command.
    let old =
        server.cli(&["EVAL", "#!lua\nreturn redis.call('HMGET', KEYS[1], 'epoch', 'replid')", "1", &key("epoch")]);
    assert!(old.contains("WRONGTYPE"), "{old}");
    assert_eq!(store.formats().of(space().bucket()), Some(2));
}

#[tokio::test]
async fn while_a_node_of_0_1_lives_a_bucket_keeps_its_format_and_moves_afterwards() {
    let server = RedisServer::start();
    give_lease_of_0_1(&server, 600);
    // These are keys as 0.1 wrote them: its fence and a space's head.
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
    // The old record is read, and new records have the new format.
    let refused = store.apply(act(1, hold("bob"))).await;
    assert!(matches!(refused, Err(ApplyError::Refused(_))), "{refused:?}");
    let at = store.apply(act(2, hold("bob"))).await.unwrap().at;
    assert_eq!((at.epoch.to_string(), at.version), (before, 43));
}

#[tokio::test]
async fn what_0_1_booked_is_indexed_once_all_buckets_have_moved() {
    let server = RedisServer::start();
    give_lease_of_0_1(&server, 600);
    server.cli(&["HSET", &key("epoch"), "epoch", "0123456789abcdef0123456789abcdef", "replid", ""]);
    // These are records as 0.1 wrote them: a user's booking, staff's own booking and a blocked slot.
    let line = |slot: u64, state: &str, user: &str| {
        let start = 3_797_000_000_000_u64 + slot * 3_600_000;
        format!("{state}\n4\n{start}\n{}\n{slot:02}:00\n{user}\n\n\n\n\n{}\n", start + 3_600_000, "4")
    };
    for (slot, state, user) in [(1, "b", "ada"), (2, "b", ""), (3, "c", "")] {
        server.cli(&["HSET", &key("day:1:1:20900505"), &slot.to_string(), &line(slot, state, user)]);
    }
    server.cli(&["HSET", &key("head:1:1"), "v", "4"]);
    let (store, ada) = (server.store(), UserId::new("ada").unwrap());
    store.report_node(report(), LEASE).await.unwrap();
    // While nodes of 0.1 act, the indexes are not complete, so the store answers neither call.
    assert!(store.bookings_of(&ada, day(), day()).await.is_err());
    assert!(store.spaces_on(space().site, day()).await.is_err());
    store.apply(act(5, hold("ada"))).await.unwrap();
    store.apply(act(5, SlotActKind::Book { actor: Actor::User(ada.clone()), token: None })).await.unwrap();

    server.cli(&["ZREM", "slotcast:{nodes}:leases", "old"]);
    wait_for("the indexes of every bucket", async || {
        store.report_node(report(), LEASE).await.unwrap();
        store.bookings_of(&ada, day(), day()).await.is_ok()
    })
    .await;
    let booked = async |store: &RedisStore| {
        let mut booked = store.bookings_of(&ada, day(), day()).await.unwrap();
        booked.sort_by_key(|slot| slot.slot);
        booked.into_iter().map(|slot| (slot.slot.get(), slot.label, slot.booked_at.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(booked(&store).await, [(1, "01:00".into(), false), (5, "05:00".into(), false)]);
    assert_eq!(store.spaces_on(space().site, day()).await.unwrap(), [space().space]);
    // A release by 0.2 removes the entry that was made for 0.1's booking. So both have the same form.
    let release =
        SlotActKind::Release { actor: Actor::Anyone, token: None, booked_by: Some(Actor::Anyone), cancel_before: None };
    store.apply(act(1, release)).await.unwrap();
    assert_eq!(booked(&server.store()).await, [(5, "05:00".into(), false)]);
    // `slotcast migrate` fills the indexes again, with the same result.
    server.store().migrate(|_| {}).await.unwrap();
    assert_eq!(booked(&store).await, [(5, "05:00".into(), false)]);
}

#[tokio::test]
async fn bookings_of_days_past_are_forgotten_as_others_come() {
    let server = RedisServer::start();
    let store = server.store();
    let ada = UserId::new("ada").unwrap();
    for number in 0..40 {
        let member = format!("u{number}\n2020-05-05\n1\n1\n1\n1588660000000\n1588663600000\n09:00\n");
        server.cli(&["ZADD", &key("bookings"), "0", &member]);
    }
    for number in 1..=400 {
        store.apply(act(number, hold("ada"))).await.unwrap();
        store.apply(act(number, SlotActKind::Book { actor: Actor::User(ada.clone()), token: None })).await.unwrap();
        let left: usize = server.cli(&["ZCARD", &key("bookings")]).trim().parse().unwrap();
        if left == usize::try_from(number).unwrap() {
            return;
        }
    }
    panic!("entries of 2020 are left");
}

#[tokio::test]
async fn a_space_that_nodes_of_0_1_could_not_read_is_refused_while_one_lives() {
    let server = RedisServer::start();
    give_lease_of_0_1(&server, 600);
    let store = server.store();
    let spec = ScheduleSpec { hold_minutes: Some(5), ..ScheduleSpec::default() };
    assert!(matches!(
        store.put_space(SpaceChange::new(space(), Some(spec), None).unwrap()).await,
        Err(ApplyError::Store(_))
    ));
    store.put_space(SpaceChange::new(space(), Some(ScheduleSpec::default()), None).unwrap()).await.unwrap();
    let stored = server.cli(&["HGET", &key("head:1:1"), "j"]);
    assert!(!stored.contains("holdMinutes"), "{stored}");
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
    // The fence of 0.2 is deleted, and a node of 0.1 makes a fence of its own.
    server.cli(&["DEL", &key("epoch")]);
    server.cli(&["HSET", &key("epoch"), "epoch", "0123456789abcdef0123456789abcdef", "replid", ""]);
    let store = server.store();
    store.report_node(report(), LEASE).await.unwrap();
    wait_for("every bucket is open", async || Bucket::all().all(|bucket| store.formats().of(bucket).is_some())).await;
    assert_ne!(epoch(&store).await, before);
    assert_eq!(server.cli(&["TYPE", &key("epoch")]), "string");
}

/// A node on one of the databases: its store, and its subscriptions.
struct InDatabase {
    store: RedisStore,
    heard: RedisSubscriptions,
}

impl InDatabase {
    fn start(server: &RedisServer, database: u8) -> Self {
        let url = format!("{}/{database}", server.url());
        let store = store_at(&url, "slotcast");
        let commands = Commands::start(&Endpoint::parse(&url).unwrap()).unwrap();
        let heard = RedisSubscriptions::connect(&commands, "slotcast", store.formats(), store.positions()).unwrap();
        Self { store, heard }
    }

    async fn watch(&self) -> Watch {
        let mut watched = self.heard.watch(Topic::Space(space())).await;
        while watched.is_err() {
            watched = self.heard.watch(Topic::Space(space())).await;
        }
        watched.unwrap()
    }
}

/// The epochs of the messages that are heard, up to the first message with the epoch `last`.
async fn epochs_until(watch: &mut Watch, last: &str) -> Vec<String> {
    let mut epochs = Vec::new();
    while epochs.last().is_none_or(|epoch| epoch != last) {
        if let Signal::Message(message) = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap() {
            epochs.push(message.at.epoch.to_string());
        }
    }
    epochs
}

#[tokio::test]
async fn two_databases_of_one_redis_do_not_hear_each_other() {
    let server = RedisServer::start();
    let nodes = [InDatabase::start(&server, 0), InDatabase::start(&server, 1), InDatabase::start(&server, 12)];
    for node in &nodes {
        node.store.apply(act(1, block())).await.unwrap();
    }
    let mut epochs = Vec::new();
    let mut watches = Vec::new();
    for node in &nodes {
        epochs.push(epoch(&node.store).await);
        watches.push(node.watch().await);
    }
    for index in [0, 1, 2] {
        // The others act first. If this node heard them at all, it would hear them before its own act.
        for (other, node) in nodes.iter().enumerate() {
            if other != index {
                node.store.apply(act(2, block())).await.unwrap();
            }
        }
        nodes[index].store.apply(act(3, block())).await.unwrap();
        let own = &epochs[index];
        let heard = epochs_until(&mut watches[index], own).await;
        assert!(heard.iter().all(|epoch| epoch == own), "database {index}: {heard:?} of {epochs:?}");
    }
}

#[tokio::test]
async fn while_a_node_of_0_1_lives_both_names_of_a_channel_are_published_and_heard() {
    let server = RedisServer::start();
    let url = format!("{}/1", server.url());
    let now: u64 = server.cli(&["TIME"]).lines().next().unwrap().parse().unwrap();
    // A node of 0.1 on database 1 has a lease there.
    let mut commands = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let lease = redis::cmd("ZADD").arg("slotcast:{nodes}:leases").arg((now + 600) * 1_000).arg("old").to_owned();
    lease.query_async::<()>(&mut commands).await.unwrap();
    let node = InDatabase::start(&server, 1);
    node.store.apply(act(1, block())).await.unwrap();
    assert_eq!(node.store.formats().of(space().bucket()), Some(1));
    // This is how a node of 0.1 listens and publishes.
    let old = PlainSubscriptions::connect(&server.url(), "slotcast").await;
    let mut old_watch = old.watch(Topic::Space(space())).await.unwrap();
    let mut watch = node.watch().await;
    let at = node.store.apply(act(2, block())).await.unwrap().at;
    assert_eq!(epochs_until(&mut old_watch, &at.epoch).await, [at.epoch.to_string()]);
    let publish = |epoch: &str| {
        let channel = format!("slotcast:{{b{}}}:t:1:1", space().bucket().get());
        redis::cmd("PUBLISH").arg(channel).arg(format!("1\n{epoch}\n9\nspace_changed\nnull")).to_owned()
    };
    publish("of0.1").query_async::<()>(&mut commands).await.unwrap();
    epochs_until(&mut watch, "of0.1").await;

    lease_end(&mut commands).await;
    wait_for("the move of every bucket", async || {
        node.store.report_node(report(), LEASE).await.unwrap();
        Bucket::all().all(|bucket| node.store.formats().of(bucket) == Some(2))
    })
    .await;
    // From here on, the old name belongs to database 0 alone.
    publish("of0").query_async::<()>(&mut commands).await.unwrap();
    node.store.apply(act(3, block())).await.unwrap();
    let heard = epochs_until(&mut watch, &at.epoch).await;
    assert!(!heard.contains(&"of0".to_owned()), "{heard:?}");
}

async fn lease_end(commands: &mut redis::aio::MultiplexedConnection) {
    let end = redis::cmd("ZREM").arg("slotcast:{nodes}:leases").arg("old").to_owned();
    end.query_async::<()>(commands).await.unwrap();
}
