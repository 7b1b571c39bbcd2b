//! Compares the heads of all followed topics with the store, which finds a last message that was lost. The node's health
//! follows from the answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Feed;
use crate::domain::{Bucket, Position};
use crate::store::{StoreError, Topic};

/// How often the store is pinged.
const PING_EVERY: Duration = Duration::from_secs(1);

/// The heads are compared at every fourth ping.
const COMPARE_EVERY: u32 = 4;

/// How long the store may take to answer before it counts as unreachable. A store that hangs is no better than one that
/// fails.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How many heads are read by one call.
const BATCH: usize = 256;

/// The topics that this node follows, each with the channel over which its follower gets heads.
#[derive(Debug, Default)]
pub struct Followed {
    /// Held for a map access only, never across an await.
    topics: Mutex<HashMap<Topic, Entry>>,
    next_id: AtomicU64,
    behind: AtomicUsize,
}

/// The store's answer about where a topic stands.
#[derive(Debug)]
pub struct Head {
    /// The last message.
    pub at: Position,
    /// When the store was asked. A follower at this head had everything then.
    pub asked: Instant,
}

/// A follower's place in [`Followed`].
#[derive(Debug)]
struct Entry {
    id: u64,
    sender: mpsc::UnboundedSender<Head>,
}

impl Followed {
    /// Adds a follower. The returned id removes it again.
    pub(super) fn insert(&self, topic: Topic) -> (u64, mpsc::UnboundedReceiver<Head>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(topic, Entry { id, sender });
        (id, receiver)
    }

    /// Removes a follower, unless a newer follower of the topic has replaced it.
    pub(super) fn remove(&self, topic: Topic, id: u64) {
        let mut topics = self.lock();
        if topics.get(&topic).is_some_and(|entry| entry.id == id) {
            topics.remove(&topic);
        }
    }

    pub(super) fn count_behind(&self, is_behind: bool) {
        if is_behind {
            self.behind.fetch_add(1, Ordering::Relaxed);
        } else {
            self.behind.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn has_all_buckets(&self) -> bool {
        let topics = self.lock();
        Bucket::all().all(|bucket| topics.contains_key(&Topic::Bucket(bucket)))
    }

    fn topics(&self) -> Vec<Topic> {
        self.lock().keys().copied().collect()
    }

    fn tell(&self, topic: Topic, head: Head) {
        if let Some(entry) = self.lock().get(&topic) {
            // A follower that has just ended needs no head, so a failed send does no harm.
            let _ = entry.sender.send(head);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, Entry>> {
        self.topics.lock()
    }
}

impl Feed {
    /// Pings the store and compares the heads. Never returns.
    pub async fn compare_heads(self) {
        for round in 0_u32.. {
            let reachable = self.ping().await;
            let behind = self.followed.behind.load(Ordering::Relaxed) > 0;
            if behind || round % COMPARE_EVERY == 0 {
                let compared = self.compare_all().await;
                // If the whole store is away, the ping has logged that.
                if let (true, Err(error)) = (reachable, compared) {
                    tracing::warn!(%error, "cannot compare heads with the store");
                }
            }
            let in_step = !behind && self.followed.has_all_buckets();
            let app = &self.app;
            app.health.set_feed_in_step(in_step);
            app.metrics.ready.set(i64::from(app.obstacles().is_empty()));
            // Jitter keeps nodes that started together from asking together.
            tokio::time::sleep(PING_EVERY.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
        }
    }

    async fn ping(&self) -> bool {
        let app = &self.app;
        let answer = in_time(app.store.ping()).await;
        match &answer {
            // Slot starts and deadlines are planned by the time that the store last told, which this keeps recent.
            Ok(now) => app.clock.learn(*now),
            Err(error) => tracing::warn!(%error, "the store does not answer"),
        }
        app.health.set_store_reachable(answer.is_ok());
        answer.is_ok()
    }

    /// Sends each follower its head. Asks bucket by bucket, because one server of a Cluster may fail while the pinged
    /// one works. Answers the first failure after all buckets were asked.
    async fn compare_all(&self) -> Result<(), StoreError> {
        let mut by_bucket: BTreeMap<Bucket, Vec<Topic>> = BTreeMap::new();
        for topic in self.followed.topics() {
            by_bucket.entry(topic.bucket()).or_default().push(topic);
        }
        let batches = by_bucket.values().flat_map(|topics| topics.chunks(BATCH));
        join_all(batches.map(|batch| self.compare(batch))).await.into_iter().collect()
    }

    async fn compare(&self, batch: &[Topic]) -> Result<(), StoreError> {
        let asked = Instant::now();
        let heads = in_time(self.app.store.heads(batch)).await?;
        batch.iter().zip(heads).for_each(|(topic, at)| self.followed.tell(*topic, Head { at, asked }));
        Ok(())
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| Err(StoreError(format!("no answer within {ANSWER_WITHIN:?}")));
    tokio::time::timeout(ANSWER_WITHIN, answer).await.unwrap_or_else(late)
}
