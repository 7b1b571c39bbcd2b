//! The conformance suite on a Redis Cluster of three primaries, while the hash slots that each case uses move from one
//! primary to the next all the time.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use slotcast::store::{NodeReport, SlotStore};

use crate::store_conformance::{self, Handles, StoreFactory};
use crate::support::moving_store::Ledger;
use crate::support::redis::{PlainSubscriptions, RedisCluster, RedisServer};
use crate::support::slot_mover::SlotMover;

/// How many cases run at once. A case waits for most of its time.
const CASES_AT_ONCE: usize = 6;

/// A case and its name.
struct Case {
    name: &'static str,
    run: fn(OnMovingSlots) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// All cases of the suite, as a list.
#[macro_export]
macro_rules! list_of_cases {
    (@list, $($case:ident),* $(,)?) => {
        [$(Case { name: stringify!($case), run: |factory| Box::pin(store_conformance::$case(factory)) }),*]
    };
}

/// A store under a prefix of its own on a Cluster whose slots move.
struct OnMovingSlots {
    ledger: Arc<Ledger>,
    /// It lives longer than the case, so that it hears all messages.
    subscriptions: Arc<PlainSubscriptions>,
}

#[async_trait]
impl StoreFactory for OnMovingSlots {
    async fn start() -> Self {
        panic!("made by the test, which looks at what it has met")
    }

    async fn open(&self) -> Handles {
        Handles { store: Arc::new(self.ledger.store().await), subscriptions: self.subscriptions.clone() }
    }

    async fn restart(&mut self) {}

    /// A refused call is made again a second later.
    fn slack_millis(&self) -> i64 {
        6_000
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_while_the_slots_that_it_uses_move() {
    let cluster = tokio::task::spawn_blocking(|| Arc::new(RedisCluster::start())).await.unwrap();
    let mover = SlotMover::start(cluster.clone());
    let cases = crate::conformance_cases!(list_of_cases, @list);
    let count = cases.len();
    let reports = futures_util::stream::iter(cases).map(|case| run_case(&cluster, &mover, case));
    let reports: Vec<Result<String, String>> = tokio::select! {
        reports = reports.buffer_unordered(CASES_AT_ONCE).collect() => reports,
        // A case that fails from here on is not at fault. The mover's end tells below why a move failed.
        () = mover.failed() => Vec::new(),
    };
    let ended = tokio::task::spawn_blocking(|| mover.end()).await;
    let (moves, keys) = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    println!("{moves} moves took {keys} keys with them");
    reports.iter().flatten().for_each(|report| println!("{report}"));
    let failures: Vec<String> = reports.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{} of {count} cases failed:\n{}", failures.len(), failures.join("\n"));
    assert!(moves >= count && keys >= count, "{moves} moves of {keys} keys in {count} cases");
}

/// Runs a case to its end, and checks that slots moved meanwhile. Answers the case's name, with figures or with the
/// failure.
async fn run_case(cluster: &Arc<RedisCluster>, mover: &SlotMover, Case { name, run }: Case) -> Result<String, String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("moving{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let ledger = Ledger::new(cluster.clone(), prefix, mover.user());
    let began = slotcast::clock::instant();
    let subscriptions = Arc::new(ledger.subscriptions().await);
    let case = tokio::spawn(run(OnMovingSlots { ledger: ledger.clone(), subscriptions: subscriptions.clone() }));
    case.await.map_err(|error| format!("{name}: {error}"))?;
    let took = began.elapsed();
    let checked = ledger.clone();
    let check = tokio::spawn(async move { checked.check_announced().await });
    check.await.map_err(|error| format!("{name}: {error}"))?;
    drop(subscriptions);
    let (moves, epochs, refusals) = (ledger.moves(), ledger.epoch_changes(), ledger.refusals());
    if moves == 0 {
        return Err(format!("{name}: nothing moved"));
    }
    Ok(format!("{name}: {took:?}, {moves} moves, {epochs} new epochs, refused: {refusals:?}"))
}

// A script that deletes a key and makes it anew fails half way if the key's slot is about to move: the server looks for
// the missing key on the server that the slot moves to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_is_replaced_whole_in_a_slot_that_is_about_to_move() {
    let cluster = tokio::task::spawn_blocking(RedisCluster::start).await.unwrap();
    let report = |room: &str| NodeReport {
        id: "one".into(),
        address: "127.0.0.1:3000".into(),
        proof: None,
        version: "1".into(),
        started_at: "2026-01-01T00:00:00.000Z".into(),
        sockets: 1,
        users: 1,
        rooms: BTreeMap::from([(room.into(), 1)]),
    };
    let lease = Duration::from_secs(60);
    cluster.store("p").await.report_node(report("before"), lease).await.unwrap();

    let slot = cluster.servers()[0].cli(&["CLUSTER", "KEYSLOT", "p:{nodes}:leases"]);
    let mut servers: Vec<&RedisServer> = cluster.servers().iter().collect();
    servers.sort_by_key(|server| server.cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot]));
    let (to, from) = (servers[0], servers[2]);
    let (to_id, from_id) = (to.cli(&["CLUSTER", "MYID"]), from.cli(&["CLUSTER", "MYID"]));
    assert_eq!(to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]), "OK");
    assert_eq!(from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]), "OK");

    // A store that does not know the report before writes the whole report.
    let store = cluster.store("p").await;
    store.report_node(report("after"), lease).await.unwrap();
    let nodes = store.nodes().await.unwrap();
    assert_eq!(serde_json::to_value(&nodes).unwrap(), serde_json::to_value([report("after")]).unwrap());
}
