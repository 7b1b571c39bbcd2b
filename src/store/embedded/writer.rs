//! The one thread that writes. It takes as many queued jobs as there are, runs them in one transaction, commits once,
//! and only then answers them all: many acts share one fsync.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Shared;
use super::batch::Batch;
use super::failure::Failure;
use super::mark::Mark;
use super::open::{Absent, Opened, count_commit, open};
use crate::clock;
use crate::store::{Message, StoreError, Topic};

/// How many jobs one transaction takes.
const BATCH_JOBS: usize = 256;

/// How many jobs may wait. More than the node admits requests, so that waiting for room is the exception.
const QUEUE_JOBS: usize = 4_096;

/// How long a job may wait to be started. One that waited longer is never run, so that its failure is final.
pub(super) const START_WITHIN: Duration = Duration::from_secs(1);

/// How often what has ended is removed.
const CLEAN_EVERY: Duration = Duration::from_secs(60);

/// How often the file is tried again after a failure.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

/// The way to the writer. The thread ends when this is dropped.
pub(super) struct Queue {
    jobs: Sender<Queued>,
    room: Arc<Semaphore>,
}

struct Queued {
    job: Box<dyn Job>,
    since: Instant,
    /// The job's place in the queue, given back when it was taken out.
    _room: OwnedSemaphorePermit,
}

/// What the writer runs.
trait Job: Send {
    /// Runs in a transaction, and keeps the result.
    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), Failure>;

    /// Answers the caller: with the result when the transaction was committed, with an error when it was not or the job
    /// never ran.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct TypedJob<T, F> {
    work: Option<F>,
    result: Option<T>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for TypedJob<T, F>
where
    T: Send,
    F: FnOnce(&mut Batch<'_>) -> Result<T, Failure> + Send,
{
    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), Failure> {
        if let Some(work) = self.work.take() {
            self.result = Some(work(batch)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { result, caller, .. } = *self;
        let late = || StoreError("the embedded store is too busy: the write was not started in time".into());
        let answer = committed.and_then(|()| result.ok_or_else(late));
        // A caller that has gone away is answered by the events.
        let _ = caller.send(answer);
    }
}

impl Queue {
    /// Queues work and waits for its commit. Dropped before the work is queued, nothing happens; dropped later, the work
    /// is done all the same.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Batch<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let since = clock::instant();
        let Ok(room) = self.room.clone().acquire_owned().await else { return Err(stopped()) };
        let (caller, answer) = oneshot::channel();
        let job = Box::new(TypedJob { work: Some(work), result: None, caller });
        self.jobs.send(Queued { job, since, _room: room }).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> StoreError {
    StoreError("the embedded store's writer has stopped".into())
}

/// The thread's own state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    jobs: Receiver<Queued>,
    mark: Mark,
    /// Commits that the file has.
    commits: u64,
    next_clean: Instant,
    next_reopen: Instant,
}

impl Writer {
    /// Prepares a writer and the queue to it.
    pub(super) fn new(shared: Arc<Shared>, mark: Mark, commits: u64) -> (Self, Queue) {
        let (sender, jobs) = channel();
        let now = clock::instant();
        let writer = Self { shared, jobs, mark, commits, next_clean: now, next_reopen: now };
        (writer, Queue { jobs: sender, room: Arc::new(Semaphore::new(QUEUE_JOBS)) })
    }

    /// Works until the queue is dropped and empty.
    pub(super) fn run(mut self) {
        loop {
            match self.jobs.recv_timeout(self.idle_for()) {
                Ok(first) => self.run_jobs(first),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tend();
        }
    }

    fn idle_for(&self) -> Duration {
        let next = if self.shared.is_open() { self.next_clean } else { self.next_reopen };
        next.saturating_duration_since(clock::instant())
    }

    /// What is to be done between batches.
    fn tend(&mut self) {
        if !self.shared.is_open() {
            self.reopen();
        } else if self.next_clean <= clock::instant() {
            self.clean();
        }
    }

    fn run_jobs(&mut self, first: Queued) {
        let mut jobs = vec![first];
        jobs.extend(self.jobs.try_iter().take(BATCH_JOBS - 1));
        let result = self.run_batch(&mut jobs).map_err(|failure| self.after_failure(failure));
        for queued in jobs {
            queued.job.answer(result.clone());
        }
    }

    /// Runs jobs in one transaction, commits it when anything was written, then announces.
    fn run_batch(&mut self, jobs: &mut [Queued]) -> Result<(), Failure> {
        self.commit(|shared, batch| {
            // Asked job by job: the ones before it may have taken long.
            for queued in jobs.iter_mut().filter(|queued| !queued.is_late()) {
                batch.set_now(shared.clock.now());
                queued.job.run(batch)?;
            }
            Ok(())
        })
    }

    /// One transaction: all of the work or, when it fails or panics, nothing.
    fn commit<T>(&mut self, work: impl FnOnce(&Shared, &mut Batch<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let shared = self.shared.clone();
        let (transaction, epoch) = shared.begin_write()?;
        let done = {
            let mut batch = Batch::begin(&transaction, epoch, shared.clock.now(), shared.journal)?;
            // What a panic leaves behind is the transaction, and that is given up.
            let worked = catch_unwind(AssertUnwindSafe(|| work(&shared, &mut batch)));
            worked.unwrap_or(Err(Failure::Panicked)).map(|value| (value, batch.finish()))
        };
        let (value, (wrote, announcements)) = match done {
            Ok(done) => done,
            Err(failure) => {
                transaction.abort()?;
                return Err(failure);
            }
        };
        if wrote {
            count_commit(&transaction, self.commits + 1)?;
            transaction.commit()?;
            self.committed();
        } else {
            transaction.abort()?;
        }
        self.announce(announcements);
        Ok(value)
    }

    fn committed(&mut self) {
        self.commits += 1;
        self.shared.set_commits(self.commits);
        if let Err(error) = self.mark.set(self.commits) {
            tracing::warn!(%error, "the mark beside the data file could not be written");
        }
    }

    fn announce(&self, announcements: Vec<(Topic, Message)>) {
        for (topic, message) in announcements {
            self.shared.hub.announce(topic, message);
        }
    }

    /// Removes a part of what has ended; the next part comes after the jobs that wait now.
    fn clean(&mut self) {
        match self.commit(|_, batch| super::housekeeping::clean(batch)) {
            Ok(true) => {}
            Ok(false) => self.next_clean = clock::instant() + CLEAN_EVERY,
            Err(failure) => {
                self.after_failure(failure);
                self.next_clean = clock::instant() + CLEAN_EVERY;
            }
        }
    }

    /// Logs a failure, once; closes the file when redb may refuse everything from now on.
    fn after_failure(&mut self, failure: Failure) -> StoreError {
        if !matches!(failure, Failure::Closed(_)) {
            tracing::error!(error = %failure, "a write to the data file failed and was undone");
        }
        if failure.needs_reopening() {
            self.shared.close(&failure);
        }
        failure.into()
    }

    /// Opens the file again, as at start: what was committed is there, or the epoch changes.
    fn reopen(&mut self) {
        if clock::instant() < self.next_reopen {
            return;
        }
        self.next_reopen = clock::instant() + REOPEN_EVERY;
        match open(&self.shared.folder, Absent::Refuse) {
            Ok(Opened { database, epoch, commits, mark, .. }) => {
                self.mark = mark;
                self.commits = commits;
                self.shared.set_commits(commits);
                self.shared.reopened(database, epoch);
                // A commit that was reported as failed may be in the file all the same: followers read the log.
                self.shared.hub.lag_all();
                tracing::info!("the data file is open again");
            }
            Err(error) => self.shared.still_closed(&error),
        }
    }
}

impl Queued {
    fn is_late(&self) -> bool {
        clock::instant().saturating_duration_since(self.since) > START_WITHIN
    }
}
