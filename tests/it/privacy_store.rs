//! Erasing a user from both stores: nothing is left under the user's id, and what must stay is under another id.

use std::path::Path;
use std::sync::Arc;

use serde_json::value::RawValue;
use slotcast::domain::act::{Idempotency, StaffStatus};
use slotcast::domain::{
    Actor, Bucket, Day, HoldToken, JournalAct, Origin, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId,
    SpaceKey, StoreTime, UserId,
};
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::{ApplyError, Erasure, ErasureStep, LogRead, Publication, SlotStore, Topic};

use crate::support::redis::RedisServer;

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;

/// Three ids that are hard to find: a number, one that JSON escapes, and one with characters that Redis patterns and
/// lines of text use.
const USERS: [&str; 3] = ["700700700", "anna/\"o'neill\"@example.org", "ünï {b1}:*?[x]\\ c"];

/// A store of either kind, and the server or folder behind it.
struct Scene {
    store: Arc<dyn SlotStore>,
    server: Option<RedisServer>,
    folder: tempfile::TempDir,
}

fn embedded() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    Scene { store: Arc::new(EmbeddedStore::open(folder.path()).unwrap()), server: None, folder }
}

fn redis() -> Scene {
    let server = RedisServer::start();
    Scene { store: Arc::new(server.store()), server: Some(server), folder: tempfile::tempdir().unwrap() }
}

macro_rules! on_both_stores {
    ($($case:ident;)*) => {
        mod on_a_file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::embedded()).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::redis()).await;
            })*
        }
    };
}

on_both_stores! {
    nothing_is_left_under_the_id_of_an_erased_user;
    what_a_user_still_has_is_released_first;
    an_erasure_goes_on_where_it_stopped;
    many_bookings_take_many_steps;
    a_user_who_acts_meanwhile_has_what_is_new;
    others_keep_what_they_have;
}

fn space(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn day(number: u64) -> Day {
    Day::parse(&format!("2090-05-{number:02}")).unwrap()
}

/// A slot that starts at the given instant, or in the far future if there is none.
fn slot(number: u64, start: Option<StoreTime>) -> SlotTime {
    let far = StoreTime::from_millis(3_797_000_000_000).plus_millis(number as i64 * HOUR);
    let start = start.unwrap_or(far);
    SlotTime { number: SlotNumber::new(number).unwrap(), start, end: start.plus_millis(HOUR), label: "09:00".into() }
}

fn hold(who: &UserId, millis: i64) -> SlotActKind {
    let token = HoldToken::from_random([7; 16]);
    SlotActKind::Hold { user: who.clone(), token, millis, max_holds: None, max_held: None }
}

fn book(who: &UserId) -> SlotActKind {
    SlotActKind::Book { actor: Actor::User(who.clone()), token: None }
}

fn release(who: &UserId) -> SlotActKind {
    let actor = Actor::User(who.clone());
    SlotActKind::Release { actor: actor.clone(), token: None, booked_by: Some(actor), cancel_before: None }
}

impl Scene {
    async fn act(&self, on: SpaceKey, slots: &[SlotTime], kind: SlotActKind, by: &UserId, key: Option<&str>) {
        assert!(self.try_act(on, slots, kind.clone(), by, key).await, "{kind:?} was refused");
    }

    /// Acts. Answers false if the rule refuses the act.
    async fn try_act(
        &self,
        on: SpaceKey,
        slots: &[SlotTime],
        kind: SlotActKind,
        by: &UserId,
        key: Option<&str>,
    ) -> bool {
        let idempotency =
            key.map(|key| Idempotency { caller: by.clone(), key: key.into(), fingerprint: format!("{key} of it") });
        let origin = Some(Origin { user: by.clone(), role: None, request_id: None });
        let (day, slots) = (day(5), slots.to_vec());
        match self.store.apply(SlotAct { space: on, day, slots, revision: None, kind, idempotency, origin }).await {
            Ok(_) => true,
            Err(ApplyError::Refused(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Books slots that start soon, and waits until they have started. Tries again with a later start if this machine
    /// was too slow to book them before.
    async fn book_past(&self, who: &UserId, on: SpaceKey, numbers: &[u64]) {
        let mut last = self.now().await;
        for numbers in numbers.chunks(32) {
            let mut lead = 1_000;
            last = loop {
                let start = self.now().await.plus_millis(lead);
                let slots: Vec<SlotTime> = numbers.iter().map(|number| slot(*number, Some(start))).collect();
                let key = format!("book {}", numbers[0]);
                if self.try_act(on, &slots, hold(who, MINUTE), who, None).await
                    && self.try_act(on, &slots, book(who), who, Some(&key)).await
                {
                    break start;
                }
                lead *= 2;
            };
        }
        self.wait_past(last).await;
    }

    async fn now(&self) -> StoreTime {
        self.store.ping().await.unwrap()
    }

    async fn wait_past(&self, instant: StoreTime) {
        while self.store.ping().await.unwrap() <= instant {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    async fn notify(&self, who: &UserId) {
        let data = RawValue::from_string("{\"n\":1}".into()).unwrap();
        let message = Publication::ToUser { user: who.clone(), event: "news".into(), data };
        self.store.publish(message).await.unwrap();
    }

    async fn begin(&self, who: &UserId) -> Erasure {
        let stand_in = self.store.begin_erasure(who).await.unwrap();
        Erasure { user: who.clone(), stand_in }
    }

    /// Does all steps of all buckets, for a user who has nothing left to release.
    async fn erase_all(&self, erasure: &Erasure) {
        for bucket in Bucket::all() {
            while let step = self.store.erase_in(bucket, erasure).await.unwrap()
                && step != ErasureStep::Done
            {
                assert_eq!(step, ErasureStep::More);
            }
        }
    }

    async fn erase(&self, who: &UserId) -> UserId {
        let erasure = self.begin(who).await;
        self.erase_all(&erasure).await;
        self.store.end_erasure(who).await.unwrap();
        erasure.stand_in
    }

    /// Each entry of a space's journal: the act, who has or had the slots, and who acted.
    async fn people_of(&self, on: SpaceKey) -> Vec<(JournalAct, Option<UserId>, Option<UserId>)> {
        let read = self.store.read_journal(on.bucket(), 1, 10_000).await.unwrap();
        let entries = read.into_iter().map(|numbered| numbered.entry.unwrap()).filter(|entry| entry.space == on);
        entries.map(|entry| (entry.act, entry.user, entry.actor.and_then(|actor| actor.id))).collect()
    }

    async fn booked_by(&self, who: &UserId) -> usize {
        let all = [Day::parse("0001-01-01").unwrap(), Day::parse("9999-12-31").unwrap()];
        self.store.bookings_of(who, all[0], all[1]).await.unwrap().len()
    }

    /// Where the store has a text: the keys and values of Redis, or the files of the folder.
    fn places_of(&self, text: &str) -> Vec<String> {
        match &self.server {
            Some(server) => places_in_redis(server, text),
            None => places_in_folder(self.folder.path(), text),
        }
    }
}

fn places_in_redis(server: &RedisServer, text: &str) -> Vec<String> {
    let json = serde_json::to_string(text).unwrap();
    let spellings = [text.to_owned(), json.trim_matches('"').to_owned(), json.trim_matches('"').replace('/', "\\/")];
    let mut found = Vec::new();
    for key in server.cli(&["KEYS", "*"]).lines() {
        let command: &[&str] = match server.cli(&["TYPE", key]).as_str() {
            "hash" => &["HGETALL", key],
            "string" => &["GET", key],
            "zset" => &["ZRANGE", key, "0", "-1"],
            "stream" => &["XRANGE", key, "-", "+"],
            other => panic!("{key} is a {other}"),
        };
        let value = server.cli(command);
        if spellings.iter().any(|spelling| key.contains(spelling) || value.contains(spelling)) {
            found.push(key.to_owned());
        }
    }
    found
}

fn places_in_folder(folder: &Path, text: &str) -> Vec<String> {
    let json = serde_json::to_string(text).unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for spelling in [text, json.trim_matches('"')] {
            let count = bytes.windows(spelling.len()).filter(|window| *window == spelling.as_bytes()).count();
            if count > 0 {
                found.push(format!("{} times {spelling} in {}", count, path.display()));
            }
        }
    }
    found
}

async fn nothing_is_left_under_the_id_of_an_erased_user(scene: Scene) {
    for (number, name) in (10..).step_by(10).zip(USERS) {
        let (who, on) = (user(name), space(number));
        scene.book_past(&who, on, &[1, 2]).await;
        scene.act(on, &[slot(3, None)], hold(&who, MINUTE), &who, Some("hold")).await;
        scene.act(on, &[slot(3, None)], release(&who), &who, None).await;
        scene.act(on, &[slot(4, None)], hold(&who, MINUTE), &user("8"), None).await;
        scene.act(on, &[slot(4, None)], release(&who), &user("8"), None).await;
        scene.notify(&who).await;
        scene.store.mark_received(&who, 1).await.unwrap();
        assert!(!scene.places_of(name).is_empty(), "it is found before");
        let before = scene.people_of(on).await;
        let kept = scene.store.kept_of(&who).await.unwrap();
        assert_eq!((kept.calls.len(), kept.last_received), (2, 1));
        assert!(kept.last_sent > 0 && kept.calls.iter().all(|call| call.position.version > 0), "{kept:?}");

        let stand_in = scene.erase(&who).await;

        assert_eq!(scene.places_of(name), Vec::<String>::new(), "{name}");
        assert_eq!(scene.store.kept_of(&who).await.unwrap(), Default::default());
        assert!(scene.store.messages_of(&who, Some(0), usize::MAX).await.unwrap().messages.is_empty());
        assert_eq!((scene.booked_by(&who).await, scene.booked_by(&stand_in).await), (0, 2));
        let renamed = |person: Option<UserId>| person.map(|one| if one == who { stand_in.clone() } else { one });
        let expected: Vec<_> =
            before.into_iter().map(|(act, user, actor)| (act, renamed(user), renamed(actor))).collect();
        assert_eq!(scene.people_of(on).await, expected);
        assert!(stand_in.as_str().starts_with("erased-") && stand_in.as_str().len() == 39, "{stand_in}");
    }
    // A user of whom nothing is kept is erased, too, and gets another id each time.
    let (first, second) = (scene.erase(&user("nobody")).await, scene.erase(&user("nobody")).await);
    assert_ne!(first, second);
    assert_eq!(scene.places_of("nobody"), Vec::<String>::new());
}

async fn what_a_user_still_has_is_released_first(scene: Scene) {
    let (who, on) = (user("7"), space(1));
    let erasure = scene.begin(&who).await;
    let step = async || scene.store.erase_in(on.bucket(), &erasure).await.unwrap();
    scene.act(on, &[slot(1, None)], hold(&who, MINUTE), &who, None).await;
    assert_eq!(step().await, ErasureStep::Taken);
    scene.act(on, &[slot(1, None)], book(&who), &who, None).await;
    assert_eq!(step().await, ErasureStep::Taken);
    assert_eq!(scene.booked_by(&who).await, 1, "nothing was changed");
    // The booking of slot 1 still has to be released, although slot 2 has started.
    scene.book_past(&who, on, &[2]).await;
    assert_eq!(step().await, ErasureStep::Taken);
    scene.act(on, &[slot(1, None)], release(&who), &who, None).await;
    // A hold that has ended has to be swept first.
    scene.act(on, &[slot(3, None)], hold(&who, 20), &who, None).await;
    let ended = scene.store.ping().await.unwrap().plus_millis(20);
    scene.wait_past(ended).await;
    let last_step = async || loop {
        match step().await {
            ErasureStep::More => {}
            last => break last,
        }
    };
    assert_eq!(last_step().await, ErasureStep::Taken);
    scene.store.sweep(on.bucket(), 100).await.unwrap();
    assert_eq!(last_step().await, ErasureStep::Done);
    assert_eq!((scene.booked_by(&who).await, scene.booked_by(&erasure.stand_in).await), (0, 1));
}

async fn an_erasure_goes_on_where_it_stopped(scene: Scene) {
    let who = user("anna@example.org");
    let spaces: Vec<SpaceKey> = (1..=6).map(space).collect();
    for on in &spaces {
        scene.act(*on, &[slot(1, None)], hold(&who, MINUTE), &who, Some(&on.to_string())).await;
        scene.act(*on, &[slot(1, None)], release(&who), &who, None).await;
    }
    let first = scene.begin(&who).await;
    for on in &spaces[..3] {
        assert_eq!(scene.store.erase_in(on.bucket(), &first).await.unwrap(), ErasureStep::Done);
    }
    // The first erasure stops here, as if its node was killed. Two other nodes go on at once.
    let (second, third) = (scene.begin(&who).await, scene.begin(&who).await);
    assert_eq!((&second, &third), (&first, &first), "one id stands for the user everywhere");
    tokio::join!(scene.erase_all(&second), scene.erase_all(&third));
    scene.store.end_erasure(&who).await.unwrap();
    scene.store.end_erasure(&who).await.unwrap();
    for on in &spaces {
        let people = scene.people_of(*on).await;
        assert_eq!(people.len(), 2);
        let stand_in = Some(first.stand_in.clone());
        assert!(people.iter().all(|(_, user, actor)| (user, actor) == (&stand_in, &stand_in)), "{people:?}");
    }
    assert_eq!(scene.places_of(who.as_str()), Vec::<String>::new());
    assert_ne!(scene.begin(&who).await, first, "it is forgotten whom the id stands for");
}

async fn many_bookings_take_many_steps(scene: Scene) {
    let (who, on) = (user("77777777"), space(1));
    let numbers: Vec<u64> = (1..=450).collect();
    scene.book_past(&who, on, &numbers).await;
    let erasure = scene.begin(&who).await;
    let mut steps = Vec::new();
    while steps.last() != Some(&ErasureStep::Done) {
        steps.push(scene.store.erase_in(on.bucket(), &erasure).await.unwrap());
    }
    let more = ErasureStep::More;
    assert_eq!(steps, [more, more, more, ErasureStep::Done]);
    assert_eq!((scene.booked_by(&who).await, scene.booked_by(&erasure.stand_in).await), (0, 450));
    let day = scene.store.read_day(on, day(5)).await.unwrap();
    let versions: Vec<u64> = day.records.values().map(|record| record.version).collect();
    assert!(versions.iter().all(|version| *version <= day.at.version), "no version was taken");
}

async fn a_user_who_acts_meanwhile_has_what_is_new(scene: Scene) {
    let (who, on) = (user("7"), space(1));
    scene.act(on, &[slot(1, None)], hold(&who, MINUTE), &who, Some("k")).await;
    scene.act(on, &[slot(1, None)], release(&who), &who, None).await;
    let erasure = scene.begin(&who).await;
    scene.erase_all(&erasure).await;
    // The old answer is erased, so the same key makes a new call now.
    scene.act(on, &[slot(2, None)], hold(&who, MINUTE), &who, Some("k")).await;
    assert_eq!(scene.store.erase_in(on.bucket(), &erasure).await.unwrap(), ErasureStep::Taken);
    let people = scene.people_of(on).await;
    let (old, new) = (Some(erasure.stand_in.clone()), Some(who.clone()));
    let users: Vec<_> = people.into_iter().map(|(_, user, _)| user).collect();
    assert_eq!(users, [old.clone(), old, new]);
    scene.act(on, &[slot(2, None)], release(&who), &who, None).await;
    assert_eq!(scene.store.erase_in(on.bucket(), &erasure).await.unwrap(), ErasureStep::Done);
    let people = scene.people_of(on).await;
    assert!(
        people.iter().all(|(_, user, actor)| user == actor && *user == Some(erasure.stand_in.clone())),
        "{people:?}"
    );
}

async fn others_keep_what_they_have(scene: Scene) {
    // The ids of the others contain the id of the erased user.
    let (who, others) = (user("7"), [user("77"), user("7 "), user(" 7"), user("7:x")]);
    let on = space(1);
    for (number, other) in (1..).zip(&others) {
        scene.act(on, &[slot(number, None)], hold(other, MINUTE), other, Some("k")).await;
        scene.act(on, &[slot(number, None)], book(other), other, None).await;
        scene.notify(other).await;
    }
    scene
        .act(on, &[slot(9, None)], SlotActKind::Update { to: StaffStatus::Booked, data: None, user: None }, &who, None)
        .await;
    let before = scene.store.head_of(Topic::Space(on)).await.unwrap();
    let (entries, board) = (scene.people_of(on).await, scene.store.read_day(on, day(5)).await.unwrap().records);
    let stand_in = scene.erase(&who).await;
    assert_eq!(scene.store.head_of(Topic::Space(on)).await.unwrap(), before, "no version, no epoch");
    assert_eq!(scene.store.read_day(on, day(5)).await.unwrap().records, board);
    for (index, (act, user, actor)) in scene.people_of(on).await.into_iter().enumerate() {
        let expected =
            if entries[index].2 == Some(who.clone()) { Some(stand_in.clone()) } else { entries[index].2.clone() };
        assert_eq!((act, user, actor), (entries[index].0, entries[index].1.clone(), expected));
    }
    let log =
        scene.store.read_log(Topic::Space(on), &slotcast::domain::Position { version: 0, ..before.clone() }).await;
    let LogRead::Messages(messages) = log.unwrap() else { panic!("the log of others is there") };
    assert_eq!(messages.len(), 9);
    for other in &others {
        assert_eq!(scene.booked_by(other).await, 1, "{other}");
        assert_eq!(scene.store.kept_of(other).await.unwrap().calls.len(), 1, "{other}");
        assert_eq!(scene.store.messages_of(other, None, usize::MAX).await.unwrap().messages.len(), 1, "{other}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_written_anew_goes_on_under_its_epoch_and_its_name() {
    let scene = embedded();
    let (who, on) = (user("7"), space(1));
    scene.act(on, &[slot(1, None)], hold(&who, MINUTE), &who, None).await;
    scene.act(on, &[slot(1, None)], release(&who), &who, None).await;
    let before = scene.store.head_of(Topic::Space(on)).await.unwrap();
    scene.erase(&who).await;
    let other = user("8");
    scene.act(on, &[slot(1, None)], hold(&other, MINUTE), &other, None).await;
    let held = scene.store.head_of(Topic::Space(on)).await.unwrap();
    assert_eq!((&held.epoch, held.version), (&before.epoch, before.version + 1));
    let names: Vec<_> =
        std::fs::read_dir(scene.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the file and its mark: {names:?}");
    drop(scene.store);
    let again = EmbeddedStore::open(scene.folder.path()).unwrap();
    assert_eq!(again.head_of(Topic::Space(on)).await.unwrap(), held);
    assert_eq!(again.holds_of(&other).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_node_of_0_1_lives_nobody_is_erased() {
    let server = RedisServer::start();
    let until = slotcast::clock::wall().as_millis() + 600_000;
    server.cli(&["ZADD", "slotcast:{nodes}:leases", &until.to_string(), "old"]);
    let store = server.store();
    let refused = store.begin_erasure(&user("7")).await.unwrap_err();
    assert!(refused.0.contains("0.1"), "{refused}");
    assert_eq!(server.cli(&["KEYS", "*erasing*"]).trim(), "");
}

/// The next run finishes a booking that has another owner already and is still in the user's index.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_booking_that_is_given_away_but_still_indexed_is_finished_by_the_next_run() {
    let scene = redis();
    let (who, on) = (user("7"), space(1));
    scene.book_past(&who, on, &[1]).await;
    let erasure = scene.begin(&who).await;
    let (server, bucket) = (scene.server.as_ref().unwrap(), on.bucket().get());
    let index = format!("slotcast:{{b{bucket}}}:bookings");
    let member = server.cli(&["ZRANGE", &index, "0", "-1"]).trim_end_matches('\n').to_owned();
    scene.erase_all(&erasure).await;
    // This is what the store has if the server refuses the script's last command.
    server.cli(&["ZADD", &index, "0", &member]);
    scene.erase_all(&erasure).await;
    scene.store.end_erasure(&who).await.unwrap();
    assert_eq!((scene.booked_by(&who).await, scene.booked_by(&erasure.stand_in).await), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_written_anew_stays_in_use_and_the_erasure_is_repeated() {
    let scene = embedded();
    let (who, on) = (user("anna@example.org"), space(1));
    scene.act(on, &[slot(1, None)], hold(&who, MINUTE), &who, None).await;
    scene.act(on, &[slot(1, None)], release(&who), &who, None).await;
    // The new file is to be written at this path.
    let in_the_way = scene.folder.path().join("slotcast.redb.anew");
    std::fs::create_dir(&in_the_way).unwrap();
    let erasure = scene.begin(&who).await;
    scene.erase_all(&erasure).await;
    scene.store.end_erasure(&who).await.unwrap_err();
    assert_ne!(scene.places_of(who.as_str()), Vec::<String>::new(), "pages that are free have it");
    scene.act(on, &[slot(1, None)], hold(&user("8"), MINUTE), &user("8"), None).await;

    std::fs::remove_dir(&in_the_way).unwrap();
    // A killed process has left this file there.
    std::fs::write(&in_the_way, "anna@example.org").unwrap();
    scene.erase(&who).await;
    assert_eq!(scene.places_of(who.as_str()), Vec::<String>::new());
    assert_eq!(scene.store.holds_of(&user("8")).await.unwrap().len(), 1);
}
