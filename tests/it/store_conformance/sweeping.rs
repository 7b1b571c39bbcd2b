//! Freeing holds that have ended.

use super::*;

pub async fn two_sweepers_free_each_hold_once(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let second = factory.open().await.store;
    let bucket = space(1).bucket();
    let days = [day(), Day::parse("2090-05-06").unwrap()];
    for (index, date) in days.into_iter().enumerate() {
        for n in [1, 4, 7] {
            let name = format!("t{index}{n}");
            let kind = SlotActKind::Hold {
                user: user(&name),
                token: token(&name),
                millis: 40,
                max_holds: None,
                max_held: None,
            };
            let act = SlotAct { day: date, ..bench.act(space(1), &[n, n + 1], kind) };
            bench.store.apply(act).await.unwrap();
        }
    }
    bench.wait_past(bench.now().await.plus_millis(50)).await;
    let (version, bucket_version) = bench.heads(space(1)).await;

    let sweep_all = |store: Arc<dyn SlotStore>| async move {
        let mut freed = 0;
        loop {
            let batch = store.sweep(bucket, 3).await.unwrap();
            freed += batch.freed;
            if !batch.more {
                return freed;
            }
        }
    };
    let (one, other) = tokio::join!(tokio::spawn(sweep_all(bench.store.clone())), tokio::spawn(sweep_all(second)),);
    assert_eq!(one.unwrap() + other.unwrap(), 12);
    assert_eq!(bench.heads(space(1)).await.0, version + 12);

    let mut listed = BTreeSet::new();
    for freed in bench.freed_after(bucket, bucket_version).await {
        assert!(freed.slots.is_sorted(), "{freed:?}");
        for slot in freed.slots {
            assert!(listed.insert((freed.date, slot)), "{slot} of {} twice", freed.date);
        }
    }
    assert_eq!(listed.len(), 12);
    let updates = bench.log(Topic::Space(space(1)), version).await;
    let freed: BTreeSet<_> = updates
        .iter()
        .map(|message| json(&message.payload))
        .map(|payload| (payload["data"]["date"].as_str().unwrap().to_owned(), slot_and_status(&payload)))
        .collect();
    assert_eq!(freed.len(), 12);
    assert!(freed.iter().all(|(_, (_, status))| status == "available"));
}

pub async fn a_sweep_is_bounded_and_tells_what_is_left(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let bucket = space(1).bucket();
    let nothing = bench.store.sweep(bucket, 10).await.unwrap();
    assert_eq!((nothing.freed, nothing.more, nothing.next_end_in_ms), (0, false, None));
    assert!(nothing.spaces.is_empty());

    bench.apply(space(1), &[4], hold_by("b", MINUTE)).await.unwrap();
    let early = bench.store.sweep(bucket, 10).await.unwrap();
    assert_eq!((early.freed, early.more), (0, false));
    assert!(early.next_end_in_ms.unwrap() as i64 <= MINUTE);
    let held = bench.apply(space(1), &[1, 2, 3], hold_by("a", 30)).await.unwrap().hold.unwrap();
    bench.wait_past(held.until.plus_millis(20)).await;

    let first = bench.store.sweep(bucket, 2).await.unwrap();
    assert_eq!((first.freed, first.more, first.next_end_in_ms), (2, true, Some(0)));
    assert_eq!(first.spaces, [space(1)]);
    assert!(first.oldest_late_ms >= 20, "{first:?}");
    let second = bench.store.sweep(bucket, 2).await.unwrap();
    assert_eq!((second.freed, second.more), (1, false));
    let next = second.next_end_in_ms.unwrap() as i64;
    assert!((MINUTE - 30_000..=MINUTE).contains(&next), "{next}");
    assert_eq!(bench.status(space(1), 4).await, Status::Occupied);

    // The sweep of another bucket finds nothing.
    let elsewhere = Bucket::all().find(|other| *other != bucket).unwrap();
    assert_eq!(bench.store.sweep(elsewhere, 10).await.unwrap().next_end_in_ms, None);
    bench.apply(space(1), &[4], release_by("b")).await.unwrap();
    assert_eq!(bench.store.sweep(bucket, 10).await.unwrap().next_end_in_ms, None);
}

pub async fn an_extended_hold_is_swept_at_its_new_end(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let bucket = space(1).bucket();
    // The slowest store can still extend this hold in time, and the test can wait for its end.
    let held = bench.apply(space(1), &[1], hold_by("a", 500 + bench.slack)).await.unwrap().hold.unwrap();
    bench.apply(space(1), &[1], extend_by("a", MINUTE)).await.unwrap();
    bench.wait_past(held.until).await;
    assert_eq!(bench.store.sweep(bucket, 10).await.unwrap().freed, 0);
    assert_eq!(bench.status(space(1), 1).await, Status::Occupied);
    let end = bench.apply(space(1), &[1], extend_by("a", 30)).await.unwrap().hold.unwrap().until;
    bench.wait_past(end).await;
    assert_eq!(bench.store.sweep(bucket, 10).await.unwrap().freed, 1);
}
