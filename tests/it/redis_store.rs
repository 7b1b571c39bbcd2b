//! The Redis store: the conformance suite, and what only a store behind a network must do. The servers are real.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use slotcast::clock;
use slotcast::config::CatalogConfig;
use slotcast::domain::act::{Idempotency, StaffStatus};
use slotcast::domain::event::slot_update;
use slotcast::domain::rule::Change;
use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::slot::SlotState;
use slotcast::domain::{
    Actor, Bucket, Code, Day, HoldToken, Origin, Position, SiteId, SlotAct, SlotActKind, SlotData, SlotNumber,
    SlotTime, SpaceId, SpaceKey, StoreTime, UserId,
};
use slotcast::spaces::catalog::Catalog;
use slotcast::store::redis::{Fence, RedisOptions, RedisStore};
use slotcast::store::{
    ActOutcome, ApplyError, LogRead, Message, NodeReport, Publication, SlotStore, SpaceChange, Topic, read_whole_log,
};

use crate::store_conformance;
use crate::store_conformance::{Handles, StoreFactory};
use crate::support::redis::{LossyProxy, PlainSubscriptions, RedisCluster, RedisServer, store_at};
use crate::support::redis_server::free_port;
use crate::support::repeat_of;

/// A store under a prefix of its own, on the server that all tests share.
pub struct OnRedis {
    server: Arc<RedisServer>,
    prefix: String,
}

#[async_trait]
impl StoreFactory for OnRedis {
    async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let server = tokio::task::spawn_blocking(RedisServer::shared).await.unwrap();
        Self { server, prefix }
    }

    async fn open(&self) -> Handles {
        let url = self.server.url();
        let subscriptions = Arc::new(PlainSubscriptions::connect(&url, &self.prefix).await);
        Handles { store: Arc::new(store_at(&url, &self.prefix)), subscriptions }
    }

    /// The node's end, not the server's: after that the epoch is another one, which the cases of the fence show.
    async fn restart(&mut self) {}
}

store_conformance!(conformance, super::OnRedis);

/// A store on a Cluster of three primaries, under a prefix of its own.
pub struct OnCluster {
    cluster: Arc<RedisCluster>,
    prefix: String,
}

#[async_trait]
impl StoreFactory for OnCluster {
    async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let cluster = tokio::task::spawn_blocking(RedisCluster::shared).await.unwrap();
        Self { cluster, prefix }
    }

    async fn open(&self) -> Handles {
        // Plain publishing reaches the subscribers of every node, whichever has the slot.
        let subscriptions = PlainSubscriptions::connect(&self.cluster.urls()[0], &self.prefix).await;
        Handles { store: Arc::new(self.cluster.store(&self.prefix).await), subscriptions: Arc::new(subscriptions) }
    }

    async fn restart(&mut self) {}
}

store_conformance!(cluster_conformance, super::OnCluster);

// What cases are made of.

const MINUTE: i64 = 60_000;

/// Within what a call fails that is to take less than a second, on a machine with much else to do.
const IN_TIME: Duration = Duration::from_secs(3);

/// Longer than anything may take that is waited for here.
const PATIENCE: Duration = Duration::from_secs(20);

fn space(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

fn day() -> Day {
    Day::parse("2090-05-05").unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Slots start far in the future, an hour apart.
fn slot(n: u64) -> SlotTime {
    let start = StoreTime::from_millis(3_797_000_000_000).plus_millis(n as i64 * 60 * MINUTE);
    let label = format!("{n:02}:00");
    SlotTime { number: SlotNumber::new(n).unwrap(), start, end: start.plus_millis(60 * MINUTE), label }
}

fn act(in_space: u64, slots: &[u64], kind: SlotActKind) -> SlotAct {
    let slots = slots.iter().map(|n| slot(*n)).collect();
    SlotAct { space: space(in_space), day: day(), slots, revision: None, kind, idempotency: None, origin: None }
}

fn hold(who: &str, millis: i64) -> SlotActKind {
    let mut bytes = [7; 16];
    bytes[..who.len()].copy_from_slice(who.as_bytes());
    SlotActKind::Hold { user: user(who), token: HoldToken::from_random(bytes), millis, max_holds: None, max_held: None }
}

fn book(who: &str) -> SlotActKind {
    SlotActKind::Book { actor: Actor::User(user(who)), token: None }
}

fn release(who: &str) -> SlotActKind {
    SlotActKind::Release { actor: Actor::User(user(who)), token: None, booked_by: None, cancel_before: None }
}

fn extend(who: &str, millis: i64) -> SlotActKind {
    SlotActKind::Extend { user: user(who), token: None, millis, max_millis: 60 * MINUTE }
}

fn set(to: StaffStatus) -> SlotActKind {
    SlotActKind::Update { to, data: None, user: None }
}

async fn head(store: &RedisStore, topic: Topic) -> Position {
    store.heads(&[topic]).await.unwrap().remove(0)
}

async fn messages(store: &RedisStore, topic: Topic, since: &Position) -> Vec<Message> {
    match read_whole_log(store, topic, since).await.unwrap() {
        LogRead::Messages(messages) => messages,
        LogRead::Gone(head) => panic!("gone at {head:?}"),
    }
}

fn is_unavailable(result: &Result<ActOutcome, ApplyError>) -> bool {
    matches!(result, Err(ApplyError::Store(_)))
}

// The fence.

/// Every (epoch, version) of a space that was ever told, with what it named.
#[derive(Default)]
struct Witness {
    told: HashMap<(String, u64), String>,
    epochs: BTreeSet<String>,
}

impl Witness {
    /// Does an act and takes its answer and the log's end down.
    async fn act(&mut self, store: &RedisStore, act: SlotAct) -> Position {
        let topic = Topic::Space(act.space);
        let at = store.apply(act).await.unwrap().at;
        let since = Position { version: at.version - 1, ..at.clone() };
        for message in messages(store, topic, &since).await {
            let key = (message.at.epoch.to_string(), message.at.version);
            let known = self.told.entry(key).or_insert_with(|| message.payload.get().to_owned());
            assert_eq!(known, message.payload.get(), "{:?} names two contents", message.at);
        }
        self.epochs.insert(at.epoch.to_string());
        at
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_version_names_two_contents_after_a_flush_or_a_restart() {
    let server = RedisServer::start();
    let store = server.store();
    let mut witness = Witness::default();
    witness.act(&store, act(1, &[1], hold("a", MINUTE))).await;
    let before = witness.act(&store, act(1, &[1], book("a"))).await;

    // Everything lost: versions begin again, under another epoch.
    server.cli(&["FLUSHALL"]);
    let flushed = witness.act(&store, act(1, &[2], hold("b", MINUTE))).await;
    assert_eq!(flushed.version, 1);
    assert_ne!(flushed.epoch, before.epoch);
    let read = store.read_log(Topic::Space(space(1)), &before).await.unwrap();
    assert!(matches!(read, LogRead::Gone(at) if at == flushed));

    // Everything kept: the epoch changes needlessly, and nothing else does.
    server.restart_with(&[]);
    let board = retry_read(&store).await;
    assert_eq!((board.at.version, board.records.len()), (1, 1));
    assert_ne!(board.at.epoch, flushed.epoch);
    let kept = witness.act(&store, act(1, &[2], book("b"))).await;
    assert_eq!((kept.version, &kept.epoch), (2, &board.at.epoch));
    // What was taken under the epoch before proves nothing under this one.
    let since = Position { version: 0, ..kept.clone() };
    assert!(matches!(store.read_log(Topic::Space(space(1)), &since).await.unwrap(), LogRead::Gone(_)));

    // Restarted without what it kept.
    server.restart_with(&["--appendonly", "no"]);
    assert_eq!(retry_read(&store).await.at.version, 0);
    let emptied = witness.act(&store, act(1, &[3], hold("c", MINUTE))).await;
    assert_eq!(emptied.version, 1);
    assert_eq!(witness.epochs.len(), 4);
}

/// Reads while the connection is made again.
async fn retry_read(store: &RedisStore) -> slotcast::store::DayState {
    let began = clock::instant();
    loop {
        match store.read_day(space(1), day()).await {
            Ok(read) => return read,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_version_names_two_contents_after_a_failover_that_lost_writes() {
    let (primary, replica) = (RedisServer::start(), RedisServer::start());
    let store = primary.store();
    let port = primary.address().port().to_string();
    replica.cli(&["REPLICAOF", "127.0.0.1", &port]);
    wait_until(|| replica.cli(&["INFO", "replication"]).contains("master_link_status:up")).await;
    let mut witness = Witness::default();
    witness.act(&store, act(1, &[1], hold("a", MINUTE))).await;
    let head_key = format!("slotcast:{{b{}}}:head:1:1", space(1).bucket().get());
    wait_until(|| replica.cli(&["HGET", &head_key, "v"]) == "1").await;

    // The replica hears nothing more; what the primary acknowledges now is lost with it.
    replica.cli(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    let lost = witness.act(&store, act(1, &[1], book("a"))).await;
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    primary.kill();

    let promoted = replica.store();
    let next = witness.act(&promoted, act(1, &[1], release("a"))).await;
    assert_eq!(next.version, lost.version);
    assert_ne!(next.epoch, lost.epoch);

    // The old primary comes back as it was, and takes versions of its own.
    primary.restart_with(&[]);
    let again = retry_read(&store).await;
    assert_ne!(again.at.epoch, lost.epoch);
    let of_old = witness.act(&store, act(1, &[2], hold("b", MINUTE))).await;
    assert_ne!(of_old.epoch, next.epoch);
}

async fn wait_until(mut holds: impl FnMut() -> bool) {
    let began = clock::instant();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it did not come to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_and_a_comparison_of_heads_change_the_epoch_too() {
    let server = RedisServer::start();
    let store = server.store();
    let topics = [Topic::Space(space(1)), Topic::Bucket(space(1).bucket())];
    let before = store.heads(&topics).await.unwrap();
    server.cli(&["FLUSHALL"]);
    let after = store.heads(&topics).await.unwrap();
    assert!(after.iter().all(|head| head.epoch == after[0].epoch && head.epoch != before[0].epoch));
    server.cli(&["FLUSHALL"]);
    let read = store.read_day(space(1), day()).await.unwrap();
    assert_ne!(read.at.epoch, after[0].epoch);
    assert_eq!(store.apply(act(1, &[1], hold("a", MINUTE))).await.unwrap().at.epoch, read.at.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_was_lost_is_not_taken_for_the_one_that_has_its_version() {
    let server = RedisServer::start();
    let store: Arc<dyn SlotStore> = Arc::new(server.store());
    let catalog = Catalog::new(store.clone(), Arc::default(), CatalogConfig { open: true, max_days: 400 });
    let put = async |slot_minutes| {
        let spec = ScheduleSpec { slot_minutes, ..ScheduleSpec::default() };
        let revised_at = store.read_space(space(1)).await.unwrap().revised_at();
        store.put_space(SpaceChange::new(space(1), Some(spec), revised_at).unwrap()).await.unwrap()
    };
    let lost = put(30).await;
    let resolved = catalog.resolve(space(1)).await.unwrap();
    assert_eq!(resolved.revision, Some(lost.clone()));
    server.cli(&["FLUSHALL"]);
    let removal = SpaceChange::new(space(1), None, Some(lost.clone())).unwrap();
    assert_eq!(store.put_space(removal).await, Err(ApplyError::Stale));
    let kept = put(60).await;
    assert_eq!(kept.version, lost.version);

    let on_lost = SlotAct { revision: resolved.revision, ..act(1, &[1], hold("a", MINUTE)) };
    assert_eq!(store.apply(on_lost.clone()).await, Err(ApplyError::Stale));
    catalog.forget(space(1));
    let revision = catalog.resolve(space(1)).await.unwrap().revision;
    store.apply(SlotAct { revision, ..on_lost }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_info_is_refused_a_store_without_the_fence_works() {
    let server = RedisServer::start();
    server.cli(&["ACL", "SETUSER", "default", "-info"]);
    let refused = server.store().apply(act(1, &[1], hold("a", MINUTE))).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    let open = |fence| {
        let options = RedisOptions { fence, ..RedisOptions::default() };
        RedisStore::open(&server.url(), "slotcast", options).unwrap()
    };
    let store = open(Fence::Down);
    let held = store.apply(act(1, &[1], hold("a", MINUTE))).await.unwrap();
    assert_eq!(head(&store, Topic::Space(space(1))).await, held.at);
    let passing = open(Fence::WhereAllowed);
    assert_eq!(head(&passing, Topic::Space(space(1))).await, held.at);
    server.cli(&["FLUSHALL"]);
    assert_ne!(head(&store, Topic::Space(space(1))).await.epoch, held.at.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_has_not_asked_takes_no_version_of_an_epoch_that_others_fence() {
    let server = RedisServer::start();
    let held = server.store().apply(act(1, &[1], hold("a", 1))).await.unwrap();
    server.cli(&["ACL", "SETUSER", "sweeper", "on", ">secret", "~*", "&*", "+@all", "-info"]);
    let url = server.url().replace("redis://", "redis://sweeper:secret@");
    let options = RedisOptions { fence: Fence::WhereAllowed, ..RedisOptions::default() };
    let sweeper = RedisStore::open(&url, "slotcast", options).unwrap();
    let ended = held.hold.unwrap().until;
    while server.store().ping().await.unwrap() <= ended {}
    let refused = sweeper.sweep(space(1).bucket(), 10).await.unwrap_err();
    assert!(refused.0.contains("ACL SETUSER <user> +info"), "{refused}");
    assert_eq!(head(&server.store(), Topic::Space(space(1))).await, held.at);
    // As it says.
    server.cli(&["ACL", "SETUSER", "sweeper", "+info"]);
    assert_eq!(sweeper.sweep(space(1).bucket(), 10).await.unwrap().freed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_has_not_asked_is_fenced_where_info_is_allowed() {
    let server = RedisServer::start();
    let held = server.store().apply(act(1, &[1], hold("a", MINUTE))).await.unwrap();
    let options = RedisOptions { fence: Fence::WhereAllowed, ..RedisOptions::default() };
    let store = RedisStore::open(&server.url(), "slotcast", options).unwrap();
    assert_eq!(head(&store, Topic::Space(space(1))).await, held.at);
    server.cli(&["DEBUG", "CHANGE-REPL-ID"]);
    assert_ne!(head(&store, Topic::Space(space(1))).await.epoch, held.at.epoch);
}

// Lost replies, and lost servers.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_whose_reply_was_lost_is_applied_once() {
    let server = RedisServer::start();
    let proxy = LossyProxy::start(server.address()).await;
    let (store, direct) = (store_at(&proxy.url(), "slotcast"), server.store());
    let topic = Topic::Space(space(1));
    store.apply(act(1, &[9], hold("z", MINUTE))).await.unwrap();

    // A second release, a second extension or a second update would show in the versions.
    let steps: [(SlotActKind, u64); 6] = [
        (hold("lost", MINUTE), 2),
        (extend("lost", 2 * MINUTE), 2),
        (book("lost"), 2),
        (set(StaffStatus::Blocked), 2),
        (set(StaffStatus::Available), 2),
        (hold("lost", MINUTE), 2),
    ];
    for (kind, events) in steps {
        let before = head(&direct, topic).await;
        proxy.lose_reply_of("\r\n2090-05-05\r\n");
        let outcome = store.apply(act(1, &[1, 2], kind.clone())).await.unwrap();
        assert!(proxy.has_lost_all());
        assert_eq!(head(&direct, topic).await.version, before.version + events, "{kind:?}");
        assert_eq!(outcome.at.version, before.version + events, "{kind:?}");
        if let SlotActKind::Hold { token, .. } = &kind {
            let read = direct.read_day(space(1), day()).await.unwrap();
            let hold = outcome.hold.unwrap();
            assert_eq!(hold.token, *token);
            assert_eq!(read.records[&slot(1).number].live_hold(read.now).unwrap().until, hold.until);
        }
    }
    proxy.lose_reply_of("\r\n2090-05-05\r\n");
    store.apply(act(1, &[1, 2], release("lost"))).await.unwrap();
    let again = store.apply(act(1, &[1, 2], release("lost"))).await;
    assert!(matches!(again, Err(ApplyError::Refused(refusal)) if refusal.code == Code::NotHeld));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_a_message_and_a_sweep_whose_reply_was_lost_happen_once() {
    let server = RedisServer::start();
    let proxy = LossyProxy::start(server.address()).await;
    let (store, direct) = (store_at(&proxy.url(), "slotcast"), server.store());
    store.apply(act(2, &[1], hold("z", MINUTE))).await.unwrap();

    proxy.lose_reply_of("Europe/Rome");
    let change = SpaceChange::new(space(1), Some(ScheduleSpec::default()), None).unwrap();
    let put = store.put_space(change).await.unwrap();
    assert!(proxy.has_lost_all());
    assert_eq!((put.version, head(&direct, Topic::Space(space(1))).await), (1, put.clone()));

    proxy.lose_reply_of("hello");
    let data = serde_json::value::RawValue::from_string("1".into()).unwrap();
    store.publish(Publication::ToUser { user: user("a"), event: "hello".into(), data }).await.unwrap();
    assert!(proxy.has_lost_all());
    assert_eq!(direct.messages_of(&user("a"), None, usize::MAX).await.unwrap().messages.len(), 1);
    assert_eq!(head(&direct, Topic::Bucket(user("a").bucket())).await.version, 1);

    let of_bucket = Topic::Bucket(space(3).bucket());
    let ended = store.apply(act(3, &[1, 2], hold("b", 20))).await.unwrap().hold.unwrap();
    while direct.ping().await.unwrap() <= ended.until {}
    let before = head(&direct, of_bucket).await;
    proxy.lose_reply_of("\r\n2090-05-05\r\n");
    store.sweep(space(3).bucket(), 10).await.unwrap();
    assert!(proxy.has_lost_all());
    assert_eq!(messages(&direct, of_bucket, &before).await.len(), 1);
    assert_eq!(head(&direct, Topic::Space(space(3))).await.version, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_that_starts_after_its_deadline_does_nothing() {
    let server = RedisServer::start();
    let store = server.store();
    store.apply(act(1, &[9], hold("z", MINUTE))).await.unwrap();
    let before = head(&store, Topic::Space(space(1))).await;

    let began = clock::instant();
    server.cli(&["CLIENT", "PAUSE", "1600", "ALL"]);
    let sent = clock::instant();
    let result = store.apply(act(1, &[1], hold("a", MINUTE))).await;
    assert!(is_unavailable(&result), "{result:?}");
    assert!(sent.elapsed() < Duration::from_millis(1_500), "{:?}", sent.elapsed());
    // It was sent, and is run when the pause ends: after its deadline.
    wait_until(|| server.cli(&["PING"]) == "PONG").await;
    assert!(began.elapsed() >= Duration::from_millis(1_500));
    assert_eq!(head(&store, Topic::Space(space(1))).await, before);
    store.apply(act(1, &[1], hold("b", MINUTE))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_acts_fail_within_a_second_and_come_back_by_themselves() {
    let server = RedisServer::start();
    let store = server.store();
    store.apply(act(1, &[1], hold("a", MINUTE))).await.unwrap();
    server.kill();
    for _ in 0..3 {
        let began = clock::instant();
        let result = store.apply(act(1, &[2], hold("b", MINUTE))).await;
        assert!(is_unavailable(&result), "{result:?}");
        assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
        assert!(store.ping().await.is_err());
    }
    server.restart_with(&[]);
    let began = clock::instant();
    while store.ping().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(5), "it does not come back");
    }
    // What was acknowledged is there, what failed is not.
    let read = store.read_day(space(1), day()).await.unwrap();
    assert_eq!(read.records.keys().map(|number| number.get()).collect::<Vec<_>>(), [1]);
    store.apply(act(1, &[2], hold("b", MINUTE))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acts_under_load_survive_a_kill_of_redis() {
    let server = Arc::new(RedisServer::start());
    let store = Arc::new(server.store());
    let (in_all, is_restarted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let tasks: Vec<_> = (1..=8_u64)
        .map(|n| {
            let (store, in_all, is_restarted) = (store.clone(), in_all.clone(), is_restarted.clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut sent, mut since_restart) = (0_u64, 0_u64, 0_u64);
                let began = clock::instant();
                while since_restart < 10 {
                    assert!(began.elapsed() < PATIENCE, "{acknowledged} acknowledged of {sent}");
                    sent += 1;
                    if store.apply(act(n, &[1], set(StaffStatus::Blocked))).await.is_ok() {
                        acknowledged += 1;
                        in_all.fetch_add(1, Ordering::Relaxed);
                        since_restart += u64::from(is_restarted.load(Ordering::Relaxed));
                    }
                }
                (n, acknowledged, sent)
            })
        })
        .collect();
    wait_until(|| in_all.load(Ordering::Relaxed) > 100).await;
    let restarted = server.clone();
    tokio::task::spawn_blocking(move || restarted.restart_with(&[])).await.unwrap();
    is_restarted.store(true, Ordering::Relaxed);
    for task in tasks {
        let (n, acknowledged, sent) = task.await.unwrap();
        let version = head(&store, Topic::Space(space(n))).await.version;
        assert!((acknowledged..=sent).contains(&version), "{acknowledged} acknowledged of {sent}, {version} kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_refuses_acts_and_shows_boards() {
    let server = RedisServer::start();
    let store = server.store();
    store.apply(act(1, &[1], hold("a", MINUTE))).await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let began = clock::instant();
    let refused = store.apply(act(1, &[1], book("a"))).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    assert!(store.ping().await.is_err());
    assert_eq!(store.read_day(space(1), day()).await.unwrap().records.len(), 1);
    assert_eq!(store.read_space(space(1)).await.unwrap().taken.len(), 1);
    assert_eq!(head(&store, Topic::Space(space(1))).await.version, 1);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    store.apply(act(1, &[1], book("a"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let server = RedisServer::start();
    let store = server.store();
    for n in 1..=3 {
        assert_eq!(store.apply(act(1, &[n], hold("a", MINUTE))).await.unwrap().at.version, n);
        assert_eq!(server.cli(&["SCRIPT", "FLUSH", "SYNC"]), "OK");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_clock_is_elsewhere_still_acts() {
    let server = RedisServer::start();
    let shifted = |shift| {
        let options = RedisOptions { clock_shift_millis: shift, ..RedisOptions::default() };
        RedisStore::open(&server.url(), "slotcast", options).unwrap()
    };
    let (store, later) = (shifted(0), shifted(2 * MINUTE));
    store.apply(act(1, &[1], hold("a", MINUTE))).await.unwrap();
    let taken = later.apply(act(1, &[1], hold("b", MINUTE))).await.unwrap();
    assert_eq!(taken.at.version, 3);
}

#[test]
fn a_prefix_with_a_brace_is_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    let refused = RedisStore::open("redis://127.0.0.1:1", "a{b}", RedisOptions::default()).err().unwrap();
    assert!(refused.0.contains("brace"), "{refused}");
}

// Keys.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_is_one_call_in_whatever_bucket() {
    let factory = OnRedis::start().await;
    let store = store_at(&factory.server.url(), &factory.prefix);
    let other = (2..).find(|n| space(*n).bucket() != space(1).bucket()).unwrap();
    let keyed = |in_space, fingerprint: &str| {
        let idempotency = Idempotency { caller: user("a"), key: "k{1}:".into(), fingerprint: fingerprint.into() };
        SlotAct { idempotency: Some(idempotency), ..act(in_space, &[1], hold("a", MINUTE)) }
    };
    let first = store.apply(keyed(1, "one")).await.unwrap();
    let refused = store.apply(keyed(other, "other")).await;
    assert!(matches!(refused, Err(ApplyError::Refused(refusal)) if refusal.code == Code::IdempotencyMismatch));
    assert_eq!(head(&store, Topic::Space(space(other))).await.version, 0);
    assert_eq!(store.apply(keyed(1, "one")).await.unwrap(), repeat_of(&first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_ends_in_its_time_and_versions_never() {
    let server = RedisServer::start();
    let store = server.store();
    let idempotency = Some(Idempotency { caller: user("a"), key: "k".into(), fingerprint: "f".into() });
    let origin = Some(Origin { user: user("a"), role: None, request_id: None });
    store.apply(SlotAct { idempotency, origin, ..act(1, &[1], hold("a", MINUTE)) }).await.unwrap();
    store.apply(act(1, &[2], set(StaffStatus::Booked))).await.unwrap();
    let data = serde_json::value::RawValue::from_string("1".into()).unwrap();
    store.publish(Publication::ToUser { user: user("a"), event: "e".into(), data }).await.unwrap();
    let ttl = |key: &str| server.cli(&["TTL", key]).parse::<i64>().unwrap();
    let keys: Vec<String> = server.cli(&["KEYS", "*"]).lines().map(str::to_owned).collect();
    let (day_seconds, forgotten) = (24 * 60 * 60, Day::parse("2090-06-06").unwrap());
    let until_forgotten = {
        let midnight = forgotten.date().at(0, 0, 0, 0).to_zoned_datetime(jiff::tz::TimeZone::UTC).unwrap();
        midnight.timestamp().as_second() - store.ping().await.unwrap().as_millis() / 1_000
    };
    let mut seen = BTreeSet::new();
    for key in &keys {
        let kind = key.split("}:").nth(1).and_then(|rest| rest.split(':').next()).unwrap().to_owned();
        let ttl = ttl(key);
        match kind.as_str() {
            "fence" | "epoch" | "head" | "ends" | "holds" | "places" | "user" | "journal" => {
                assert_eq!(ttl, -1, "{key}")
            }
            "log" | "calls" | "mail" => assert!((day_seconds - 60..=day_seconds).contains(&ttl), "{key}"),
            // The days of the journal, and two months: nobody else is named by then.
            "people" => assert!((151 * day_seconds..=152 * day_seconds).contains(&ttl), "{key} in {ttl} s"),
            "day" | "days" => assert!((ttl - until_forgotten).abs() < 60, "{key} in {ttl} s"),
            other => panic!("{other}"),
        }
        seen.insert(kind);
    }
    assert_eq!(seen.len(), 14, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_writes_only_what_changed() {
    let server = RedisServer::start();
    let store = server.store();
    let mut report = slotcast::store::NodeReport {
        id: "one".into(),
        address: "127.0.0.1:1".into(),
        proof: None,
        version: "1".into(),
        started_at: "2026-01-01T00:00:00.000Z".into(),
        sockets: 1,
        users: 1,
        rooms: (0..10_000).map(|n| (format!("spazio_{n}_sede_1"), n)).collect(),
    };
    let lease = Duration::from_secs(60);
    let written = || {
        let stats = server.cli(&["INFO", "stats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("total_net_input_bytes:")).unwrap().to_owned();
        line.trim().parse::<u64>().unwrap()
    };
    let before = written();
    store.report_node(report.clone(), lease).await.unwrap();
    let whole = written() - before;
    // With its first report a node opens all buckets in the background. What it writes then is little beside 10,000 rooms.
    let formats = store.formats();
    wait_until(|| Bucket::all().all(|bucket| formats.of(bucket).is_some())).await;
    let before = written();
    report.rooms.insert("spazio_5_sede_1".into(), 77);
    report.rooms.remove("spazio_6_sede_1");
    report.sockets = 2;
    store.report_node(report.clone(), lease).await.unwrap();
    let changed = written() - before;
    assert!(changed < whole / 10, "{changed} bytes of {whole}");
    let nodes = store.nodes().await.unwrap();
    assert_eq!(serde_json::to_string(&nodes).unwrap(), serde_json::to_string(&[report.clone()]).unwrap());
    // Lost with the server: the next report is whole again.
    server.cli(&["FLUSHALL"]);
    report.users = 2;
    store.report_node(report.clone(), lease).await.unwrap();
    let nodes = server.store().nodes().await.unwrap();
    assert_eq!(serde_json::to_string(&nodes).unwrap(), serde_json::to_string(&[report]).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_lease_has_one_holder() {
    let server = RedisServer::start();
    let (one, two) = (server.store(), server.store());
    // Long enough for a busy machine to ask three times meanwhile.
    let lease = Duration::from_secs(2);
    assert_eq!(one.take_sweep_lease("one", lease).await.unwrap(), None);
    assert!(two.take_sweep_lease("two", lease).await.unwrap().is_some_and(|left| left <= lease));
    assert_eq!(one.take_sweep_lease("one", lease).await.unwrap(), None);
    let left = two.take_sweep_lease("two", lease).await.unwrap().expect("it was renewed");
    tokio::time::sleep(left + Duration::from_millis(1)).await;
    assert_eq!(two.take_sweep_lease("two", lease).await.unwrap(), None);
    assert!(one.take_sweep_lease("one", lease).await.unwrap().is_some());
}

// Payloads.

/// The payload of a message as the domain makes it, with the instant that the payload itself tells.
fn expected_payload(message: &Message, slot: &SlotTime, state: SlotState, freed: bool) -> String {
    let payload: serde_json::Value = serde_json::from_str(message.payload.get()).unwrap();
    let now: jiff::Timestamp = payload["timestamp"].as_str().unwrap().parse().unwrap();
    let change = Change { slot: slot.clone(), state, freed };
    slot_update(space(1), day(), &change, &message.at, now.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_byte_for_byte_what_the_domain_makes() {
    let factory = OnRedis::start().await;
    let store = store_at(&factory.server.url(), &factory.prefix);
    let topic = Topic::Space(space(1));
    let object = "{\"note\": \"\u{20ac} \\u0041 \\\"/\\\" \u{1f600}\", \"price\": 12345678901234567890.10,\n \"status\": \"mine\", \"a/b\\n\": [ 1,\n 2 ], \"empty\": {}}";
    let data = SlotData::new(serde_json::from_str(object).unwrap());
    let empty = SlotData::new(serde_json::from_str("{}").unwrap());
    let with = |to, data: &SlotData| SlotActKind::Update { to, data: Some(data.clone()), user: None };
    let kinds = [
        hold("a", MINUTE),
        extend("a", 2 * MINUTE),
        book("a"),
        with(StaffStatus::Booked, &data),
        with(StaffStatus::Blocked, &empty),
        with(StaffStatus::Available, &data),
        with(StaffStatus::Available, &empty),
        set(StaffStatus::Available),
        hold("b", MINUTE),
        release("b"),
    ];
    for kind in kinds {
        let before = head(&store, topic).await;
        store.apply(act(1, &[7], kind.clone())).await.unwrap();
        let read = store.read_day(space(1), day()).await.unwrap();
        let record = read.records.get(&slot(7).number);
        let state = record.map_or(SlotState::Available { data: None }, |record| record.state.clone());
        let said = messages(&store, topic, &before).await;
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].payload.get(), expected_payload(&said[0], &slot(7), state, false), "{kind:?}");
    }

    // What ends by itself, in the future and in the past, found by an act or by a sweep.
    for by_act in [true, false] {
        let now = store.ping().await.unwrap();
        let near = SlotTime { start: now.plus_millis(500), ..slot(8) };
        let held = [(slot(7), 20), (near.clone(), MINUTE)];
        for (slot, millis) in held {
            store.apply(SlotAct { slots: vec![slot], ..act(1, &[], hold("c", millis)) }).await.unwrap();
        }
        while store.ping().await.unwrap() <= near.start {}
        let before = head(&store, topic).await;
        if by_act {
            let set_free = |slots| SlotAct { slots, ..act(1, &[], set(StaffStatus::Available)) };
            store.apply(set_free(vec![slot(7), near.clone()])).await.unwrap_err();
            store.apply(act(1, &[7], set(StaffStatus::Available))).await.unwrap();
        }
        store.sweep(space(1).bucket(), 10).await.unwrap();
        let said = messages(&store, topic, &before).await;
        let free = SlotState::Available { data: None };
        for message in &said {
            let slot = if message.payload.get().contains("\"slotId\":8") { &near } else { &slot(7) };
            assert_eq!(message.payload.get(), expected_payload(message, slot, free.clone(), true));
        }
        assert!(said.iter().any(|message| message.payload.get().contains("\"status\":\"past\"")));
        assert_eq!(said.len(), if by_act { 3 } else { 2 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instant_is_written_as_everywhere_else() {
    let factory = OnRedis::start().await;
    let store = store_at(&factory.server.url(), &factory.prefix);
    let topic = Topic::Space(space(1));
    let dates = [
        "2028-02-29T23:59:59.999Z",
        "2032-03-01T00:00:00.000Z",
        "2099-12-31T23:00:00.001Z",
        "2100-03-01T12:34:56.070Z",
        "2400-02-29T00:00:00.000Z",
        "9998-12-31T23:59:59.999Z",
    ];
    for date in dates {
        let start: jiff::Timestamp = date.parse().unwrap();
        let slot = SlotTime { start: start.into(), ..slot(1) };
        let before = head(&store, topic).await;
        let hold = SlotAct { slots: vec![slot.clone()], ..act(1, &[], hold("a", i64::MAX / 4_096)) };
        store.apply(hold).await.unwrap();
        let said = messages(&store, topic, &before).await;
        let payload: serde_json::Value = serde_json::from_str(said[0].payload.get()).unwrap();
        assert_eq!(payload["data"]["held_until"], date);
        store.apply(SlotAct { slots: vec![slot], ..act(1, &[], release("a")) }).await.unwrap();
    }
}

// Sweeping.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_sweepers_announce_each_hold_once() {
    let server = RedisServer::start();
    let store = server.store();
    for n in 1..=40 {
        store.apply(act(1, &[n], hold("a", 300))).await.unwrap();
    }
    let bucket = space(1).bucket();
    let ends = store.ping().await.unwrap().plus_millis(301);
    while store.ping().await.unwrap() <= ends {}
    let (topic, before) = (Topic::Bucket(bucket), head(&store, Topic::Bucket(bucket)).await);
    let sweepers: Vec<_> = (0..5)
        .map(|_| {
            let store = server.store();
            tokio::spawn(async move {
                let mut freed = 0;
                loop {
                    let batch = store.sweep(bucket, 7).await.unwrap();
                    freed += batch.freed;
                    if !batch.more {
                        return freed;
                    }
                }
            })
        })
        .collect();
    let mut freed = 0;
    for sweeper in sweepers {
        freed += sweeper.await.unwrap();
    }
    assert_eq!(freed, 40);
    let mut announced = BTreeSet::new();
    for message in messages(&store, topic, &before).await {
        let freed: slotcast::store::FreedSlots = serde_json::from_str(message.payload.get()).unwrap();
        for slot in freed.slots {
            assert!(announced.insert(slot), "{slot} twice");
        }
    }
    assert_eq!(announced.len(), 40);
    assert_eq!(head(&store, Topic::Space(space(1))).await.version, 80);
    assert_eq!(server.cli(&["ZCARD", &format!("slotcast:{{b{}}}:holds", bucket.get())]), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_entry_without_its_hold_is_forgotten() {
    let server = RedisServer::start();
    let store = server.store();
    let held = store.apply(act(1, &[1], hold("a", 20))).await.unwrap().hold.unwrap();
    let bucket = space(1).bucket();
    let tag = format!("slotcast:{{b{}}}", bucket.get());
    // As when a day's slots are forgotten before anyone swept.
    server.cli(&["DEL", &format!("{tag}:day:1:1:20900505")]);
    while store.ping().await.unwrap() <= held.until {}
    let swept = store.sweep(bucket, 10).await.unwrap();
    assert_eq!((swept.freed, swept.more, swept.next_end_in_ms, swept.spaces.len()), (0, false, None, 0));
    assert_eq!(server.cli(&["EXISTS", &format!("{tag}:ends"), &format!("{tag}:holds")]), "0");
    assert_eq!(Bucket::all().count(), 128);
}

// Leases of a clock that went back.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_a_clock_gave_before_it_went_back_counts_for_nobody() {
    let server = RedisServer::start();
    let open = |clock_shift_millis| {
        let options = RedisOptions { clock_shift_millis, ..RedisOptions::default() };
        RedisStore::open(&server.url(), "slotcast", options).unwrap()
    };
    let lease = Duration::from_secs(6);
    let report = |id: &str| NodeReport {
        id: id.into(),
        address: "127.0.0.1:3000".into(),
        version: "1".into(),
        started_at: "2026-01-01T00:00:00.000Z".into(),
        sockets: 1,
        users: 1,
        proof: None,
        rooms: std::collections::BTreeMap::new(),
    };
    let (ahead, now) = (open(60 * 60_000), open(0));
    ahead.report_node(report("dead"), lease).await.unwrap();
    assert_eq!(ahead.take_sweep_lease("dead", lease).await.unwrap(), None);
    let ids = async |store: &RedisStore| -> Vec<String> {
        store.nodes().await.unwrap().into_iter().map(|node| node.id).collect()
    };
    assert_eq!(ids(&ahead).await, ["dead"]);
    now.report_node(report("alive"), lease).await.unwrap();
    assert_eq!(ids(&now).await, ["alive"]);
    assert_eq!(now.take_sweep_lease("alive", lease).await.unwrap(), None);
    // It is kept from others as usual.
    let left = now.take_sweep_lease("another", lease).await.unwrap();
    assert!(left.is_some_and(|left| left <= lease), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_that_is_extended_is_never_missing_and_never_there_twice() {
    let server = RedisServer::start();
    let stores: [Arc<dyn SlotStore>; 2] = [Arc::new(server.store()), Arc::new(server.store())];
    crate::store_conformance::an_extended_hold_is_always_there(stores).await;
}
