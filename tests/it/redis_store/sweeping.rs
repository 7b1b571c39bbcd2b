//! Sweeps on several servers.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_sweepers_announce_each_hold_once() {
    let server = RedisServer::start();
    let store = server.store();
    for n in 1..=40 {
        store.apply(act(1, &[n], hold("a", 300))).await.unwrap();
    }
    let bucket = space(1).bucket();
    let ends = store.ping().await.unwrap().plus_millis(301);
    while store.ping().await.unwrap() <= ends {}
    let (topic, before) = (Topic::Bucket(bucket), head(&store, Topic::Bucket(bucket)).await);
    let sweepers: Vec<_> = (0..5)
        .map(|_| {
            let store = server.store();
            tokio::spawn(async move {
                let mut freed = 0;
                loop {
                    let batch = store.sweep(bucket, 7).await.unwrap();
                    freed += batch.freed;
                    if !batch.more {
                        return freed;
                    }
                }
            })
        })
        .collect();
    let mut freed = 0;
    for sweeper in sweepers {
        freed += sweeper.await.unwrap();
    }
    assert_eq!(freed, 40);
    let mut announced = BTreeSet::new();
    for message in messages(&store, topic, &before).await {
        let freed: slotcast::store::FreedSlots = serde_json::from_str(message.payload.get()).unwrap();
        for slot in freed.slots {
            assert!(announced.insert(slot), "{slot} twice");
        }
    }
    assert_eq!(announced.len(), 40);
    assert_eq!(head(&store, Topic::Space(space(1))).await.version, 80);
    assert_eq!(server.cli(&["ZCARD", &format!("slotcast:{{b{}}}:holds", bucket.get())]), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_entry_without_its_hold_is_forgotten() {
    let server = RedisServer::start();
    let store = server.store();
    let held = store.apply(act(1, &[1], hold("a", 20))).await.unwrap().hold.unwrap();
    let bucket = space(1).bucket();
    let tag = format!("slotcast:{{b{}}}", bucket.get());
    // A day's slots may be forgotten before any sweep comes.
    server.cli(&["DEL", &format!("{tag}:day:1:1:20900505")]);
    while store.ping().await.unwrap() <= held.until {}
    let swept = store.sweep(bucket, 10).await.unwrap();
    assert_eq!((swept.freed, swept.more, swept.next_end_in_ms, swept.spaces.len()), (0, false, None, 0));
    assert_eq!(server.cli(&["EXISTS", &format!("{tag}:ends"), &format!("{tag}:holds")]), "0");
    assert_eq!(Bucket::all().count(), 128);
}
