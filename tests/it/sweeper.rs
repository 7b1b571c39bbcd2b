//! A sweep of all buckets: its report, its failures and its deadline. Also when nodes walk all buckets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use slotcast::domain::{Bucket, SiteId, SpaceId, SpaceKey};
use slotcast::store::{SlotStore, StoreError, SweepBatch};
use slotcast::sweeper::deadlines::Deadlines;
use slotcast::sweeper::sweep_all;
use slotcast::sweeper::timer;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::support::TestApp;
use crate::support::faulty_store::FaultyStore;
use crate::support::scripted_store::ScriptedStore;

const MILLI: Duration = Duration::from_millis(1);

/// How many batches were swept in each bucket.
type Batches = Arc<Mutex<BTreeMap<Bucket, u64>>>;

/// A store of which each batch takes `batch_takes` and frees three holds of one space. `more` is given how many batches
/// the bucket had.
fn store(batch_takes: Duration, more: fn(u64) -> bool) -> (Arc<dyn SlotStore>, Batches) {
    let batches = Batches::default();
    let counted = batches.clone();
    let sweep = move |bucket: Bucket| {
        let mut batches = counted.lock();
        let count = batches.entry(bucket).or_default();
        *count += 1;
        let number = u64::from(bucket.get()) + 1;
        let space = SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() };
        Ok(SweepBatch {
            freed: 3,
            spaces: vec![space],
            oldest_late_ms: number,
            more: more(*count),
            next_end_in_ms: None,
        })
    };
    (Arc::new(ScriptedStore::new(batch_takes, sweep)), batches)
}

#[tokio::test(start_paused = true)]
async fn a_sweep_frees_batch_after_batch_in_all_buckets() {
    let (store, batches) = store(MILLI, |count| count < 2);
    let report = sweep_all(&store, Some(Instant::now() + Duration::from_secs(60))).await.unwrap();
    assert_eq!(batches.lock().values().copied().collect::<Vec<_>>(), [2; 128]);
    assert_eq!((report.freed, report.spaces, report.oldest_late_ms), (2 * 3 * 128, 128, 128));
    // Eight buckets are swept at a time, with two batches each.
    assert_eq!(report.took_ms, 2 * 128 / 8);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_what_has_begun_is_finished_and_nothing_else_is_started() {
    let (store, batches) = store(10 * MILLI, |_| true);
    let report = sweep_all(&store, Some(Instant::now() + 35 * MILLI)).await.unwrap();
    // In eight buckets, batches began at 0, 10, 20 and 30 ms.
    assert_eq!(batches.lock().values().copied().collect::<Vec<_>>(), [4; 8]);
    assert_eq!((report.freed, report.spaces, report.took_ms), (4 * 8 * 3, 8, 40));
}

#[tokio::test(start_paused = true)]
async fn without_time_nothing_is_swept() {
    let (store, batches) = store(MILLI, |_| false);
    let report = sweep_all(&store, Some(Instant::now())).await.unwrap();
    assert!(batches.lock().is_empty());
    assert_eq!((report.freed, report.spaces, report.took_ms), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn short_sweeps_leave_no_bucket_behind() {
    let (store, batches) = store(10 * MILLI, |_| false);
    for _ in 0..2_000 {
        sweep_all(&store, Some(Instant::now() + 5 * MILLI)).await.unwrap();
    }
    assert_eq!(batches.lock().len(), 128);
}

#[tokio::test(start_paused = true)]
async fn where_some_buckets_fail_the_others_are_swept_and_the_sweep_fails() {
    // This is a Cluster that lacks one of its three servers.
    let (store, swept) = store_without(|bucket| bucket.get() % 3 == 1);
    assert_eq!(sweep_all(&store, None).await, Err(StoreError("gone".into())));
    let others = Bucket::all().filter(|bucket| bucket.get() % 3 != 1);
    assert!(swept.lock().keys().copied().eq(others));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_altogether_is_not_asked_for_every_bucket() {
    let (store, _) = store_without(|_| true);
    let began = Instant::now();
    assert_eq!(sweep_all(&store, None).await, Err(StoreError("gone".into())));
    assert!(began.elapsed() <= 2 * MILLI, "{:?}", began.elapsed());
}

/// A store that fails for some buckets.
fn store_without(is_gone: fn(Bucket) -> bool) -> (Arc<dyn SlotStore>, Batches) {
    let batches = Batches::default();
    let counted = batches.clone();
    let sweep = move |bucket| {
        if is_gone(bucket) {
            return Err(StoreError("gone".into()));
        }
        *counted.lock().entry(bucket).or_default() += 1;
        Ok(SweepBatch::default())
    };
    (Arc::new(ScriptedStore::new(MILLI, sweep)), batches)
}

#[tokio::test]
async fn a_node_walks_also_when_it_cannot_ask_for_the_turn() {
    let app = TestApp::start_through(|store| Arc::new(FaultyStore { store, loses: "take_sweep_lease" }));
    let body = json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow(), "holdSeconds": 1});
    let held = app.post("/api/slots/1/hold", &app.user("7"), body).await.data();
    // The sweeper does not hear of the hold, so only a walk finds that it has ended.
    let told = Deadlines::new().1;
    let sweeper = tokio::spawn(timer::run(app.app.sweeper_tools(), told, 50 * MILLI, "here".into()));
    let space = SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(3).unwrap() };
    let deadline = Instant::now() + Duration::from_secs(20);
    while app.app.store.read_space(space).await.unwrap().at.version == held["version"] {
        assert!(Instant::now() < deadline, "nothing was freed");
        tokio::time::sleep(10 * MILLI).await;
    }
    sweeper.abort();
}

#[tokio::test]
async fn the_end_of_a_hold_whose_answer_was_lost_is_noted() {
    let mut app = TestApp::start_through(|store| Arc::new(FaultyStore { store, loses: "apply" }));
    let began = app.app.store.ping().await.unwrap();
    let body = json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow(), "holdSeconds": 60});
    let lost = app.post("/api/slots/1/hold", &app.user("7"), body).await;
    assert_eq!(lost.refusal(), (503, "unavailable".into()));
    let space = SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(3).unwrap() };
    let (_, _, record) = app.app.store.read_space(space).await.unwrap().taken.remove(0);
    let held = record.live_hold(began).unwrap();
    let (bucket, woken) = app.told.try_recv().unwrap();
    assert_eq!(bucket, space.bucket());
    assert!((held.until..began.plus_millis(90_000)).contains(&woken), "{woken:?} for {:?}", held.until);
}

// The tests from here on are about nodes that sweep by themselves.

const INTERVAL: Duration = Duration::from_secs(30);

/// When each walk began.
type Walks = Arc<Mutex<Vec<Instant>>>;

/// A store over which nodes walk, and when each walk began.
fn walked_store() -> (Arc<dyn SlotStore>, Walks) {
    let walks = Walks::default();
    let noted = walks.clone();
    let swept = Mutex::new(0_u32);
    let sweep = move |_| {
        let mut swept = swept.lock();
        if swept.is_multiple_of(128) {
            noted.lock().push(Instant::now());
        }
        *swept += 1;
        Ok(SweepBatch::default())
    };
    (Arc::new(ScriptedStore::new(MILLI, sweep)), walks)
}

/// Starts the sweeper of a node.
fn start_node(store: &Arc<dyn SlotStore>, id: &str) -> JoinHandle<()> {
    let (app, id) = (TestApp::start_through(|_| store.clone()), id.to_owned());
    tokio::spawn(async move { timer::run(app.app.sweeper_tools(), Deadlines::new().1, INTERVAL, id).await })
}

#[tokio::test(start_paused = true)]
async fn a_walk_begins_within_the_interval_whichever_node_is_gone() {
    let (store, walks) = walked_store();
    let first = start_node(&store, "first");
    sleep(Duration::from_secs(5)).await;
    // The second node does not get the turn while the first one has it. Then the first node ends.
    let second = start_node(&store, "second");
    sleep(Duration::from_secs(1)).await;
    first.abort();
    sleep(INTERVAL * 3).await;
    second.abort();
    let walks = walks.lock();
    assert!(walks.len() >= 4, "{walks:?}");
    assert!(walks.windows(2).all(|pair| pair[1] - pair[0] <= INTERVAL), "{walks:?}");
}

#[tokio::test(start_paused = true)]
async fn twenty_nodes_walk_no_more_than_one() {
    let mut counts = Vec::new();
    for nodes in [1, 20] {
        let (store, walks) = walked_store();
        let running: Vec<_> = (0..nodes).map(|id| start_node(&store, &id.to_string())).collect();
        sleep(INTERVAL * 10).await;
        running.iter().for_each(JoinHandle::abort);
        counts.push(walks.lock().len());
    }
    assert_eq!(counts, [11, 11]);
}
