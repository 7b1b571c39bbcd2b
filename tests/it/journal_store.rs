//! The journal in both stores: one entry for each act, written by the act's own write, with consecutive numbers.

use std::sync::Arc;

use serde_json::{Value, json};
use slotcast::domain::act::{Idempotency, StaffStatus};
use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::{
    Actor, Bucket, Day, HoldToken, Origin, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey,
    StoreTime, UserId,
};
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::redis::{RedisOptions, RedisStore};
use slotcast::store::{JournalBounds, NumberedEntry, SlotStore, SpaceChange, Topic};

use crate::support::redis::RedisServer;

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;

/// A store of either kind, with its server or folder.
struct Scene {
    store: Arc<dyn SlotStore>,
    server: Option<RedisServer>,
    _folder: tempfile::TempDir,
}

const FEW: JournalBounds = JournalBounds { days: 90, max: 100 };

fn embedded(bounds: JournalBounds) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open_with(folder.path(), bounds).unwrap());
    Scene { store, server: None, _folder: folder }
}

fn redis(bounds: JournalBounds) -> Scene {
    let server = RedisServer::start();
    let store = open(&server, RedisOptions { journal: bounds, ..RedisOptions::default() });
    Scene { store: Arc::new(store), server: Some(server), _folder: tempfile::tempdir().unwrap() }
}

fn open(server: &RedisServer, options: RedisOptions) -> RedisStore {
    RedisStore::open(&server.url(), "slotcast", options).unwrap()
}

macro_rules! on_both_stores {
    ($($case:ident($bounds:expr);)*) => {
        mod on_a_file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::embedded($bounds)).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::redis($bounds)).await;
            })*
        }
    };
}

on_both_stores! {
    each_act_leaves_one_entry(slotcast::store::JournalBounds::default());
    what_changes_nothing_leaves_none(slotcast::store::JournalBounds::default());
    ended_holds_leave_one_entry_a_user(slotcast::store::JournalBounds::default());
    an_entry_holds_the_most_that_an_act_names(slotcast::store::JournalBounds::default());
    the_oldest_go_where_there_are_too_many(super::FEW);
    nothing_is_kept_for_no_days(slotcast::store::JournalBounds { days: 0, max: 5_000 });
    tails_are_the_last_numbers(slotcast::store::JournalBounds::default());
    what_all_readers_have_read_goes(slotcast::store::JournalBounds::default());
}

fn space(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn slot(number: u64) -> SlotTime {
    let start = StoreTime::from_millis(3_797_000_000_000).plus_millis(number as i64 * HOUR);
    let label = format!("{number:02}:00");
    SlotTime { number: SlotNumber::new(number).unwrap(), start, end: start.plus_millis(HOUR), label }
}

fn origin(who: &str, role: Option<&str>, request: Option<&str>) -> Option<Origin> {
    Some(Origin { user: user(who), role: role.map(Into::into), request_id: request.map(Into::into) })
}

fn act(slots: &[u64], kind: SlotActKind, origin: Option<Origin>) -> SlotAct {
    SlotAct {
        space: space(1),
        day: Day::parse("2090-05-05").unwrap(),
        slots: slots.iter().map(|number| slot(*number)).collect(),
        revision: None,
        kind,
        idempotency: None,
        origin,
    }
}

fn hold(who: &str, millis: i64) -> SlotActKind {
    let token = HoldToken::from_random([who.as_bytes()[0]; 16]);
    SlotActKind::Hold { user: user(who), token, millis, max_holds: None, max_held: None }
}

fn extend(who: &str) -> SlotActKind {
    SlotActKind::Extend { user: user(who), token: None, millis: 2 * MINUTE, max_millis: HOUR }
}

fn book(who: &str) -> SlotActKind {
    SlotActKind::Book { actor: Actor::User(user(who)), token: None }
}

fn release(actor: Actor, booked_by: Option<Actor>) -> SlotActKind {
    SlotActKind::Release { actor, token: None, booked_by, cancel_before: None }
}

fn set(to: StaffStatus) -> SlotActKind {
    SlotActKind::Update { to, data: None, user: None }
}

impl Scene {
    async fn apply(&self, slots: &[u64], kind: SlotActKind, origin: Option<Origin>) {
        self.store.apply(act(slots, kind, origin)).await.unwrap();
    }

    /// The journal of the space's bucket from a number on, as clients get it; `at` and the epoch were checked.
    async fn entries_from(&self, from: u64) -> Vec<Value> {
        let bucket = space(1).bucket();
        let now = self.store.ping().await.unwrap();
        let head = self.store.head_of(Topic::Space(space(1))).await.unwrap();
        let read = self.store.read_journal(bucket, from, 10_000).await.unwrap();
        let mut entries = Vec::new();
        for (number, numbered) in (from..).zip(read) {
            assert_eq!(numbered.number, number, "numbers are consecutive");
            let entry = numbered.entry.expect("an entry");
            assert!(entry.at <= now && entry.at.until(now).as_secs() < 120, "{entry:?}");
            assert_eq!(entry.position.epoch, head.epoch);
            let mut json = serde_json::to_value(&entry).unwrap();
            assert_eq!(json["id"], format!("{}-1-{}-{}", head.epoch, entry.space.space, entry.position.version));
            for key in ["id", "at", "epoch"] {
                json.as_object_mut().unwrap().remove(key).unwrap();
            }
            entries.push(json);
        }
        entries
    }

    async fn count(&self) -> usize {
        self.entries_from(1).await.len()
    }

    async fn wait_past(&self, instant: StoreTime) {
        while self.store.ping().await.unwrap() <= instant {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

async fn each_act_leaves_one_entry(scene: Scene) {
    let staff = || origin("9", Some("gestore"), None);
    scene.apply(&[1, 2], hold("anna", MINUTE), origin("anna", None, Some("req-1"))).await;
    scene.apply(&[1, 2], extend("anna"), origin("anna", None, None)).await;
    scene.apply(&[1, 2], book("anna"), origin("7", Some("servizio"), None)).await;
    scene.apply(&[3], hold("7", MINUTE), origin("7", None, None)).await;
    // Staff takes one user's hold, another user's booking, and a free slot.
    scene.apply(&[2, 3, 4], set(StaffStatus::Blocked), staff()).await;
    scene.apply(&[1], release(Actor::User(user("9")), Some(Actor::Anyone)), staff()).await;
    // A release by staff of an own slot, or on behalf of its user, takes nothing from anybody.
    scene.apply(&[5], hold("9", MINUTE), staff()).await;
    scene.apply(&[5], release(Actor::User(user("9")), Some(Actor::Anyone)), staff()).await;
    scene.apply(&[6], hold("7", MINUTE), origin("7", None, None)).await;
    scene.apply(&[6], release(Actor::User(user("7")), None), origin("bot", Some("servizio"), None)).await;
    scene.apply(&[7], hold("7", MINUTE), origin("7", None, None)).await;
    scene.apply(&[7], release(Actor::Anyone, None), origin("bot", Some("servizio"), None)).await;
    // This booking keeps its user.
    scene.apply(&[8], hold("7", MINUTE), origin("7", None, None)).await;
    scene.apply(&[8], book("7"), origin("7", None, None)).await;
    scene.apply(&[8], set(StaffStatus::Booked), staff()).await;
    scene.apply(&[8], release(Actor::User(user("7")), Some(Actor::User(user("7")))), None).await;

    let (nine, bot) = (json!({"id": 9, "role": "gestore"}), json!({"id": "bot", "role": "servizio"}));
    let (anna, seven) = (json!({"id": "anna", "role": null}), json!({"id": 7, "role": null}));
    let entry = |act: &str, actor: &Value, user: Value, slots: &[u64], status: &str, version: u64| {
        json!({"act": act, "actor": actor, "id_utente": user, "sedeId": 1, "spazioId": 1, "date": "2090-05-05",
            "slots": slots, "status": status, "version": version})
    };
    let mut expected = vec![
        entry("hold", &anna, json!("anna"), &[1, 2], "occupied", 2),
        entry("extend", &anna, json!("anna"), &[1, 2], "occupied", 4),
        entry("book", &json!({"id": 7, "role": "servizio"}), json!("anna"), &[1, 2], "booked", 6),
        entry("hold", &seven, json!(7), &[3], "occupied", 7),
        entry("update", &nine, json!("anna"), &[2, 3, 4], "blocked", 10),
        entry("cancel", &nine, json!("anna"), &[1], "available", 11),
        entry("hold", &nine, json!(9), &[5], "occupied", 12),
        entry("release", &nine, json!(9), &[5], "available", 13),
        entry("hold", &seven, json!(7), &[6], "occupied", 14),
        entry("release", &bot, json!(7), &[6], "available", 15),
        entry("hold", &seven, json!(7), &[7], "occupied", 16),
        entry("release", &bot, json!(7), &[7], "available", 17),
        entry("hold", &seven, json!(7), &[8], "occupied", 18),
        entry("book", &seven, json!(7), &[8], "booked", 19),
        entry("update", &nine, json!(7), &[8], "booked", 20),
        entry("cancel", &Value::Null, json!(7), &[8], "available", 21),
    ];
    expected[0]["requestId"] = json!("req-1");
    expected[4]["taken"] = json!([{"id_utente": "anna", "slots": [2]}, {"id_utente": 7, "slots": [3]}]);
    expected[5]["taken"] = json!([{"id_utente": "anna", "slots": [1]}]);
    expected[11]["taken"] = json!([{"id_utente": 7, "slots": [7]}]);
    let entries = scene.entries_from(1).await;
    for (index, (entry, expected)) in entries.iter().zip(&expected).enumerate() {
        assert_eq!(entry, expected, "entry {index}");
    }
    assert_eq!(entries.len(), expected.len());

    // A change of a schedule has an entry, too. This space is in the same bucket, and has no taken slots.
    let other = (2..).map(space).find(|other| other.bucket() == space(1).bucket()).unwrap();
    let register = SpaceChange::new(other, Some(ScheduleSpec::default()), None).unwrap();
    let at = scene.store.put_space(SpaceChange { origin: staff(), ..register }).await.unwrap();
    scene.store.put_space(SpaceChange::new(other, None, Some(at)).unwrap()).await.unwrap();
    let change = |actor: Value, version: u64| {
        json!({"act": "space", "actor": actor, "id_utente": null, "sedeId": 1, "spazioId": other.space.get(), "slots": [],
            "version": version})
    };
    assert_eq!(scene.entries_from(17).await, [change(nine, 1), change(Value::Null, 2)]);
}

async fn what_changes_nothing_leaves_none(scene: Scene) {
    let key = |act: SlotAct| {
        let idempotency = Idempotency { caller: user("7"), key: "k".into(), fingerprint: "f".into() };
        SlotAct { idempotency: Some(idempotency), ..act }
    };
    scene.apply(&[1], hold("7", MINUTE), None).await;
    let refused = scene.store.apply(act(&[1], hold("8", MINUTE), None)).await;
    assert!(refused.is_err(), "{refused:?}");
    scene.apply(&[1], hold("7", MINUTE), None).await;
    scene.store.apply(key(act(&[1], extend("7"), None))).await.unwrap();
    scene.store.apply(key(act(&[1], extend("7"), None))).await.unwrap();
    scene.store.sweep(space(1).bucket(), 100).await.unwrap();
    assert_eq!(scene.count().await, 2);
}

async fn ended_holds_leave_one_entry_a_user(scene: Scene) {
    scene.apply(&[1, 3], hold("b", 300), origin("b", None, None)).await;
    scene.apply(&[2], hold("a", 300), origin("a", None, None)).await;
    scene.apply(&[4], hold("c", MINUTE), origin("c", None, None)).await;
    scene.apply(&[5, 6], hold("e", 300), origin("e", None, None)).await;
    let ended = scene.store.ping().await.unwrap().plus_millis(300);
    scene.wait_past(ended).await;
    // An act finds these ended holds. They make one entry for each user, before the act's own.
    scene.apply(&[1, 2, 3], hold("d", MINUTE), origin("d", None, Some("r"))).await;
    let swept = scene.store.sweep(space(1).bucket(), 100).await.unwrap();
    assert_eq!(swept.freed, 2);
    let expire = |user: &str, slots: &[u64], version: u64| {
        json!({"act": "expire", "actor": null, "id_utente": user, "sedeId": 1, "spazioId": 1, "date": "2090-05-05",
            "slots": slots, "status": "available", "version": version})
    };
    let hold = json!({"act": "hold", "actor": {"id": "d", "role": null}, "id_utente": "d", "sedeId": 1, "spazioId": 1,
        "date": "2090-05-05", "slots": [1, 2, 3], "status": "occupied", "version": 12, "requestId": "r"});
    // Versions 1 to 6 are those of the holds. Then slots 1, 2 and 3 were freed, and held.
    let expected = [expire("b", &[1, 3], 9), expire("a", &[2], 8), hold, expire("e", &[5, 6], 14)];
    assert_eq!(scene.entries_from(5).await, expected);
}

async fn an_entry_holds_the_most_that_an_act_names(scene: Scene) {
    let slots: Vec<u64> = (1..=32).collect();
    let long = "ü".repeat(64);
    let data = serde_json::from_value(json!({"note": "x".repeat(16_000)})).unwrap();
    scene.apply(&slots[..1], SlotActKind::Update { to: StaffStatus::Booked, data: Some(data), user: None }, None).await;
    let origin = origin(&long, Some("amministratore"), Some(&"r".repeat(64)));
    scene.apply(&slots, set(StaffStatus::Available), origin).await;
    let entries = scene.entries_from(1).await;
    assert_eq!(entries.len(), 2);
    assert!(!entries[0].to_string().contains("xxx"), "an entry has no data");
    assert_eq!((&entries[1]["slots"], &entries[1]["actor"]["id"]), (&json!(slots), &json!(long)));
}

async fn the_oldest_go_where_there_are_too_many(scene: Scene) {
    for _ in 0..420 {
        scene.apply(&[1], set(StaffStatus::Available), None).await;
    }
    let kept = scene.store.read_journal(space(1).bucket(), 1, 10_000).await.unwrap();
    let (first, last) = (kept.first().unwrap().number, kept.last().unwrap().number);
    assert_eq!(last, 420);
    // Redis removes whole nodes of a stream, so a few more entries are kept.
    assert!((220..=321).contains(&first) && kept.len() as u64 == last - first + 1, "{first}: {}", kept.len());
}

async fn nothing_is_kept_for_no_days(scene: Scene) {
    scene.apply(&[1], hold("7", 50), origin("7", None, None)).await;
    let ended = scene.store.ping().await.unwrap().plus_millis(50);
    scene.wait_past(ended).await;
    scene.store.sweep(space(1).bucket(), 100).await.unwrap();
    assert_eq!(scene.count().await, 0);
}

async fn what_all_readers_have_read_goes(scene: Scene) {
    // This is more than one step removes. The acts come many at once, because each commit of a file is a sync.
    for _ in 0..12 {
        futures_util::future::join_all((0..100).map(|_| scene.apply(&[1], set(StaffStatus::Blocked), None))).await;
    }
    let (store, bucket) = (&scene.store, space(1).bucket());
    let known = |places: &[(&str, &str)]| -> Vec<(String, String)> {
        places.iter().map(|(reader, place)| ((*reader).into(), (*place).into())).collect()
    };
    let both = known(&[("one", "here"), ("two", "there")]);
    assert!(!store.forget_read(bucket, 5, &both).await.unwrap(), "neither has read");
    for (reader, place) in &both {
        assert!(store.move_reader(reader, bucket, None, place).await.unwrap());
    }
    for elsewhere in [known(&[("one", "here"), ("two", "here")]), known(&[("two", "there"), ("three", "")])] {
        assert!(!store.forget_read(bucket, 5, &elsewhere).await.unwrap(), "{elsewhere:?}");
    }
    assert!(!store.forget_read(bucket, 1_201, &both).await.unwrap(), "no such entry, so the store has lost some");
    let first = async |limit| {
        let kept = store.read_journal(bucket, 1, limit).await.unwrap();
        kept.into_iter().map(|entry: NumberedEntry| entry.number).collect::<Vec<_>>()
    };
    assert_eq!(first(2).await, [1, 2], "nothing has gone");
    assert!(store.forget_read(bucket, 1_199, &both).await.unwrap());
    assert!(store.forget_read(bucket, 1_199, &both).await.unwrap(), "again");
    assert!(!store.forget_read(bucket, 5, &both).await.unwrap(), "it is gone already");
    assert_eq!(first(100).await, [1_199, 1_200]);
    assert!(store.forget_read(bucket, 1_200, &both).await.unwrap());
    scene.apply(&[1], set(StaffStatus::Blocked), None).await;
    assert_eq!(first(100).await, [1_200, 1_201]);
}

async fn tails_are_the_last_numbers(scene: Scene) {
    let buckets: Vec<Bucket> = Bucket::all().collect();
    assert_eq!(scene.store.journal_tails(&buckets).await.unwrap(), [0; 128]);
    for _ in 0..3 {
        scene.apply(&[1], set(StaffStatus::Blocked), None).await;
    }
    let tails = scene.store.journal_tails(&buckets).await.unwrap();
    assert_eq!(tails[usize::from(space(1).bucket().get())], 3);
    assert_eq!(tails.iter().sum::<u64>(), 3);
    assert_eq!(scene.store.journal_tails(&[space(1).bucket()]).await.unwrap(), [3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_trims_what_is_too_old_but_for_the_last_entry() {
    let scene = redis(JournalBounds::default());
    for _ in 0..5 {
        scene.apply(&[1], set(StaffStatus::Blocked), None).await;
    }
    let server = scene.server.as_ref().unwrap();
    let later =
        |days: i64| open(server, RedisOptions { clock_shift_millis: days * 86_400_000, ..RedisOptions::default() });
    let bucket = space(1).bucket();
    later(89).trim_journal(bucket).await.unwrap();
    assert_eq!(scene.count().await, 5);
    let store = later(91);
    store.trim_journal(bucket).await.unwrap();
    let kept = store.read_journal(bucket, 1, 100).await.unwrap();
    assert_eq!(kept.iter().map(|entry| entry.number).collect::<Vec<_>>(), [5]);
    scene.apply(&[1], set(StaffStatus::Blocked), None).await;
    assert_eq!(scene.entries_from(5).await.len(), 2);
}

/// Checks what an entry costs Redis, and that the people of a month are in one hash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_named_once_a_month() {
    let scene = redis(JournalBounds::default());
    for number in 1..=40 {
        scene.apply(&[number], hold("anna", MINUTE), origin("anna", None, Some("0123456789abcdef"))).await;
    }
    let server = scene.server.as_ref().unwrap();
    let bucket = space(1).bucket().get();
    let keys = server.cli(&["KEYS", &format!("slotcast:{{b{bucket}}}:people:*")]);
    let keys: Vec<&str> = keys.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert_eq!(server.cli(&["HLEN", keys[0]]).trim(), "3");
    let days = server.cli(&["PTTL", keys[0]]).trim().parse::<i64>().unwrap() / 86_400_000;
    assert!((150..=152).contains(&days), "{days}");
    let stored = server.cli(&["XRANGE", &format!("slotcast:{{b{bucket}}}:journal"), "-", "+"]);
    assert!(stored.contains("hold") && !stored.contains("anna"), "an entry has no person in it: {stored}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_be_read_costs_itself_alone() {
    let scene = redis(JournalBounds::default());
    scene.apply(&[1], set(StaffStatus::Blocked), None).await;
    let bucket = space(1).bucket();
    let key = format!("slotcast:{{b{}}}:journal", bucket.get());
    scene.server.as_ref().unwrap().cli(&["XADD", &key, "0-*", "j", "nonsense"]);
    scene.apply(&[1], set(StaffStatus::Blocked), None).await;
    let read = scene.store.read_journal(bucket, 1, 10).await.unwrap();
    assert_eq!(
        read.iter().map(|entry| (entry.number, entry.entry.is_some())).collect::<Vec<_>>(),
        [(1, true), (2, false), (3, true)]
    );
}
