//! The stores of all state. [`SlotStore`] states the guarantees of every store. `embedded` is one process with one
//! durable file; `redis` serves any number of nodes.
//!
//! [`measured`] measures either of them. [`hub`] delivers announcements inside a node. [`health`] has a store's faults.
//! `refuse` turns failures into refusals.
//!
//! **Invariant:** a change and its announcement are one write. No caller announces its own act. It hears of the act
//! from the store, as every other node does, through [`Subscriptions`].

#[cfg(feature = "server")]
pub mod embedded;
mod answers;
mod change;
pub(crate) mod digest;
pub mod finding;
pub mod health;
pub mod hub;
mod journal;
mod log;
#[cfg(feature = "server")]
pub mod measured;
mod messages;
mod privacy;
pub mod redis;
#[cfg(feature = "server")]
pub mod refuse;
pub mod told;

pub use answers::{
    ActOutcome, BookedSlot, DayState, HeldSlot, Migration, NodeReport, ScheduleState, SpaceState, SweepBatch,
    UserBacklog,
};
use async_trait::async_trait;
pub use change::SpaceChange;
pub use journal::{JournalBounds, NumberedEntry};
pub use log::{LOG_PORTION, LogRead, is_portion, read_whole_log};
pub use messages::{
    DisconnectUser, EveryoneMessage, FreedSlots, Message, MessageKind, Publication, ShowBoard, Signal, Topic,
    UserMessage,
};

pub use privacy::{Erasure, ErasureStep, KeptCall, KeptOfUser};

use crate::domain::schedule::ScheduleSpec;
use crate::domain::{
    Bucket, Day, Position, Refusal, SiteId, SlotAct, SlotNumber, SpaceId, SpaceKey, StoreTime, UserId,
};
use crate::random::NoRandomBytes;

/// How many changes a log keeps.
pub const LOG_LENGTH: u64 = 1_024;

/// How long a log is kept after its last change, and how long an idempotent answer or a user's message is kept: 24 h.
pub const KEEP_MILLIS: i64 = 24 * 60 * 60 * 1_000;

/// How many calls of one caller under an `Idempotency-Key` one bucket remembers.
pub const CALLS_KEPT: usize = 256;

/// How many messages are kept for a user.
pub const USER_LOG_LENGTH: usize = 100;

/// How many days after its date a day's slots are forgotten.
pub const DAYS_KEPT: i32 = 30;

/// The state of all spaces, the logs of their changes, and the messages to users.
///
/// # Guarantees
///
/// - Each writing method is one atomic step: it checks, changes, takes the next versions, appends to the logs and
///   announces, or it does nothing. When it returns `Ok`, the change is as durable as the store can make it.
/// - The clock is the store's own; no method takes a time from the caller.
/// - Versions of a topic under one epoch are consecutive, and no (epoch, version) ever names two contents. If that
///   cannot be promised any more (a restored copy, a failover), the epoch changes.
/// - Reads see only what is committed, state and version together.
/// - Each writing method writes its entry in the journal of the space's bucket in the same step, if [`JournalBounds`]
///   say so. Entries have consecutive numbers, in the order in which they were written.
#[async_trait]
pub trait SlotStore: Send + Sync + 'static {
    /// Acts on slots by the rule of [`crate::domain::rule`].
    async fn apply(&self, act: SlotAct) -> Result<ActOutcome, ApplyError>;

    /// Registers a space, changes its schedule or removes it. Takes a version and announces [`MessageKind::SpaceChanged`].
    /// Ended holds of the space are freed first, under the old schedule: no event may name a slot that the space no longer
    /// has.
    ///
    /// Refused as [`ApplyError::InUse`] if a future slot that is held live, booked or blocked would move or go. Refused as
    /// stale if the schedule was changed since the caller read it. Acts on slots in between do no harm.
    async fn put_space(&self, change: SpaceChange) -> Result<Position, ApplyError>;

    /// Frees up to `limit` ended holds of a bucket. Each is freed once, and announced in its space and in the bucket.
    async fn sweep(&self, bucket: Bucket, limit: usize) -> Result<SweepBatch, StoreError>;

    /// Announces in a bucket's topic; see [`Publication`].
    async fn publish(&self, publication: Publication) -> Result<(), StoreError>;

    /// Sends notifications that are left: staff took slots from users, and the node ended before it had told them. A
    /// store whose acts tell users themselves has none left.
    async fn tell_taken(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Remembers that a socket of the user received its messages up to `sequence`.
    async fn mark_received(&self, user: &UserId, sequence: u64) -> Result<(), StoreError>;

    /// A space's schedule. This reads little, however many slots are taken.
    async fn read_schedule(&self, space: SpaceKey) -> Result<ScheduleState, StoreError>;

    /// A space: its schedule and its taken slots of the future, without staff's data.
    async fn read_space(&self, space: SpaceKey) -> Result<SpaceState, StoreError>;

    /// The records of one day, with the version that they belong to.
    async fn read_day(&self, space: SpaceKey, day: Day) -> Result<DayState, StoreError>;

    /// The sites of all registered spaces with this id, ascending.
    async fn sites_of(&self, space: SpaceId) -> Result<Vec<SiteId>, StoreError>;

    /// All registered spaces, by site and number.
    async fn registered_spaces(&self) -> Result<Vec<SpaceKey>, StoreError>;

    /// The schedules of spaces in the order asked; `None` for a space that is not registered.
    async fn schedules_of(&self, spaces: &[SpaceKey]) -> Result<Vec<Option<ScheduleSpec>>, StoreError>;

    /// The user's stored bookings from the day `from` to the day `to`, both included, in any order. Fails while bookings of
    /// slotcast 0.1 are still being indexed.
    async fn bookings_of(&self, user: &UserId, from: Day, to: Day) -> Result<Vec<BookedSlot>, StoreError>;

    /// The spaces of a site that may have records of a day, ascending. Fails when [`Self::bookings_of`] does.
    async fn spaces_on(&self, site: SiteId, day: Day) -> Result<Vec<SpaceId>, StoreError>;

    /// The user's live holds, in order of space, day and slot. Holds of one bucket are read at one instant during the
    /// call, and different buckets may have different instants. So each hold was live at some time during the call, and
    /// none comes twice. A hold that was live during the whole call is never missing, even if it was extended
    /// meanwhile.
    async fn holds_of(&self, user: &UserId) -> Result<Vec<HeldSlot>, StoreError>;

    /// The user's first messages after `since`; without it, the first ones that no socket of the user has received. Answers
    /// at least one, and more until they have `bytes` in all.
    async fn messages_of(&self, user: &UserId, since: Option<u64>, bytes: usize) -> Result<UserBacklog, StoreError>;

    /// The messages of a topic's log after `since`, without a gap, or nothing. A read of [`LOG_PORTION`] or more may not be
    /// complete: see [`is_portion`].
    async fn read_log(&self, topic: Topic, since: &Position) -> Result<LogRead, StoreError>;

    /// The position of a bucket's topic, for a node that begins to follow it.
    async fn start_bucket(&self, bucket: Bucket) -> Result<told::BucketStart, StoreError> {
        let now = self.ping().await?;
        let at = self.head_of(Topic::Bucket(bucket)).await?;
        Ok(told::BucketStart { told: told::Told::begin(now, at, None), freed: None })
    }

    /// The messages of a bucket's log that a node was not told, each once, under whichever epochs they were written. A read
    /// of [`LOG_PORTION`] or more may not be complete. A store that has one epoch while it is open needs no more than its
    /// log for this.
    async fn read_bucket(&self, bucket: Bucket, told: &told::Told) -> Result<told::BucketRead, StoreError> {
        let (head, messages) = match self.read_log(Topic::Bucket(bucket), &told.at).await? {
            LogRead::Messages(messages) => (messages.last().map_or(&told.at, |message| &message.at).clone(), messages),
            LogRead::Gone(head) => (head, Vec::new()),
        };
        Ok(told::BucketRead { head, freed: None, messages })
    }

    /// Ends an epoch in which a node has seen the store go back, because somebody restored a copy into the running
    /// store. Does nothing if the topic's bucket has another epoch already. Answers the topic's position afterwards. A
    /// store that cannot go back under one epoch never does anything.
    async fn end_epoch(&self, topic: Topic, _epoch: &str) -> Result<Position, StoreError> {
        self.head_of(topic).await
    }

    /// The position of one topic.
    async fn head_of(&self, topic: Topic) -> Result<Position, StoreError> {
        let heads = self.heads(&[topic]).await?;
        heads.into_iter().next().ok_or_else(|| StoreError("the store gave no head for a topic".into()))
    }

    /// The positions of topics, in the requested order.
    async fn heads(&self, topics: &[Topic]) -> Result<Vec<Position>, StoreError>;

    /// Up to `limit` entries of a bucket's journal, ascending, from the number `from` on, as far as they are kept.
    async fn read_journal(&self, bucket: Bucket, from: u64, limit: usize) -> Result<Vec<NumberedEntry>, StoreError>;

    /// The number of the last entry in each of these buckets' journals, in their order; 0 for an empty journal.
    async fn journal_tails(&self, buckets: &[Bucket]) -> Result<Vec<u64>, StoreError>;

    /// Removes entries of a bucket's journal that are too old, but never the last one: a reader compares its place with it.
    async fn trim_journal(&self, bucket: Bucket) -> Result<(), StoreError>;

    /// The data under a user's id besides holds, bookings, notifications and the journal.
    async fn kept_of(&self, user: &UserId) -> Result<KeptOfUser, StoreError>;

    /// Begins to erase a user, or continues: answers the random id that replaces the user's everywhere. It is the same one
    /// until [`Self::end_erasure`]. Fails while nodes of slotcast 0.1 live, which know no indexes.
    async fn begin_erasure(&self, user: &UserId) -> Result<UserId, StoreError>;

    /// A bounded step of erasing a user in one bucket. Gives the user's started bookings and the user's part of the
    /// journal to the other id. Forgets the user's calls and notifications, and what logs tell nodes of the user. None
    /// of this is public, so it takes no version and announces nothing. Steps may be repeated, and may run at the same
    /// time.
    async fn erase_in(&self, bucket: Bucket, erasure: &Erasure) -> Result<ErasureStep, StoreError>;

    /// Ends an erasure by forgetting which id replaced the user's. Call this once [`Self::erase_in`] has answered
    /// [`ErasureStep::Done`] for all buckets.
    async fn end_erasure(&self, user: &UserId) -> Result<(), StoreError>;

    /// The places of a reader of the journal in each of these buckets, in their order, as the reader wrote them; `None` for
    /// a bucket without a place.
    async fn reader_places(&self, reader: &str, buckets: &[Bucket]) -> Result<Vec<Option<String>>, StoreError>;

    /// Writes a reader's place in a bucket if the stored place is still `known`. Otherwise another node has moved the
    /// reader. Answers whether it was written. A place is lost only together with the bucket's journal.
    async fn move_reader(
        &self,
        reader: &str,
        bucket: Bucket,
        known: Option<&str>,
        place: &str,
    ) -> Result<bool, StoreError>;

    /// Removes the entries of a bucket's journal before the entry with the number `before`, which stays. Removes nothing
    /// and answers `false` if one of the `readers` has another place than the known one, or if that entry does not exist.
    async fn forget_read(&self, bucket: Bucket, before: u64, readers: &[(String, String)]) -> Result<bool, StoreError>;

    /// Takes or renews the right to read the journal as a reader, for `lease`. If another holder has the right, answers
    /// for how long.
    async fn take_reader_lease(
        &self,
        reader: &str,
        holder: &str,
        lease: std::time::Duration,
    ) -> Result<Option<std::time::Duration>, StoreError>;

    /// Tells the other nodes this node's figures, which are kept for `lease` from now.
    async fn report_node(&self, report: NodeReport, lease: std::time::Duration) -> Result<(), StoreError>;

    /// The reports whose lease has not ended.
    async fn nodes(&self) -> Result<Vec<NodeReport>, StoreError>;

    /// Takes or renews the right to walk all buckets, for `lease`. If another holder has the right, answers for how
    /// long.
    async fn take_sweep_lease(
        &self,
        holder: &str,
        lease: std::time::Duration,
    ) -> Result<Option<std::time::Duration>, StoreError>;

    /// Answers if the store can be reached now.
    async fn ping(&self) -> Result<StoreTime, StoreError>;
}

/// The announcements of a store, as a node hears them.
#[async_trait]
pub trait Subscriptions: Send + Sync + 'static {
    /// Starts listening to a topic. Once this resolves, no later announcement is missed without [`Signal::Lagged`].
    /// Dropping the watch ends it.
    async fn watch(&self, topic: Topic) -> Result<hub::Watch, StoreError>;

    /// Notes that a topic's announcements do not arrive although the store has them, so the connection that brings them
    /// must be replaced. Stores whose announcements cannot be lost do nothing.
    async fn renew(&self, _topic: Topic) {}

    /// The messages of other programs' emitters, if they are heard. Only the first call gets them.
    #[cfg(feature = "server")]
    fn foreign_messages(&self) -> Option<tokio::sync::mpsc::Receiver<ForeignMessage>> {
        None
    }
}

/// A message of another program for sockets, which does not pass through the store.
#[derive(Clone, Debug)]
pub enum ForeignMessage {
    /// An event for sockets, as the stock emitter packs it.
    Emitted(Vec<u8>),
    /// A request to the servers: to join, to leave, to disconnect.
    Request,
}

/// Why a write did not happen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The rule refused it; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The act was resolved against an outdated schedule or version. Resolve it again and repeat it.
    #[error("the space has changed since it was read")]
    Stale,
    /// A change of a schedule would move or remove these taken slots. Nothing was written.
    #[error("the change would move slots that somebody has")]
    InUse(Vec<(Day, SlotNumber)>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store could not be reached, or could not do the call.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

impl From<NoRandomBytes> for StoreError {
    fn from(error: NoRandomBytes) -> Self {
        Self(error.to_string())
    }
}

impl StoreError {
    /// Wraps a cause with the operation that failed: "doing: cause".
    pub fn new(doing: &str, cause: impl std::fmt::Display) -> Self {
        Self(format!("{doing}: {cause}"))
    }
}
