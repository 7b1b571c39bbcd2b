//! Redis's clock is set forward and back, and a space has more days than Lua unpacks at once.

use std::time::Duration;

use slotcast::clock;
use slotcast::domain::act::Idempotency;
use slotcast::domain::slot::SlotState;
use slotcast::domain::{
    Actor, Day, HoldToken, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime, UserId,
};
use slotcast::store::redis::{RedisOptions, RedisStore};
use slotcast::store::{ActOutcome, LogRead, SlotStore, Topic};

use crate::support::redis::RedisServer;

const HOUR: i64 = 3_600_000;

const LASTS: i64 = 3_000;

fn space() -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() }
}

fn day() -> Day {
    Day::parse("2090-05-05").unwrap()
}

fn lasting(number: u64, millis: i64) -> SlotAct {
    let mut act = hold(number, "ada");
    if let SlotActKind::Hold { millis: lasts, .. } = &mut act.kind {
        *lasts = millis;
    }
    act
}

fn hold(number: u64, who: &str) -> SlotAct {
    let start = StoreTime::from_millis(3_797_000_000_000).plus_millis(number as i64 * HOUR);
    let (end, label) = (start.plus_millis(HOUR), "09:00".into());
    let slot = SlotTime { number: SlotNumber::new(number).unwrap(), start, end, label };
    let token = HoldToken::from_random([number as u8; 16]);
    let kind =
        SlotActKind::Hold { user: UserId::new(who).unwrap(), token, millis: LASTS, max_holds: None, max_held: None };
    SlotAct { space: space(), day: day(), slots: vec![slot], revision: None, kind, idempotency: None, origin: None }
}

/// A store whose clock is ahead of Redis's.
fn ahead(server: &RedisServer, millis: i64) -> RedisStore {
    let options = RedisOptions { clock_shift_millis: millis, ..RedisOptions::default() };
    RedisStore::open(&server.url(), "slotcast", options).unwrap()
}

async fn until(store: &RedisStore, number: u64) -> Option<(StoreTime, StoreTime)> {
    let read = store.read_day(space(), day()).await.unwrap();
    match &read.records.get(&SlotNumber::new(number).unwrap())?.state {
        SlotState::Held(held) => Some((held.until, read.now)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_made_while_the_clock_was_ahead_ends_after_its_own_length() {
    let server = RedisServer::start();
    let (early, store) = (ahead(&server, 24 * HOUR), ahead(&server, 0));
    early.apply(hold(1, "ada")).await.unwrap();
    early.apply(hold(2, "bob")).await.unwrap();
    let (shown, now) = until(&store, 1).await.unwrap();
    assert!(shown <= now.plus_millis(LASTS), "{shown:?} at {now:?}");
    // The first sweep announces the new ends under the next versions, and frees nothing.
    let before = store.heads(&[Topic::Space(space())]).await.unwrap().remove(0);
    let swept = store.sweep(space().bucket(), 100).await.unwrap();
    assert_eq!(swept.freed, 0);
    assert!(swept.next_end_in_ms.is_some_and(|next| next <= LASTS as u64), "{swept:?}");
    let LogRead::Messages(messages) = store.read_log(Topic::Space(space()), &before).await.unwrap() else { panic!() };
    assert_eq!(messages.len(), 2);
    assert!(messages.iter().all(|message| message.payload.get().contains("\"status\":\"occupied\"")));
    let (first, _) = until(&store, 1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(until(&store, 1).await.unwrap().0, first, "it does not move on with the clock");
    assert_eq!(store.holds_of(&UserId::new("ada").unwrap()).await.unwrap()[0].until, first);
    // Each hold ends, and is freed and announced once.
    let deadline = clock::instant() + Duration::from_secs(30);
    let mut freed = 0;
    while freed < 2 {
        freed += store.sweep(space().bucket(), 100).await.unwrap().freed;
        assert!(clock::instant() < deadline, "{freed} freed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(until(&store, 1).await, None);
    store.apply(hold(1, "cy")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_that_was_freed_stays_free_when_the_clock_goes_back_and_another_lives_no_longer_than_its_length() {
    let server = RedisServer::start();
    let (now, later) = (ahead(&server, 0), ahead(&server, HOUR));
    now.apply(hold(1, "ada")).await.unwrap();
    now.apply(hold(2, "bob")).await.unwrap();
    // By the clock that is ahead both holds have ended. The next hold of slot 1 frees one of them.
    let shown = later.read_day(space(), day()).await.unwrap();
    assert!(shown.records.values().all(|record| record.ended_hold(shown.now).is_some()));
    later.apply(hold(1, "cy")).await.unwrap();
    let read = now.read_day(space(), day()).await.unwrap();
    let holder = |n: u64| match &read.records[&SlotNumber::new(n).unwrap()].state {
        SlotState::Held(held) => (held.user.to_string(), held.until),
        other => panic!("{other:?}"),
    };
    assert_eq!(holder(1).0, "cy");
    assert!(holder(1).1 <= read.now.plus_millis(LASTS));
    // Nobody has freed the other one, so it is live again for what is left of it.
    assert!(holder(2).0 == "bob" && holder(2).1 <= read.now.plus_millis(LASTS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_after_the_clock_went_back_is_answered_as_the_first_call() {
    let server = RedisServer::start();
    let (later, now) = (ahead(&server, HOUR), ahead(&server, 0));
    let ada = UserId::new("ada").unwrap();
    let keyed = |key: &str, act: SlotAct| {
        let idempotency = Idempotency { caller: ada.clone(), key: key.into(), fingerprint: key.into() };
        SlotAct { idempotency: Some(idempotency), ..act }
    };
    // These three answers were lost on their way: of a call with a key, of one without a key, and of one that only
    // repeated another.
    let (with_key, without) = (keyed("one", lasting(1, HOUR)), lasting(2, HOUR));
    let first = [later.apply(with_key.clone()).await.unwrap(), later.apply(without.clone()).await.unwrap()];
    let repeat = keyed("two", lasting(2, HOUR));
    let repeat_of = |first: &ActOutcome| ActOutcome { is_repeat: true, ..first.clone() };
    assert_eq!(later.apply(repeat.clone()).await.unwrap(), repeat_of(&first[1]));
    let before = now.heads(&[Topic::Space(space())]).await.unwrap();
    let again = [now.apply(with_key).await.unwrap(), now.apply(without).await.unwrap()];
    assert_eq!(again, [repeat_of(&first[0]), repeat_of(&first[1])]);
    assert_eq!(now.apply(repeat.clone()).await.unwrap(), repeat_of(&first[1]));
    assert_eq!(now.heads(&[Topic::Space(space())]).await.unwrap(), before);
    // A call that only repeats keeps nothing under its key. When the hold is over, the same key acts.
    let token = first[1].hold.as_ref().unwrap().token.clone();
    let release = SlotActKind::Release {
        actor: Actor::User(ada.clone()),
        token: Some(token),
        booked_by: None,
        cancel_before: None,
    };
    now.apply(SlotAct { kind: release, ..lasting(2, HOUR) }).await.unwrap();
    let anew = now.apply(repeat.clone()).await.unwrap();
    assert_eq!(anew.at.version, before[0].version + 2);
    assert_eq!(later.apply(repeat).await.unwrap(), repeat_of(&anew));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_space_with_thousands_of_days_is_read() {
    const DAYS: usize = 9_000;
    let server = RedisServer::start();
    let store = server.store();
    store.apply(hold(1, "ada")).await.unwrap();
    let tag = format!("slotcast:{{b{}}}", space().bucket().get());
    let fill = "local n = 0
        for year = 2091, 2120 do for month = 1, 12 do for day = 1, 25 do
          local text = string.format('%04d%02d%02d', year, month, day)
          redis.call('ZADD', ARGV[1] .. ':days:1:1', text, text)
          redis.call('HSET', ARGV[1] .. ':day:1:1:' .. text, '1',
            '{\"s\":\"c\",\"v\":\"1\",\"b\":\"4000000000000\",\"e\":\"4000000000001\",\"l\":\"09:00\"}')
        end end end
        for i = 1, 9000 do
          redis.call('ZADD', ARGV[1] .. ':ends', 1, '1\\n1\\n2090-05-05\\n' .. i .. '\\nada\\nt\\n09:00')
        end";
    server.cli(&["EVAL", fill, "0", &tag]);
    // This is as long as a call may take on a busy machine. A script that cannot read so many days fails at once.
    let deadline = clock::instant() + Duration::from_secs(60);
    let read = loop {
        match store.read_space(space()).await {
            Ok(read) => break read,
            Err(error) => {
                assert!(error.0.contains("in time") && clock::instant() < deadline, "{error}");
            }
        }
    };
    // The hold of slot 1 may have ended, so it is not counted.
    assert!(read.taken.len() >= DAYS, "{}", read.taken.len());
    // Sweeps remove the index's entries that have no hold, a part of them each time.
    while store.sweep(space().bucket(), 10_000).await.unwrap().more {
        assert!(clock::instant() < deadline);
    }
}
