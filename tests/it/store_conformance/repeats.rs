//! Calls that are repeated under an `Idempotency-Key`.

use super::*;

pub(super) fn keyed(mut act: SlotAct, caller: &str, key: &str, fingerprint: &str) -> SlotAct {
    let (key, fingerprint) = (key.into(), fingerprint.into());
    act.idempotency = Some(Idempotency { caller: user(caller), key, fingerprint });
    act
}

pub async fn an_idempotency_key_answers_as_the_first_time(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let hold = keyed(bench.act(space(1), &[1], hold_by("a", MINUTE)), "a", "k1", "hold 1");
    let extend = keyed(bench.act(space(1), &[1], extend_by("a", MINUTE)), "a", "k2", "extend 1");
    let held = bench.store.apply(hold.clone()).await.unwrap();
    let extended = bench.store.apply(extend.clone()).await.unwrap();
    let release = keyed(bench.act(space(1), &[1], release_by("a")), "a", "k3", "release 1");
    let released = bench.store.apply(release.clone()).await.unwrap();
    let before = bench.heads(space(1)).await;

    assert_eq!(bench.store.apply(hold.clone()).await.unwrap(), repeat_of(&held));
    assert_eq!(bench.store.apply(extend).await.unwrap(), repeat_of(&extended));
    assert_eq!(bench.store.apply(release).await.unwrap(), repeat_of(&released));
    // The repeat does not look at the schedule, which may have changed since.
    let stale = SlotAct { revision: Some(Position { version: 77, ..held.at.clone() }), ..hold.clone() };
    assert_eq!(bench.store.apply(stale).await.unwrap(), repeat_of(&held));
    // Another call under the same key, even one that the rule would refuse.
    let other = keyed(bench.act(space(1), &[2], hold_by("a", MINUTE)), "a", "k1", "hold 2");
    assert_eq!(refusal(bench.store.apply(other).await), (Code::IdempotencyMismatch, vec![]));
    assert_eq!(bench.heads(space(1)).await, before);
    assert_eq!(bench.status(space(1), 1).await, Status::Available);

    // The same key of another caller is another key.
    let of_another = keyed(bench.act(space(1), &[2], hold_by("b", MINUTE)), "b", "k1", "hold 2");
    assert_eq!(bench.store.apply(of_another).await.unwrap().at.version, before.0 + 1);
    // The key of a repeat that wrote nothing is not kept. When the first act is undone, the same call acts.
    let again = keyed(bench.act(space(1), &[2], hold_by("b", MINUTE)), "b", "k4", "hold 2 again");
    assert_eq!(bench.store.apply(again.clone()).await.unwrap().at.version, before.0 + 1);
    bench.apply(space(1), &[2], release_by("b")).await.unwrap();
    assert_eq!(bench.store.apply(again).await.unwrap().at.version, before.0 + 3);
    assert_eq!(bench.status(space(1), 2).await, Status::Occupied);
}

pub async fn a_refusal_is_not_kept_under_its_key(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    bench.apply(space(1), &[1], hold_by("b", MINUTE)).await.unwrap();
    let hold = keyed(bench.act(space(1), &[1], hold_by("a", MINUTE)), "a", "k", "hold 1");
    assert_eq!(refusal(bench.store.apply(hold.clone()).await).0, Code::SlotUnavailable);
    bench.apply(space(1), &[1], release_by("b")).await.unwrap();
    let held = bench.store.apply(hold.clone()).await.unwrap();
    assert_eq!(held.at.version, 3);
    assert_eq!(bench.store.apply(hold).await.unwrap(), repeat_of(&held));
}
