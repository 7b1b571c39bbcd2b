//! The server refuses a command in the middle of a script. What the act did is told all the same: the log has each
//! change that the board shows, everybody hears it, each freed slot is counted once, and a repeat answers the position
//! of an event of its slot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use slotcast::domain::act::{Idempotency, StaffStatus};
use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::slot::SlotState;
use slotcast::domain::{
    Actor, Day, HoldToken, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime, UserId,
};
use slotcast::store::redis::{RedisStore, keys};
use slotcast::store::{ApplyError, Message, MessageKind, SlotStore, SpaceChange, Topic};

use crate::support::redis::{RedisServer, store_at};
use crate::support::repeat_of;

/// The commands that writing scripts use after their first effect.
const RIGHTS: [&str; 9] = ["hset", "hdel", "zadd", "zrem", "expireat", "xadd", "pexpire", "publish", "xrevrange"];

/// How long a test waits for messages.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a short hold lasts, in ms.
const SHORT: i64 = 150;

fn space() -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() }
}

fn day() -> Day {
    Day::parse("2090-05-05").unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn act(slots: &[u64], kind: SlotActKind) -> SlotAct {
    let slot = |n: &u64| {
        let start = StoreTime::from_millis(3_797_000_000_000).plus_millis(*n as i64 * 3_600_000);
        let end = start.plus_millis(3_600_000);
        SlotTime { number: SlotNumber::new(*n).unwrap(), start, end, label: format!("{n:02}:00") }
    };
    let slots = slots.iter().map(slot).collect();
    SlotAct { space: space(), day: day(), slots, revision: None, kind, idempotency: None, origin: None }
}

fn hold(who: &str, token: u8, millis: i64) -> SlotActKind {
    let token = HoldToken::from_random([token; 16]);
    SlotActKind::Hold { user: user(who), token, millis, max_holds: None, max_held: None }
}

fn extend(who: &str) -> SlotActKind {
    SlotActKind::Extend { user: user(who), token: None, millis: 120_000, max_millis: 3_600_000 }
}

fn book(who: &str) -> SlotActKind {
    SlotActKind::Book { actor: Actor::User(user(who)), token: None }
}

fn release(who: &str) -> SlotActKind {
    SlotActKind::Release { actor: Actor::User(user(who)), token: None, booked_by: None, cancel_before: None }
}

fn set(to: StaffStatus) -> SlotActKind {
    SlotActKind::Update { to, data: None, user: None }
}

/// The statuses of slots; free slots are left out.
type Board = BTreeMap<u64, &'static str>;

/// One entry of a log, or one message that was heard: version, epoch, kind, payload.
type Told = (u64, String, String, String);

/// A server with a user whose rights change, and every message that is published there.
struct Scene {
    server: RedisServer,
    observer: RedisStore,
    heard: Arc<Mutex<Vec<(Topic, Message)>>>,
    listening: tokio::task::JoinHandle<()>,
    right: &'static str,
}

impl Scene {
    async fn new(right: &'static str) -> Self {
        let server = RedisServer::start();
        server.cli(&["ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all"]);
        let observer = server.store();
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_async_pubsub().await.unwrap();
        connection.psubscribe("slotcast:{b*").await.unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = heard.clone();
        let listening = tokio::spawn(async move {
            let mut messages = connection.into_on_message();
            while let Some(message) = messages.next().await {
                // The check of rights publishes an empty message in a channel of no space.
                let topic = keys::topic_of_channel("slotcast", message.get_channel_name());
                let message = keys::parse_message(message.get_payload_bytes());
                all.lock().extend(topic.zip(message));
            }
        });
        Self { server, observer, heard, listening, right }
    }

    fn set_right(&self, sign: &str) {
        self.server.cli(&["ACL", "SETUSER", "limited", &format!("{sign}{}", self.right)]);
    }

    /// A new process, which does not know yet what the server refuses.
    fn limited(&self) -> RedisStore {
        store_at(&format!("redis://limited:secret@{}", self.server.address()), "slotcast")
    }

    async fn must(&self, what: &str, act: SlotAct) {
        let done = self.limited().apply(act).await;
        done.unwrap_or_else(|error| panic!("with {} again, {what}: {error}", self.right));
    }

    /// Tries an act without the right. Then, with the right, another user's act repairs what is half done, and the
    /// first act comes again under its key.
    async fn try_act(&self, what: &str, act_without: SlotAct) {
        let about = format!("without {}, {what}", self.right);
        let key = Idempotency { caller: user("caller"), key: what.into(), fingerprint: what.into() };
        let keyed = SlotAct { idempotency: Some(key), ..act_without };
        self.set_right("-");
        let tried = self.limited().apply(keyed.clone()).await;
        assert!(!matches!(tried, Err(ApplyError::Refused(_))), "{about}: {tried:?}");
        self.set_right("+");
        let between = self.statuses().await;
        self.must("another act", act(&[30], set(StaffStatus::Blocked))).await;
        let mut mended = self.statuses().await;
        mended.remove(&30);
        assert_eq!(mended, between.into_iter().filter(|(slot, _)| *slot != 30).collect::<Board>(), "{about}");
        self.check(&about).await;
        let first = self.limited().apply(keyed.clone()).await.unwrap_or_else(|error| panic!("{about}, again: {error}"));
        let again = self.limited().apply(keyed.clone()).await.unwrap();
        assert_eq!(again, repeat_of(&first), "{about}");
        if let Ok(tried) = tried {
            assert_eq!(repeat_of(&first), repeat_of(&tried), "{about}");
        }
        let log = self.log(Topic::Space(space())).await;
        let event = log.iter().find(|(version, epoch, ..)| *version == first.at.version && **epoch == *first.at.epoch);
        let event = event.unwrap_or_else(|| panic!("{about}: no event has {:?}", first.at));
        let slot = keyed.slots.last().unwrap().number.get();
        assert!(event.3.contains(&format!("\"slotId\":{slot},")), "{about}: {:?} is {event:?}", first.at);
        self.check(&about).await;
    }

    /// The log and the board show the same slots. The log has no gap within an epoch. Every entry of the log was heard.
    async fn check(&self, about: &str) {
        let log = self.log(Topic::Space(space())).await;
        for pair in log.windows(2) {
            let [before, after] = pair else { continue };
            assert!(after.0 == before.0 + 1 || after.1 != before.1, "{about}: a gap, {before:?}, {after:?}");
        }
        let mut told = Board::new();
        for (.., payload) in log.iter().filter(|(_, _, kind, _)| kind == "slot_update") {
            let update: serde_json::Value = serde_json::from_str(payload).unwrap();
            let slot = update["slotId"].as_u64().unwrap();
            match update["status"].as_str().unwrap() {
                "available" => drop(told.remove(&slot)),
                "occupied" => drop(told.insert(slot, "occupied")),
                "booked" => drop(told.insert(slot, "booked")),
                "blocked" => drop(told.insert(slot, "blocked")),
                other => panic!("{about}: {other}"),
            }
        }
        assert_eq!(told, self.statuses().await, "{about}: the log is {log:#?}");
        self.wait_until_heard(about, Topic::Space(space())).await;
    }

    /// The stored statuses of slots. A hold that has ended stays a hold until somebody frees it.
    async fn statuses(&self) -> Board {
        let records = self.observer.read_day(space(), day()).await.unwrap().records;
        let status = |state: &SlotState| match state {
            SlotState::Available { .. } => None,
            SlotState::Held(_) => Some("occupied"),
            SlotState::Booked { .. } => Some("booked"),
            SlotState::Blocked { .. } => Some("blocked"),
        };
        records.iter().filter_map(|(slot, record)| Some((u64::from(slot.get()), status(&record.state)?))).collect()
    }

    /// The log of a topic, as Redis has it.
    async fn log(&self, topic: Topic) -> Vec<Told> {
        let mut connection =
            redis::Client::open(self.server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
        let bucket = topic.bucket().get();
        let key = match topic {
            Topic::Bucket(_) => format!("slotcast:{{b{bucket}}}:log"),
            Topic::Space(_) => format!("slotcast:{{b{bucket}}}:log:1:1"),
        };
        type Entries = Vec<(String, Vec<(String, String)>)>;
        let entries: Entries =
            redis::cmd("XRANGE").arg(key).arg("-").arg("+").query_async(&mut connection).await.unwrap();
        let told = |(id, fields): (String, Vec<(String, String)>)| {
            let fields: BTreeMap<String, String> = fields.into_iter().collect();
            let version = id.split('-').next().unwrap().parse().unwrap();
            (version, fields["e"].clone(), fields["k"].clone(), fields["p"].clone())
        };
        entries.into_iter().map(told).collect()
    }

    /// Waits until everything in a log was heard. All messages of one position must be the same.
    async fn wait_until_heard(&self, about: &str, topic: Topic) {
        let log = self.log(topic).await;
        let deadline = slotcast::clock::instant() + PATIENCE;
        loop {
            let heard = self.heard_of(topic);
            let missing: Vec<&Told> = log.iter().filter(|told| !heard.contains(told)).collect();
            for (index, one) in heard.iter().enumerate() {
                let other = heard.iter().take(index).find(|other| (other.0, &other.1) == (one.0, &one.1));
                assert!(other.is_none_or(|other| other == one), "{about}: {other:?} and {one:?}");
            }
            if missing.is_empty() {
                return;
            }
            assert!(slotcast::clock::instant() < deadline, "{about}: never heard {missing:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn heard_of(&self, topic: Topic) -> Vec<Told> {
        let heard = self.heard.lock();
        let of_topic = heard.iter().filter(|(of, _)| *of == topic);
        let told = |message: &Message| {
            let Message { at, kind, payload, .. } = message;
            (at.version, at.epoch.to_string(), kind.as_str().to_owned(), payload.get().to_owned())
        };
        of_topic.map(|(_, message)| told(message)).collect()
    }

    /// How many slots the bucket has counted as freed, and how many slots the different messages name.
    async fn freed(&self) -> (u64, u64) {
        let topic = Topic::Bucket(space().bucket());
        self.wait_until_heard("freed slots", topic).await;
        let counted = self.observer.start_bucket(space().bucket()).await.unwrap().freed.unwrap();
        let mut messages: Vec<Told> =
            self.heard_of(topic).into_iter().filter(|(_, _, kind, _)| kind == MessageKind::Freed.as_str()).collect();
        messages.sort();
        messages.dedup();
        let slots = |payload: &str| {
            let freed: serde_json::Value = serde_json::from_str(payload).unwrap();
            freed["slots"].as_array().unwrap().len() as u64
        };
        (counted, messages.iter().map(|(.., payload)| slots(payload)).sum())
    }

    /// Holds these slots, and waits until the hold has ended. Nobody frees it.
    async fn let_end(&self, slots: &[u64], token: u8) {
        self.must("a short hold", act(slots, hold("short", token, SHORT))).await;
        let deadline = slotcast::clock::instant() + PATIENCE;
        loop {
            let read = self.observer.read_day(space(), day()).await.unwrap();
            let is_ended = |slot: &u64| {
                let record = read.records.get(&SlotNumber::new(*slot).unwrap());
                record.is_some_and(|record| record.ended_hold(read.now).is_some())
            };
            if slots.iter().all(is_ended) {
                return;
            }
            assert!(slotcast::clock::instant() < deadline);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_of_an_act_is_told_and_its_repeat_names_its_event() {
    for right in RIGHTS {
        let scene = Scene::new(right).await;
        for (slots, token) in [(&[1, 2][..], 1), (&[3, 4], 3), (&[5], 5), (&[9, 10], 9), (&[12], 12)] {
            scene.must("a hold", act(slots, hold("a", token, 600_000))).await;
        }
        scene.must("a block", act(&[11], set(StaffStatus::Blocked))).await;
        scene.try_act("hold", act(&[6, 7, 8], hold("b", 6, 600_000))).await;
        scene.try_act("extend", act(&[1, 2], extend("a"))).await;
        scene.try_act("book", act(&[3, 4], book("a"))).await;
        scene.try_act("release", act(&[1, 2], release("a"))).await;
        scene.try_act("release of one", act(&[5], release("a"))).await;
        scene.try_act("update of what is held", act(&[9, 10], set(StaffStatus::Booked))).await;
        scene.try_act("update to available", act(&[11], set(StaffStatus::Available))).await;
        scene.try_act("update of what is free", act(&[11], set(StaffStatus::Available))).await;
        scene.try_act("update of some that are free", act(&[12, 13], set(StaffStatus::Available))).await;
        let taken = SlotActKind::Update { to: StaffStatus::Booked, data: None, user: Some(user("c")) };
        scene.try_act("booking by staff", act(&[14, 15], taken)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_script_freed_is_told_and_counted_once() {
    for right in RIGHTS {
        let scene = Scene::new(right).await;
        scene.let_end(&[1, 2, 3], 1).await;
        scene.try_act("hold over ended holds", act(&[2, 3, 4], hold("b", 2, 600_000))).await;
        scene.try_act("update of an ended hold", act(&[1], set(StaffStatus::Available))).await;
        assert_eq!(scene.freed().await, (3, 3), "without {right}: acts");
        scene.let_end(&[5, 6], 5).await;
        scene.set_right("-");
        let _ = scene.limited().sweep(space().bucket(), 100).await;
        scene.set_right("+");
        scene.limited().sweep(space().bucket(), 100).await.unwrap();
        scene.check(&format!("without {right}, a sweep")).await;
        assert_eq!(scene.freed().await, (5, 5), "without {right}: a sweep");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_change_of_a_schedule_freed_is_told_and_counted_once() {
    for right in RIGHTS {
        let scene = Scene::new(right).await;
        scene.let_end(&[7, 8], 7).await;
        let put = async |name: &str| {
            let spec = ScheduleSpec { name: Some(name.into()), ..ScheduleSpec::default() };
            let revised_at = scene.observer.read_space(space()).await.unwrap().revised_at();
            scene.limited().put_space(SpaceChange::new(space(), Some(spec), revised_at).unwrap()).await
        };
        scene.set_right("-");
        let tried = put("one").await;
        scene.set_right("+");
        // This act repairs what is half done. It is refused if the first act has changed the schedule's revision.
        if tried.is_err() && put("two").await.is_err() {
            put("three").await.unwrap();
        }
        scene.limited().sweep(space().bucket(), 100).await.unwrap();
        scene.check(&format!("without {right}, a schedule")).await;
        assert_eq!(scene.freed().await, (2, 2), "without {right}: a schedule");
        let mut changes =
            scene.log(Topic::Space(space())).await.into_iter().filter(|(_, _, kind, _)| kind == "space_changed");
        let revision = scene.observer.read_space(space()).await.unwrap().revision;
        assert_eq!(changes.next_back().unwrap().0, revision, "without {right}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_trimmed_before_the_repair_does_not_stop_it() {
    let scene = Scene::new("pexpire").await;
    scene.must("a block", act(&[1], set(StaffStatus::Blocked))).await;
    scene.set_right("-");
    scene.limited().apply(act(&[2, 3], set(StaffStatus::Blocked))).await.unwrap_err();
    scene.set_right("+");
    // An erasure trims the log like this, if all entries name the user.
    scene.server.cli(&["XTRIM", &format!("slotcast:{{b{}}}:log:1:1", space().bucket().get()), "MAXLEN", "=", "0"]);
    scene.must("the next act", act(&[4], set(StaffStatus::Blocked))).await;
    assert_eq!(scene.statuses().await.len(), 4);
}
