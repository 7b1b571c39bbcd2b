//! The server refuses a command in the middle of a script. Nothing of the half act is ever shown under a version that
//! names something else, and all is well when the right is given back.

use std::collections::BTreeMap;
use std::time::Duration;

use slotcast::domain::Position;
use slotcast::domain::act::StaffStatus;
use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::{
    Actor, Day, HoldToken, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime, UserId,
};
use slotcast::store::redis::RedisStore;
use slotcast::store::{ApplyError, LogRead, MessageKind, Publication, SlotStore, SpaceChange, Topic};

use crate::support::redis::{RedisServer, store_at};

/// The commands that writing scripts use after their first effect.
const RIGHTS: [&str; 9] = ["hset", "hdel", "zadd", "zrem", "expireat", "xadd", "pexpire", "publish", "set"];

const DAY: &str = "2090-05-05";

fn space() -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() }
}

fn act(slots: &[u64], kind: SlotActKind) -> SlotAct {
    let slot = |n: &u64| {
        let start = StoreTime::from_millis(3_797_000_000_000).plus_millis(*n as i64 * 3_600_000);
        let end = start.plus_millis(3_600_000);
        SlotTime { number: SlotNumber::new(*n).unwrap(), start, end, label: format!("{n:02}:00") }
    };
    let (slots, day) = (slots.iter().map(slot).collect(), Day::parse(DAY).unwrap());
    SlotAct { space: space(), day, slots, revision: None, kind, idempotency: None, origin: None }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn hold(who: &str, token: u8, millis: i64) -> SlotActKind {
    SlotActKind::Hold {
        user: user(who),
        token: HoldToken::from_random([token; 16]),
        millis,
        max_holds: None,
        max_held: None,
    }
}

fn extend(who: &str, millis: i64) -> SlotActKind {
    SlotActKind::Extend { user: user(who), token: None, millis, max_millis: 3_600_000 }
}

fn book(who: &str) -> SlotActKind {
    SlotActKind::Book { actor: Actor::User(user(who)), token: None }
}

fn release(who: &str) -> SlotActKind {
    SlotActKind::Release { actor: Actor::User(user(who)), token: None, booked_by: None, cancel_before: None }
}

fn block() -> SlotActKind {
    SlotActKind::Update { to: StaffStatus::Blocked, data: None, user: None }
}

/// A server with a user whose rights change, and the board that each version showed.
struct Scene {
    server: RedisServer,
    observer: RedisStore,
    boards: BTreeMap<(String, u64), String>,
    right: &'static str,
}

impl Scene {
    fn new(right: &'static str) -> Self {
        let server = RedisServer::start();
        server.cli(&["ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all"]);
        let observer = server.store();
        Self { server, observer, boards: BTreeMap::new(), right }
    }

    fn take(&self) {
        self.server.cli(&["ACL", "SETUSER", "limited", &format!("-{}", self.right)]);
    }

    fn give_back(&self) {
        self.server.cli(&["ACL", "SETUSER", "limited", &format!("+{}", self.right)]);
    }

    /// A new process, which does not know yet what the server refuses.
    fn limited(&self) -> RedisStore {
        store_at(&format!("redis://limited:secret@{}", self.server.address()), "slotcast")
    }

    /// Reads the board. A version must show the same board each time.
    async fn look(&mut self, after: &str) -> Position {
        let read = self.observer.read_day(space(), Day::parse(DAY).unwrap()).await.unwrap();
        let board = format!("{:?}", read.records);
        let at = (read.at.epoch.to_string(), read.at.version);
        let known = self.boards.entry(at).or_insert_with(|| board.clone());
        assert_eq!(*known, board, "without {}: {:?} names two boards, after {after}", self.right, read.at);
        read.at
    }

    /// Acts in a process whose right was just taken. The act fails or is done, and the board must be right in both
    /// cases.
    async fn try_without(&mut self, what: &str, act: SlotAct) -> Option<Position> {
        self.take();
        let done = self.limited().apply(act).await;
        assert!(!matches!(done, Err(ApplyError::Refused(_))), "without {}, {what}: {done:?}", self.right);
        self.look(what).await;
        self.give_back();
        done.ok().map(|outcome| outcome.at)
    }

    /// Acts with all rights. The act must be done, although acts have just failed.
    async fn must(&mut self, what: &str, act: SlotAct) -> Position {
        let done = self.limited().apply(act).await;
        let at = done.unwrap_or_else(|error| panic!("with {} again, {what}: {error}", self.right)).at;
        self.look(what).await;
        at
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_taken_away_leaves_no_half_act() {
    for right in RIGHTS {
        let mut scene = Scene::new(right);
        scene.must("a's hold", act(&[1, 2], hold("a", 1, 60_000))).await;
        scene.must("a's hold", act(&[9], hold("a", 9, 60_000))).await;
        scene.must("a's hold", act(&[4], hold("a", 4, 60_000))).await;
        scene.must("b's hold", act(&[3], hold("b", 3, 60_000))).await;
        let acts: [(&str, &[u64], SlotActKind); 6] = [
            ("hold", &[5, 6], hold("a", 5, 60_000)),
            ("extend", &[1, 2], extend("a", 120_000)),
            ("book", &[4], book("a")),
            ("release", &[3], release("b")),
            ("update", &[8], block()),
            ("update of what is held", &[9], block()),
        ];
        let mut positions: Vec<(String, u64)> = Vec::new();
        for (what, slots, kind) in acts {
            let before = scene.look(what).await;
            let tried = scene.try_without(what, act(slots, kind)).await;
            // Another user's act comes next. Its position must be a new one.
            let next = scene.must("c's act", act(&[7], block())).await;
            assert!(
                next.epoch != before.epoch || next.version > before.version,
                "without {right}, {what}: {next:?} after {before:?}"
            );
            for at in [tried, Some(next)].into_iter().flatten() {
                let at = (at.epoch.to_string(), at.version);
                assert!(!positions.contains(&at), "without {right}, {what}: {at:?} names two events");
                positions.push(at);
            }
        }
        // A repeat answers the first act's position, which no event of another user has.
        let first = scene.limited().apply(act(&[5, 6], hold("a", 5, 60_000))).await.unwrap().at;
        let again = scene.limited().apply(act(&[5, 6], hold("a", 5, 60_000))).await.unwrap().at;
        assert_eq!(first, again, "without {right}");
        assert!(positions.iter().filter(|at| **at == (first.epoch.to_string(), first.version)).count() <= 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_hold_that_was_half_done_is_announced() {
    for right in RIGHTS {
        let mut scene = Scene::new(right);
        scene.must("a's hold", act(&[1], hold("a", 1, 60_000))).await;
        scene.try_without("a short hold", act(&[2], hold("a", 2, 300))).await;
        scene.try_without("an extension", act(&[1], extend("a", 300))).await;
        let bucket = space().bucket();
        let deadline = slotcast::clock::instant() + Duration::from_secs(30);
        // Without the right a sweep fails or frees holds. The next sweep, with the right, frees what has ended, and
        // each hold that it frees is announced.
        tokio::time::sleep(Duration::from_millis(400)).await;
        scene.take();
        let freed_without = scene.limited().sweep(bucket, 100).await.map_or(0, |report| report.freed);
        scene.look("a sweep").await;
        scene.give_back();
        let before = scene.look("nothing").await;
        let swept = scene.limited().sweep(bucket, 100).await.unwrap();
        let after = scene.look("a sweep with all rights").await;
        assert_eq!(swept.freed, announced(&scene.observer, &before, &after).await, "without {right}");
        loop {
            let read = scene.observer.read_day(space(), Day::parse(DAY).unwrap()).await.unwrap();
            let ended = read.records.values().filter(|record| record.ended_hold(read.now).is_some()).count();
            let due = scene.observer.sweep(bucket, 100).await.unwrap();
            if ended == 0 && due.next_end_in_ms.is_none_or(|next| next > 1_000) {
                break;
            }
            assert!(
                slotcast::clock::instant() < deadline,
                "without {right}: {freed_without} {due:?} {:?}",
                read.records
            );
        }
        assert!(scene.observer.holds_of(&user("a")).await.unwrap().len() <= 1, "without {right}");
    }
}

/// How many slots a log says were freed. In a new epoch all count, because everybody gets a snapshot then.
async fn announced(store: &RedisStore, before: &Position, after: &Position) -> u64 {
    if before.epoch != after.epoch {
        let since = Position { epoch: after.epoch.clone(), version: before.version };
        return count_updates(store, &since).await;
    }
    count_updates(store, before).await
}

async fn count_updates(store: &RedisStore, since: &Position) -> u64 {
    match store.read_log(Topic::Space(space()), since).await.unwrap() {
        LogRead::Messages(messages) => {
            messages.iter().filter(|message| message.kind == MessageKind::SlotUpdate).count() as u64
        }
        LogRead::Gone(at) => panic!("gone at {at:?} since {since:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_schedules_go_on_after_a_refusal() {
    let message = |n: usize| serde_json::value::RawValue::from_string(n.to_string()).unwrap();
    for right in RIGHTS {
        let scene = Scene::new(right);
        let notify = |store: RedisStore, n: usize| async move {
            let publication = Publication::ToUser { user: user("a"), event: "e".into(), data: message(n) };
            store.publish(publication).await
        };
        notify(scene.limited(), 1).await.unwrap();
        scene.take();
        let done = notify(scene.limited(), 2).await.is_ok();
        let everyone = slotcast::store::EveryoneMessage { event: "e".into(), data: message(0) };
        let _ = scene.limited().publish(Publication::ToEveryone(everyone.clone())).await;
        scene.give_back();
        notify(scene.limited(), 3).await.unwrap();
        scene.limited().publish(Publication::ToEveryone(everyone)).await.unwrap();
        let kept = scene.observer.messages_of(&user("a"), Some(0), usize::MAX).await.unwrap().messages;
        let kept: Vec<&str> = kept.iter().map(|message| message.data.get()).collect();
        assert!(kept.first() == Some(&"1") && kept.last() == Some(&"3"), "without {right}: {kept:?}");
        assert!(!done || kept.len() == 3, "without {right}: {kept:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_gone_while_its_log_is_there_begins_an_epoch_above_the_log() {
    let server = RedisServer::start();
    let store = server.store();
    let last = store.apply(act(&[1, 2, 3], block())).await.unwrap().at;
    server.cli(&["DEL", &format!("slotcast:{{b{}}}:head:1:1", space().bucket().get())]);
    let next = store.apply(act(&[4], hold("a", 1, 60_000))).await.unwrap().at;
    assert!(next.epoch != last.epoch && next.version == last.version + 1, "{next:?} after {last:?}");
    let board = store.read_day(space(), Day::parse(DAY).unwrap()).await.unwrap();
    assert_eq!((board.at, board.records.len()), (next.clone(), 4));
    // A change of a schedule begins a new epoch, too, if the space's head is lost.
    let other = SpaceKey { space: SpaceId::new(2).unwrap(), ..space() };
    let register = SpaceChange::new(other, Some(ScheduleSpec::default()), None).unwrap();
    let first = store.put_space(register.clone()).await.unwrap();
    server.cli(&["DEL", &format!("slotcast:{{b{}}}:head:1:2", other.bucket().get())]);
    let again = store.put_space(register).await.unwrap();
    assert!(again.epoch != first.epoch && again.version == first.version + 1, "{again:?} after {first:?}");
    // Messages to a user are sent, too, although the user's log is ahead of the count.
    let publish = async |data: &str| {
        let data = serde_json::value::RawValue::from_string(data.into()).unwrap();
        store.publish(Publication::ToUser { user: user("a"), event: "e".into(), data }).await
    };
    publish("1").await.unwrap();
    let bucket = user("a").bucket().get();
    server.cli(&["XADD", &format!("slotcast:{{b{bucket}}}:mail:a"), "9000000000000-0", "j", "{}", "ends", "0"]);
    publish("2").await.unwrap();
    publish("3").await.unwrap();
}
