//! What nodes tell across the end of an epoch, beyond the end of a log, and after the store has gone back. Each freed
//! slot and each message to everyone is told once, and viewers are shown the true board.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use slotcast::domain::{Bucket, Day, Position, SiteId, SpaceId, SpaceKey, UserId};
use slotcast::feed::buckets::{Audience, FreedSummary};
use slotcast::feed::{Feed, Interest, Member, MemberId, Rooms};
use slotcast::store::{
    DisconnectUser, EveryoneMessage, LOG_LENGTH, Publication, SlotStore, Subscriptions, Topic, UserMessage,
};

use crate::support::TestApp;
use crate::support::redis::{PlainSubscriptions, RedisServer};

/// How long an expected event may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long a hold lasts in these tests.
const HOLD: Duration = Duration::from_millis(1_050);

static NEXT_MEMBER: AtomicU64 = AtomicU64::new(1_000_000);

/// What a node tells all of its sockets.
#[derive(Default)]
struct Told {
    freed: AtomicU64,
    unnamed: AtomicU64,
    /// How often each slot was named as freed.
    slots: Mutex<BTreeMap<String, u64>>,
    everyone: Mutex<Vec<String>>,
}

impl Audience for Told {
    fn tell_freed(&self, freed: FreedSummary) {
        self.unnamed.fetch_add(freed.unnamed, Ordering::SeqCst);
        for (space, slots) in freed.spaces {
            for slot in slots.slots {
                *self.slots.lock().entry(format!("{space:?} {} {slot:?}", slots.date)).or_default() += 1;
            }
        }
        // The count changes last, so that a reader who sees it sees the slots, too.
        self.freed.fetch_add(freed.count, Ordering::SeqCst);
    }

    fn tell_user(&self, _: UserMessage) {}

    fn tell_user_messages_missed(&self, _: Bucket) {}

    fn tell_everyone(&self, message: EveryoneMessage) {
        self.everyone.lock().push(message.event);
    }

    fn disconnect_user(&self, _: DisconnectUser) {}
}

/// A node on Redis, whose subscription can be made to bring nothing.
struct Node {
    app: TestApp,
    feed: Feed,
    is_deaf: Arc<AtomicBool>,
    told: Arc<Told>,
}

impl Node {
    async fn start(redis: &RedisServer) -> Self {
        let store: Arc<dyn SlotStore> = Arc::new(redis.store());
        let app = TestApp::start_through(|_| store);
        let is_deaf = Arc::new(AtomicBool::new(false));
        let feed = Feed::new(app.app.0.clone(), subscribe(redis, is_deaf.clone()).await, Arc::new(Rooms::default()));
        let told = Arc::new(Told::default());
        app.app.health.set_feed_in_step(false);
        tokio::spawn(feed.clone().follow_buckets(told.clone()));
        tokio::spawn(feed.clone().compare_heads());
        until("all buckets are followed", || app.app.health.obstacles().is_empty()).await;
        Self { app, feed, is_deaf, told }
    }

    /// Holds slots 1 to `count` of tomorrow for a second.
    async fn hold(&self, space: SpaceKey, count: u64) {
        let body = json!({
            "idSpazio": space.space, "sedeId": space.site, "date": self.app.tomorrow(),
            "slots": (1..=count).collect::<Vec<_>>(), "holdSeconds": 1,
        });
        let answer = self.app.post("/api/slots/hold", &self.app.user("7"), body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// Frees ended holds in the buckets of these spaces, and answers how many slots were freed.
    async fn sweep(&self, spaces: &[SpaceKey]) -> u64 {
        let mut freed = 0;
        for space in spaces {
            freed += eventually(|| self.app.app.store.sweep(space.bucket(), 1_000)).await.freed;
        }
        freed
    }

    async fn broadcast(&self, event: &str) {
        let data = RawValue::from_string("{}".into()).unwrap();
        let message = EveryoneMessage { event: event.into(), data };
        eventually(|| self.app.app.store.publish(Publication::ToEveryone(message.clone()))).await;
    }

    async fn notify(&self, user: &UserId, times: u64) {
        for number in 0..times {
            let data = RawValue::from_string("{}".into()).unwrap();
            let message = Publication::ToUser { user: user.clone(), event: format!("n{number}"), data };
            eventually(|| self.app.app.store.publish(message.clone())).await;
        }
    }

    /// Makes one change by staff with `bytes` of data; answers its version.
    async fn change(&self, space: SpaceKey, slot: u64, status: &str, bytes: usize) -> u64 {
        let body = json!({
            "idSpazio": space.space, "sedeId": space.site, "date": self.app.tomorrow(), "status": status,
            "data": {"filler": "x".repeat(bytes)},
        });
        let path = format!("/api/slots/{slot}");
        for _ in 0..40 {
            let answer = self.app.put(&path, &self.app.staff("1", "admin"), body.clone()).await;
            if answer.status == 200 {
                return answer.data()["version"].as_u64().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no change in time");
    }

    fn hear(&self, hears: bool) {
        self.is_deaf.store(!hears, Ordering::SeqCst);
    }

    async fn join(&self, space: SpaceKey) -> Arc<Viewer> {
        self.join_since(space, None).await
    }

    /// A viewer that comes back with its position, if it has one.
    async fn join_since(&self, space: SpaceKey, since: Option<Position>) -> Arc<Viewer> {
        let viewer = Arc::new(Viewer {
            id: NEXT_MEMBER.fetch_add(1, Ordering::Relaxed),
            heard: Mutex::default(),
            is_abandoned: AtomicBool::new(false),
            room: AtomicUsize::new(usize::MAX),
        });
        let day = Day::parse(&self.app.tomorrow()).unwrap();
        self.feed.join(space, viewer.clone(), Interest { day: Some(day), since }).await.unwrap();
        viewer
    }
}

async fn subscribe(redis: &RedisServer, is_deaf: Arc<AtomicBool>) -> Arc<dyn Subscriptions> {
    let url = redis.url();
    let subscribed = PlainSubscriptions::connect_through(&url, "slotcast", move |hub, topic, message| {
        if !is_deaf.load(Ordering::SeqCst) {
            hub.announce(topic, message);
        }
    });
    Arc::new(subscribed.await)
}

/// A socket that remembers what it is sent.
struct Viewer {
    id: MemberId,
    heard: Mutex<Vec<(&'static str, Value)>>,
    is_abandoned: AtomicBool,
    /// How many bytes of missed events it has room for.
    room: AtomicUsize,
}

impl Member for Viewer {
    fn id(&self) -> MemberId {
        self.id
    }

    fn send(&self, event: &'static str, payload: &RawValue) {
        self.heard.lock().push((event, serde_json::from_str(payload.get()).unwrap()));
    }

    fn admits_replay(&self, _: usize, _: usize) -> bool {
        true
    }

    fn has_room(&self, bytes: usize) -> bool {
        let taken = self.room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |room| room.checked_sub(bytes));
        taken.is_ok()
    }

    fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::SeqCst);
    }
}

impl Viewer {
    fn names(&self) -> Vec<String> {
        let heard = self.heard.lock();
        heard.iter().map(|(name, payload)| format!("{name} {} {}", payload["epoch"], payload["version"])).collect()
    }

    /// The slots that it does not show as available. Checks that every update follows the one before.
    fn board(&self) -> BTreeMap<u64, String> {
        let mut board = BTreeMap::new();
        let mut at: Option<(Value, u64)> = None;
        for (name, payload) in self.heard.lock().iter() {
            let version = payload["version"].as_u64().unwrap();
            let mut show = |slot: &Value, status: &Value| {
                board.insert(slot.as_u64().unwrap(), status.as_str().unwrap().to_owned());
            };
            match *name {
                "slots_status_update" => {
                    for entry in payload["slotsStatus"].as_array().unwrap() {
                        show(&entry["id_slot"], &entry["status"]);
                    }
                }
                "slot_update" => {
                    assert_eq!(at, Some((payload["epoch"].clone(), version - 1)), "{:?}", self.names());
                    show(&payload["slotId"], &payload["status"]);
                }
                _ => {}
            }
            at = Some((payload["epoch"].clone(), version));
        }
        board.retain(|_, status| status != "available");
        board
    }

    async fn shows(&self, slot: u64, status: &str) {
        let shown = || self.board().get(&slot).is_some_and(|shown| shown == status);
        until(&format!("slot {slot} is {status}"), shown).await;
    }

    /// The viewer's position after the last event that it heard.
    fn position(&self) -> Position {
        let heard = self.heard.lock();
        let (_, payload) = heard.last().unwrap();
        Position { epoch: payload["epoch"].as_str().unwrap().into(), version: payload["version"].as_u64().unwrap() }
    }

    fn epochs(&self) -> Vec<Value> {
        let mut epochs: Vec<Value> = self.heard.lock().iter().map(|(_, payload)| payload["epoch"].clone()).collect();
        epochs.dedup();
        epochs
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, held).await.is_ok(), "never: {what}");
}

/// Asks until the store answers without a failure.
async fn eventually<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(ask: impl Fn() -> F) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn space_of(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

/// Spaces of the bucket that messages to everyone belong to.
fn spaces_of_everyone(count: usize) -> Vec<SpaceKey> {
    (1..).map(space_of).filter(|space| space.bucket() == Bucket::EVERYONE).take(count).collect()
}

fn user_of_everyone() -> UserId {
    let named = (1..).map(|number: u64| UserId::new(&number.to_string()).unwrap());
    named.into_iter().find(|user| user.bucket() == Bucket::EVERYONE).unwrap()
}

/// Waits until every node has told all freed slots, and then for anything that is told too often.
async fn assert_freed(nodes: &[&Node], count: u64) {
    for node in nodes {
        until("what was freed is told", || node.told.freed.load(Ordering::SeqCst) >= count).await;
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for node in nodes {
        assert_eq!(node.told.freed.load(Ordering::SeqCst), count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_redis_loses_no_freed_slot_and_no_broadcast() {
    let redis = RedisServer::start();
    let (hearing, deaf) = (Node::start(&redis).await, Node::start(&redis).await);
    let spaces: Vec<SpaceKey> = spaces_of_everyone(2).into_iter().chain((500..506).map(space_of)).collect();
    for space in &spaces {
        hearing.hold(*space, 9).await;
    }
    tokio::time::sleep(HOLD).await;
    // One node tells the slots live, and the other node only after the epoch has ended. Later slots are told in the
    // same way.
    deaf.hear(false);
    hearing.broadcast("before").await;
    let mut freed = hearing.sweep(&spaces[..4]).await;
    until("one has told", || hearing.told.freed.load(Ordering::SeqCst) == freed).await;
    redis.restart_with(&[]);
    freed += hearing.sweep(&spaces[4..]).await;
    hearing.broadcast("after").await;
    assert_eq!(freed, 72);
    assert_freed(&[&hearing, &deaf], freed).await;
    for node in [&hearing, &deaf] {
        assert_eq!(*node.told.everyone.lock(), ["before", "after"]);
        assert_eq!(node.told.unnamed.load(Ordering::SeqCst), 0);
        let slots = node.told.slots.lock();
        assert!(slots.len() == 72 && slots.values().all(|times| *times == 1), "{slots:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_epochs_may_end_while_a_node_hears_nothing() {
    let redis = RedisServer::start();
    let (hearing, deaf) = (Node::start(&redis).await, Node::start(&redis).await);
    let spaces = spaces_of_everyone(3);
    for space in &spaces {
        hearing.hold(*space, 5).await;
    }
    tokio::time::sleep(HOLD).await;
    deaf.hear(false);
    let mut freed = 0;
    for (round, space) in spaces.iter().enumerate() {
        freed += hearing.sweep(&[*space]).await;
        hearing.broadcast(&format!("round {round}")).await;
        redis.restart_with(&[]);
    }
    assert_eq!(freed, 15);
    assert_freed(&[&hearing, &deaf], freed).await;
    for node in [&hearing, &deaf] {
        assert_eq!(*node.told.everyone.lock(), ["round 0", "round 1", "round 2"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_lost_and_does_again_is_told_again() {
    // The server saves to disk only when it is told to.
    let redis = RedisServer::start_with(&["--appendonly", "no"]);
    let (hearing, deaf) = (Node::start(&redis).await, Node::start(&redis).await);
    let spaces = spaces_of_everyone(2);
    hearing.hold(spaces[0], 9).await;
    hearing.hold(spaces[1], 2).await;
    tokio::time::sleep(HOLD).await;
    assert_eq!(hearing.sweep(&spaces[1..]).await, 11, "both are in one bucket");
    assert_freed(&[&hearing, &deaf], 11).await;
    hearing.hold(spaces[0], 4).await;
    redis.cli(&["SAVE"]);
    tokio::time::sleep(HOLD).await;
    hearing.broadcast("lost").await;
    assert_eq!(hearing.sweep(&spaces).await, 4);
    assert_freed(&[&hearing, &deaf], 15).await;
    deaf.hear(false);
    redis.kill();
    redis.restart_with(&["--appendonly", "no"]);
    assert_eq!(hearing.sweep(&spaces).await, 4, "Redis has lost that they were freed");
    hearing.broadcast("new").await;
    assert_freed(&[&hearing, &deaf], 19).await;
    for node in [&hearing, &deaf] {
        assert_eq!(*node.told.everyone.lock(), ["lost", "new"]);
        assert_eq!(node.told.unnamed.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_behind_the_log_of_a_bucket_tells_how_much_was_freed_and_every_broadcast() {
    for ends_epoch in [false, true] {
        let redis = RedisServer::start();
        let (hearing, deaf) = (Node::start(&redis).await, Node::start(&redis).await);
        let (spaces, user) = (spaces_of_everyone(2), user_of_everyone());
        hearing.hold(spaces[0], 9).await;
        tokio::time::sleep(HOLD).await;
        deaf.hear(false);
        // The heads are not compared in between, so nobody asks the store until the viewer has everything.
        let silent = redis.url();
        assert_eq!(hearing.sweep(&spaces).await, 9);
        hearing.broadcast("first").await;
        freeze_and_fill(&hearing, &deaf, &user).await;
        if ends_epoch {
            redis.restart_with(&[]);
        }
        hearing.broadcast("second").await;
        hearing.hold(spaces[1], 3).await;
        tokio::time::sleep(HOLD).await;
        assert_eq!(hearing.sweep(&spaces).await, 3, "{silent}");
        assert_freed(&[&hearing, &deaf], 12).await;
        for node in [&hearing, &deaf] {
            assert_eq!(*node.told.everyone.lock(), ["first", "second"]);
        }
    }
}

/// More messages in the bucket of everyone than its log keeps.
async fn freeze_and_fill(hearing: &Node, deaf: &Node, user: &UserId) {
    let store = &hearing.app.app.store;
    let before = store.heads(&[Topic::Bucket(Bucket::EVERYONE)]).await.unwrap().remove(0).version;
    hearing.notify(user, LOG_LENGTH + 10).await;
    let after = store.heads(&[Topic::Bucket(Bucket::EVERYONE)]).await.unwrap().remove(0).version;
    assert!(after - before > LOG_LENGTH);
    let _ = deaf;
}

/// A copy of all data, which can be restored later.
struct Backup {
    values: Vec<(String, Vec<u8>)>,
}

impl Backup {
    async fn take(redis: &RedisServer) -> Self {
        let mut connection = connect(redis).await;
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        let mut values = Vec::new();
        for key in keys {
            let value: Vec<u8> = redis::cmd("DUMP").arg(&key).query_async(&mut connection).await.unwrap();
            values.push((key, value));
        }
        Self { values }
    }

    /// Restores in one step, so that nobody sees a part of it.
    async fn restore(&self, redis: &RedisServer, into: &str) {
        let mut connection = connect(redis).await;
        let mut all = redis::pipe();
        all.atomic();
        if into == "restore" {
            all.cmd("FLUSHALL").ignore();
        } else {
            all.cmd("SELECT").arg(1).ignore();
            all.cmd("FLUSHDB").ignore();
        }
        for (key, value) in &self.values {
            all.cmd("RESTORE").arg(key).arg(0).arg(value).ignore();
        }
        if into == "swap" {
            all.cmd("SELECT").arg(0).ignore();
            all.cmd("SWAPDB").arg(0).arg(1).ignore();
        }
        all.query_async::<()>(&mut connection).await.unwrap();
    }
}

async fn connect(redis: &RedisServer) -> redis::aio::MultiplexedConnection {
    redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_restored_into_the_running_store_is_noticed() {
    // How many acts follow the restore at once: none, some, and more than were undone.
    for (way, acts) in [("restore", 0), ("swap", 1), ("restore", 3), ("swap", 40)] {
        let redis = RedisServer::start();
        let (one, other) = (Node::start(&redis).await, Node::start(&redis).await);
        let space = space_of(77);
        one.change(space, 1, "blocked", 0).await;
        let backup = Backup::take(&redis).await;
        let viewers = [one.join(space).await, other.join(space).await];
        for slot in 2..=9 {
            one.change(space, slot, "blocked", 0).await;
        }
        for viewer in &viewers {
            viewer.shows(9, "blocked").await;
        }
        backup.restore(&redis, way).await;
        for act in 0..acts {
            one.change(space, 2, if act + 1 == acts { "booked" } else { "blocked" }, 0).await;
        }
        let mut expected = BTreeMap::from([(1, "blocked".to_owned())]);
        if acts > 0 {
            expected.insert(2, "booked".to_owned());
        }
        for viewer in &viewers {
            until(&format!("{way} {acts}: the board is {expected:?}"), || viewer.board() == expected).await;
        }
        // Everybody hears the next acts, under an epoch that never existed before.
        one.change(space, 5, "booked", 0).await;
        for viewer in &viewers {
            viewer.shows(5, "booked").await;
            assert!(viewer.epochs().len() >= 2, "{way} {acts}: {:?}", viewer.names());
            let heard = viewer.heard.lock();
            let mut contents = BTreeMap::new();
            for (_, payload) in heard.iter().filter(|(name, _)| *name == "slot_update") {
                let at = format!("{} {}", payload["epoch"], payload["version"]);
                assert!(contents.insert(at, payload.clone()).is_none_or(|before| before == *payload));
            }
        }
    }
}

// Nobody acts, and nobody else watches. Only compared heads can tell, or the return of the absent viewer.
#[tokio::test(flavor = "multi_thread")]
async fn the_sole_viewer_of_a_space_is_shown_the_store_that_went_back() {
    for (way, is_away) in [("restore", false), ("swap", false), ("restore", true), ("swap", true)] {
        let redis = RedisServer::start();
        let node = Node::start(&redis).await;
        let space = space_of(80);
        node.change(space, 1, "blocked", 0).await;
        let backup = Backup::take(&redis).await;
        let mut viewer = node.join(space).await;
        for slot in 2..=4 {
            node.change(space, slot, "blocked", 0).await;
        }
        viewer.shows(4, "blocked").await;
        let (epochs, since) = (viewer.epochs(), viewer.position());
        if is_away {
            node.feed.leave(space, viewer.id).await;
        }
        backup.restore(&redis, way).await;
        if is_away {
            viewer = node.join_since(space, Some(since.clone())).await;
        }
        let restored = BTreeMap::from([(1, "blocked".to_owned())]);
        until(&format!("{way}, away {is_away}: the board is {restored:?}"), || viewer.board() == restored).await;
        // Versions of the old epoch that the viewer has seen are never reused for other content.
        let version = node.change(space, 9, "booked", 0).await;
        viewer.shows(9, "booked").await;
        assert!(version <= since.version && !epochs.contains(&json!(viewer.position().epoch)), "{way}, away {is_away}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_again_after_a_restored_backup_is_told_again() {
    let redis = RedisServer::start();
    let (one, other) = (Node::start(&redis).await, Node::start(&redis).await);
    let space = space_of(78);
    one.hold(space, 6).await;
    let backup = Backup::take(&redis).await;
    tokio::time::sleep(HOLD).await;
    assert_eq!(one.sweep(&[space]).await, 6);
    assert_freed(&[&one, &other], 6).await;
    backup.restore(&redis, "swap").await;
    assert_eq!(one.sweep(&[space]).await, 6, "the holds are there again");
    assert_freed(&[&one, &other], 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_or_one_of_another_epoch_is_noticed_too() {
    for way in ["flush", "another"] {
        let redis = RedisServer::start();
        let node = Node::start(&redis).await;
        let space = space_of(79);
        if way == "another" {
            // The new epoch gets the same versions.
            for slot in 1..=4 {
                node.change(space, slot, "booked", 0).await;
            }
            redis.cli(&["SWAPDB", "0", "1"]);
        }
        for slot in 1..=4 {
            node.change(space, slot, "blocked", 0).await;
        }
        let viewer = node.join(space).await;
        viewer.shows(4, "blocked").await;
        redis.cli(if way == "another" { &["SWAPDB", "0", "1"] } else { &["FLUSHALL"] });
        if way == "another" {
            viewer.shows(1, "booked").await;
        } else {
            until("nothing is taken", || viewer.board().is_empty()).await;
        }
        node.change(space, 7, "booked", 0).await;
        viewer.shows(7, "booked").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_read_in_portions_and_closes_nobody() {
    let redis = RedisServer::start();
    let node = Node::start(&redis).await;
    let space = space_of(80);
    let roomy = node.join(space).await;
    let narrow = node.join(space).await;
    narrow.room.store(100_000, Ordering::SeqCst);
    node.hear(false);
    let mut last = 0;
    for number in 0..180 {
        last = node.change(space, 1 + number % 9, if number % 2 == 0 { "blocked" } else { "booked" }, 8_192).await;
    }
    node.hear(true);
    let reaches =
        |viewer: &Viewer| viewer.heard.lock().last().and_then(|(_, payload)| payload["version"].as_u64()) == Some(last);
    for viewer in [&roomy, &narrow] {
        until("the last change", || reaches(viewer)).await;
        assert_eq!(viewer.board(), roomy.board());
        assert!(!viewer.is_abandoned.load(Ordering::SeqCst));
    }
    let events_of = |viewer: &Viewer, name: &str| viewer.names().iter().filter(|event| event.starts_with(name)).count();
    let missed = events_of(&roomy, "slot_update") as u64;
    assert_eq!((missed, events_of(&roomy, "slots_status_update")), (last, 1));
    assert_eq!(events_of(&narrow, "slots_status_update"), 2, "one instead of what found no room");
    let catch_ups = |cause: &str| node.app.app.metrics.feed_catch_ups.with_label_values(&[cause]).get();
    assert!(catch_ups("more") > 0, "some of it was read in portions");
}
