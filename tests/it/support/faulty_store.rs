//! Two stores that pass every call on to another store. One loses the answers of one method, and one is patient with a
//! busy machine.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use slotcast::clock;
use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::{Bucket, Day, Position, SiteId, SlotAct, SpaceId, SpaceKey, StoreTime, UserId};
use slotcast::store::told::{BucketRead, BucketStart, Told};
use slotcast::store::{
    ActOutcome, ApplyError, BookedSlot, DayState, Erasure, ErasureStep, HeldSlot, KeptOfUser, LogRead, NodeReport,
    NumberedEntry, Publication, ScheduleState, SlotStore, SpaceChange, SpaceState, StoreError, SweepBatch, Topic,
    UserBacklog,
};

/// A store that does the work of one method and loses its answers.
pub struct FaultyStore {
    /// The store that does the work.
    pub store: Arc<dyn SlotStore>,
    /// The method whose answers are lost.
    pub loses: &'static str,
}

/// A store that asks the embedded store again if that was too busy to begin. Nothing was done then. The embedded store
/// refuses a call that a busy machine keeps waiting for a second, and tests of other things must not fail for that.
pub struct PatientStore(pub Arc<dyn SlotStore>);

/// How long the patient store asks again.
const PATIENCE: Duration = Duration::from_secs(60);

/// The failure of a call.
trait Failure {
    /// Whether the embedded store did not begin with the call.
    fn was_not_begun(&self) -> bool;
}

impl Failure for StoreError {
    fn was_not_begun(&self) -> bool {
        self.0.contains("was not started in time")
    }
}

impl Failure for ApplyError {
    fn was_not_begun(&self) -> bool {
        matches!(self, ApplyError::Store(error) if error.was_not_begun())
    }
}

/// Clones an argument for another call. A reference is cloned as a reference.
fn once_more<T: Clone>(argument: &T) -> T {
    argument.clone()
}

macro_rules! pass_on {
    ($($method:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl SlotStore for FaultyStore {
            $(async fn $method(&self, $($arg: $type),*) -> $answer {
                let answer = self.store.$method($($arg),*).await;
                if self.loses == stringify!($method) { Err(StoreError("the answer is lost".into()).into()) } else { answer }
            })*
        }

        #[async_trait]
        impl SlotStore for PatientStore {
            $(async fn $method(&self, $($arg: $type),*) -> $answer {
                let began = clock::instant();
                loop {
                    match self.0.$method($(once_more(&$arg)),*).await {
                        Err(error) if error.was_not_begun() && began.elapsed() < PATIENCE => {}
                        answer => return answer,
                    }
                }
            })*
        }
    };
}

pass_on! {
    apply(act: SlotAct) -> Result<ActOutcome, ApplyError>;
    put_space(change: SpaceChange) -> Result<Position, ApplyError>;
    sweep(bucket: Bucket, limit: usize) -> Result<SweepBatch, StoreError>;
    registered_spaces() -> Result<Vec<SpaceKey>, StoreError>;
    schedules_of(spaces: &[SpaceKey]) -> Result<Vec<Option<ScheduleSpec>>, StoreError>;
    bookings_of(user: &UserId, from: Day, to: Day) -> Result<Vec<BookedSlot>, StoreError>;
    spaces_on(site: SiteId, day: Day) -> Result<Vec<SpaceId>, StoreError>;
    publish(publication: Publication) -> Result<(), StoreError>;
    tell_taken() -> Result<(), StoreError>;
    mark_received(user: &UserId, sequence: u64) -> Result<(), StoreError>;
    read_schedule(space: SpaceKey) -> Result<ScheduleState, StoreError>;
    read_space(space: SpaceKey) -> Result<SpaceState, StoreError>;
    read_day(space: SpaceKey, day: Day) -> Result<DayState, StoreError>;
    sites_of(space: SpaceId) -> Result<Vec<SiteId>, StoreError>;
    holds_of(user: &UserId) -> Result<Vec<HeldSlot>, StoreError>;
    messages_of(user: &UserId, since: Option<u64>, bytes: usize) -> Result<UserBacklog, StoreError>;
    read_log(topic: Topic, since: &Position) -> Result<LogRead, StoreError>;
    start_bucket(bucket: Bucket) -> Result<BucketStart, StoreError>;
    read_bucket(bucket: Bucket, told: &Told) -> Result<BucketRead, StoreError>;
    end_epoch(topic: Topic, epoch: &str) -> Result<Position, StoreError>;
    heads(topics: &[Topic]) -> Result<Vec<Position>, StoreError>;
    read_journal(bucket: Bucket, from: u64, limit: usize) -> Result<Vec<NumberedEntry>, StoreError>;
    journal_tails(buckets: &[Bucket]) -> Result<Vec<u64>, StoreError>;
    trim_journal(bucket: Bucket) -> Result<(), StoreError>;
    kept_of(user: &UserId) -> Result<KeptOfUser, StoreError>;
    begin_erasure(user: &UserId) -> Result<UserId, StoreError>;
    erase_in(bucket: Bucket, erasure: &Erasure) -> Result<ErasureStep, StoreError>;
    end_erasure(user: &UserId) -> Result<(), StoreError>;
    reader_places(reader: &str, buckets: &[Bucket]) -> Result<Vec<Option<String>>, StoreError>;
    move_reader(reader: &str, bucket: Bucket, known: Option<&str>, place: &str) -> Result<bool, StoreError>;
    forget_read(bucket: Bucket, before: u64, readers: &[(String, String)]) -> Result<bool, StoreError>;
    take_reader_lease(reader: &str, holder: &str, lease: Duration) -> Result<Option<Duration>, StoreError>;
    report_node(report: NodeReport, lease: Duration) -> Result<(), StoreError>;
    nodes() -> Result<Vec<NodeReport>, StoreError>;
    take_sweep_lease(holder: &str, lease: Duration) -> Result<Option<Duration>, StoreError>;
    ping() -> Result<StoreTime, StoreError>;
}
