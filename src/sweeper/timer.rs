//! The node's own sweeper: when to sweep which bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Swept, for_each_bucket, sweep_bucket};
use crate::app::App;
use crate::domain::{Bucket, StoreTime};
use crate::store::StoreError;

/// After how long a bucket that could not be swept is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Tells the sweeper when holds end.
#[derive(Clone, Debug)]
pub struct Deadlines(mpsc::UnboundedSender<(Bucket, StoreTime)>);

/// What [`Deadlines`] tell, for [`run`].
pub type Told = mpsc::UnboundedReceiver<(Bucket, StoreTime)>;

impl Deadlines {
    /// The two ends. Without a sweeper at the other one, nothing is kept.
    pub fn new() -> (Self, Told) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Notes that a hold of the bucket ends then.
    pub fn note(&self, bucket: Bucket, end: StoreTime) {
        // Without a sweeper there is nobody to wake.
        let _ = self.0.send((bucket, end));
    }
}

/// The node's own sweeper: sweeps a bucket when a hold of it ends, and all buckets every `interval`, one node at a time.
/// Never returns.
pub async fn run(app: Arc<App>, mut told: Told, interval: Duration, node_id: String) {
    let mut timer = Timer { app, agenda: Agenda::default(), running: JoinSet::new(), is_walking: false };
    let mut walks = tokio::time::interval(interval);
    walks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = timer.agenda.next();
        tokio::select! {
            Some((bucket, end)) = told.recv() => timer.note(bucket, end),
            () = sleep_until(due) => timer.sweep_due(),
            _ = walks.tick() => timer.walk(node_id.clone(), interval),
            Some(done) = timer.running.join_next() => timer.finish(done),
        }
    }
}

struct Timer {
    app: Arc<App>,
    agenda: Agenda,
    running: JoinSet<Done>,
    is_walking: bool,
}

enum Done {
    Bucket(Bucket, Result<Swept, StoreError>),
    Walk(Vec<(Bucket, Swept)>, Option<StoreError>),
}

impl Timer {
    fn note(&mut self, bucket: Bucket, end: StoreTime) {
        let left = self.app.catalog.store_now().until(end);
        self.agenda.wake(bucket, Instant::now() + left);
    }

    fn sweep_due(&mut self) {
        for bucket in self.agenda.take_due(Instant::now()) {
            let store = self.app.store.clone();
            self.running.spawn(async move { Done::Bucket(bucket, sweep_bucket(store.as_ref(), bucket, None).await) });
        }
    }

    /// Sweeps all buckets, unless another node has the turn.
    fn walk(&mut self, node_id: String, interval: Duration) {
        if self.is_walking {
            return;
        }
        self.is_walking = true;
        let store = self.app.store.clone();
        self.running.spawn(async move {
            let mut swept = Vec::new();
            let error = match store.take_sweep_lease(&node_id, interval).await {
                Ok(false) => None,
                // Also where nobody can have the turn: two that walk at once free nothing twice.
                turn => {
                    let walked = for_each_bucket(&store, None, |bucket, done| swept.push((bucket, done))).await;
                    turn.and(walked.map(|()| true)).err()
                }
            };
            Done::Walk(swept, error)
        });
    }

    fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Bucket(bucket, Ok(swept))) => self.count(bucket, &swept, "deadline"),
            Ok(Done::Bucket(bucket, Err(error))) => {
                tracing::warn!(bucket = bucket.get(), %error, "cannot free what has ended; will try again");
                self.agenda.wake(bucket, Instant::now() + RETRY);
            }
            Ok(Done::Walk(swept, error)) => {
                self.is_walking = false;
                swept.iter().for_each(|(bucket, swept)| self.count(*bucket, swept, "interval"));
                if let Some(error) = error {
                    tracing::warn!(%error, "cannot walk all buckets; will try again at the next interval");
                }
            }
            Err(error) => {
                self.is_walking = false;
                tracing::error!(%error, "a sweep failed");
            }
        }
    }

    fn count(&mut self, bucket: Bucket, swept: &Swept, trigger: &str) {
        if let Some(millis) = swept.next_end_in_ms {
            self.agenda.wake(bucket, Instant::now() + Duration::from_millis(millis));
        }
        record(&self.app, swept.freed, swept.oldest_late_ms, trigger);
    }
}

/// Counts a sweep in the metrics.
pub fn record(app: &App, freed: u64, oldest_late_ms: u64, trigger: &str) {
    app.metrics.sweeps.with_label_values(&[trigger]).inc();
    if freed > 0 {
        app.metrics.freed.inc_by(freed);
        app.metrics.hold_lateness_seconds.observe(Duration::from_millis(oldest_late_ms).as_secs_f64());
        tracing::info!(freed, oldest_late_ms, trigger, "freed holds that had ended");
    }
}

/// When to sweep which bucket: each at most once, the earliest wish counts.
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

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
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
