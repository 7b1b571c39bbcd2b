//! The node's own sweeper, which decides when to sweep which bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deadlines::Told;
use super::{Swept, for_each_bucket, sweep_bucket, trim_some_journals};
use crate::clock::{StoreClock, sleep_until};
use crate::domain::{Bucket, StoreTime};
use crate::store::{SlotStore, StoreError};
use crate::telemetry::metrics::Metrics;

/// The pause after a bucket could not be swept.
const RETRY: Duration = Duration::from_secs(1);

/// The turn to walk is 1/20 shorter than the interval, which leaves time to ask for the next turn.
const EARLY: u32 = 20;

/// The parts of a node that its sweeper uses.
#[derive(Clone)]
pub struct Tools {
    /// The store with the holds.
    pub store: Arc<dyn SlotStore>,
    /// Tells the store's time.
    pub clock: Arc<StoreClock>,
    /// Counts the freed holds.
    pub metrics: Metrics,
}

/// Runs the node's own sweeper. It sweeps a bucket when a hold of that bucket ends. It also walks all buckets, one node
/// at a time, so that a walk begins at most `interval` after the beginning of the last one. Never returns.
pub async fn run(tools: Tools, mut told: Told, interval: Duration, node_id: String) {
    let turn = interval - interval / EARLY;
    let walk_at = Some(Instant::now());
    let mut timer = Timer { tools, node_id, turn, agenda: Agenda::default(), running: JoinSet::new(), walk_at };
    loop {
        let (due, walk_at) = (timer.agenda.next(), timer.walk_at);
        tokio::select! {
            Some((bucket, end)) = told.recv() => timer.note(bucket, end),
            () = sleep_until(due) => timer.sweep_due(),
            () = sleep_until(walk_at) => timer.walk(),
            Some(done) = timer.running.join_next() => timer.finish(done),
        }
    }
}

struct Timer {
    tools: Tools,
    node_id: String,
    /// How long one node keeps the turn to walk.
    turn: Duration,
    agenda: Agenda,
    running: JoinSet<Done>,
    /// When to ask for the turn; `None` while this node asks or walks.
    walk_at: Option<Instant>,
}

enum Done {
    Bucket(Bucket, Result<Swept, StoreError>),
    Walk { swept: Vec<(Bucket, Swept)>, error: Option<StoreError>, next: Instant },
}

impl Timer {
    fn note(&mut self, bucket: Bucket, end: StoreTime) {
        let left = self.tools.clock.now().until(end);
        self.agenda.wake(bucket, Instant::now() + left);
    }

    fn sweep_due(&mut self) {
        for bucket in self.agenda.take_due(Instant::now()) {
            let store = self.tools.store.clone();
            self.running.spawn(async move { Done::Bucket(bucket, sweep_bucket(store.as_ref(), bucket, None).await) });
        }
    }

    /// Sweeps all buckets. If another node has the turn, this node asks again when that turn ends.
    fn walk(&mut self) {
        self.walk_at = None;
        let (store, node_id, turn) = (self.tools.store.clone(), self.node_id.clone(), self.turn);
        self.running.spawn(async move {
            let asked = Instant::now();
            let granted = store.take_sweep_lease(&node_id, turn).await;
            if let Ok(Some(left)) = granted {
                // The store tells the time to the millisecond.
                let next = Instant::now() + left + Duration::from_millis(1);
                return Done::Walk { swept: Vec::new(), error: None, next };
            }
            // The node also walks if the store cannot give anybody the turn: two nodes that walk at once free nothing
            // twice.
            let mut swept = Vec::new();
            let walked = for_each_bucket(&store, None, |bucket, done| swept.push((bucket, done))).await;
            trim_some_journals(store.as_ref()).await;
            let told = store.tell_taken().await;
            Done::Walk { swept, error: granted.err().or(walked.err()).or(told.err()), next: asked + turn }
        });
    }

    fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Bucket(bucket, Ok(swept))) => self.count(bucket, &swept, "deadline"),
            Ok(Done::Bucket(bucket, Err(error))) => {
                tracing::warn!(bucket = bucket.get(), %error, "cannot free what has ended; will try again");
                self.agenda.wake(bucket, Instant::now() + RETRY);
            }
            Ok(Done::Walk { swept, error, next }) => {
                self.walk_at = Some(next);
                swept.iter().for_each(|(bucket, swept)| self.count(*bucket, swept, "interval"));
                if let Some(error) = error {
                    tracing::warn!(%error, "cannot walk all buckets; will try again at the next interval");
                }
            }
            Err(error) => {
                self.walk_at.get_or_insert_with(|| Instant::now() + self.turn);
                tracing::error!(%error, "a sweep failed");
            }
        }
    }

    fn count(&mut self, bucket: Bucket, swept: &Swept, trigger: &str) {
        if let Some(millis) = swept.next_end_in_ms {
            self.agenda.wake(bucket, Instant::now() + Duration::from_millis(millis));
        }
        record(&self.tools.metrics, swept.freed, swept.oldest_late_ms, trigger);
    }
}

/// Counts a sweep in the metrics.
pub fn record(metrics: &Metrics, freed: u64, oldest_late_ms: u64, trigger: &str) {
    metrics.sweeps.with_label_values(&[trigger]).inc();
    if freed > 0 {
        metrics.freed.inc_by(freed);
        metrics.hold_lateness_seconds.observe(Duration::from_millis(oldest_late_ms).as_secs_f64());
        tracing::info!(freed, oldest_late_ms, trigger, "freed holds that had ended");
    }
}

/// When to sweep which bucket. Each bucket has one time, the earliest requested one.
#[derive(Debug, Default)]
struct Agenda {
    by_time: BTreeSet<(Instant, Bucket)>,
    by_bucket: BTreeMap<Bucket, Instant>,
}

impl Agenda {
    fn wake(&mut self, bucket: Bucket, at: Instant) {
        match self.by_bucket.get(&bucket) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => drop(self.by_time.remove(&(*later, bucket))),
            None => {}
        }
        self.by_time.insert((at, bucket));
        self.by_bucket.insert(bucket, at);
    }

    fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn take_due(&mut self, now: Instant) -> Vec<Bucket> {
        let mut due = Vec::new();
        while let Some((at, bucket)) = self.by_time.first().copied()
            && at <= now
        {
            self.by_time.remove(&(at, bucket));
            self.by_bucket.remove(&bucket);
            due.push(bucket);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bucket_is_woken_once_at_its_earliest_end() {
        let now = Instant::now();
        let at = |millis| now + Duration::from_millis(millis);
        let buckets: Vec<Bucket> = Bucket::all().take(2).collect();
        let mut agenda = Agenda::default();
        agenda.wake(buckets[0], at(500));
        agenda.wake(buckets[0], at(300));
        agenda.wake(buckets[0], at(900));
        agenda.wake(buckets[1], at(400));
        assert_eq!(agenda.next(), Some(at(300)));
        assert_eq!(agenda.take_due(at(350)), [buckets[0]]);
        assert_eq!(agenda.take_due(at(1_000)), [buckets[1]]);
        assert_eq!(agenda.next(), None);
    }
}
