//! Redis refuses a command in the middle of a script. The journal has an entry for each change that was made, and for
//! no other.

use std::time::Duration;

use slotcast::domain::act::StaffStatus;
use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::slot::SlotState;
use slotcast::domain::{
    Actor, Day, HoldToken, JournalAct, JournalEntry, Origin, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime,
    SpaceId, SpaceKey, Status, StoreTime, UserId,
};
use slotcast::store::redis::RedisStore;
use slotcast::store::{SlotStore, SpaceChange};

use crate::support::redis::{RedisServer, store_at};

/// Commands that writing scripts use after their first effect.
const RIGHTS: [&str; 8] = ["hset", "hdel", "zadd", "zrem", "expireat", "xadd", "pexpire", "publish"];

fn day() -> Day {
    Day::parse("2090-05-05").unwrap()
}

fn space() -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() }
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
    let origin = Some(Origin { user: user("9"), role: None, request_id: None });
    let slots = slots.iter().map(slot).collect();
    SlotAct { space: space(), day: day(), slots, revision: None, kind, idempotency: None, origin }
}

fn hold(who: &str, token: u8, millis: i64) -> SlotActKind {
    let token = HoldToken::from_random([token; 16]);
    SlotActKind::Hold { user: user(who), token, millis, max_holds: None, max_held: None }
}

fn set(to: StaffStatus) -> SlotActKind {
    SlotActKind::Update { to, data: None, user: None }
}

/// A server with a user whose rights change.
struct Scene {
    server: RedisServer,
    observer: RedisStore,
    right: &'static str,
}

impl Scene {
    fn new(right: &'static str) -> Self {
        let server = RedisServer::start();
        server.cli(&["ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all"]);
        let observer = server.store();
        Self { server, observer, right }
    }

    fn set_right(&self, sign: &str) {
        self.server.cli(&["ACL", "SETUSER", "limited", &format!("{sign}{}", self.right)]);
    }

    /// The store of a process that does not know yet which command is refused.
    fn limited(&self) -> RedisStore {
        store_at(&format!("redis://limited:secret@{}", self.server.address()), "slotcast")
    }

    async fn entries(&self) -> Vec<JournalEntry> {
        let read = self.observer.read_journal(space().bucket(), 1, 10_000).await.unwrap();
        read.into_iter().map(|numbered| numbered.entry.expect("an entry")).collect()
    }

    /// Checks that the last entry about each slot has the slot's state, and no two entries have one id.
    async fn check(&self, after: &str) {
        let entries = self.entries().await;
        let records = self.observer.read_day(space(), day()).await.unwrap().records;
        for number in (1..=9).map(|n| SlotNumber::new(n).unwrap()) {
            let told = entries.iter().rev().find(|entry| entry.slots.contains(&number));
            let told = told.and_then(|entry| entry.status).unwrap_or(Status::Available);
            let is = match records.get(&number).map(|record| &record.state) {
                None | Some(SlotState::Available { .. }) => Status::Available,
                Some(SlotState::Held(_)) => Status::Occupied,
                Some(SlotState::Booked { .. }) => Status::Booked,
                Some(SlotState::Blocked { .. }) => Status::Blocked,
            };
            assert_eq!(told, is, "without {}, after {after}: slot {number} of {entries:#?}", self.right);
        }
        let mut ids: Vec<String> = entries.iter().map(JournalEntry::id).collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count, "without {}, after {after}: an id twice", self.right);
    }

    /// Tries an act without the right, and then another user's act with it, which repairs what is half done.
    async fn try_act(&self, what: &str, act_without: SlotAct) {
        self.set_right("-");
        let _ = self.limited().apply(act_without).await;
        self.set_right("+");
        self.limited().apply(act(&[7], set(StaffStatus::Blocked))).await.unwrap();
        self.check(what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_tells_of_what_was_done_and_of_nothing_else() {
    for right in RIGHTS {
        let scene = Scene::new(right);
        for (slots, token) in [(&[1, 2][..], 1), (&[3], 3), (&[4], 4), (&[9], 9)] {
            scene.limited().apply(act(slots, hold("a", token, 60_000))).await.unwrap();
        }
        let book = SlotActKind::Book { actor: Actor::User(user("a")), token: None };
        let release =
            SlotActKind::Release { actor: Actor::User(user("a")), token: None, booked_by: None, cancel_before: None };
        let extend = SlotActKind::Extend { user: user("a"), token: None, millis: 120_000, max_millis: 3_600_000 };
        scene.try_act("hold", act(&[5, 6], hold("b", 5, 60_000))).await;
        scene.try_act("extend", act(&[1, 2], extend)).await;
        scene.try_act("book", act(&[4], book)).await;
        scene.try_act("release", act(&[3], release)).await;
        scene.try_act("update", act(&[8], set(StaffStatus::Blocked))).await;
        scene.try_act("update of what is held", act(&[9], set(StaffStatus::Available))).await;
        // The ended hold is swept without the right, then with it.
        scene.limited().apply(act(&[3], set(StaffStatus::Available))).await.unwrap();
        scene.limited().apply(act(&[3], hold("a", 33, 200))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
        scene.set_right("-");
        let _ = scene.limited().sweep(space().bucket(), 100).await;
        scene.set_right("+");
        scene.limited().sweep(space().bucket(), 100).await.unwrap();
        scene.limited().apply(act(&[7], set(StaffStatus::Blocked))).await.unwrap();
        scene.check("a sweep").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_tells_of_schedules_that_were_changed_and_of_no_others() {
    for right in RIGHTS {
        let scene = Scene::new(right);
        let put = async |store: RedisStore, schedule: Option<ScheduleSpec>| {
            let revised_at = scene.observer.read_space(space()).await.unwrap().revised_at();
            store.put_space(SpaceChange::new(space(), schedule, revised_at).unwrap()).await
        };
        put(scene.limited(), Some(ScheduleSpec::default())).await.unwrap();
        scene.set_right("-");
        let _ = put(scene.limited(), None).await;
        scene.set_right("+");
        // Another user's act repairs what is half done.
        let mut other = act(&[7], set(StaffStatus::Blocked));
        let state = scene.observer.read_space(space()).await.unwrap();
        other.revision = Some(slotcast::domain::Position { version: state.revision, epoch: state.at.epoch });
        if scene.limited().apply(other).await.is_err() {
            // The change comes under the epoch that the repair has begun.
            let state = scene.observer.read_space(space()).await.unwrap();
            let at = slotcast::domain::Position { version: state.revision, epoch: state.at.epoch };
            let other = SlotAct { revision: Some(at), ..act(&[7], set(StaffStatus::Blocked)) };
            scene.limited().apply(other).await.unwrap();
        }
        let revision = scene.observer.read_space(space()).await.unwrap().revision;
        let entries = scene.entries().await;
        let told = entries.iter().rev().find(|entry| entry.act == JournalAct::Space).unwrap();
        assert_eq!(told.position.version, revision, "without {right}: {entries:#?}");
    }
}
