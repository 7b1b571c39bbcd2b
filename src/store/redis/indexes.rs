//! The indexes of bookings and of days, which slotcast 0.1 did not keep: filled once for what it stored, by one node or by
//! `slotcast migrate`. Acts keep them from the moment that a bucket has format 2.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::RedisStore;
use super::call::{Budget, Call, Runner};
use super::scripts;
use crate::domain::Bucket;
use crate::store::StoreError;

/// How long a node has the turn to fill the indexes of one bucket.
const TURN: Duration = Duration::from_secs(30);

/// After how many buckets the log tells how far it is.
const TOLD_AFTER: usize = 16;

/// Which buckets are known to have complete indexes. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Indexed(Arc<[AtomicBool]>);

impl Default for Indexed {
    fn default() -> Self {
        Self(Bucket::all().map(|_| AtomicBool::new(false)).collect())
    }
}

impl Indexed {
    fn has(&self, bucket: Bucket) -> bool {
        self.0.get(usize::from(bucket.get())).is_some_and(|indexed| indexed.load(Ordering::Acquire))
    }

    fn set(&self, bucket: Bucket) {
        if let Some(indexed) = self.0.get(usize::from(bucket.get())) {
            indexed.store(true, Ordering::Release);
        }
    }

    /// Whether every bucket is known to have complete indexes.
    pub(super) fn has_all(&self) -> bool {
        Bucket::all().all(|bucket| self.has(bucket))
    }
}

impl RedisStore {
    /// Fails while a bucket's indexes may lack something that 0.1 stored.
    pub(super) async fn require_indexes(&self) -> Result<(), StoreError> {
        let unindexed = self.runner.find_unindexed().await?;
        // A bucket that nobody has used yet is complete once it is made.
        let unopened = unindexed.iter().filter(|bucket| self.runner.formats.of(**bucket).is_none());
        let opened = unopened.map(|bucket| self.runner.open_bucket(*bucket, false));
        let opened = futures_util::future::try_join_all(opened).await;
        let opened = opened.map_err(|failure| StoreError::new("Redis: opening a bucket", failure.cause()))?;
        if unindexed.is_empty() || !opened.is_empty() && self.runner.find_unindexed().await?.is_empty() {
            return Ok(());
        }
        Err(StoreError("Redis: what slotcast 0.1 stored is still being indexed".into()))
    }
}

impl Runner {
    /// The buckets whose indexes are not complete.
    async fn find_unindexed(&self) -> Result<Vec<Bucket>, StoreError> {
        let unknown = Bucket::all().filter(|bucket| !self.indexed.has(*bucket));
        let asked = unknown.map(|bucket| async move {
            let mut get = redis::cmd("HGET");
            get.arg(self.keys.fence(bucket)).arg("indexed");
            let known = self.command("hget", &get, Budget::of_a_call()).await?;
            let known: Option<String> =
                redis::from_redis_value(known).map_err(|error| StoreError::new("Redis: a fence", error))?;
            if known.is_some() {
                self.indexed.set(bucket);
            }
            Ok::<_, StoreError>(known.is_none().then_some(bucket))
        });
        Ok(futures_util::future::try_join_all(asked).await?.into_iter().flatten().collect())
    }

    /// Fills what is not filled, while no other node has the turn. Tells the log how far it is.
    pub(super) async fn fill_indexes(&self, holder: &str) -> Result<(), StoreError> {
        let unindexed = self.find_unindexed().await?;
        let mut bookings = 0;
        for (done, bucket) in (1..).zip(&unindexed) {
            if !self.take_index_turn(holder).await? {
                return Ok(());
            }
            bookings += self.fill_bucket(*bucket).await?;
            if done % TOLD_AFTER == 0 || done == unindexed.len() {
                tracing::info!(buckets = done, of = unindexed.len(), bookings, "indexed what slotcast 0.1 stored");
            }
        }
        Ok(())
    }

    async fn take_index_turn(&self, holder: &str) -> Result<bool, StoreError> {
        let call = Call::new(&scripts::LEASE).key(self.keys.indexer()).arg(holder).arg(TURN.as_millis());
        Ok(self.repeatable(&call, Budget::of_a_call()).await?.text_at(0)?.is_empty())
    }

    /// Fills the indexes of a bucket of format 2, and tells how many bookings there are. May be done again, and beside acts.
    pub(super) async fn fill_bucket(&self, bucket: Bucket) -> Result<u64, StoreError> {
        let (mut cursor, mut bookings) = ("0".to_owned(), 0);
        loop {
            let (next, days) = self.find_days(bucket, &cursor).await?;
            for key in days {
                let Some((space, day)) = self.keys.parse_day(&key) else { continue };
                let call = Call::new(&scripts::INDEX_DAY)
                    .fence(bucket)
                    .key(key)
                    .key(self.keys.bookings(bucket))
                    .key(self.keys.places(bucket))
                    .arg(space.site)
                    .arg(space.space)
                    .arg(day);
                bookings += self.repeatable(&call, Budget::of_a_call()).await?.number_at::<u64>(0)?;
            }
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
        let call = Call::new(&scripts::MARK_INDEXED).fence(bucket);
        self.repeatable(&call, Budget::of_a_call()).await?;
        self.indexed.set(bucket);
        Ok(bookings)
    }

    /// The keys of some of a bucket's days, some perhaps twice, and the cursor for the others; `0` is the end.
    pub(super) async fn find_days(&self, bucket: Bucket, cursor: &str) -> Result<(String, Vec<String>), StoreError> {
        let call = Call::new(&scripts::FIND_DAYS).fence(bucket).arg(cursor).arg(self.keys.pattern_of_days(bucket));
        let reply = self.repeatable(&call, Budget::of_a_call()).await?;
        let days = reply.texts_from(1)?.into_iter().map(str::to_owned).collect();
        Ok((reply.text_at(0)?.to_owned(), days))
    }
}
