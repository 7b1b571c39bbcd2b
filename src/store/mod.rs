//! Where state lives. [`SlotStore`] states what every store guarantees; `embedded` is one process on one durable file,
//! `redis` any number of nodes.
//!
//! [`measured`] puts figures to either. [`hub`] is how a node hears them. [`health`] is what one cannot do now.
//! `refuse` is how callers hear of a failure.
//!
//! **Invariant:** a change and its announcement are one write. No caller announces what it did: it hears it from the
//! store, as every other node does, through [`Subscriptions`].

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

/// How long a log outlives its last change, and an idempotent answer or a user's message its writing: 24 h.
pub const KEEP_MILLIS: i64 = 24 * 60 * 60 * 1_000;

/// How many calls under an `Idempotency-Key` are remembered of one caller in one bucket.
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
/// - Versions of a topic under one epoch are consecutive, and no (epoch, version) ever names two contents. Where that
///   cannot be promised any more (a restored copy, a failover), the epoch changes.
/// - Reads see only what is committed, state and version together.
/// - Each writing method leaves its entry in the journal of the space's bucket by the same step, as the store's
///   [`JournalBounds`] say. Entries have consecutive numbers, in the order in which they were written.
#[async_trait]
pub trait SlotStore: Send + Sync + 'static {
    /// Acts on slots by the rule of [`crate::domain::rule`].
    async fn apply(&self, act: SlotAct) -> Result<ActOutcome, ApplyError>;

    /// Registers a space, changes its schedule or removes it; takes a version and announces
    /// [`MessageKind::SpaceChanged`]. Holds of the space that have ended are freed first, while their slots are what they
    /// were: no event names a slot that the space has no more.
    ///
    /// Refused as [`ApplyError::InUse`] where a slot of the future that is held live, booked or blocked would move or go, and
    /// as stale where the schedule was changed since the caller read it. Acts that take or leave other slots do not disturb.
    async fn put_space(&self, change: SpaceChange) -> Result<Position, ApplyError>;

    /// Frees up to `limit` holds of a bucket that have ended, each once, announced in its space and in the bucket.
    async fn sweep(&self, bucket: Bucket, limit: usize) -> Result<SweepBatch, StoreError>;

    /// Announces in a bucket's topic; see [`Publication`].
    async fn publish(&self, publication: Publication) -> Result<(), StoreError>;

    /// Sends the notifications that are left to users from whom staff took slots: the node of the act ended before it sent
    /// them. A store that sends them by the act's own write has none left.
    async fn tell_taken(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Remembers that a socket of the user received its messages up to `sequence`.
    async fn mark_received(&self, user: &UserId, sequence: u64) -> Result<(), StoreError>;

    /// A space's schedule. Small, however many slots of the space somebody has.
    async fn read_schedule(&self, space: SpaceKey) -> Result<ScheduleState, StoreError>;

    /// A space: its schedule, and the slots of the future that somebody has, without staff's data.
    async fn read_space(&self, space: SpaceKey) -> Result<SpaceState, StoreError>;

    /// The records of one day with the version that they are at.
    async fn read_day(&self, space: SpaceKey, day: Day) -> Result<DayState, StoreError>;

    /// The sites of all registered spaces with this id, ascending.
    async fn sites_of(&self, space: SpaceId) -> Result<Vec<SiteId>, StoreError>;

    /// All registered spaces, by site and number.
    async fn registered_spaces(&self) -> Result<Vec<SpaceKey>, StoreError>;

    /// The schedules of spaces, in the order asked; `None` where nobody registered the space any more.
    async fn schedules_of(&self, spaces: &[SpaceKey]) -> Result<Vec<Option<ScheduleSpec>>, StoreError>;

    /// The user's booked slots of the days from one to another, both included, in any order, as far as they are kept. Fails
    /// while what slotcast 0.1 stored is still being indexed.
    async fn bookings_of(&self, user: &UserId, from: Day, to: Day) -> Result<Vec<BookedSlot>, StoreError>;

    /// The spaces of a site that may have anything stored on a day, ascending. Fails as [`Self::bookings_of`].
    async fn spaces_on(&self, site: SiteId, day: Day) -> Result<Vec<SpaceId>, StoreError>;

    /// The user's live holds, in order of space, day and slot. Those of one bucket are what they were at one instant within
    /// the call; those of different buckets, each at an instant of its own. So each was live within the call, none is there
    /// twice, and none that was live throughout is missing, also where it was extended meanwhile.
    async fn holds_of(&self, user: &UserId) -> Result<Vec<HeldSlot>, StoreError>;

    /// The user's first messages after `since`, or without it the first that no socket of the user has received: one, and
    /// more while those before are less than `bytes` in all.
    async fn messages_of(&self, user: &UserId, since: Option<u64>, bytes: usize) -> Result<UserBacklog, StoreError>;

    /// What a topic's log has after `since`, from there on without a gap, or nothing. A read of [`LOG_PORTION`] or more
    /// may not be all: see [`is_portion`].
    async fn read_log(&self, topic: Topic, since: &Position) -> Result<LogRead, StoreError>;

    /// Where a bucket's topic stands, for a node that begins to follow it.
    async fn start_bucket(&self, bucket: Bucket) -> Result<told::BucketStart, StoreError> {
        let now = self.ping().await?;
        let at = self.head_of(Topic::Bucket(bucket)).await?;
        Ok(told::BucketStart { told: told::Told::begin(now, at, None), freed: None })
    }

    /// What a bucket's log has that a node was not told, under whichever epochs it was written; each once. A read of
    /// [`LOG_PORTION`] or more may not be all. A store that has one epoch for as long as it is open needs no more than its
    /// log for this.
    async fn read_bucket(&self, bucket: Bucket, told: &told::Told) -> Result<told::BucketRead, StoreError> {
        let (head, messages) = match self.read_log(Topic::Bucket(bucket), &told.at).await? {
            LogRead::Messages(messages) => (messages.last().map_or(&told.at, |message| &message.at).clone(), messages),
            LogRead::Gone(head) => (head, Vec::new()),
        };
        Ok(told::BucketRead { head, freed: None, messages })
    }

    /// Ends an epoch under which the store has gone back, as a node has seen: a copy was restored into the running store.
    /// Does nothing when the topic's bucket has another epoch by now. Answers where the topic stands then. A store that
    /// cannot go back under one epoch never does anything.
    async fn end_epoch(&self, topic: Topic, _epoch: &str) -> Result<Position, StoreError> {
        self.head_of(topic).await
    }

    /// Where one topic stands.
    async fn head_of(&self, topic: Topic) -> Result<Position, StoreError> {
        let heads = self.heads(&[topic]).await?;
        heads.into_iter().next().ok_or_else(|| StoreError("the store gave no head for a topic".into()))
    }

    /// Where topics stand, in the order asked.
    async fn heads(&self, topics: &[Topic]) -> Result<Vec<Position>, StoreError>;

    /// Up to `limit` entries of a bucket's journal, ascending, from the number `from` on; those that are still kept.
    async fn read_journal(&self, bucket: Bucket, from: u64, limit: usize) -> Result<Vec<NumberedEntry>, StoreError>;

    /// The number of the last entry in the journal of each of these buckets, in their order; 0 where there was none.
    async fn journal_tails(&self, buckets: &[Bucket]) -> Result<Vec<u64>, StoreError>;

    /// Removes what of a bucket's journal is older than it is kept, but never the last entry: by that a reader knows that it
    /// is where it was.
    async fn trim_journal(&self, bucket: Bucket) -> Result<(), StoreError>;

    /// What is kept under a user's id besides holds, bookings, notifications and the journal.
    async fn kept_of(&self, user: &UserId) -> Result<KeptOfUser, StoreError>;

    /// Begins to erase a user, or goes on: answers the random id that takes the place of the user's everywhere, the same one
    /// until [`Self::end_erasure`]. Fails while nodes of slotcast 0.1 live, which know no indexes.
    async fn begin_erasure(&self, user: &UserId) -> Result<UserId, StoreError>;

    /// A bounded step of erasing a user in one bucket. Gives bookings that have started, and what the journal tells of the user,
    /// to the other id; forgets the user's calls and notifications, and what logs tell nodes of the user. That is not public,
    /// takes no version and announces nothing. May be repeated, and run any number of times at once.
    async fn erase_in(&self, bucket: Bucket, erasure: &Erasure) -> Result<ErasureStep, StoreError>;

    /// Ends an erasure, once [`Self::erase_in`] has answered [`ErasureStep::Done`] for all buckets: forgets which id has taken
    /// the user's place.
    async fn end_erasure(&self, user: &UserId) -> Result<(), StoreError>;

    /// What a reader of the journal has written of where it is in each of these buckets, in their order; `None` where it has
    /// written nothing.
    async fn reader_places(&self, reader: &str, buckets: &[Bucket]) -> Result<Vec<Option<String>>, StoreError>;

    /// Writes where a reader is in a bucket, unless what is written there is no longer `known`: then another node has moved
    /// the reader meanwhile. Tells whether it was written. Both are lost and kept together with the bucket's journal.
    async fn move_reader(
        &self,
        reader: &str,
        bucket: Bucket,
        known: Option<&str>,
        place: &str,
    ) -> Result<bool, StoreError>;

    /// Removes the entries of a bucket's journal before the one with the number `before`, which stays. Removes nothing, and
    /// tells so by `false`, where one of the `readers` has written another place than what is known of it here, or where that entry
    /// is not there.
    async fn forget_read(&self, bucket: Bucket, before: u64, readers: &[(String, String)]) -> Result<bool, StoreError>;

    /// Takes or renews, for `lease`, the right to read the journal as a reader. When another holder has it: how long still.
    async fn take_reader_lease(
        &self,
        reader: &str,
        holder: &str,
        lease: std::time::Duration,
    ) -> Result<Option<std::time::Duration>, StoreError>;

    /// Tells the cluster what this node has; kept as a lease of `lease` from now.
    async fn report_node(&self, report: NodeReport, lease: std::time::Duration) -> Result<(), StoreError>;

    /// The reports whose lease has not ended.
    async fn nodes(&self) -> Result<Vec<NodeReport>, StoreError>;

    /// Takes or renews, for `lease`, the right to walk all buckets. When another holder has it: how long still.
    async fn take_sweep_lease(
        &self,
        holder: &str,
        lease: std::time::Duration,
    ) -> Result<Option<std::time::Duration>, StoreError>;

    /// Answers when the store can be reached now.
    async fn ping(&self) -> Result<StoreTime, StoreError>;
}

/// How a node hears a store.
#[async_trait]
pub trait Subscriptions: Send + Sync + 'static {
    /// Starts listening to a topic; resolves when it is certain that nothing announced from now on is missed, or that
    /// [`Signal::Lagged`] tells so. Dropping the watch ends it.
    async fn watch(&self, topic: Topic) -> Result<hub::Watch, StoreError>;

    /// Told of a topic whose announcements do not arrive although the store has them: whatever brings them is to be made
    /// anew. Where nothing can be lost on the way there is nothing to do.
    async fn renew(&self, _topic: Topic) {}

    /// What emitters of other programs send, where they are heard. Only the first call gets it.
    #[cfg(feature = "server")]
    fn foreign_messages(&self) -> Option<tokio::sync::mpsc::Receiver<ForeignMessage>> {
        None
    }
}

/// What another program sends to sockets, past the store.
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
    /// It was resolved against a schedule or a version that has changed: resolve again and repeat.
    #[error("the space has changed since it was read")]
    Stale,
    /// A change of a schedule would move or remove these slots, which somebody has; nothing was written.
    #[error("slots that somebody has would move")]
    InUse(Vec<(Day, SlotNumber)>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store could not be asked, or could not do it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

impl From<NoRandomBytes> for StoreError {
    fn from(error: NoRandomBytes) -> Self {
        Self(error.to_string())
    }
}

impl StoreError {
    /// Wraps a cause with what was being done: "doing: cause".
    pub fn new(doing: &str, cause: impl std::fmt::Display) -> Self {
        Self(format!("{doing}: {cause}"))
    }
}
