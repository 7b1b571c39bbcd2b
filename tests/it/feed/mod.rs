//! The feed on the embedded store: what each member is sent, in which order, whatever the subscription does.
//!
//! Members record what they are sent. [`Recorder::check`] holds each record to the contract: every update follows the
//! one before, or a snapshot that is not older.

mod joining;
mod catching_up;
mod taking_turns;
mod buckets;
mod panics;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use parking_lot::Mutex;
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

/// How long an expected event may take.
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

    /// Moves the opening, and answers the version of that change.
    async fn change_schedule(&self, opens: &str) -> u64 {
        let answer = self.app.put("/api/spaces/1/3", &self.app.staff("1", "admin"), json!({"opens": opens})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        self.head().await.version
    }

    /// Changes the store behind this node's back, as another node would.
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
    /// Whether the member is between the call of join and the return of leave.
    is_in: AtomicBool,
    heard_after_leaving: AtomicBool,
    /// How many missed events it takes at once.
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
        self.heard.lock().push((event, serde_json::from_str(payload.get()).unwrap()));
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
        self.heard.lock().clone()
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

    /// Waits until it has heard this many events.
    async fn hears(&self, count: usize) {
        let heard = async {
            while self.heard().len() < count {
                self.more.notified().await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, heard).await.is_ok(), "not {count} events: {:?}", self.names());
    }

    /// Checks that every update follows the one before, and nothing goes back. `since` is the version with which it joined.
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
