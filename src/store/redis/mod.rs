//! The store of any number of nodes: all state is in Redis, and each write is one Lua script there.
//!
//! - [`keys`]: every key, channel and payload. `scripts`, and `lua/`: the scripts that run in Redis.
//! - [`endpoint`]: the parts of `REDIS_URL`. [`connect`]: the connection for commands.
//! - `subscriptions`: how a node hears the store's announcements, over a `link`. `checks`: finds the faults of a Redis
//!   before a node uses it; `watch`: the same while the node runs.
//! - [`formats`]: the formats of stored and published data. `call`: runs a script once, whatever happens to its reply.
//!   `repair`: repairs what a script left half done. `reply`, `record`: read replies and records.
//! - `indexes`: fills the indexes that 0.1 did not keep.
//! - `acts`, `spaces`, `bookings`, `reads`, `sweep`, `messages`, `journal`, `privacy`, `nodes`: the methods of
//!   [`SlotStore`], which states the guarantees. `taken`: the notifications to users who lose slots.
//!
//! The rule ([`crate::domain::rule`]) is written a second time in Lua, because it must run where the state is. The
//! conformance suite, and a comparison with the embedded store on random acts, keep the two equal.
//!
//! **Invariant:** no (epoch, version) names two contents. Each bucket keeps its epoch together with the server's
//! `master_replid`. Every script that tells or takes a version compares the `master_replid`. If the server's history is
//! not provably the same, the epoch changes.

mod acts;
mod bookings;
mod call;
#[cfg(feature = "server")]
pub mod checks;
pub mod connect;
#[cfg(feature = "server")]
mod emitter;
pub mod endpoint;
pub mod formats;
mod journal;
pub mod keys;
#[cfg(feature = "server")]
mod link;
mod indexes;
mod logs;
mod messages;
#[cfg(feature = "server")]
mod migrate;
mod nodes;
pub mod positions;
mod privacy;
mod reads;
mod record;
mod repair;
mod reply;
mod scripts;
mod spaces;
#[cfg(feature = "server")]
pub mod subscriptions;
mod sweep;
mod taken;
#[cfg(feature = "server")]
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::ConnectionLike;

use self::call::{Budget, Runner};
pub use self::connect::Commands;
pub use self::endpoint::Endpoint;
use self::formats::Formats;
use self::keys::Keys;
use self::nodes::LastReport;
use self::positions::Positions;
#[cfg(feature = "server")]
pub use self::subscriptions::RedisSubscriptions;
use super::health::StoreHealth;
use super::told::{BucketRead, BucketStart, Told};
use super::{
    ActOutcome, ApplyError, BookedSlot, DayState, Erasure, ErasureStep, HeldSlot, JournalBounds, KeptOfUser, LogRead,
    NodeReport, NumberedEntry, Publication, ScheduleState, SlotStore, SpaceChange, SpaceState, StoreError, SweepBatch,
    Topic, UserBacklog,
};
use crate::domain::schedule::ScheduleSpec;
use crate::domain::{Bucket, Day, Position, SiteId, SlotAct, SpaceId, SpaceKey, StoreTime, UserId};

/// The store in Redis.
pub struct RedisStore {
    health: Arc<StoreHealth>,
    runner: Arc<Runner>,
    keys: Keys,
    journal: JournalBounds,
    last_report: LastReport,
}

/// Options that depend on the server or the test.
#[derive(Clone, Copy, Debug)]
pub struct RedisOptions {
    /// Whether scripts compare `INFO replication` with what they know.
    pub fence: Fence,
    /// How far the clock is ahead of Redis `TIME`, in ms; 0 outside tests.
    pub clock_shift_millis: i64,
    /// How much of the journal is kept. It must be the same for all processes that write.
    pub journal: JournalBounds,
}

/// Whether scripts compare the server's history with the epoch's, so that a failover that lost writes cannot issue versions
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Always. Scripts fail if INFO is refused, unless the store's health says that INFO was refused at the node's start
    /// and still is.
    Up,
    /// Never: an epoch changes only if it is missing. This is for a node that found INFO refused, and says so.
    Down,
    /// Scripts compare if they may use INFO. This is for commands that run once and check nothing beforehand. If INFO
    /// is refused although nodes have used it, scripts fail and say so.
    WhereAllowed,
}

impl Fence {
    /// The argument that scripts get.
    const fn arg(self) -> &'static str {
        match self {
            Fence::Up => "1",
            Fence::Down => "0",
            Fence::WhereAllowed => "?",
        }
    }
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { fence: Fence::Up, clock_shift_millis: 0, journal: JournalBounds::default() }
    }
}

impl RedisStore {
    /// A store under a prefix of all keys and channels. Nothing is sent yet. Fails if the prefix has a brace, which would
    /// replace the hash tags, or if it ends with `@` and a number, as a database's channels do.
    pub fn new(commands: Commands, prefix: &str, options: RedisOptions) -> Result<Self, StoreError> {
        let database = u8::try_from(commands.get_db()).unwrap_or_default();
        let keys = Keys::new(prefix, database).ok_or_else(|| {
            StoreError(format!(
                "the prefix of keys in Redis is {prefix:?}: it must have no brace, and not end with @ and a number; choose \
                 another"
            ))
        })?;
        let health = Arc::new(StoreHealth::default());
        let (fence, shift) = (options.fence, options.clock_shift_millis);
        let runner = Arc::new(Runner::new(commands, keys.clone(), fence, shift, health.clone()));
        Ok(Self { health, runner, keys, journal: options.journal, last_report: LastReport::default() })
    }

    /// The present faults of this store.
    pub fn health(&self) -> Arc<StoreHealth> {
        self.health.clone()
    }

    /// The store that a `REDIS_URL` names. Nothing is sent yet, so the server may start later.
    pub fn open(url: &str, prefix: &str, options: RedisOptions) -> Result<Self, StoreError> {
        let endpoint = Endpoint::parse(url).map_err(|error| StoreError::new("REDIS_URL", error))?;
        Self::new(Commands::start(&endpoint)?, prefix, options)
    }

    /// The last known positions of the spaces, for parts that hear newer ones.
    pub fn positions(&self) -> Positions {
        self.runner.positions.clone()
    }

    /// The buckets' formats as far as this process knows them. They are updated as the process learns more.
    pub fn formats(&self) -> Formats {
        self.runner.formats.clone()
    }

    /// The time on the server of bucket 0.
    async fn now(&self) -> Result<StoreTime, StoreError> {
        let millis = self.runner.ask_time(Bucket::EVERYONE, Budget::of_a_call()).await?;
        Ok(StoreTime::from_millis(millis))
    }
}

#[async_trait]
impl SlotStore for RedisStore {
    async fn apply(&self, act: SlotAct) -> Result<ActOutcome, ApplyError> {
        acts::apply(self, &act).await
    }

    async fn put_space(&self, change: SpaceChange) -> Result<Position, ApplyError> {
        spaces::put_space(self, &change).await
    }

    async fn sweep(&self, bucket: Bucket, limit: usize) -> Result<SweepBatch, StoreError> {
        sweep::sweep(self, bucket, limit).await
    }

    async fn publish(&self, publication: Publication) -> Result<(), StoreError> {
        messages::publish(&self.runner, publication).await
    }

    async fn tell_taken(&self) -> Result<(), StoreError> {
        taken::send_left(&self.runner).await
    }

    async fn mark_received(&self, user: &UserId, sequence: u64) -> Result<(), StoreError> {
        messages::mark_received(self, user, sequence).await
    }

    async fn read_schedule(&self, space: SpaceKey) -> Result<ScheduleState, StoreError> {
        reads::read_schedule(self, space).await
    }

    async fn read_space(&self, space: SpaceKey) -> Result<SpaceState, StoreError> {
        reads::read_space(self, space).await
    }

    async fn read_day(&self, space: SpaceKey, day: Day) -> Result<DayState, StoreError> {
        reads::read_day(self, space, day).await
    }

    async fn sites_of(&self, space: SpaceId) -> Result<Vec<SiteId>, StoreError> {
        reads::sites_of(self, space).await
    }

    async fn registered_spaces(&self) -> Result<Vec<SpaceKey>, StoreError> {
        reads::registered_spaces(self).await
    }

    async fn schedules_of(&self, spaces: &[SpaceKey]) -> Result<Vec<Option<ScheduleSpec>>, StoreError> {
        reads::schedules_of(self, spaces).await
    }

    async fn bookings_of(&self, user: &UserId, from: Day, to: Day) -> Result<Vec<BookedSlot>, StoreError> {
        bookings::bookings_of(self, user, from, to).await
    }

    async fn spaces_on(&self, site: SiteId, day: Day) -> Result<Vec<SpaceId>, StoreError> {
        bookings::spaces_on(self, site, day).await
    }

    async fn holds_of(&self, user: &UserId) -> Result<Vec<HeldSlot>, StoreError> {
        reads::holds_of(self, user).await
    }

    async fn messages_of(&self, user: &UserId, since: Option<u64>, bytes: usize) -> Result<UserBacklog, StoreError> {
        messages::messages_of(self, user, since, bytes).await
    }

    async fn read_log(&self, topic: Topic, since: &Position) -> Result<LogRead, StoreError> {
        reads::read_log(self, topic, since).await
    }

    async fn start_bucket(&self, bucket: Bucket) -> Result<BucketStart, StoreError> {
        logs::start_bucket(self, bucket).await
    }

    async fn read_bucket(&self, bucket: Bucket, told: &Told) -> Result<BucketRead, StoreError> {
        logs::read_bucket(self, bucket, told).await
    }

    async fn end_epoch(&self, topic: Topic, epoch: &str) -> Result<Position, StoreError> {
        logs::end_epoch(self, topic, epoch).await
    }

    async fn heads(&self, topics: &[Topic]) -> Result<Vec<Position>, StoreError> {
        reads::heads(self, topics).await
    }

    async fn read_journal(&self, bucket: Bucket, from: u64, limit: usize) -> Result<Vec<NumberedEntry>, StoreError> {
        journal::read(self, bucket, from, limit).await
    }

    async fn journal_tails(&self, buckets: &[Bucket]) -> Result<Vec<u64>, StoreError> {
        journal::tails(self, buckets).await
    }

    async fn trim_journal(&self, bucket: Bucket) -> Result<(), StoreError> {
        journal::trim(self, bucket).await
    }

    async fn kept_of(&self, user: &UserId) -> Result<KeptOfUser, StoreError> {
        privacy::kept_of(self, user).await
    }

    async fn begin_erasure(&self, user: &UserId) -> Result<UserId, StoreError> {
        privacy::begin(self, user).await
    }

    async fn erase_in(&self, bucket: Bucket, erasure: &Erasure) -> Result<ErasureStep, StoreError> {
        privacy::erase_in(self, bucket, erasure).await
    }

    async fn end_erasure(&self, user: &UserId) -> Result<(), StoreError> {
        privacy::end(self, user).await
    }

    async fn reader_places(&self, reader: &str, buckets: &[Bucket]) -> Result<Vec<Option<String>>, StoreError> {
        journal::reader_places(self, reader, buckets).await
    }

    async fn move_reader(
        &self,
        reader: &str,
        bucket: Bucket,
        known: Option<&str>,
        place: &str,
    ) -> Result<bool, StoreError> {
        journal::move_reader(self, reader, bucket, known, place).await
    }

    async fn forget_read(&self, bucket: Bucket, before: u64, readers: &[(String, String)]) -> Result<bool, StoreError> {
        journal::forget_read(self, bucket, before, readers).await
    }

    async fn take_reader_lease(
        &self,
        reader: &str,
        holder: &str,
        lease: Duration,
    ) -> Result<Option<Duration>, StoreError> {
        nodes::take_lease(self, self.keys.reader_lease(reader), holder, lease).await
    }

    async fn report_node(&self, report: NodeReport, lease: Duration) -> Result<(), StoreError> {
        nodes::report_node(self, report, lease).await
    }

    async fn nodes(&self) -> Result<Vec<NodeReport>, StoreError> {
        nodes::nodes(self).await
    }

    async fn take_sweep_lease(&self, holder: &str, lease: Duration) -> Result<Option<Duration>, StoreError> {
        nodes::take_lease(self, self.keys.sweeper(), holder, lease).await
    }

    /// Runs a script that may write, so that the ping fails if acts would fail.
    async fn ping(&self) -> Result<StoreTime, StoreError> {
        self.now().await
    }
}
