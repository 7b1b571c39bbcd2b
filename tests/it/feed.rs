//! The feed on the embedded store: what each member is sent, in which order, whatever the subscription does.
//!
//! Members record what they are sent. [`Recorder::check`] holds each record to the contract: every update follows the
//! one before, or a snapshot that is not older.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use slotcast::domain::event;
use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::{Bucket, Code, Day, Position, SiteId, SpaceId, SpaceKey, UserId};
use slotcast::feed::buckets::{Audience, FreedSummary};
use slotcast::feed::{Feed, Interest, Joined, Member, MemberId, Rooms};
use slotcast::store::hub::{Hub, Watch};
use slotcast::store::{
    DisconnectUser, EveryoneMessage, Message, Publication, Signal, SpaceChange, StoreError, Subscriptions, Topic,
    UserMessage,
};
use tokio::sync::Notify;

use crate::support::TestApp;
use crate::support::faulty_store::FaultyStore;

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

static NEXT_MEMBER: AtomicU64 = AtomicU64::new(1);

fn space() -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(3).unwrap() }
}

/// A node's feed, and the HTTP side as the way to act.
struct Node {
    app: TestApp,
    feed: Feed,
    rooms: Arc<Rooms>,
}

impl Node {
    fn start() -> Self {
        Self::hearing(|subscriptions| subscriptions)
    }

    fn hearing(through: impl FnOnce(Arc<dyn Subscriptions>) -> Arc<dyn Subscriptions>) -> Self {
        Self::of(TestApp::start(), through)
    }

    fn of(app: TestApp, through: impl FnOnce(Arc<dyn Subscriptions>) -> Arc<dyn Subscriptions>) -> Self {
        let rooms = Arc::new(Rooms::default());
        let feed = Feed::new(app.app.0.clone(), through(app.subscriptions.clone()), rooms.clone());
        Self { app, feed, rooms }
    }

    fn tomorrow(&self) -> Day {
        Day::parse(&self.app.tomorrow()).unwrap()
    }

    /// One change by staff; answers its version.
    async fn change(&self, slot: u64, status: &str) -> u64 {
        let body = json!({"idSpazio": 3, "sedeId": 1, "date": self.app.tomorrow(), "status": status});
        let answer = self.app.put(&format!("/api/slots/{slot}"), &self.app.staff("1", "admin"), body).await;
        answer.data()["version"].as_u64().unwrap()
    }

    /// Holds and releases all nine slots of the day: 18 changes.
    async fn churn(&self) {
        let body =
            json!({"idSpazio": 3, "sedeId": 1, "date": self.app.tomorrow(), "slots": [1, 2, 3, 4, 5, 6, 7, 8, 9]});
        for act in ["hold", "release"] {
            self.app.post(&format!("/api/slots/{act}"), &self.app.user("7"), body.clone()).await.data();
        }
    }

    async fn join(&self, member: &Arc<Recorder>, interest: Interest) -> Joined {
        member.is_in.store(true, Ordering::SeqCst);
        self.feed.join(space(), member.clone(), interest).await.unwrap()
    }

    async fn leave(&self, member: &Arc<Recorder>) {
        self.feed.leave(space(), member.id()).await;
        member.is_in.store(false, Ordering::SeqCst);
    }

    /// Moves the opening; answers the version of that.
    async fn change_schedule(&self, opens: &str) -> u64 {
        let answer = self.app.put("/api/spaces/1/3", &self.app.staff("1", "admin"), json!({"opens": opens})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        self.head().await.version
    }

    /// Past the node's memory, as another node would.
    async fn put_default_schedule(&self) -> Position {
        let revised_at = self.app.app.store.read_space(space()).await.unwrap().revised_at();
        let change = SpaceChange::new(space(), Some(ScheduleSpec::default()), revised_at).unwrap();
        self.app.app.store.put_space(change).await.unwrap()
    }

    async fn head(&self) -> Position {
        self.app.app.store.heads(&[Topic::Space(space())]).await.unwrap().remove(0)
    }

    fn members(&self) -> u64 {
        self.rooms.counts().get(&space().room()).copied().unwrap_or_default()
    }
}

fn day(day: Day) -> Interest {
    Interest { day: Some(day), since: None }
}

fn since(position: &Position) -> Interest {
    Interest { day: None, since: Some(position.clone()) }
}

/// A member that remembers what it is sent.
struct Recorder {
    id: MemberId,
    heard: Mutex<Vec<(&'static str, Value)>>,
    more: Notify,
    /// Between the call of join and the return of leave.
    is_in: AtomicBool,
    heard_after_leaving: AtomicBool,
    /// Missed events that it takes at once.
    room_for: AtomicUsize,
    is_abandoned: AtomicBool,
}

impl Member for Recorder {
    fn id(&self) -> MemberId {
        self.id
    }

    fn send(&self, event: &'static str, payload: &RawValue) {
        if !self.is_in.load(Ordering::SeqCst) {
            self.heard_after_leaving.store(true, Ordering::SeqCst);
        }
        self.heard.lock().unwrap().push((event, serde_json::from_str(payload.get()).unwrap()));
        self.more.notify_one();
    }

    fn admits_replay(&self, events: usize, _: usize) -> bool {
        events <= self.room_for.load(Ordering::SeqCst)
    }

    fn has_room(&self, _: usize) -> bool {
        self.room_for.load(Ordering::SeqCst) > 0
    }

    fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::SeqCst);
        self.more.notify_one();
    }
}

impl Recorder {
    fn new() -> Arc<Self> {
        let id = NEXT_MEMBER.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            id,
            heard: Mutex::default(),
            more: Notify::new(),
            is_in: AtomicBool::new(false),
            heard_after_leaving: AtomicBool::new(false),
            room_for: AtomicUsize::new(usize::MAX),
            is_abandoned: AtomicBool::new(false),
        })
    }

    fn heard(&self) -> Vec<(&'static str, Value)> {
        self.heard.lock().unwrap().clone()
    }

    /// The events with their versions, as `name version`.
    fn names(&self) -> Vec<String> {
        self.heard().iter().map(|(name, payload)| format!("{name} {}", payload["version"])).collect()
    }

    /// Waits until it has heard of a version.
    async fn reaches(&self, version: u64) {
        let reached = async {
            while !self.heard().iter().any(|(_, payload)| payload["version"].as_u64() >= Some(version)) {
                self.more.notified().await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "no version {version}: {:?}", self.names());
    }

    /// Waits until it has heard so many events.
    async fn hears(&self, count: usize) {
        let heard = async {
            while self.heard().len() < count {
                self.more.notified().await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, heard).await.is_ok(), "not {count} events: {:?}", self.names());
    }

    /// Every update follows what came before it, and nothing goes back. Where it joined with what it had, `since`.
    fn check(&self, since: Option<u64>) {
        assert!(!self.heard_after_leaving.load(Ordering::SeqCst));
        let mut at: Option<(Value, u64)> = None;
        for (name, payload) in self.heard() {
            let (epoch, version) = (payload["epoch"].clone(), payload["version"].as_u64().unwrap());
            let same_epoch = at.as_ref().filter(|(known, _)| *known == epoch).map(|(_, version)| *version);
            let before = at.replace((epoch.clone(), version));
            match name {
                "joined_space" if payload["recovered"] == true => at = Some((epoch, since.unwrap())),
                "joined_space" | "slots_status_update" => {
                    assert!(same_epoch.is_none_or(|at| at <= version), "{name} goes back: {:?}", self.names());
                }
                "slot_update" => {
                    assert_eq!(same_epoch.map(|at| at + 1), Some(version), "{before:?}: {:?}", self.names());
                }
                other => panic!("{other}"),
            }
        }
    }
}

#[tokio::test]
async fn a_member_is_told_that_it_joined_then_the_day_then_each_change() {
    let node = Node::start();
    node.change(1, "blocked").await;
    let member = Recorder::new();
    let joined = node.join(&member, day(node.tomorrow())).await;
    assert_eq!((joined.at.version, joined.recovered), (1, false));
    for status in ["blocked", "available", "booked"] {
        node.change(2, status).await;
    }
    member.reaches(4).await;
    let expected = ["joined_space 1", "slots_status_update 1", "slot_update 2", "slot_update 3", "slot_update 4"];
    assert_eq!(member.names(), expected);
    let snapshot = &member.heard()[1].1;
    assert_eq!(
        (&snapshot["date"], &snapshot["slotsStatus"][0]["status"]),
        (&json!(node.tomorrow()), &json!("blocked"))
    );
    assert_eq!(member.heard()[4].1["status"], "booked");
}

#[tokio::test]
async fn without_a_day_nothing_comes_between_the_joining_and_the_next_change() {
    let node = Node::start();
    node.change(1, "blocked").await;
    let member = Recorder::new();
    node.join(&member, Interest::default()).await;
    node.change(1, "available").await;
    member.reaches(2).await;
    assert_eq!(member.names(), ["joined_space 1", "slot_update 2"]);
}

#[tokio::test]
async fn what_was_missed_is_sent_exactly_as_it_was() {
    let node = Node::start();
    let witness = Recorder::new();
    let start = node.join(&witness, Interest::default()).await.at;
    node.churn().await;
    witness.reaches(18).await;
    let late = Recorder::new();
    let at = Position { version: 5, ..start.clone() };
    let joined = node.join(&late, Interest { day: Some(node.tomorrow()), since: Some(at) }).await;
    assert_eq!((joined.at.version, joined.recovered), (18, true));
    assert_eq!(late.heard()[1..], witness.heard()[6..], "byte for byte what the others got, and nothing else");
    let current = Recorder::new();
    assert!(node.join(&current, since(&joined.at)).await.recovered);
    assert_eq!(current.names(), ["joined_space 18"], "nothing was missed");
}

#[tokio::test]
async fn what_cannot_be_replayed_is_a_snapshot() {
    let node = Node::start();
    let other_epoch = Position { epoch: "another".into(), version: 1 };
    let mut lost = vec![other_epoch];
    let first = node.join(&Recorder::new(), Interest::default()).await.at;
    for _ in 0..58 {
        node.churn().await;
    }
    let head = node.head().await;
    assert!(head.version > 1_024 + first.version);
    lost.push(first);
    lost.push(Position { version: head.version + 1, ..head.clone() });
    lost.push(Position { version: u64::MAX, ..head.clone() });
    for position in lost {
        let member = Recorder::new();
        let joined = node.join(&member, Interest { day: Some(node.tomorrow()), since: Some(position.clone()) }).await;
        assert!(!joined.recovered, "{position:?}");
        let version = head.version;
        assert_eq!(member.names(), [format!("joined_space {version}"), format!("slots_status_update {version}")]);
    }
    // The longest replay there is.
    let member = Recorder::new();
    assert!(node.join(&member, since(&Position { version: head.version - 1_024, ..head })).await.recovered);
    assert_eq!(member.heard().len(), 1_025);
}

#[tokio::test]
async fn one_without_room_for_what_it_missed_gets_a_snapshot() {
    let node = Node::start();
    let member = Recorder::new();
    let start = node.join(&member, day(node.tomorrow())).await.at;
    member.room_for.store(17, Ordering::SeqCst);
    node.churn().await;
    member.reaches(18).await;
    assert!(!node.feed.sync(space(), member.id(), since(&start)).await.unwrap().recovered);
    assert_eq!(member.names().last().unwrap(), "slots_status_update 18");
    let almost = Position { version: 1, ..start };
    assert!(node.feed.sync(space(), member.id(), since(&almost)).await.unwrap().recovered);
}

#[tokio::test]
async fn joining_again_and_syncing_keep_one_membership_and_the_day() {
    let node = Node::start();
    let member = Recorder::new();
    let start = node.join(&member, day(node.tomorrow())).await.at;
    node.join(&member, Interest::default()).await;
    assert_eq!(node.members(), 1);
    node.change(1, "blocked").await;
    member.reaches(1).await;
    let synced = node.feed.sync(space(), member.id(), since(&start)).await.unwrap();
    assert!(synced.recovered);
    // Without a day: the one that it last asked for.
    let other = Position { epoch: "another".into(), version: 0 };
    assert!(!node.feed.sync(space(), member.id(), since(&other)).await.unwrap().recovered);
    let expected = [
        "joined_space 0",
        "slots_status_update 0",
        "joined_space 0",
        "slot_update 1",
        "slot_update 1",
        "slots_status_update 1",
    ];
    assert_eq!(member.names(), expected);
    assert_eq!(member.heard()[5].1["date"], json!(node.tomorrow()));
    assert_eq!(node.members(), 1);
}

#[tokio::test]
async fn one_that_left_hears_nothing_and_cannot_sync() {
    let node = Node::start();
    let (leaving, staying) = (Recorder::new(), Recorder::new());
    node.join(&leaving, Interest::default()).await;
    node.join(&staying, Interest::default()).await;
    node.leave(&leaving).await;
    node.change(1, "blocked").await;
    staying.reaches(1).await;
    assert_eq!(leaving.names(), ["joined_space 0"]);
    leaving.check(None);
    let refused = node.feed.sync(space(), leaving.id(), day(node.tomorrow())).await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    node.leave(&leaving).await;
    assert_eq!(node.members(), 1);
}

#[tokio::test]
async fn a_change_of_the_schedule_is_a_snapshot_before_any_later_change() {
    let node = Node::start();
    let (with_day, without) = (Recorder::new(), Recorder::new());
    let start = node.join(&with_day, day(node.tomorrow())).await.at;
    node.join(&without, Interest::default()).await;
    let changed = node.change_schedule("12:00").await;
    let last = node.change(1, "blocked").await;
    for member in [&with_day, &without] {
        member.reaches(last).await;
        member.check(None);
        let heard = member.heard();
        let after: Vec<_> = heard.iter().filter(|(_, payload)| payload["version"].as_u64() >= Some(changed)).collect();
        assert_eq!((after[0].0, &after[0].1["slotsStatus"][0]["orario"]), ("slots_status_update", &json!("12:00")));
    }
    assert_eq!(without.heard()[1].1["date"], json!(node.app.day_ahead(0)), "who asked for no day gets today");
    // A replay across the change is impossible: it is no `slot_update`.
    let late = Recorder::new();
    let joined = node.join(&late, Interest { day: Some(node.tomorrow()), since: Some(start) }).await;
    assert!(!joined.recovered);
    assert_eq!(late.heard()[1].1["slotsStatus"][0]["orario"], "12:00");
}

#[tokio::test]
async fn a_schedule_that_changes_all_the_time_leaves_nobody_behind() {
    let node = Node::start();
    let members: Vec<_> = (0..20).map(|_| Recorder::new()).collect();
    let joining = async {
        for member in &members {
            node.join(member, day(node.tomorrow())).await;
            tokio::task::yield_now().await;
        }
    };
    let changing = async {
        for round in 0..20 {
            node.change_schedule(if round % 2 == 0 { "10:00" } else { "11:00" }).await;
            node.change(1, "available").await;
        }
    };
    tokio::join!(joining, changing);
    let last = node.change(2, "blocked").await;
    for member in &members {
        member.reaches(last).await;
        member.check(None);
        let heard = member.heard();
        let shown = heard.iter().rev().find(|(name, _)| *name == "slots_status_update").unwrap();
        assert_eq!(shown.1["slotsStatus"][0]["orario"], "11:00");
    }
}

#[tokio::test]
async fn staff_shows_a_board_to_the_whole_room_in_its_place() {
    let node = Node::start();
    let member = Recorder::new();
    node.join(&member, Interest::default()).await;
    node.change(1, "blocked").await;
    node.app.app.store.publish(Publication::ShowBoard(space(), node.tomorrow())).await.unwrap();
    node.change(1, "available").await;
    member.reaches(2).await;
    member.hears(4).await;
    member.check(None);
    let heard = member.heard();
    let shown: Vec<_> = heard.iter().filter(|(name, _)| *name == "slots_status_update").collect();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].1["date"], json!(node.tomorrow()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_join_while_slots_change_each_hear_every_version() {
    let node = Arc::new(Node::start());
    let changing = tokio::spawn({
        let node = node.clone();
        async move {
            for _ in 0..20 {
                node.churn().await;
            }
        }
    });
    let known = node.head().await;
    let joining = (0..1_000).map(|number| {
        let node = node.clone();
        let known = known.clone();
        tokio::spawn(async move {
            let member = Recorder::new();
            let interest = match number % 3 {
                0 => Interest::default(),
                1 => day(node.tomorrow()),
                _ => since(&known),
            };
            node.join(&member, interest).await;
            member
        })
    });
    let members = futures_util::future::join_all(joining.collect::<Vec<_>>()).await;
    changing.await.unwrap();
    let last = node.change(1, "blocked").await;
    assert_eq!(node.members(), 1_000);
    for member in members {
        let member = member.unwrap();
        member.reaches(last).await;
        member.check(Some(known.version));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_leaving_and_syncing_at_once_lose_nothing() {
    let node = Arc::new(Node::start());
    let coming_and_going = (0..40).map(|seed| {
        let node = node.clone();
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            let member = Recorder::new();
            for _ in 0..30 {
                match random.u32(0..4) {
                    0 => node.leave(&member).await,
                    1 => drop(node.join(&member, Interest::default()).await),
                    2 => drop(node.join(&member, day(node.tomorrow())).await),
                    _ => drop(node.feed.sync(space(), member.id(), day(node.tomorrow())).await),
                }
            }
            node.leave(&member).await;
            member
        })
    });
    let tasks: Vec<_> = coming_and_going.collect();
    for _ in 0..10 {
        node.churn().await;
    }
    for task in tasks {
        check_visits(&task.await.unwrap());
    }
    assert_eq!(node.members(), 0);
}

/// As [`Recorder::check`], of one that was away at times: each `joined_space` begins anew, and does not go back.
fn check_visits(member: &Recorder) {
    assert!(!member.heard_after_leaving.load(Ordering::SeqCst));
    let mut at = 0;
    for (name, payload) in member.heard() {
        let version = payload["version"].as_u64().unwrap();
        let follows = if name == "slot_update" { version == at + 1 } else { version >= at };
        assert!(follows, "{name} {version} after {at}: {:?}", member.names());
        at = version;
    }
}

#[tokio::test]
async fn a_space_that_nobody_watches_is_let_go_and_watched_again() {
    let node = Node::start();
    let topics = || node.app.app.metrics.feed_topics.get();
    let member = Recorder::new();
    node.join(&member, Interest::default()).await;
    node.leave(&member).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(9)).await;
    tokio::task::yield_now().await;
    assert_eq!(topics(), 1, "a page that is loaded again finds it");
    tokio::time::advance(Duration::from_secs(2)).await;
    while topics() > 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::resume();
    node.change(1, "blocked").await;
    let joined = node.join(&member, Interest::default()).await;
    assert_eq!(joined.at.version, 1);
    node.change(1, "available").await;
    member.reaches(2).await;
    assert_eq!((topics(), node.members()), (1, 1));
}

// --- A subscription that cannot be relied on

/// Loses, repeats and swaps what is announced, and brings messages of an epoch that never was.
struct Unreliable {
    inner: Arc<dyn Subscriptions>,
    hub: Hub,
    fault: Fault,
}

#[derive(Clone, Copy)]
enum Fault {
    /// Of everything, by a seed.
    Chaos(u64),
    /// Nothing arrives.
    Silence,
}

#[async_trait]
impl Subscriptions for Unreliable {
    async fn watch(&self, topic: Topic) -> Result<Watch, StoreError> {
        let inner = self.inner.watch(topic).await?;
        let watch = self.hub.watch(topic);
        tokio::spawn(disturb(inner, self.hub.clone(), topic, self.fault));
        Ok(watch)
    }
}

async fn disturb(mut inner: Watch, hub: Hub, topic: Topic, fault: Fault) {
    let mut random = fastrand::Rng::with_seed(if let Fault::Chaos(seed) = fault { seed } else { 0 });
    let mut held: Option<Message> = None;
    loop {
        let message = match inner.next().await {
            Signal::Lagged => {
                hub.lag_all();
                continue;
            }
            Signal::Message(message) => message,
        };
        if matches!(fault, Fault::Silence) {
            continue;
        }
        match random.u32(0..6) {
            0 => {}
            1 => (0..2).for_each(|_| hub.announce(topic, message.clone())),
            2 => held = Some(message),
            3 => {
                let at = Position { epoch: "never was".into(), version: message.at.version + 1 };
                hub.announce(topic, Message { at, ..message.clone() });
                hub.announce(topic, message);
            }
            _ => {
                hub.announce(topic, message);
                held.take().into_iter().for_each(|late| hub.announce(topic, late));
            }
        }
        if random.u32(0..20) == 0 {
            hub.lag_all();
        }
    }
}

#[tokio::test]
async fn whatever_is_lost_repeated_or_swapped_each_version_comes_once_in_order() {
    for seed in 0..8 {
        let hub = Hub::default();
        let node = {
            let hub = hub.clone();
            Node::hearing(move |inner| Arc::new(Unreliable { inner, hub, fault: Fault::Chaos(seed) }))
        };
        let member = Recorder::new();
        node.join(&member, day(node.tomorrow())).await;
        for _ in 0..4 {
            node.churn().await;
        }
        let last = node.change(1, "blocked").await;
        hub.lag_all();
        member.reaches(last).await;
        member.check(None);
        let updates = member.heard().iter().filter(|(name, _)| *name == "slot_update").count();
        assert_eq!(updates as u64, last, "seed {seed}: an epoch that never was is no reason for a snapshot");
    }
}

#[tokio::test]
async fn a_lost_last_change_is_found_by_comparing_heads() {
    find_a_lost_last_change(TestApp::start()).await;
}

#[tokio::test]
async fn a_lost_last_change_is_found_while_the_server_of_the_ping_is_away() {
    find_a_lost_last_change(TestApp::start_through(|store| Arc::new(FaultyStore { store, loses: "ping" }))).await;
}

async fn find_a_lost_last_change(app: TestApp) {
    let hub = Hub::default();
    let node = Node::of(app, |inner| Arc::new(Unreliable { inner, hub, fault: Fault::Silence }));
    let member = Recorder::new();
    node.join(&member, Interest::default()).await;
    let comparing = tokio::spawn(node.feed.clone().compare_heads());
    let last = node.change(1, "blocked").await;
    member.reaches(last).await;
    comparing.abort();
    assert_eq!(member.names(), ["joined_space 0", "slot_update 1"]);
}

#[tokio::test]
async fn whoever_was_answered_is_not_shown_a_board_from_before_that() {
    let hub = Hub::default();
    let node = Node::hearing(|inner| Arc::new(Unreliable { inner, hub, fault: Fault::Silence }));
    let (first, second) = (Recorder::new(), Recorder::new());
    node.join(&first, day(node.tomorrow())).await;
    assert_eq!(first.names(), ["joined_space 0", "slots_status_update 0"]);
    let answered = node.change(1, "blocked").await;
    node.join(&second, day(node.tomorrow())).await;
    assert_eq!(second.names(), [format!("joined_space {answered}"), format!("slots_status_update {answered}")]);
    assert_eq!(second.heard()[1].1["slotsStatus"][0]["status"], "blocked");
    let answered = node.change(2, "blocked").await;
    assert_eq!(node.join(&first, Interest::default()).await.at.version, answered);
    // What the other members lacked came first.
    for member in [first, second] {
        member.reaches(answered).await;
        member.check(None);
    }
}

#[tokio::test]
async fn who_joins_a_watched_space_is_shown_what_is_known_and_then_the_rest() {
    let hub = Hub::default();
    let node = Node::hearing(|inner| Arc::new(Unreliable { inner, hub, fault: Fault::Silence }));
    let (first, second) = (Recorder::new(), Recorder::new());
    node.join(&first, day(node.tomorrow())).await;
    // Nothing of it has come here yet.
    let elsewhere = node.put_default_schedule().await;
    node.join(&second, day(node.tomorrow())).await;
    assert_eq!(second.names(), ["joined_space 0", "slots_status_update 0"]);
    let comparing = tokio::spawn(node.feed.clone().compare_heads());
    second.reaches(elsewhere.version).await;
    comparing.abort();
    second.check(None);
}

#[tokio::test]
async fn a_schedule_that_was_read_before_the_space_was_watched_is_not_gone_by() {
    let node = Node::start();
    let catalog = &node.app.app.catalog;
    assert_eq!(catalog.resolve(space()).await.unwrap().revision, None);
    let at = node.put_default_schedule().await;
    let member = Recorder::new();
    node.join(&member, Interest { day: Some(node.tomorrow()), since: Some(at.clone()) }).await;
    assert_eq!(member.names(), ["joined_space 1"]);
    // What the slot starts of its day are planned by.
    assert_eq!(catalog.resolve(space()).await.unwrap().revision, Some(at));
}

#[tokio::test]
async fn a_position_that_the_store_does_not_know_brings_everybody_to_where_it_is() {
    let hub = Hub::default();
    let node = Node::hearing(|inner| Arc::new(Unreliable { inner, hub, fault: Fault::Silence }));
    let (first, second) = (Recorder::new(), Recorder::new());
    node.join(&first, day(node.tomorrow())).await;
    let at = node.put_default_schedule().await;
    let lost = Position { epoch: "lost".into(), version: 9 };
    node.join(&second, Interest { day: Some(node.tomorrow()), since: Some(lost) }).await;
    assert_eq!(second.names(), [format!("joined_space {}", at.version), format!("slots_status_update {}", at.version)]);
    first.reaches(at.version).await;
}

#[tokio::test]
async fn a_board_that_is_known_from_events_is_that_of_the_store() {
    let node = Node::start();
    let watching = Recorder::new();
    node.join(&watching, day(node.tomorrow())).await;
    node.churn().await;
    let body = |more: Value| {
        let mut body = json!({"idSpazio": 3, "sedeId": 1, "date": node.app.tomorrow()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    node.app.post("/api/slots/2/hold", &node.app.user("7"), body(json!({}))).await.data();
    node.app.post("/api/slots/3/hold", &node.app.user("7"), body(json!({}))).await.data();
    node.app.post("/api/slots/3/book", &node.app.user("7"), body(json!({}))).await.data();
    let data = json!({"price": 12.5, "note": "\"blu\""});
    let staff = node.app.staff("1", "admin");
    node.app.put("/api/slots/4", &staff, body(json!({"status": "blocked", "data": data}))).await.data();
    let last = node.change(5, "available").await;
    watching.reaches(last).await;

    let joining = Recorder::new();
    node.join(&joining, day(node.tomorrow())).await;
    let [_, (_, known)] = joining.heard().try_into().unwrap();
    assert_eq!(known["version"], last);
    let state = node.app.app.catalog.read_board_or_none(space(), node.tomorrow()).await.unwrap();
    let day_of_store = state.state.records.into_iter().map(|(number, record)| (number, record.into())).collect();
    let stored = event::slots_status_update(
        space(),
        node.tomorrow(),
        state.schedule.as_deref(),
        &day_of_store,
        &state.state.at,
        state.state.now,
    );
    let stored: Value = serde_json::from_str(&stored.json).unwrap();
    assert_eq!(known["slotsStatus"], stored["slotsStatus"]);
    assert_eq!(known["slotsStatus"][3]["price"], 12.5);
}

/// A member whose queue takes long, while `is_stuck`.
struct Slow {
    recorder: Arc<Recorder>,
    is_stuck: AtomicBool,
}

impl Member for Slow {
    fn id(&self) -> MemberId {
        self.recorder.id()
    }

    fn send(&self, event: &'static str, payload: &RawValue) {
        while event == "slot_update" && self.is_stuck.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.recorder.send(event, payload);
    }

    fn admits_replay(&self, events: usize, _: usize) -> bool {
        self.recorder.admits_replay(events, 0)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.recorder.has_room(bytes)
    }

    fn abandon(&self) {
        self.recorder.abandon();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_changes_than_a_watch_holds_are_one_snapshot() {
    let node = Node::start();
    let slow = Arc::new(Slow { recorder: Recorder::new(), is_stuck: AtomicBool::new(true) });
    let other = Recorder::new();
    slow.recorder.is_in.store(true, Ordering::SeqCst);
    node.feed.join(space(), slow.clone(), day(node.tomorrow())).await.unwrap();
    node.join(&other, day(node.tomorrow())).await;
    // The feed's task is stuck with the first of these: a watch and the log hold 1,024.
    for _ in 0..60 {
        node.churn().await;
    }
    slow.is_stuck.store(false, Ordering::SeqCst);
    other.reaches(1_080).await;
    slow.recorder.reaches(1_080).await;
    let last = node.change(1, "blocked").await;
    for member in [&other, &slow.recorder] {
        member.reaches(last).await;
        member.check(None);
        let heard = member.heard();
        let snapshots = heard.iter().filter(|(name, _)| *name == "slots_status_update").count();
        assert_eq!(snapshots, 2, "one when it joined, one instead of what is lost: {:?}", member.names());
        assert!(heard.len() < 20, "{}", heard.len());
    }
}

/// A member that has another one join in the middle of the first change that it is sent, and may be stuck there.
struct Inviting {
    recorder: Arc<Recorder>,
    feed: Feed,
    guest: Arc<Guest>,
    interest: Interest,
    is_stuck: AtomicBool,
    has_invited: AtomicBool,
}

/// One that remembers how many changes its host had been sent when it was told that it joined.
struct Guest {
    recorder: Arc<Recorder>,
    host: Arc<Recorder>,
    waited_for: Mutex<Option<usize>>,
}

fn count_updates(recorder: &Recorder) -> usize {
    recorder.heard().iter().filter(|(name, _)| *name == "slot_update").count()
}

impl Member for Guest {
    fn id(&self) -> MemberId {
        self.recorder.id()
    }

    fn send(&self, event: &'static str, payload: &RawValue) {
        if event == "joined_space" {
            *self.waited_for.lock().unwrap() = Some(count_updates(&self.host));
        }
        self.recorder.send(event, payload);
    }

    fn admits_replay(&self, events: usize, bytes: usize) -> bool {
        self.recorder.admits_replay(events, bytes)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.recorder.has_room(bytes)
    }

    fn abandon(&self) {
        self.recorder.abandon();
    }
}

impl Member for Inviting {
    fn id(&self) -> MemberId {
        self.recorder.id()
    }

    fn send(&self, event: &'static str, payload: &RawValue) {
        while event == "slot_update" && self.is_stuck.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.recorder.send(event, payload);
        if event == "slot_update" && !self.has_invited.swap(true, Ordering::SeqCst) {
            let (feed, guest, interest) = (self.feed.clone(), self.guest.clone(), self.interest.clone());
            let mut joining = Box::pin(async move { feed.join(space(), guest, interest).await });
            // Polled once here, so that it waits in the task's queue from this very event on.
            assert!((&mut joining).now_or_never().is_none());
            tokio::spawn(joining);
        }
    }

    fn admits_replay(&self, events: usize, bytes: usize) -> bool {
        self.recorder.admits_replay(events, bytes)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.recorder.has_room(bytes)
    }

    fn abandon(&self) {
        self.recorder.abandon();
    }
}

impl Inviting {
    async fn join(node: &Node, interest: Interest, is_stuck: bool) -> Arc<Self> {
        let (recorder, guest) = (Recorder::new(), Recorder::new());
        guest.is_in.store(true, Ordering::SeqCst);
        recorder.is_in.store(true, Ordering::SeqCst);
        let guest = Arc::new(Guest { recorder: guest, host: recorder.clone(), waited_for: Mutex::default() });
        let host = Arc::new(Self {
            recorder,
            feed: node.feed.clone(),
            guest,
            interest,
            is_stuck: AtomicBool::new(is_stuck),
            has_invited: AtomicBool::new(false),
        });
        node.feed.join(space(), host.clone(), day(node.tomorrow())).await.unwrap();
        host
    }

    /// The guest joined with few changes in between, and both are told everything up to the last.
    async fn ends_fairly(&self, last: u64) {
        for recorder in [&self.recorder, &self.guest.recorder] {
            recorder.reaches(last).await;
        }
        let waited_for = self.guest.waited_for.lock().unwrap().unwrap();
        assert!(waited_for <= 64, "the guest waited for {waited_for} changes");
        assert_eq!(count_updates(&self.recorder) as u64, last, "the host missed nothing");
        let since = self.interest.since.as_ref().map(|since| since.version);
        self.recorder.check(None);
        self.guest.recorder.check(since);
    }
}

/// What one who joins may ask for.
async fn interests(node: &Node) -> Vec<Interest> {
    let start = node.head().await;
    vec![
        day(node.tomorrow()),
        Interest::default(),
        since(&start),
        Interest { day: Some(node.tomorrow()), since: Some(Position { epoch: "another".into(), version: 1 }) },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_joins_does_not_wait_for_all_that_waits_to_be_sent() {
    for index in 0..4 {
        let node = Node::start();
        let interest = interests(&node).await.remove(index);
        let host = Inviting::join(&node, interest, true).await;
        // All of it waits behind the first, and was answered to clients of this node.
        for _ in 0..28 {
            node.churn().await;
        }
        let head = node.head().await.version;
        host.is_stuck.store(false, Ordering::SeqCst);
        host.ends_fairly(head).await;
        let last = node.change(1, "blocked").await;
        host.ends_fairly(last).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_joins_does_not_wait_for_all_that_was_missed() {
    for index in 0..4 {
        let node = Node::hearing(|inner| Arc::new(Unreliable { inner, hub: Hub::default(), fault: Fault::Silence }));
        let interest = interests(&node).await.remove(index);
        let host = Inviting::join(&node, interest, false).await;
        for _ in 0..28 {
            node.churn().await;
        }
        tokio::spawn(node.feed.clone().compare_heads());
        let head = node.head().await.version;
        host.ends_fairly(head).await;
    }
}

// --- Buckets

/// Remembers what the buckets bring, in order.
#[derive(Default)]
struct Everybody {
    heard: Mutex<Vec<String>>,
    freed: Mutex<Vec<FreedSummary>>,
}

impl Everybody {
    fn note(&self, what: String) {
        self.heard.lock().unwrap().push(what);
    }

    async fn hears(&self, count: usize) -> Vec<String> {
        let heard = async {
            while self.heard.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, heard).await.is_ok(), "{:?}", self.heard.lock().unwrap());
        self.heard.lock().unwrap().clone()
    }
}

impl Audience for Everybody {
    fn tell_freed(&self, freed: FreedSummary) {
        self.note(format!("freed {}", freed.count));
        self.freed.lock().unwrap().push(freed);
    }

    fn tell_user(&self, message: UserMessage) {
        self.note(format!("user {} {} {}", message.user, message.sequence, message.event));
    }

    fn tell_user_messages_missed(&self, _: Bucket) {}

    fn tell_everyone(&self, message: EveryoneMessage) {
        self.note(format!("everyone {} {}", message.event, message.data));
    }

    fn disconnect_user(&self, command: DisconnectUser) {
        self.note(format!("disconnect {}", command.user));
    }
}

async fn follow(node: &Node) -> Arc<Everybody> {
    let everybody = Arc::new(Everybody::default());
    tokio::spawn(node.feed.clone().follow_buckets(everybody.clone()));
    // It tells the health when all buckets are followed.
    tokio::spawn(node.feed.clone().compare_heads());
    let ready = async {
        while !node.app.app.health.obstacles().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    node.app.app.health.set_feed_in_step(false);
    assert!(tokio::time::timeout(PATIENCE, ready).await.is_ok());
    everybody
}

#[tokio::test]
async fn what_is_for_a_user_comes_in_order_with_commands_in_their_place() {
    let node = Node::start();
    let everybody = follow(&node).await;
    let user = UserId::new("7").unwrap();
    let data = || RawValue::from_string("{\"n\": 1.10}".into()).unwrap();
    let to_user = |event: &str| Publication::ToUser { user: user.clone(), event: event.into(), data: data() };
    let store = &node.app.app.store;
    for publication in [to_user("one"), to_user("two"), Publication::DisconnectUser(user.clone()), to_user("three")] {
        store.publish(publication).await.unwrap();
    }
    let heard = everybody.hears(4).await;
    let (mut told, mut sequences) = (Vec::new(), Vec::new());
    for line in &heard {
        let words: Vec<&str> = line.split(' ').collect();
        if let [_, _, sequence, event] = words[..] {
            sequences.push(sequence.parse::<u64>().unwrap());
            told.push(event);
        } else {
            told.push(line);
        }
    }
    assert_eq!(told, ["one", "two", "disconnect 7", "three"]);
    assert!(sequences.is_sorted_by(|one, next| one < next), "{sequences:?}");
    store.publish(Publication::ToEveryone(EveryoneMessage { event: "news".into(), data: data() })).await.unwrap();
    assert_eq!(everybody.hears(5).await[4], "everyone news {\"n\": 1.10}");
}

#[tokio::test]
async fn what_ends_within_a_second_is_told_once() {
    let node = Node::start();
    let everybody = follow(&node).await;
    for slots in [vec![1, 2], vec![5]] {
        let body = json!({"idSpazio": 3, "sedeId": 1, "date": node.app.tomorrow(), "slots": slots, "holdSeconds": 1});
        node.app.post("/api/slots/hold", &node.app.user("7"), body).await.data();
    }
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    node.app.post("/api/sweep", &node.app.staff("1", "admin"), json!({})).await;
    assert_eq!(everybody.hears(1).await, ["freed 3"]);
    let freed = everybody.freed.lock().unwrap().remove(0);
    let listed: HashMap<SpaceKey, usize> =
        freed.spaces.iter().map(|(space, slots)| (*space, slots.slots.len())).collect();
    assert_eq!(listed, HashMap::from([(space(), 3)]));
}

/// A member that makes its space's task panic.
struct Faulty;

impl Member for Faulty {
    fn id(&self) -> MemberId {
        0
    }

    #[allow(clippy::panic, reason = "the test is about that")]
    fn send(&self, event: &'static str, _: &RawValue) {
        assert_ne!(event, "slot_update", "as the test wants it");
    }

    fn admits_replay(&self, _: usize, _: usize) -> bool {
        true
    }

    fn has_room(&self, _: usize) -> bool {
        true
    }

    fn abandon(&self) {}
}

#[tokio::test]
async fn after_a_panic_no_member_waits_for_events_that_never_come() {
    let node = Node::start();
    let member = Recorder::new();
    node.join(&member, Interest::default()).await;
    node.feed.join(space(), Arc::new(Faulty), Interest::default()).await.unwrap();
    node.change(1, "blocked").await;
    let abandoned = async {
        while !member.is_abandoned.load(Ordering::SeqCst) {
            member.more.notified().await;
        }
    };
    tokio::time::timeout(PATIENCE, abandoned).await.unwrap();
    assert_eq!(node.members(), 0);

    // The space is watched anew by those who come back.
    let back = Recorder::new();
    node.join(&back, Interest::default()).await;
    let last = node.change(2, "blocked").await;
    back.reaches(last).await;
    assert_eq!(node.members(), 1);
}
