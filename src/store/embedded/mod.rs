//! The store of a single node: one process, one durable file. It needs no other program. An acknowledged act survives
//! the end of the process and a power cut.
//!
//! - [`mod@open`]: the file, and what may be wrong with it. `trial`: looking at a file without changing it. `mark`: the
//!   proof that the file did not go back in time.
//! - `folder`: whether a folder can hold the file.
//! - `tables`: every table, its key and its value.
//! - `writer`: the one thread that writes; many acts share one fsync. `batch`: its transaction.
//! - `acts`, `spaces`, `sweep`, `publish`, `journal`, `privacy`, `housekeeping`: the steps inside a transaction.
//! - `rewrite`: writing the file anew, so that removed data is gone from it.
//! - `reads`: snapshots of committed data.
//!
//! The guarantees are stated on [`SlotStore`].
//!
//! **Invariant:** nothing is answered or announced before the fsync of its commit has returned, and announcements leave in
//! the order of the commits: one thread does both.

mod acts;
mod batch;
mod clock;
mod failure;
mod folder;
mod guarded;
mod housekeeping;
mod journal;
mod locks;
mod mark;
pub mod open;
mod privacy;
mod publish;
mod reads;
mod rewrite;
mod set_back;
mod spaces;
mod sweep;
mod tables;
#[cfg(test)]
mod tests;
mod trial;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use self::clock::StoreClock;
use self::failure::Failure;
pub use self::folder::check_folder;
pub use self::open::OpenError;
use self::open::{Absent, Name, Opened};
use self::reads::Snapshot;
use self::writer::{Queue, Writer};
use super::health::StoreHealth;
use super::hub::{Hub, Watch};
use super::privacy::stand_in;
use super::{
    ActOutcome, ApplyError, BookedSlot, DayState, Erasure, ErasureStep, HeldSlot, JournalBounds, KeptOfUser, LogRead,
    Migration, NodeReport, NumberedEntry, Publication, ScheduleState, SlotStore, SpaceChange, SpaceState, StoreError,
    Subscriptions, SweepBatch, Topic, UserBacklog,
};
use crate::clock as clock_of_process;
use crate::domain::schedule::ScheduleSpec;
use crate::domain::{Bucket, Day, Position, SiteId, SlotAct, SpaceId, SpaceKey, StoreTime, UserId};
use crate::random;

/// How long a read waits for a file that is being reopened.
const REOPENED_WITHIN: Duration = Duration::from_millis(800);

/// How often a waiting read looks for the file.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How often the holds of a user are read again while a running transaction may extend one of them.
const LOOK_AGAIN_AT_HOLDS: Duration = Duration::from_millis(2);

/// The embedded store. Dropping it waits for what is queued, and closes the file.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// `None` only while the store is being dropped.
    queue: Option<Queue>,
    writer: Option<JoinHandle<()>>,
    was_moved: bool,
    /// The nodes' reports, each with its end. Held for a map access only, never across an await.
    nodes: Mutex<HashMap<String, (NodeReport, StoreTime)>>,
}

/// What the writer and the readers share.
struct Shared {
    folder: PathBuf,
    health: Arc<StoreHealth>,
    clock: StoreClock,
    hub: Hub,
    commits: AtomicU64,
    journal: JournalBounds,
    /// The start of a transaction that is not committed yet, in ms of the store's clock; `i64::MAX` if none runs.
    writing_since: AtomicI64,
    /// The callers that wait for the file to be written anew. Held for an access only, never across an await.
    rewrites: Mutex<rewrite::Rewrites>,
    /// Held while a transaction begins, and while the file is closed or reopened; never across an await.
    file: RwLock<FileState>,
}

enum FileState {
    Open {
        database: Database,
        epoch: Arc<str>,
    },
    /// The file is closed after a failure, whose text this is.
    Closed(String),
}

impl EmbeddedStore {
    /// Opens the store in a folder, with the journal's usual bounds. Makes a missing folder. Reads and checks the whole
    /// file, so it is called at start and not while the node serves.
    pub fn open(folder: &Path) -> Result<EmbeddedStore, OpenError> {
        Self::open_with(folder, JournalBounds::default())
    }

    /// Like [`Self::open`], with the journal's bounds.
    pub fn open_with(folder: &Path, journal: JournalBounds) -> Result<EmbeddedStore, OpenError> {
        Self::start(folder, open::open(folder, Absent::Create)?, StoreClock::default(), journal)
    }

    fn start(
        folder: &Path,
        opened: Opened,
        clock: StoreClock,
        journal: JournalBounds,
    ) -> Result<EmbeddedStore, OpenError> {
        let Opened { database, epoch, commits, was_moved, mark, name } = opened;
        let shared = Arc::new(Shared {
            folder: folder.into(),
            health: Arc::default(),
            clock,
            hub: Hub::default(),
            commits: AtomicU64::new(commits),
            journal,
            writing_since: AtomicI64::new(i64::MAX),
            rewrites: Mutex::default(),
            file: RwLock::new(FileState::Open { database, epoch }),
        });
        let (writer, queue) = Writer::new(shared.clone(), mark, name, commits);
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(|| writer.run());
        let thread = thread.map_err(|error| OpenError::Io { file: folder.into(), cause: error.to_string() })?;
        Ok(Self { shared, queue: Some(queue), writer: Some(thread), was_moved, nodes: Mutex::default() })
    }

    /// This store's present faults.
    pub fn health(&self) -> Arc<StoreHealth> {
        self.shared.health.clone()
    }

    /// The report about the file's format. Opening the file has done all that there was to do, in one transaction.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn migration(&self) -> Result<Migration, StoreError> {
        let counted = Snapshot::take(&self.shared).and_then(|snapshot| snapshot.count_records());
        let (records, unreadable) = counted?;
        let moved = u64::from(self.was_moved);
        Ok(Migration { format: tables::FORMAT, moved, records, rewritten: 0, unreadable })
    }

    /// The number of the file's commits, each with its fsync, since the file was made.
    pub fn commit_count(&self) -> u64 {
        self.shared.commits.load(Ordering::Acquire)
    }

    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut batch::Batch<'_>) -> Result<T, Failure> + Send + 'static,
    {
        match &self.queue {
            Some(queue) => queue.run(work).await,
            None => Err(StoreError("the embedded store is closed".into())),
        }
    }

    /// Asks the writer to write the file anew for an erased user, and waits until it has replaced the old one.
    async fn write_file_anew(&self, user: &UserId) -> Result<(), StoreError> {
        let Some(answer) = self.shared.rewrites.lock().ask(user) else { return Ok(()) };
        // The writer checks for waiting rewrites between two jobs.
        self.write(|_| Ok(())).await?;
        answer.await.map_err(|error| StoreError::new("embedded store: writing the file anew", error))?
    }

    /// Reads on the calling task. This is for reads of a few pages from redb's own cache, which take no longer than a
    /// switch to another thread and back.
    async fn read<T>(&self, read: impl Fn(&Snapshot) -> Result<T, Failure>) -> Result<T, StoreError> {
        let deadline = clock_of_process::instant() + REOPENED_WITHIN;
        loop {
            match Snapshot::take(&self.shared).and_then(|snapshot| read(&snapshot)) {
                // A failed write closes the file, which is opened again at once.
                Err(failure) if failure.may_pass() && clock_of_process::instant() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                result => return Ok(result?),
            }
        }
    }

    /// Reads on a thread that may block. This is for reads that may touch many pages.
    async fn read_long<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Snapshot) -> Result<T, Failure> + Send + Sync + 'static,
    {
        let read = Arc::new(read);
        let deadline = clock_of_process::instant() + REOPENED_WITHIN;
        loop {
            let (shared, read) = (self.shared.clone(), read.clone());
            let reading = tokio::task::spawn_blocking(move || read(&Snapshot::take(&shared)?));
            match reading.await {
                Ok(Err(failure)) if failure.may_pass() && clock_of_process::instant() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Ok(result) => return Ok(result?),
                Err(error) => return Err(StoreError::new("reading the embedded store", error)),
            }
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // Without its queue, the writer finishes the queued jobs and ends.
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the embedded store's writer panicked");
        }
        self.shared.close(&"the store was closed");
    }
}

#[async_trait]
impl SlotStore for EmbeddedStore {
    async fn apply(&self, act: SlotAct) -> Result<ActOutcome, ApplyError> {
        self.write(move |batch| acts::apply(batch, &act)).await?
    }

    async fn put_space(&self, change: SpaceChange) -> Result<Position, ApplyError> {
        self.write(move |batch| spaces::put_space(batch, &change)).await?
    }

    async fn sweep(&self, bucket: Bucket, limit: usize) -> Result<SweepBatch, StoreError> {
        self.write(move |batch| sweep::sweep(batch, bucket, limit)).await
    }

    async fn publish(&self, publication: Publication) -> Result<(), StoreError> {
        self.write(move |batch| publish::publish(batch, publication)).await
    }

    async fn mark_received(&self, user: &UserId, sequence: u64) -> Result<(), StoreError> {
        let user = user.clone();
        self.write(move |batch| publish::mark_received(batch, &user, sequence)).await
    }

    async fn read_schedule(&self, space: SpaceKey) -> Result<ScheduleState, StoreError> {
        self.read(|snapshot| snapshot.read_schedule(space)).await
    }

    async fn read_space(&self, space: SpaceKey) -> Result<SpaceState, StoreError> {
        self.read_long(move |snapshot| snapshot.read_space(space)).await
    }

    async fn read_day(&self, space: SpaceKey, day: Day) -> Result<DayState, StoreError> {
        self.read(|snapshot| snapshot.read_day(space, day)).await
    }

    async fn sites_of(&self, space: SpaceId) -> Result<Vec<SiteId>, StoreError> {
        self.read(|snapshot| snapshot.sites_of(space)).await
    }

    async fn registered_spaces(&self) -> Result<Vec<SpaceKey>, StoreError> {
        self.read_long(Snapshot::registered_spaces).await
    }

    async fn schedules_of(&self, spaces: &[SpaceKey]) -> Result<Vec<Option<ScheduleSpec>>, StoreError> {
        let spaces = spaces.to_vec();
        self.read_long(move |snapshot| snapshot.schedules_of(&spaces)).await
    }

    async fn bookings_of(&self, user: &UserId, from: Day, to: Day) -> Result<Vec<BookedSlot>, StoreError> {
        let user = user.clone();
        self.read_long(move |snapshot| snapshot.bookings_of(&user, from, to)).await
    }

    async fn spaces_on(&self, site: SiteId, day: Day) -> Result<Vec<SpaceId>, StoreError> {
        self.read_long(move |snapshot| snapshot.spaces_on(site, day)).await
    }

    async fn holds_of(&self, user: &UserId) -> Result<Vec<HeldSlot>, StoreError> {
        let deadline = clock_of_process::instant() + REOPENED_WITHIN;
        loop {
            let asked = self.shared.clock.now();
            // This is read before the snapshot is taken, so a transaction that ends in between is in the snapshot.
            let writing_since = self.shared.writing_since.load(Ordering::SeqCst);
            let (holds, last_ended) = self.read(|snapshot| snapshot.holds_of(user, asked)).await?;
            // The snapshot shows the hold as ended, but an uncommitted transaction may have extended it in time.
            let may_be_extended = last_ended.is_some_and(|ended| ended.as_millis() >= writing_since);
            if !may_be_extended || clock_of_process::instant() >= deadline {
                return Ok(holds);
            }
            tokio::time::sleep(LOOK_AGAIN_AT_HOLDS).await;
        }
    }

    async fn messages_of(&self, user: &UserId, since: Option<u64>, bytes: usize) -> Result<UserBacklog, StoreError> {
        self.read(|snapshot| snapshot.messages_of(user, since, bytes)).await
    }

    async fn read_log(&self, topic: Topic, since: &Position) -> Result<LogRead, StoreError> {
        let since = since.clone();
        self.read_long(move |snapshot| snapshot.read_log(topic, &since)).await
    }

    async fn heads(&self, topics: &[Topic]) -> Result<Vec<Position>, StoreError> {
        self.read(|snapshot| snapshot.heads(topics)).await
    }

    async fn read_journal(&self, bucket: Bucket, from: u64, limit: usize) -> Result<Vec<NumberedEntry>, StoreError> {
        self.read(|snapshot| snapshot.read_journal(bucket, from, limit)).await
    }

    async fn journal_tails(&self, buckets: &[Bucket]) -> Result<Vec<u64>, StoreError> {
        self.read(|snapshot| snapshot.journal_tails(buckets)).await
    }

    async fn trim_journal(&self, bucket: Bucket) -> Result<(), StoreError> {
        self.write(move |batch| journal::trim(batch, bucket).map(drop)).await
    }

    async fn kept_of(&self, user: &UserId) -> Result<KeptOfUser, StoreError> {
        let user = user.clone();
        self.read_long(move |snapshot| snapshot.kept_of(&user)).await
    }

    async fn begin_erasure(&self, user: &UserId) -> Result<UserId, StoreError> {
        let user = user.clone();
        let new = random::hex()?;
        let new = stand_in(&new).ok_or_else(|| StoreError("embedded store: no id for an erased user".into()))?;
        if self.shared.rewrites.lock().is_done_for(&user) {
            // The id is not written, because the file would contain the user's id again.
            return Ok(new);
        }
        self.write(move |batch| privacy::begin(batch, &user, new)).await
    }

    async fn erase_in(&self, bucket: Bucket, erasure: &Erasure) -> Result<ErasureStep, StoreError> {
        let of = erasure.clone();
        let (step, has_changed) = self.write(move |batch| privacy::erase_in(batch, bucket, &of)).await?;
        if has_changed {
            self.shared.rewrites.lock().found_more_of(&erasure.user);
        }
        Ok(step)
    }

    async fn end_erasure(&self, user: &UserId) -> Result<(), StoreError> {
        let of = user.clone();
        self.write(move |batch| privacy::end(batch, &of)).await?;
        self.write_file_anew(user).await
    }

    async fn reader_places(&self, reader: &str, buckets: &[Bucket]) -> Result<Vec<Option<String>>, StoreError> {
        self.read(|snapshot| snapshot.reader_places(reader, buckets)).await
    }

    async fn move_reader(
        &self,
        reader: &str,
        bucket: Bucket,
        known: Option<&str>,
        place: &str,
    ) -> Result<bool, StoreError> {
        let (reader, known, place) = (reader.to_owned(), known.map(str::to_owned), place.to_owned());
        self.write(move |batch| journal::move_reader(batch, &reader, bucket, known.as_deref(), &place)).await
    }

    async fn forget_read(&self, bucket: Bucket, before: u64, readers: &[(String, String)]) -> Result<bool, StoreError> {
        let readers: Arc<[(String, String)]> = readers.into();
        let forget = |readers: Arc<[_]>| {
            move |batch: &mut batch::Batch<'_>| journal::forget_read(batch, bucket, before, &readers)
        };
        let mut removed = journal::Forgotten::Some;
        while removed == journal::Forgotten::Some {
            removed = self.write(forget(readers.clone())).await?;
        }
        Ok(removed == journal::Forgotten::All)
    }

    /// The right is always granted, because there is no other node.
    async fn take_reader_lease(
        &self,
        _reader: &str,
        _holder: &str,
        _lease: Duration,
    ) -> Result<Option<Duration>, StoreError> {
        Ok(None)
    }

    /// The report is kept in memory, because this process is the only node.
    async fn report_node(&self, report: NodeReport, lease: Duration) -> Result<(), StoreError> {
        let until = self.shared.clock.now().plus_millis(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        let mut nodes = self.nodes.lock();
        nodes.insert(report.id.clone(), (report, until));
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeReport>, StoreError> {
        let now = self.shared.clock.now();
        let mut nodes = self.nodes.lock();
        nodes.retain(|_, (_, until)| now < *until);
        let mut reports: Vec<NodeReport> = nodes.values().map(|(report, _)| report.clone()).collect();
        reports.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(reports)
    }

    /// The right is always granted, because there is no other node.
    async fn take_sweep_lease(&self, _holder: &str, _lease: Duration) -> Result<Option<Duration>, StoreError> {
        Ok(None)
    }

    /// Asks the writer itself, through its queue, to begin a transaction.
    async fn ping(&self) -> Result<StoreTime, StoreError> {
        self.write(|batch| Ok(batch.now())).await
    }
}

#[async_trait]
impl Subscriptions for EmbeddedStore {
    async fn watch(&self, topic: Topic) -> Result<Watch, StoreError> {
        Ok(self.shared.hub.watch(topic))
    }
}

impl Shared {
    fn begin_read(&self) -> Result<(ReadTransaction, Arc<str>), Failure> {
        match &*self.file.read() {
            FileState::Open { database, epoch } => Ok((database.begin_read()?, epoch.clone())),
            FileState::Closed(cause) => Err(Failure::Closed(cause.clone())),
        }
    }

    fn begin_write(&self) -> Result<(WriteTransaction, Arc<str>), Failure> {
        match &*self.file.read() {
            FileState::Open { database, epoch } => Ok((database.begin_write()?, epoch.clone())),
            FileState::Closed(cause) => Err(Failure::Closed(cause.clone())),
        }
    }

    /// Writes the file anew on the only thread that writes. Readers keep their snapshots.
    fn write_anew(&self) -> Result<Name, Failure> {
        let rewritten = match &*self.file.read() {
            FileState::Open { database, .. } => rewrite::write_anew(database, &self.folder)?,
            FileState::Closed(cause) => return Err(Failure::Closed(cause.clone())),
        };
        let mut file = self.file.write();
        if let FileState::Open { database, .. } = &mut *file {
            *database = rewritten.database;
        }
        Ok(rewritten.name)
    }

    fn is_open(&self) -> bool {
        matches!(&*self.file.read(), FileState::Open { .. })
    }

    /// Closes the file, which releases its lock even if snapshots of it are still being read.
    fn close(&self, cause: &dyn std::fmt::Display) {
        *self.file.write() = FileState::Closed(cause.to_string());
    }

    fn still_closed(&self, cause: &OpenError) {
        let mut file = self.file.write();
        let cause = cause.to_string();
        // A cause is logged once, and not once a second.
        if !matches!(&*file, FileState::Closed(known) if *known == cause) {
            tracing::error!(error = %cause, "the data file cannot be opened again yet");
            *file = FileState::Closed(cause);
        }
    }

    fn reopened(&self, database: Database, epoch: Arc<str>) {
        *self.file.write() = FileState::Open { database, epoch };
    }

    fn set_commits(&self, commits: u64) {
        self.commits.store(commits, Ordering::Release);
    }
}
