//! What a store has after a restart.

use super::*;

pub async fn a_restart_keeps_everything(mut factory: impl StoreFactory) {
    let before = bench(&factory).await;
    let held = before.apply(space(1), &[1, 2], hold_by("a", MINUTE)).await.unwrap();
    before.apply(space(1), &[3], hold_by("b", MINUTE)).await.unwrap();
    before.apply(space(1), &[3], book_by("b")).await.unwrap();
    let ending = before.apply(space(1), &[4], hold_by("c", 30)).await.unwrap().hold.unwrap();
    let keyed_act = keyed(before.act(space(1), &[5], hold_by("d", MINUTE)), "d", "key", "body");
    let keyed_outcome = before.store.apply(keyed_act.clone()).await.unwrap();
    before.put_space(space(2), Some(spec(30)), 0).await.unwrap();
    before.store.publish(to_user("a", "hello", "1")).await.unwrap();
    let first = sequences(&*before.store, "a").await;
    before.store.mark_received(&user("a"), first[0]).await.unwrap();
    before.store.publish(to_user("a", "hello", "2")).await.unwrap();
    let second = sequences(&*before.store, "a").await;
    let topics = [Topic::Space(space(1)), Topic::Space(space(2)), Topic::Bucket(user("a").bucket())];
    let heads = before.store.heads(&topics).await.unwrap();
    let log = before.log(topics[0], 0).await;
    let board = before.store.read_day(space(1), day()).await.unwrap();
    let began = before.began;
    drop(before);
    factory.restart().await;

    let after = Bench { began, ..bench(&factory).await };
    assert_eq!(after.store.heads(&topics).await.unwrap(), heads);
    let log_after = after.log(topics[0], 0).await;
    let as_text = |log: &[Message]| -> Vec<_> {
        log.iter().map(|m| (m.at.clone(), m.kind, m.payload.get().to_owned())).collect()
    };
    assert_eq!(as_text(&log_after), as_text(&log));
    let board_after = after.store.read_day(space(1), day()).await.unwrap();
    assert_eq!((board_after.at, board_after.records), (board.at, board.records));
    assert_eq!(after.store.read_space(space(2)).await.unwrap().schedule, Some(spec(30)));
    assert_eq!(sequences(&*after.store, "a").await, second);
    assert_eq!(after.store.apply(keyed_act).await.unwrap(), repeat_of(&keyed_outcome));
    assert_eq!(after.apply(space(1), &[1, 2], hold_by("a", MINUTE)).await.unwrap(), repeat_of(&held));
    after.wait_past(ending.until).await;
    let swept = after.store.sweep(space(1).bucket(), 10).await.unwrap();
    assert_eq!(swept.freed, 1);
    let next = after.apply(space(1), &[1, 2], book_by("a")).await.unwrap();
    assert_eq!(next.at, Position { version: heads[0].version + 3, ..heads[0].clone() });
    after.store.publish(to_user("a", "hello", "3")).await.unwrap();
    let waiting = sequences(&*after.store, "a").await;
    assert!(waiting.len() == 2 && waiting[0] == second[0] && waiting[0] < waiting[1], "{waiting:?} after {second:?}");
}
