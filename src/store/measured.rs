//! Wraps a store and measures how long each operation takes, and how often it fails. A refusal is not a failure.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::told::{BucketRead, BucketStart, Told};
use super::{
    ActOutcome, ApplyError, BookedSlot, DayState, Erasure, ErasureStep, HeldSlot, KeptOfUser, LogRead, NodeReport,
    NumberedEntry, Publication, ScheduleState, SlotStore, SpaceChange, SpaceState, StoreError, SweepBatch, Topic,
    UserBacklog,
};
use crate::clock;
use crate::domain::schedule::ScheduleSpec;
use crate::domain::{Bucket, Day, Position, SiteId, SlotAct, SpaceId, SpaceKey, StoreTime, UserId};
use crate::telemetry::metrics::Metrics;

/// The operations, as metrics name them.
const OPERATIONS: &[&str] = &[
    "apply",
    "put_space",
    "sweep",
    "publish",
    "tell_taken",
    "mark_received",
    "read_schedule",
    "read_space",
    "read_day",
    "sites_of",
    "registered_spaces",
    "schedules_of",
    "bookings_of",
    "spaces_on",
    "holds_of",
    "messages_of",
    "read_log",
    "start_bucket",
    "read_bucket",
    "end_epoch",
    "heads",
    "read_journal",
    "journal_tails",
    "trim_journal",
    "kept_of",
    "begin_erasure",
    "erase_in",
    "end_erasure",
    "reader_places",
    "move_reader",
    "forget_read",
    "take_reader_lease",
    "report_node",
    "nodes",
    "take_sweep_lease",
    "ping",
];

/// Passes every call on to `store`, and counts it in `metrics`.
pub struct Measured {
    store: Arc<dyn SlotStore>,
    metrics: Metrics,
}

impl Measured {
    /// Wraps a store. The counters of all operations start at 0, so that an alert sees the first failure.
    pub fn new(store: Arc<dyn SlotStore>, metrics: Metrics) -> Self {
        for operation in OPERATIONS {
            metrics.store_errors.with_label_values(&[operation]);
        }
        Self { store, metrics }
    }

    async fn measure<T, E: MayBeFailure>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let started = clock::instant();
        let result = work.await;
        let took = clock::instant().saturating_duration_since(started);
        self.metrics.store_seconds.with_label_values(&[operation]).observe(took.as_secs_f64());
        if result.as_ref().is_err_and(MayBeFailure::is_failure) {
            self.metrics.store_errors.with_label_values(&[operation]).inc();
        }
        result
    }
}

/// Tells the store's failures from its refusals.
trait MayBeFailure {
    fn is_failure(&self) -> bool;
}

impl MayBeFailure for StoreError {
    fn is_failure(&self) -> bool {
        true
    }
}

impl MayBeFailure for ApplyError {
    fn is_failure(&self) -> bool {
        matches!(self, ApplyError::Store(_))
    }
}

#[async_trait]
impl SlotStore for Measured {
    async fn apply(&self, act: SlotAct) -> Result<ActOutcome, ApplyError> {
        self.measure("apply", self.store.apply(act)).await
    }

    async fn put_space(&self, change: SpaceChange) -> Result<Position, ApplyError> {
        self.measure("put_space", self.store.put_space(change)).await
    }

    async fn sweep(&self, bucket: Bucket, limit: usize) -> Result<SweepBatch, StoreError> {
        self.measure("sweep", self.store.sweep(bucket, limit)).await
    }

    async fn publish(&self, publication: Publication) -> Result<(), StoreError> {
        self.measure("publish", self.store.publish(publication)).await
    }

    async fn tell_taken(&self) -> Result<(), StoreError> {
        self.measure("tell_taken", self.store.tell_taken()).await
    }

    async fn mark_received(&self, user: &UserId, sequence: u64) -> Result<(), StoreError> {
        self.measure("mark_received", self.store.mark_received(user, sequence)).await
    }

    async fn read_schedule(&self, space: SpaceKey) -> Result<ScheduleState, StoreError> {
        self.measure("read_schedule", self.store.read_schedule(space)).await
    }

    async fn read_space(&self, space: SpaceKey) -> Result<SpaceState, StoreError> {
        self.measure("read_space", self.store.read_space(space)).await
    }

    async fn read_day(&self, space: SpaceKey, day: Day) -> Result<DayState, StoreError> {
        self.measure("read_day", self.store.read_day(space, day)).await
    }

    async fn sites_of(&self, space: SpaceId) -> Result<Vec<SiteId>, StoreError> {
        self.measure("sites_of", self.store.sites_of(space)).await
    }

    async fn registered_spaces(&self) -> Result<Vec<SpaceKey>, StoreError> {
        self.measure("registered_spaces", self.store.registered_spaces()).await
    }

    async fn schedules_of(&self, spaces: &[SpaceKey]) -> Result<Vec<Option<ScheduleSpec>>, StoreError> {
        self.measure("schedules_of", self.store.schedules_of(spaces)).await
    }

    async fn bookings_of(&self, user: &UserId, from: Day, to: Day) -> Result<Vec<BookedSlot>, StoreError> {
        self.measure("bookings_of", self.store.bookings_of(user, from, to)).await
    }

    async fn spaces_on(&self, site: SiteId, day: Day) -> Result<Vec<SpaceId>, StoreError> {
        self.measure("spaces_on", self.store.spaces_on(site, day)).await
    }

    async fn holds_of(&self, user: &UserId) -> Result<Vec<HeldSlot>, StoreError> {
        self.measure("holds_of", self.store.holds_of(user)).await
    }

    async fn messages_of(&self, user: &UserId, since: Option<u64>, bytes: usize) -> Result<UserBacklog, StoreError> {
        self.measure("messages_of", self.store.messages_of(user, since, bytes)).await
    }

    async fn read_log(&self, topic: Topic, since: &Position) -> Result<LogRead, StoreError> {
        self.measure("read_log", self.store.read_log(topic, since)).await
    }

    async fn start_bucket(&self, bucket: Bucket) -> Result<BucketStart, StoreError> {
        self.measure("start_bucket", self.store.start_bucket(bucket)).await
    }

    async fn read_bucket(&self, bucket: Bucket, told: &Told) -> Result<BucketRead, StoreError> {
        self.measure("read_bucket", self.store.read_bucket(bucket, told)).await
    }

    async fn end_epoch(&self, topic: Topic, epoch: &str) -> Result<Position, StoreError> {
        self.measure("end_epoch", self.store.end_epoch(topic, epoch)).await
    }

    async fn heads(&self, topics: &[Topic]) -> Result<Vec<Position>, StoreError> {
        self.measure("heads", self.store.heads(topics)).await
    }

    async fn read_journal(&self, bucket: Bucket, from: u64, limit: usize) -> Result<Vec<NumberedEntry>, StoreError> {
        self.measure("read_journal", self.store.read_journal(bucket, from, limit)).await
    }

    async fn journal_tails(&self, buckets: &[Bucket]) -> Result<Vec<u64>, StoreError> {
        self.measure("journal_tails", self.store.journal_tails(buckets)).await
    }

    async fn trim_journal(&self, bucket: Bucket) -> Result<(), StoreError> {
        self.measure("trim_journal", self.store.trim_journal(bucket)).await
    }

    async fn kept_of(&self, user: &UserId) -> Result<KeptOfUser, StoreError> {
        self.measure("kept_of", self.store.kept_of(user)).await
    }

    async fn begin_erasure(&self, user: &UserId) -> Result<UserId, StoreError> {
        self.measure("begin_erasure", self.store.begin_erasure(user)).await
    }

    async fn erase_in(&self, bucket: Bucket, erasure: &Erasure) -> Result<ErasureStep, StoreError> {
        self.measure("erase_in", self.store.erase_in(bucket, erasure)).await
    }

    async fn end_erasure(&self, user: &UserId) -> Result<(), StoreError> {
        self.measure("end_erasure", self.store.end_erasure(user)).await
    }

    async fn reader_places(&self, reader: &str, buckets: &[Bucket]) -> Result<Vec<Option<String>>, StoreError> {
        self.measure("reader_places", self.store.reader_places(reader, buckets)).await
    }

    async fn move_reader(
        &self,
        reader: &str,
        bucket: Bucket,
        known: Option<&str>,
        place: &str,
    ) -> Result<bool, StoreError> {
        self.measure("move_reader", self.store.move_reader(reader, bucket, known, place)).await
    }

    async fn forget_read(&self, bucket: Bucket, before: u64, readers: &[(String, String)]) -> Result<bool, StoreError> {
        self.measure("forget_read", self.store.forget_read(bucket, before, readers)).await
    }

    async fn take_reader_lease(
        &self,
        reader: &str,
        holder: &str,
        lease: Duration,
    ) -> Result<Option<Duration>, StoreError> {
        self.measure("take_reader_lease", self.store.take_reader_lease(reader, holder, lease)).await
    }

    async fn report_node(&self, report: NodeReport, lease: Duration) -> Result<(), StoreError> {
        self.measure("report_node", self.store.report_node(report, lease)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeReport>, StoreError> {
        self.measure("nodes", self.store.nodes()).await
    }

    async fn take_sweep_lease(&self, holder: &str, lease: Duration) -> Result<Option<Duration>, StoreError> {
        self.measure("take_sweep_lease", self.store.take_sweep_lease(holder, lease)).await
    }

    async fn ping(&self) -> Result<StoreTime, StoreError> {
        self.measure("ping", self.store.ping()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_counted_from_the_start() {
        let source = include_str!("measured.rs").split("mod tests").next().unwrap_or_default();
        let measured: Vec<&str> =
            source.split("self.measure(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(measured, OPERATIONS);
    }
}
