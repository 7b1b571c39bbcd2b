//! `slot_taken` in both stores. The act itself writes who has lost slots to staff, with or without a journal. If the
//! process ended before it told them, the next walk tells them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use slotcast::domain::act::{Idempotency, StaffStatus};
use slotcast::domain::slot::SlotState;
use slotcast::domain::{
    Actor, Day, HoldToken, Origin, Position, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey,
    StoreTime, UserId,
};
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::redis::{RedisOptions, RedisStore};
use slotcast::store::{JournalBounds, SlotStore};

use crate::support::redis::{RedisServer, store_at};
use crate::support::repeat_of;

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;

/// How long a test waits for something that should take milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store of either kind, and the server or folder behind it.
struct Scene {
    store: Arc<dyn SlotStore>,
    _server: Option<RedisServer>,
    _folder: tempfile::TempDir,
}

fn embedded(journal: JournalBounds) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open_with(folder.path(), journal).unwrap());
    Scene { store, _server: None, _folder: folder }
}

fn redis(journal: JournalBounds) -> Scene {
    let server = RedisServer::start();
    let options = RedisOptions { journal, ..RedisOptions::default() };
    let store = Arc::new(RedisStore::open(&server.url(), "slotcast", options).unwrap());
    Scene { store, _server: Some(server), _folder: tempfile::tempdir().unwrap() }
}

macro_rules! on_both_stores {
    ($($case:ident($bounds:expr) = $body:ident;)*) => {
        mod on_a_file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$body(super::embedded($bounds)).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$body(super::redis($bounds)).await;
            })*
        }
    };
}

on_both_stores! {
    who_loses_slots_is_told(slotcast::store::JournalBounds::default()) = losses_are_told;
    who_loses_slots_is_told_without_a_journal(slotcast::store::JournalBounds { days: 0, max: 5_000 }) = losses_are_told;
    what_is_not_taken_is_not_told(slotcast::store::JournalBounds::default()) = nothing_is_told;
    a_repeat_is_not_told_again(slotcast::store::JournalBounds::default()) = a_repeat_is_told_once;
}

fn space() -> SpaceKey {
    SpaceKey { site: SiteId::new(3).unwrap(), space: SpaceId::new(12).unwrap() }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn slot(number: u64) -> SlotTime {
    let start = StoreTime::from_millis(3_797_000_000_000).plus_millis(number as i64 * HOUR);
    let label = format!("{number:02}:00");
    SlotTime { number: SlotNumber::new(number).unwrap(), start, end: start.plus_millis(HOUR), label }
}

/// An act by the user `9`.
fn act(slots: &[u64], kind: SlotActKind) -> SlotAct {
    SlotAct {
        space: space(),
        day: Day::parse("2090-05-05").unwrap(),
        slots: slots.iter().map(|number| slot(*number)).collect(),
        revision: None,
        kind,
        idempotency: None,
        origin: Some(Origin { user: user("9"), role: Some("gestore".into()), request_id: None }),
    }
}

fn hold(who: &str, millis: i64) -> SlotActKind {
    let token = HoldToken::from_random([who.as_bytes()[0]; 16]);
    SlotActKind::Hold { user: user(who), token, millis, max_holds: None, max_held: None }
}

fn book(actor: Actor) -> SlotActKind {
    SlotActKind::Book { actor, token: None }
}

fn of(name: &str) -> Actor {
    Actor::User(user(name))
}

fn release(actor: Actor, booked_by: Option<Actor>) -> SlotActKind {
    SlotActKind::Release { actor, token: None, booked_by, cancel_before: None }
}

fn set(to: StaffStatus) -> SlotActKind {
    SlotActKind::Update { to, data: None, user: None }
}

fn book_for(who: &str) -> SlotActKind {
    SlotActKind::Update { to: StaffStatus::Booked, data: None, user: Some(user(who)) }
}

/// The payload for a user who lost these slots by the act that ended at the position.
fn notice(at: &Position, slots: &[u64], status: &str) -> Value {
    let (epoch, version) = (at.epoch.as_ref(), at.version);
    json!({"id": format!("{epoch}-3-12-{version}"), "spazioId": 12, "sedeId": 3, "date": "2090-05-05", "slots": slots,
        "status": status, "epoch": epoch, "version": version})
}

impl Scene {
    async fn apply(&self, slots: &[u64], kind: SlotActKind) -> Position {
        self.store.apply(act(slots, kind)).await.unwrap().at
    }

    async fn book(&self, who: &str, slots: &[u64]) {
        self.apply(slots, hold(who, MINUTE)).await;
        self.apply(slots, book(of(who))).await;
    }

    /// Takes slot 32, which nothing else uses, from each of these users, and waits until they know. Everything before
    /// it was told by then. Answers what each user was told besides, by version.
    async fn told(&self, users: &[&str]) -> BTreeMap<String, Vec<Value>> {
        let mut told = BTreeMap::new();
        for name in users {
            self.apply(&[32], hold(name, MINUTE)).await;
            let last = notice(&self.apply(&[32], set(StaffStatus::Available)).await, &[32], "available");
            let mut all = told_once(self.store.as_ref(), name, &last).await;
            all.retain(|payload| payload["slots"] != json!([32]));
            told.insert((*name).to_owned(), all);
        }
        told
    }
}

async fn messages(store: &dyn SlotStore, name: &str) -> Vec<Value> {
    let backlog = store.messages_of(&user(name), None, 1 << 20).await.unwrap();
    let mut told: Vec<Value> = Vec::new();
    for message in backlog.messages {
        assert_eq!((&message.user, message.event.as_str()), (&user(name), "slot_taken"));
        told.push(serde_json::from_str(message.data.get()).unwrap());
    }
    told.sort_by_key(|payload| payload["version"].as_u64());
    told
}

/// Waits until a user was told `wanted`, and answers everything that the user was told.
async fn told_once(store: &dyn SlotStore, name: &str, wanted: &Value) -> Vec<Value> {
    let told = async {
        loop {
            let told = messages(store, name).await;
            if told.contains(wanted) {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("{name} is not told {wanted}"))
}

async fn losses_are_told(scene: Scene) {
    scene.apply(&[1, 2], hold("anna", MINUTE)).await;
    scene.book("anna", &[3, 4, 5]).await;
    scene.book("b \"é\"", &[6, 7]).await;
    scene.apply(&[8], hold("b \"é\"", MINUTE)).await;
    // The act takes slots from two users at once, and a slot that nobody had.
    let blocked = scene.apply(&[1, 3, 6, 9], set(StaffStatus::Blocked)).await;
    let replaced = scene.apply(&[2, 4], book_for("carla")).await;
    let cancelled = scene.apply(&[7], release(of("9"), Some(Actor::Anyone))).await;
    let released = scene.apply(&[8], release(Actor::Anyone, None)).await;
    let freed = scene.apply(&[5], set(StaffStatus::Available)).await;
    let told = scene.told(&["anna", "b \"é\"", "carla"]).await;
    let anna =
        [notice(&blocked, &[1, 3], "blocked"), notice(&replaced, &[2, 4], "booked"), notice(&freed, &[5], "available")];
    assert_eq!(told["anna"], anna);
    let other = [
        notice(&blocked, &[6], "blocked"),
        notice(&cancelled, &[7], "available"),
        notice(&released, &[8], "available"),
    ];
    assert_eq!(told["b \"é\""], other);
    assert_eq!(told["carla"], [] as [Value; 0]);
    // Nothing is left for the next walk to tell.
    scene.store.tell_taken().await.unwrap();
    assert_eq!(messages(scene.store.as_ref(), "anna").await.len(), 4);
}

async fn nothing_is_told(scene: Scene) {
    scene.book("anna", &[1, 2, 3]).await;
    scene.apply(&[4, 5, 6, 7], hold("anna", MINUTE)).await;
    // Nobody loses a slot: the user releases it, staff releases it as the user, a booking stays the user's, or the
    // user's hold becomes the user's booking.
    scene.apply(&[4], release(of("anna"), None)).await;
    scene.apply(&[1], release(of("anna"), Some(of("anna")))).await;
    scene.apply(&[2], set(StaffStatus::Booked)).await;
    scene.apply(&[3, 5], book_for("anna")).await;
    scene.apply(&[6], book(Actor::Anyone)).await;
    // Staff takes a slot that staff has.
    scene.apply(&[10, 11], hold("9", MINUTE)).await;
    scene.apply(&[10], set(StaffStatus::Blocked)).await;
    scene.apply(&[11], release(of("9"), Some(Actor::Anyone))).await;
    // Staff takes a slot that nobody ever had, and slots that nobody has any more.
    scene.apply(&[12], set(StaffStatus::Booked)).await;
    scene.apply(&[12], set(StaffStatus::Blocked)).await;
    scene.apply(&[13], hold("bruno", 50)).await;
    let ended = scene.store.ping().await.unwrap().plus_millis(50);
    while scene.store.ping().await.unwrap() <= ended {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    scene.apply(&[13], set(StaffStatus::Blocked)).await;
    // This act is refused.
    scene.book("bruno", &[14]).await;
    let refused = scene.store.apply(act(&[14, 15], release(of("9"), Some(of("9"))))).await;
    assert!(refused.is_err(), "{refused:?}");
    for (name, told) in scene.told(&["anna", "bruno"]).await {
        assert_eq!(told, [] as [Value; 0], "{name}");
    }
    assert_eq!(messages(scene.store.as_ref(), "9").await, [] as [Value; 0]);
}

async fn a_repeat_is_told_once(scene: Scene) {
    scene.book("anna", &[1]).await;
    let keyed = || {
        let idempotency = Idempotency { caller: user("9"), key: "k".into(), fingerprint: "f".into() };
        SlotAct { idempotency: Some(idempotency), ..act(&[1], set(StaffStatus::Blocked)) }
    };
    let first = scene.store.apply(keyed()).await.unwrap();
    assert_eq!(scene.store.apply(keyed()).await.unwrap(), repeat_of(&first));
    assert_eq!(scene.told(&["anna"]).await["anna"], [notice(&first.at, &[1], "blocked")]);
}

/// The notices in Redis that are still to be sent.
fn left(server: &RedisServer) -> Vec<String> {
    let key = format!("slotcast:{{b{}}}:taken", space().bucket().get());
    server.cli(&["HVALS", &key]).lines().filter(|line| !line.is_empty()).map(Into::into).collect()
}

/// The commands that scripts use after their first effect, and those that sending uses.
const RIGHTS: [&str; 8] = ["hset", "hdel", "zadd", "zrem", "expireat", "xadd", "pexpire", "publish"];

/// A user is told of each slot that was really taken, and of no other, whichever command the server refuses in the
/// middle of the script.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_that_was_half_done_is_told_if_it_took_the_slots() {
    let mut took = Vec::new();
    for right in RIGHTS {
        let server = RedisServer::start();
        server.cli(&["ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all"]);
        let limited = || store_at(&format!("redis://limited:secret@{}", server.address()), "slotcast");
        let scene = Scene { store: Arc::new(limited()), _server: None, _folder: tempfile::tempdir().unwrap() };
        scene.book("anna", &[1]).await;
        scene.apply(&[2], hold("anna", MINUTE)).await;
        server.cli(&["ACL", "SETUSER", "limited", &format!("-{right}")]);
        let _ = limited().apply(act(&[1, 2, 3], set(StaffStatus::Blocked))).await;
        // This walk comes before the space is repaired.
        server.store().tell_taken().await.unwrap();
        server.cli(&["ACL", "SETUSER", "limited", &format!("+{right}")]);
        limited().apply(act(&[7], set(StaffStatus::Blocked))).await.unwrap();
        server.store().tell_taken().await.unwrap();
        let records = server.store().read_day(space(), Day::parse("2090-05-05").unwrap()).await.unwrap().records;
        let state = records.get(&SlotNumber::new(1).unwrap()).map(|record| &record.state);
        let was_taken = matches!(state, Some(SlotState::Blocked { .. }));
        let mut told: Vec<Value> = messages(&server.store(), "anna").await;
        // Both the walk and the process of the act may have sent the notice.
        told.dedup();
        let slots: Vec<&Value> = told.iter().map(|payload| &payload["slots"]).collect();
        let expected = if was_taken { vec![json!([1, 2])] } else { Vec::new() };
        assert_eq!(slots, expected.iter().collect::<Vec<_>>(), "without {right}: taken {was_taken}");
        assert_eq!(left(&server), [] as [String; 0], "without {right}");
        took.push(was_taken);
    }
    assert!(took.contains(&true) && took.contains(&false), "both happen: {took:?}");
}

/// A process that ends right after its act leaves its notices. The walk of another process sends each of them once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_is_told_by_the_next_walk() {
    let server = RedisServer::start();
    let store = server.store();
    let scene = Scene { store: Arc::new(server.store()), _server: None, _folder: tempfile::tempdir().unwrap() };
    scene.book("anna", &[1]).await;
    scene.book("bruno", &[2]).await;
    // Notices are sent on the process's own runtime, which ends here with the process.
    let at = std::thread::scope(|scope| {
        let process = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let staff = server.store();
                staff.apply(act(&[1, 2], set(StaffStatus::Blocked))).await.unwrap().at
            })
        });
        process.join().unwrap()
    });
    assert_eq!((messages(&store, "anna").await, left(&server).len()), (Vec::new(), 2));
    // An entry that cannot be read does not hold up the others.
    let key = format!("slotcast:{{b{}}}:taken", space().bucket().get());
    server.cli(&["HSET", &key, "no user", "{"]);
    store.tell_taken().await.unwrap();
    assert_eq!(messages(&store, "anna").await, [notice(&at, &[1], "blocked")]);
    assert_eq!(messages(&store, "bruno").await, [notice(&at, &[2], "blocked")]);
    assert_eq!(left(&server), [] as [String; 0]);
    store.tell_taken().await.unwrap();
    assert_eq!(messages(&store, "anna").await.len(), 1);
}

/// An erased user is told nothing any more, and other users are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_for_a_user_is_erased_with_the_user() {
    let server = RedisServer::start();
    let store = server.store();
    let bucket = space().bucket();
    store.apply(act(&[9], set(StaffStatus::Blocked))).await.unwrap();
    let key = format!("slotcast:{{b{}}}:taken", bucket.get());
    for (name, version) in [("anna", 1), ("anna", 2), ("anna-2", 1)] {
        server.cli(&["HSET", &key, &format!("{name}\n0af3-3-12-{version}"), &format!("{{\"version\":{version}}}")]);
    }
    let erasure = slotcast::store::Erasure { user: user("anna"), stand_in: user("erased-1") };
    for _ in 0..10 {
        store.erase_in(bucket, &erasure).await.unwrap();
    }
    assert_eq!(server.cli(&["HKEYS", &key]).trim().replace('\n', " "), "anna-2 0af3-3-12-1");
}

/// Only acts of staff can take slots, so only they name the key of the notices. Members' acts send no more to Redis
/// than before.
#[test]
fn only_acts_that_may_take_are_looked_at() {
    let cases = [
        (hold("a", 1), false),
        (book(of("a")), false),
        (book(Actor::Anyone), false),
        (release(of("a"), None), false),
        (release(of("a"), Some(of("a"))), false),
        (release(of("a"), Some(Actor::Anyone)), true),
        (release(Actor::Anyone, None), true),
        (set(StaffStatus::Booked), true),
    ];
    for (kind, may_take) in cases {
        assert_eq!(kind.may_take(), may_take, "{kind:?}");
    }
}
