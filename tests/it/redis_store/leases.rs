//! Leases after the server's clock went back.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_a_clock_gave_before_it_went_back_counts_for_nobody() {
    let server = RedisServer::start();
    let open = |clock_shift_millis| {
        let options = RedisOptions { clock_shift_millis, ..RedisOptions::default() };
        RedisStore::open(&server.url(), "slotcast", options).unwrap()
    };
    let lease = Duration::from_secs(6);
    let report = |id: &str| NodeReport {
        id: id.into(),
        address: "127.0.0.1:3000".into(),
        version: "1".into(),
        started_at: "2026-01-01T00:00:00.000Z".into(),
        sockets: 1,
        users: 1,
        proof: None,
        rooms: std::collections::BTreeMap::new(),
    };
    let (ahead, now) = (open(60 * 60_000), open(0));
    ahead.report_node(report("dead"), lease).await.unwrap();
    assert_eq!(ahead.take_sweep_lease("dead", lease).await.unwrap(), None);
    let ids = async |store: &RedisStore| -> Vec<String> {
        store.nodes().await.unwrap().into_iter().map(|node| node.id).collect()
    };
    assert_eq!(ids(&ahead).await, ["dead"]);
    now.report_node(report("alive"), lease).await.unwrap();
    assert_eq!(ids(&now).await, ["alive"]);
    assert_eq!(now.take_sweep_lease("alive", lease).await.unwrap(), None);
    // Another node cannot take the lease, as usual.
    let left = now.take_sweep_lease("another", lease).await.unwrap();
    assert!(left.is_some_and(|left| left <= lease), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_that_is_extended_is_never_missing_and_never_there_twice() {
    let server = RedisServer::start();
    let stores: [Arc<dyn SlotStore>; 2] = [Arc::new(server.store()), Arc::new(server.store())];
    crate::store_conformance::an_extended_hold_is_always_there(stores).await;
}
