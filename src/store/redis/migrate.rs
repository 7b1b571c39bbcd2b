//! Moves all data to the newest format at once, for `slotcast migrate`. Nodes do not need this. They move the buckets
//! once all of them know the format, and rewrite each record at its next change.

use std::collections::BTreeSet;

use super::call::{Budget, Call};
use super::formats::NEWEST;
use super::{RedisStore, scripts};
use crate::domain::Bucket;
use crate::store::{Migration, SlotStore, StoreError};

impl RedisStore {
    /// Moves all buckets to the newest format, and rewrites older records, a day at a time. Tells `progress` how many
    /// buckets are done. It may be repeated, for example after it was stopped, and may run beside nodes that know the
    /// format.
    ///
    /// # Errors
    ///
    /// A node that does not know the format is live, and the error names it. Or Redis fails.
    pub async fn migrate(&self, mut progress: impl FnMut(u64)) -> Result<Migration, StoreError> {
        self.refuse_beside_old_nodes().await?;
        let mut migration = Migration { format: NEWEST.into(), ..Migration::default() };
        for (done, bucket) in (1..).zip(Bucket::all()) {
            let moved = self.runner.open_bucket(bucket, true).await;
            let moved = moved.map_err(|failure| StoreError::new("Redis: opening a bucket", failure.cause()))?;
            migration.moved += u64::from(moved);
            self.migrate_records(bucket, &mut migration).await?;
            progress(done);
        }
        Ok(migration)
    }

    async fn refuse_beside_old_nodes(&self) -> Result<(), StoreError> {
        let mut knowing = redis::cmd("ZRANGE");
        knowing.arg(self.keys.leases_knowing(NEWEST)).arg(0).arg(-1);
        let knowing = self.runner.command("zrange", &knowing, Budget::of_a_call()).await?;
        let knowing: BTreeSet<String> =
            redis::from_redis_value(knowing).map_err(|error| StoreError::new("Redis: the leases", error))?;
        let nodes = self.nodes().await?;
        let old: Vec<String> = nodes
            .iter()
            .filter(|node| !knowing.contains(&node.id))
            .map(|node| format!("{} (version {})", node.address, node.version))
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        Err(StoreError(format!(
            "nodes live that do not know format {NEWEST}: {}. Replace them first; the lease of a node that was ended lasts six \
             seconds",
            old.join(", ")
        )))
    }

    async fn migrate_records(&self, bucket: Bucket, migration: &mut Migration) -> Result<(), StoreError> {
        let (mut cursor, pattern) = ("0".to_owned(), self.keys.pattern_of_days(bucket));
        loop {
            let (next, days) = self.runner.find_days(bucket, &cursor, &pattern).await?;
            for key in &days {
                self.migrate_day(bucket, key, migration).await?;
            }
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
        // The indexes come last, so that their entries match the rewritten records.
        self.runner.fill_bucket(bucket).await
    }

    async fn migrate_day(&self, bucket: Bucket, key: &str, migration: &mut Migration) -> Result<(), StoreError> {
        let call = Call::new(&scripts::MIGRATE_DAY).fence(bucket).key(key.to_owned());
        let reply = self.runner.repeatable(&call, Budget::of_a_call()).await?;
        migration.rewritten += reply.number_at::<u64>(0)?;
        migration.records += reply.number_at::<u64>(1)?;
        migration.unreadable.extend(reply.texts_from(2)?.iter().map(|slot| format!("{key} {slot}")));
        Ok(())
    }
}
