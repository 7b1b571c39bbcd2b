//! The indexes of bookings and of days, which slotcast 0.1 did not have. One node, or `slotcast migrate`, fills them once
//! for the data of 0.1. Acts keep them up to date once a bucket has format 2.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::RedisStore;
use super::call::{Budget, Call, Runner};
use super::connect::Route;
use super::scripts;
use crate::domain::{Bucket, Day, SpaceKey};
use crate::store::StoreError;

/// How long a node may still fill indexes after its last portion of keys.
const TURN: Duration = Duration::from_secs(30);

/// Progress is logged after this many portions of a server's keys, each of about a thousand.
const TOLD_AFTER: u64 = 64;

/// The buckets that are known to have complete indexes. Clones share it.
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
    /// Fails while a bucket's indexes may lack data of 0.1.
    pub(super) async fn require_indexes(&self) -> Result<(), StoreError> {
        let unindexed = self.runner.find_unindexed().await?;
        // A bucket that nobody has used yet will be complete when it is made.
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

    /// Fills the incomplete indexes unless it is another node's turn, with one scan of each server's keys for all of its
    /// buckets. Logs the progress.
    pub(super) async fn fill_indexes(&self, holder: &str) -> Result<(), StoreError> {
        let unindexed = self.find_unindexed().await?;
        for (server, buckets) in self.servers_of(&unindexed).await? {
            let Some(bookings) = self.fill_buckets(holder, &buckets).await? else { return Ok(()) };
            // A bucket that has moved, or whose server was replaced in between, may have keys that the scan did not see.
            let stayed = self.servers_of(&buckets).await?.remove(&server).unwrap_or_default();
            for bucket in &stayed {
                self.mark_indexed(*bucket).await?;
            }
            tracing::info!(buckets = stayed.len(), of = unindexed.len(), bookings, "indexed what slotcast 0.1 stored");
        }
        Ok(())
    }

    /// The buckets by server. The connection's address and number name the server.
    async fn servers_of(&self, buckets: &[Bucket]) -> Result<BTreeMap<(String, u64), Vec<Bucket>>, StoreError> {
        let mut servers: BTreeMap<_, Vec<Bucket>> = BTreeMap::new();
        for bucket in buckets {
            let server = self.commands.server(&Route::to_key(&self.keys.fence(*bucket))).await;
            let server = server.map_err(|error| StoreError::new("Redis: the server of a bucket", error))?;
            servers.entry((server.node.to_string(), server.number)).or_default().push(*bucket);
        }
        Ok(servers)
    }

    /// Fills the indexes of one server's buckets of format 2. Answers the number of bookings, or `None` if it is another
    /// node's turn. Repeats are harmless, and acts may run at the same time.
    async fn fill_buckets(&self, holder: &str, buckets: &[Bucket]) -> Result<Option<u64>, StoreError> {
        let Some(first) = buckets.first() else { return Ok(Some(0)) };
        let pattern = self.keys.pattern_of_all_days();
        let (mut cursor, mut days, mut bookings) = ("0".to_owned(), 0_u64, 0);
        for portion in 1_u64.. {
            if !self.take_index_turn(holder).await? {
                return Ok(None);
            }
            let (next, keys) = self.find_days(*first, &cursor, &pattern).await?;
            for key in keys {
                let Some((space, day)) = self.keys.parse_day(&key) else { continue };
                if buckets.contains(&space.bucket()) {
                    bookings += self.index_day(key, space, day).await?;
                    days += 1;
                }
            }
            if next == "0" {
                break;
            }
            cursor = next;
            if portion.is_multiple_of(TOLD_AFTER) {
                tracing::info!(days, bookings, "indexing what slotcast 0.1 stored");
            }
        }
        Ok(Some(bookings))
    }

    async fn index_day(&self, key: String, space: SpaceKey, day: Day) -> Result<u64, StoreError> {
        let bucket = space.bucket();
        let call = Call::new(&scripts::INDEX_DAY)
            .fence(bucket)
            .key(key)
            .key(self.keys.bookings(bucket))
            .key(self.keys.places(bucket))
            .arg(space.site)
            .arg(space.space)
            .arg(day);
        self.repeatable(&call, Budget::of_a_call()).await?.number_at(0)
    }

    async fn take_index_turn(&self, holder: &str) -> Result<bool, StoreError> {
        let call = Call::new(&scripts::LEASE).key(self.keys.indexer()).arg(holder).arg(TURN.as_millis());
        Ok(self.repeatable(&call, Budget::of_a_call()).await?.text_at(0)?.is_empty())
    }

    /// Fills the indexes of a bucket of format 2. Repeats are harmless, and acts may run at the same time.
    #[cfg(feature = "server")]
    pub(super) async fn fill_bucket(&self, bucket: Bucket) -> Result<(), StoreError> {
        let (mut cursor, pattern) = ("0".to_owned(), self.keys.pattern_of_days(bucket));
        loop {
            let (next, days) = self.find_days(bucket, &cursor, &pattern).await?;
            for key in days {
                if let Some((space, day)) = self.keys.parse_day(&key) {
                    self.index_day(key, space, day).await?;
                }
            }
            cursor = next;
            if cursor == "0" {
                return self.mark_indexed(bucket).await;
            }
        }
    }

    async fn mark_indexed(&self, bucket: Bucket) -> Result<(), StoreError> {
        let call = Call::new(&scripts::MARK_INDEXED).fence(bucket);
        self.repeatable(&call, Budget::of_a_call()).await?;
        self.indexed.set(bucket);
        Ok(())
    }

    /// Some keys of days that match `pattern`, on a bucket's server, and the cursor for the next ones; `0` is the end. Keys
    /// may come twice.
    pub(super) async fn find_days(
        &self,
        bucket: Bucket,
        cursor: &str,
        pattern: &str,
    ) -> Result<(String, Vec<String>), StoreError> {
        let call = Call::new(&scripts::FIND_DAYS).fence(bucket).arg(cursor).arg(pattern);
        let reply = self.repeatable(&call, Budget::of_a_call()).await?;
        let days = reply.texts_from(1)?.into_iter().map(str::to_owned).collect();
        Ok((reply.text_at(0)?.to_owned(), days))
    }
}
