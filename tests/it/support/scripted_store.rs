//! A store that only sweeps, with the results that a test gives it. One node at a time may walk over all buckets.

use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::{Bucket, Day, Position, SiteId, SlotAct, SpaceId, SpaceKey, StoreTime, UserId};
use slotcast::store::{
    ActOutcome, ApplyError, BookedSlot, DayState, Erasure, ErasureStep, HeldSlot, KeptOfUser, LogRead, NodeReport,
    NumberedEntry, Publication, ScheduleState, SlotStore, SpaceChange, SpaceState, StoreError, SweepBatch, Topic,
    UserBacklog,
};
use tokio::time::Instant;

/// A store that sweeps by a function and grants a lease. Every other method fails.
pub struct ScriptedStore<F> {
    batch_takes: Duration,
    sweep: F,
    /// The node that may walk over all buckets, and until when.
    lease: Mutex<Option<(String, Instant)>>,
}

impl<F> ScriptedStore<F> {
    /// Each batch takes `batch_takes`, and has the result that `sweep` returns for its bucket.
    pub fn new(batch_takes: Duration, sweep: F) -> Self {
        Self { batch_takes, sweep, lease: Mutex::default() }
    }
}

fn not_scripted<T, E: From<StoreError>>() -> Result<T, E> {
    Err(StoreError("a sweep has no need of this".into()).into())
}

#[async_trait]
impl<F> SlotStore for ScriptedStore<F>
where
    F: Fn(Bucket) -> Result<SweepBatch, StoreError> + Send + Sync + 'static,
{
    async fn sweep(&self, bucket: Bucket, _: usize) -> Result<SweepBatch, StoreError> {
        tokio::time::sleep(self.batch_takes).await;
        (self.sweep)(bucket)
    }

    async fn apply(&self, _: SlotAct) -> Result<ActOutcome, ApplyError> {
        not_scripted()
    }

    async fn put_space(&self, _: SpaceChange) -> Result<Position, ApplyError> {
        not_scripted()
    }

    async fn publish(&self, _: Publication) -> Result<(), StoreError> {
        not_scripted()
    }

    async fn mark_received(&self, _: &UserId, _: u64) -> Result<(), StoreError> {
        not_scripted()
    }

    async fn read_schedule(&self, _: SpaceKey) -> Result<ScheduleState, StoreError> {
        not_scripted()
    }

    async fn read_space(&self, _: SpaceKey) -> Result<SpaceState, StoreError> {
        not_scripted()
    }

    async fn read_day(&self, _: SpaceKey, _: Day) -> Result<DayState, StoreError> {
        not_scripted()
    }

    async fn sites_of(&self, _: SpaceId) -> Result<Vec<SiteId>, StoreError> {
        not_scripted()
    }

    async fn registered_spaces(&self) -> Result<Vec<SpaceKey>, StoreError> {
        not_scripted()
    }

    async fn schedules_of(&self, _: &[SpaceKey]) -> Result<Vec<Option<ScheduleSpec>>, StoreError> {
        not_scripted()
    }

    async fn bookings_of(&self, _: &UserId, _: Day, _: Day) -> Result<Vec<BookedSlot>, StoreError> {
        not_scripted()
    }

    async fn spaces_on(&self, _: SiteId, _: Day) -> Result<Vec<SpaceId>, StoreError> {
        not_scripted()
    }

    async fn holds_of(&self, _: &UserId) -> Result<Vec<HeldSlot>, StoreError> {
        not_scripted()
    }

    async fn messages_of(&self, _: &UserId, _: Option<u64>, _: usize) -> Result<UserBacklog, StoreError> {
        not_scripted()
    }

    async fn read_log(&self, _: Topic, _: &Position) -> Result<LogRead, StoreError> {
        not_scripted()
    }

    async fn heads(&self, _: &[Topic]) -> Result<Vec<Position>, StoreError> {
        not_scripted()
    }

    async fn read_journal(&self, _: Bucket, _: u64, _: usize) -> Result<Vec<NumberedEntry>, StoreError> {
        not_scripted()
    }

    async fn journal_tails(&self, _: &[Bucket]) -> Result<Vec<u64>, StoreError> {
        not_scripted()
    }

    async fn trim_journal(&self, _: Bucket) -> Result<(), StoreError> {
        Ok(())
    }

    async fn kept_of(&self, _: &UserId) -> Result<KeptOfUser, StoreError> {
        not_scripted()
    }

    async fn begin_erasure(&self, _: &UserId) -> Result<UserId, StoreError> {
        not_scripted()
    }

    async fn erase_in(&self, _: Bucket, _: &Erasure) -> Result<ErasureStep, StoreError> {
        not_scripted()
    }

    async fn end_erasure(&self, _: &UserId) -> Result<(), StoreError> {
        not_scripted()
    }

    async fn reader_places(&self, _: &str, _: &[Bucket]) -> Result<Vec<Option<String>>, StoreError> {
        not_scripted()
    }

    async fn move_reader(&self, _: &str, _: Bucket, _: Option<&str>, _: &str) -> Result<bool, StoreError> {
        not_scripted()
    }

    async fn forget_read(&self, _: Bucket, _: u64, _: &[(String, String)]) -> Result<bool, StoreError> {
        not_scripted()
    }

    async fn take_reader_lease(&self, _: &str, _: &str, _: Duration) -> Result<Option<Duration>, StoreError> {
        not_scripted()
    }

    async fn report_node(&self, _: NodeReport, _: Duration) -> Result<(), StoreError> {
        not_scripted()
    }

    async fn nodes(&self) -> Result<Vec<NodeReport>, StoreError> {
        not_scripted()
    }

    async fn take_sweep_lease(&self, holder: &str, lease: Duration) -> Result<Option<Duration>, StoreError> {
        let (mut held, now) = (self.lease.lock(), Instant::now());
        match held.as_ref().filter(|(other, ends)| other != holder && now < *ends) {
            Some((_, ends)) => Ok(Some(*ends - now)),
            None => {
                *held = Some((holder.to_owned(), now + lease));
                Ok(None)
            }
        }
    }

    async fn ping(&self) -> Result<StoreTime, StoreError> {
        not_scripted()
    }
}
