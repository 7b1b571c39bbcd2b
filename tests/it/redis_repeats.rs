//! Repeats on Redis. A repeat answers the first act's position, even if the epoch has changed since. One key is one act
//! in its space, even if two nodes use the key at once.

use slotcast::domain::act::Idempotency;
use slotcast::domain::{
    Actor, Day, HoldToken, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime, UserId,
};
use slotcast::store::{ActOutcome, SlotStore, Topic};

use crate::support::redis::RedisServer;
use crate::support::repeat_of;

fn space() -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() }
}

fn act(number: u64, kind: SlotActKind) -> SlotAct {
    let start = StoreTime::from_millis(3_797_000_000_000).plus_millis(number as i64 * 3_600_000);
    let end = start.plus_millis(3_600_000);
    let slot = SlotTime { number: SlotNumber::new(number).unwrap(), start, end, label: "09:00".into() };
    let day = Day::parse("2090-05-05").unwrap();
    SlotAct { space: space(), day, slots: vec![slot], revision: None, kind, idempotency: None, origin: None }
}

fn hold(token: u8) -> SlotActKind {
    let user = UserId::new("ada").unwrap();
    SlotActKind::Hold {
        user,
        token: HoldToken::from_random([token; 16]),
        millis: 600_000,
        max_holds: None,
        max_held: None,
    }
}

fn book() -> SlotActKind {
    SlotActKind::Book { actor: Actor::User(UserId::new("ada").unwrap()), token: None }
}

fn extend() -> SlotActKind {
    let user = UserId::new("ada").unwrap();
    SlotActKind::Extend { user, token: None, millis: 600_000, max_millis: 3_600_000 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_after_the_epoch_changed_answers_the_position_of_the_first() {
    let server = RedisServer::start();
    let store = server.store();
    let held = store.apply(act(1, hold(1))).await.unwrap();
    store.apply(act(2, hold(2))).await.unwrap();
    let booked = store.apply(act(2, book())).await.unwrap();
    // After a restart the scripts cannot tell whether the history is the same, so the epoch changes.
    server.restart_with(&[]);
    let store = server.store();
    let head = store.heads(&[Topic::Space(space())]).await.unwrap().remove(0);
    assert!(head.epoch != held.at.epoch && head.version == 3, "{head:?}");
    assert_eq!(store.apply(act(1, hold(9))).await.unwrap(), repeat_of(&held));
    assert_eq!(store.apply(act(2, book())).await.unwrap(), repeat_of(&booked));
    // An extension keeps the first version of its hold, so a repeat of the hold after it answers the same position.
    store.apply(act(1, extend())).await.unwrap();
    assert_eq!(store.apply(act(1, hold(9))).await.unwrap().at, held.at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_is_one_act_of_its_space_at_once_from_two_nodes() {
    let server = RedisServer::start();
    let (one, other) = (server.store(), server.store());
    for round in 1..=40 {
        let caller = UserId::new("ada").unwrap();
        let keyed = |token: u8| {
            let (key, fingerprint) = (format!("key{round}"), "the same call".into());
            SlotAct {
                idempotency: Some(Idempotency { caller: caller.clone(), key, fingerprint }),
                ..act(1, hold(token))
            }
        };
        let before = one.heads(&[Topic::Space(space())]).await.unwrap().remove(0).version;
        let (first, second) = tokio::join!(one.apply(keyed(1)), other.apply(keyed(2)));
        assert_is_one_act(&first.unwrap(), &second.unwrap());
        let after = one.heads(&[Topic::Space(space())]).await.unwrap().remove(0).version;
        assert_eq!(after - before, 1, "round {round}");
        // Each extension acts, unless both have one key.
        let extension = |key: &str| {
            let (key, fingerprint) = (format!("{key}{round}"), "the extension".into());
            SlotAct { idempotency: Some(Idempotency { caller: caller.clone(), key, fingerprint }), ..act(1, extend()) }
        };
        let (first, second) = tokio::join!(one.apply(extension("e")), other.apply(extension("e")));
        assert_is_one_act(&first.unwrap(), &second.unwrap());
        assert_eq!(one.heads(&[Topic::Space(space())]).await.unwrap().remove(0).version, after + 1, "round {round}");
        let release = SlotActKind::Release {
            actor: Actor::User(caller.clone()),
            token: None,
            booked_by: None,
            cancel_before: None,
        };
        one.apply(act(1, release)).await.unwrap();
    }
}

/// One of the two outcomes must be the repeat of the other.
fn assert_is_one_act(one: &ActOutcome, other: &ActOutcome) {
    assert_eq!(repeat_of(one), repeat_of(other));
    assert_ne!(one.is_repeat, other.is_repeat, "{one:?}");
}
