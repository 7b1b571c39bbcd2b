//! Data that earlier versions have written (`tests/fixtures/formats`), and data that no version has written. All of it
//! is read, costs no more than its slot, and is moved to the newest format.

use std::path::{Path, PathBuf};

use slotcast::domain::act::StaffStatus;
use slotcast::domain::slot::SlotState;
use slotcast::domain::{
    Actor, Code, Day, HoldToken, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, UserId,
};
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::{ApplyError, SlotStore};

use crate::support::redis::RedisServer;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats").join(name)
}

fn space() -> SpaceKey {
    SpaceKey { site: SiteId::new(3).unwrap(), space: SpaceId::new(7).unwrap() }
}

fn day() -> Day {
    Day::parse("2036-05-05").unwrap()
}

fn number(n: u64) -> SlotNumber {
    SlotNumber::new(n).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// A Redis with what 0.1 has written.
fn redis_of_0_1() -> RedisServer {
    let server = RedisServer::start();
    let commands = std::fs::read_to_string(fixture("1/redis.json")).unwrap();
    let commands: Vec<Vec<String>> = serde_json::from_str(&commands).unwrap();
    for command in commands {
        server.cli(&command.iter().map(String::as_str).collect::<Vec<_>>());
    }
    server
}

/// A data file as 0.1 has left it.
fn file_of_0_1() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("1/slotcast.redb"), folder.path().join("slotcast.redb")).unwrap();
    folder
}

/// An act on slots of the day, under the schedule that the store has.
async fn act(store: &dyn SlotStore, slots: &[u64], kind: SlotActKind) -> SlotAct {
    let read = store.read_space(space()).await.unwrap();
    let revision = Some(slotcast::domain::Position { version: read.revision, ..read.at });
    let nine = store.read_day(space(), day()).await.unwrap().records[&number(1)].start;
    let slot = |n: &u64| {
        let start = nine.plus_millis((*n as i64 - 1) * 3_600_000);
        let (end, label) = (start.plus_millis(3_600_000), format!("{:02}:00", n + 8));
        SlotTime { number: number(*n), start, end, label }
    };
    SlotAct {
        space: space(),
        day: day(),
        slots: slots.iter().map(slot).collect(),
        revision,
        kind,
        idempotency: None,
        origin: None,
    }
}

fn hold(who: &str) -> SlotActKind {
    SlotActKind::Hold {
        user: user(who),
        token: HoldToken::from_random([7; 16]),
        millis: 60_000,
        max_holds: None,
        max_held: None,
    }
}

async fn refusal_of(store: &dyn SlotStore, slots: &[u64], kind: SlotActKind) -> Code {
    let act = act(store, slots, kind).await;
    match store.apply(act).await {
        Err(ApplyError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

/// Checks everything in the fixtures, and that acts on it work.
async fn check_all_of_0_1(store: &dyn SlotStore) {
    let board = store.read_day(space(), day()).await.unwrap();
    assert_eq!((board.at.version, board.revision), (14, 1));
    let state = |n: u64| &board.records[&number(n)].state;
    assert!(matches!(state(1), SlotState::Booked { user: Some(who), first_version: 3, .. } if who.as_str() == "7"));
    for n in [2, 3, 6, 7] {
        assert!(matches!(state(n), SlotState::Held(held) if held.user.as_str() == "ada"), "{n}: {:?}", state(n));
    }
    let data = |n: u64| serde_json::to_string(board.records[&number(n)].data().unwrap()).unwrap();
    assert_eq!(data(4), "{\"motivo\":\"lavori\\nin corso\",\"n\":1.50}");
    assert!(matches!(state(5), SlotState::Booked { user: None, .. }));
    assert!(matches!(state(8), SlotState::Available { data: Some(_) }));
    assert!(!board.records.contains_key(&number(9)));
    let read = store.read_space(space()).await.unwrap();
    assert_eq!(read.schedule.unwrap().name.as_deref(), Some("Sala \"blu\""));
    assert_eq!(read.taken.iter().map(|(_, n, _)| n.get()).collect::<Vec<_>>(), [1, 4, 5]);

    // These acts are a repeat of a booking, an act that finds an ended hold, a sweep of the other ended holds, and
    // staff's acts on old records.
    let book = SlotActKind::Book { actor: Actor::User(user("7")), token: None };
    assert_eq!(store.apply(act(store, &[1], book).await).await.unwrap().at.version, 3);
    assert_eq!(refusal_of(store, &[1], hold("bob")).await, Code::SlotUnavailable);
    assert_eq!(store.apply(act(store, &[2], hold("bob")).await).await.unwrap().at.version, 16);
    let swept = store.sweep(space().bucket(), 100).await.unwrap();
    assert_eq!((swept.freed, swept.more), (3, false));
    let set = |to| SlotActKind::Update { to, data: None, user: None };
    store.apply(act(store, &[1, 4], set(StaffStatus::Booked)).await).await.unwrap();
    let board = store.read_day(space(), day()).await.unwrap();
    assert!(matches!(&board.records[&number(1)].state, SlotState::Booked { user: Some(_), first_version: 3, .. }));
    assert_eq!(board.records.keys().map(|n| n.get()).collect::<Vec<_>>(), [1, 2, 4, 5, 8]);
}

#[tokio::test]
async fn what_0_1_left_in_redis_is_read_and_acted_on() {
    let server = redis_of_0_1();
    check_all_of_0_1(&server.store()).await;
    // This process has no lease, so nothing was moved.
    assert_eq!(server.cli(&["EXISTS", &format!("slotcast:{{b{}}}:fence", space().bucket().get())]), "0");
}

#[tokio::test]
async fn what_0_1_left_in_redis_is_migrated_and_read_as_before() {
    let server = redis_of_0_1();
    let mut buckets = 0;
    let migration = server.store().migrate(|done| buckets = done).await.unwrap();
    assert_eq!((migration.format, migration.moved, migration.records, migration.rewritten), (2, 4, 8, 8));
    assert_eq!((buckets, migration.unreadable), (128, vec![]));
    let again = server.store().migrate(|_| {}).await.unwrap();
    assert_eq!((again.moved, again.records, again.rewritten), (0, 8, 0));
    let key = |name: &str| format!("slotcast:{{b{}}}:{name}", space().bucket().get());
    let record = server.cli(&["HGET", &key("day:3:7:20360505"), "4"]);
    assert!(record.starts_with('{'), "{record}");
    assert_eq!(server.cli(&["TYPE", &key("epoch")]), "string");
    check_all_of_0_1(&server.store()).await;
}

#[tokio::test]
async fn a_migration_beside_a_node_of_0_1_is_refused_and_names_it() {
    let server = redis_of_0_1();
    let now: u64 = server.cli(&["TIME"]).lines().next().unwrap().parse().unwrap();
    server.cli(&["ZADD", "slotcast:{nodes}:leases", &((now + 600) * 1_000).to_string(), "old"]);
    let report = [
        "id",
        "old",
        "address",
        "10.0.0.9:3000",
        "version",
        "0.1.0",
        "startedAt",
        "x",
        "sockets",
        "0",
        "users",
        "0",
        // The lease lasts longer than a busy machine needs.
        "lease",
        "600000",
    ];
    server.cli(&[&["HSET", "slotcast:{nodes}:node:old"], &report[..]].concat());
    let refused = server.store().migrate(|_| {}).await.unwrap_err().to_string();
    assert!(refused.contains("10.0.0.9:3000 (version 0.1.0)"), "{refused}");
    assert_eq!(server.cli(&["EXISTS", &format!("slotcast:{{b{}}}:fence", space().bucket().get())]), "0");
}

#[tokio::test]
async fn the_data_file_of_0_1_is_moved_when_it_is_opened_and_read_as_before() {
    let folder = file_of_0_1();
    let store = EmbeddedStore::open(folder.path()).unwrap();
    let migration = store.migration().unwrap();
    assert_eq!((migration.format, migration.moved, migration.records), (2, 1, 8));
    check_all_of_0_1(&store).await;
    let head = store.read_day(space(), day()).await.unwrap().at;
    drop(store);
    let store = EmbeddedStore::open(folder.path()).unwrap();
    assert_eq!(store.migration().unwrap().moved, 0);
    assert_eq!(store.read_day(space(), day()).await.unwrap().at, head);
}

/// Texts that no version has written.
const UNREADABLE: [&str; 9] = [
    "",
    "x",
    "{",
    "{}",
    "[]",
    "null",
    r#"{"s":"z","v":"1","b":"1","e":"2","l":"09:00"}"#,
    r#"{"s":"h","v":"1","b":"2093601600000","e":"2093605200000","l":"14:00","u":"ada"}"#,
    "h\n8\nabc\n2093605200000\n14:00\nada\nb0ecd1d35751b39a215db9f55d396cd5\n1\n2\n3\n6\n",
];

#[tokio::test]
async fn an_unreadable_record_in_redis_costs_its_slot_and_staff_mends_it() {
    let server = redis_of_0_1();
    let key = |name: &str| format!("slotcast:{{b{}}}:{name}", space().bucket().get());
    for text in UNREADABLE {
        let store = server.store();
        server.cli(&["HSET", &key("day:3:7:20360505"), "9", text, "x", "y"]);
        server.cli(&["ZADD", &key("ends"), "1", "what is this", "2", "3\n7\n2036-05-05\n9\nada\nt\n17:00"]);
        server.cli(&["ZADD", &key("days:3:7"), "99999999", "99999999"]);
        server.cli(&["ZADD", &key("holds"), "0", "ada\nwhat is this"]);
        let board = store.read_day(space(), day()).await.unwrap();
        assert!(matches!(board.records[&number(9)].state, SlotState::Blocked { data: None }), "{text:?}");
        assert!(matches!(board.records[&number(1)].state, SlotState::Booked { .. }), "{text:?}");
        let unreadable = store.health().unreadable();
        assert!(unreadable.contains(&(key("day:3:7:20360505"), "9".into())), "{text:?}: {unreadable:?}");
        assert_eq!(refusal_of(&store, &[9], hold("bob")).await, Code::SlotUnavailable, "{text:?}");
        let book = SlotActKind::Book { actor: Actor::User(user("bob")), token: None };
        assert_eq!(refusal_of(&store, &[9], book).await, Code::NotHeld, "{text:?}");
        store.read_space(space()).await.unwrap();
        store.holds_of(&user("ada")).await.unwrap();
        store.sweep(space().bucket(), 100).await.unwrap();
        assert!(!store.sweep(space().bucket(), 100).await.unwrap().more, "{text:?}");
        let set = SlotActKind::Update { to: StaffStatus::Available, data: None, user: None };
        store.apply(act(&store, &[9], set).await).await.unwrap();
        let held = store.apply(act(&store, &[9], hold("bob")).await).await.unwrap();
        assert!(held.hold.is_some());
        server.cli(&["HDEL", &key("day:3:7:20360505"), "x"]);
        store.read_day(space(), day()).await.unwrap();
        assert_eq!(store.health().unreadable(), [], "{text:?}");
    }
}

#[tokio::test]
async fn an_unreadable_record_in_the_file_costs_its_slot_and_staff_mends_it() {
    const SLOTS: redb::TableDefinition<(u64, u64, i32, u16), &str> = redb::TableDefinition::new("slots");
    for text in UNREADABLE {
        let folder = file_of_0_1();
        // Slot 6 has an ended hold, which the indexes know.
        for slot in [6, 9] {
            let database = redb::Database::open(folder.path().join("slotcast.redb")).unwrap();
            let transaction = database.begin_write().unwrap();
            transaction.open_table(SLOTS).unwrap().insert((3, 7, 20_360_505, slot), text).unwrap();
            transaction.commit().unwrap();
        }
        let store = EmbeddedStore::open(folder.path()).unwrap();
        assert_eq!(store.migration().unwrap().unreadable.len(), 2, "{text:?}");
        let board = store.read_day(space(), day()).await.unwrap();
        assert!(matches!(board.records[&number(9)].state, SlotState::Blocked { data: None }), "{text:?}");
        assert!(matches!(board.records[&number(1)].state, SlotState::Booked { .. }), "{text:?}");
        assert_eq!(store.health().unreadable().len(), 2, "{text:?}");
        assert_eq!(refusal_of(&store, &[9], hold("bob")).await, Code::SlotUnavailable, "{text:?}");
        store.read_space(space()).await.unwrap();
        store.holds_of(&user("ada")).await.unwrap();
        let swept = store.sweep(space().bucket(), 100).await.unwrap();
        assert_eq!((swept.freed, swept.more), (3, false), "{text:?}");
        let set = SlotActKind::Update { to: StaffStatus::Available, data: None, user: None };
        store.apply(act(&store, &[6, 9], set).await).await.unwrap();
        store.apply(act(&store, &[9], hold("bob")).await).await.unwrap();
        store.read_day(space(), day()).await.unwrap();
        assert_eq!(store.health().unreadable(), []);
    }
}
