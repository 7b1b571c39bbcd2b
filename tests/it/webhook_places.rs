//! The places of the journal's readers, in both stores. Only a node that knows the stored place may replace it, so that
//! two nodes at once repeat entries and skip none.

use std::sync::Arc;
use std::time::Duration;

use slotcast::domain::Bucket;
use slotcast::store::SlotStore;
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::redis::{RedisOptions, RedisStore};

use crate::support::redis::RedisServer;

const LEASE: Duration = Duration::from_secs(30);

fn buckets() -> Vec<Bucket> {
    Bucket::all().collect()
}

fn on_redis(server: &RedisServer) -> RedisStore {
    RedisStore::open(&server.url(), "slotcast", RedisOptions::default()).unwrap()
}

async fn a_place_is_written_by_who_knows_it(store: &dyn SlotStore) {
    let all = buckets();
    assert_eq!(store.reader_places("one", &all).await.unwrap(), vec![None; all.len()]);
    assert!(store.move_reader("one", all[3], None, "first").await.unwrap());
    assert!(!store.move_reader("one", all[3], None, "second").await.unwrap(), "somebody has written it");
    assert!(!store.move_reader("one", all[3], Some("other"), "second").await.unwrap());
    assert!(store.move_reader("one", all[3], Some("first"), "second\nwith lines").await.unwrap());
    assert!(!store.move_reader("one", all[3], Some("first"), "third").await.unwrap());
    assert!(!store.move_reader("one", all[4], Some("first"), "third").await.unwrap(), "nothing is written there");
    assert!(store.move_reader("two", all[3], None, "of another reader").await.unwrap());
    assert!(store.move_reader("one", all[127], None, "last").await.unwrap());

    let places = store.reader_places("one", &[all[127], all[3], all[4]]).await.unwrap();
    assert_eq!(places, [Some("last".into()), Some("second\nwith lines".into()), None]);
    assert_eq!(store.reader_places("two", &all[3..4]).await.unwrap(), [Some("of another reader".into())]);
}

async fn of_many_that_move_from_one_place_one_does(store: Arc<dyn SlotStore>) {
    let bucket = buckets()[7];
    let moves = (0..20).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { store.move_reader("one", bucket, None, &format!("place {number}")).await.unwrap() })
    });
    let mut winners = 0;
    for moved in moves.collect::<Vec<_>>() {
        winners += usize::from(moved.await.unwrap());
    }
    assert_eq!(winners, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_on_a_file_outlive_it_being_closed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(folder.path()).unwrap());
    a_place_is_written_by_who_knows_it(store.as_ref()).await;
    of_many_that_move_from_one_place_one_does(store.clone()).await;
    assert_eq!(store.take_reader_lease("one", "a", LEASE).await.unwrap(), None);
    drop(store);
    let store = EmbeddedStore::open(folder.path()).unwrap();
    assert_eq!(store.reader_places("one", &buckets()[127..]).await.unwrap(), [Some("last".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_on_redis() {
    let server = RedisServer::start();
    let store: Arc<dyn SlotStore> = Arc::new(on_redis(&server));
    a_place_is_written_by_who_knows_it(store.as_ref()).await;
    of_many_that_move_from_one_place_one_does(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_at_a_time_reads_as_a_reader_and_gives_it_back() {
    let server = RedisServer::start();
    let (one, two) = (on_redis(&server), on_redis(&server));
    assert_eq!(one.take_reader_lease("webhooks", "one", LEASE).await.unwrap(), None);
    assert!(two.take_reader_lease("webhooks", "two", LEASE).await.unwrap().is_some_and(|left| left <= LEASE));
    assert_eq!(two.take_reader_lease("another", "two", LEASE).await.unwrap(), None);
    assert_eq!(two.take_sweep_lease("two", LEASE).await.unwrap(), None);
    assert_eq!(one.take_reader_lease("webhooks", "one", Duration::from_millis(1)).await.unwrap(), None);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(two.take_reader_lease("webhooks", "two", LEASE).await.unwrap(), None);
}
