//! The one thread that writes. It takes all queued jobs, runs them in one transaction, commits once, and only then answers
//! them: many acts share one fsync.

use std::fs::{self, File};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use redb::WriteTransaction;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Shared;
use super::batch::Batch;
use super::failure::Failure;
use super::mark::Mark;
use super::open::{Absent, Name, Opened, count_commit, open};
use super::set_back::note_instant;
use crate::clock;
use crate::store::health::StoreFault;
use crate::store::{Message, StoreError, Topic};

/// How many jobs one transaction takes.
const BATCH_JOBS: usize = 256;

/// The most jobs that may wait. The node admits fewer requests, so jobs rarely wait for room.
const QUEUE_JOBS: usize = 4_096;

/// How long a job may wait before it starts. A job that has waited longer is never run, so that its failure is final.
pub(super) const START_WITHIN: Duration = Duration::from_secs(1);

/// How often what has ended is removed.
const CLEAN_EVERY: Duration = Duration::from_secs(60);

/// How often the file is tried again after a failure.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

/// How often the file is checked for being in place while nothing is written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The first and the longest pause before the next try of a write, after a failure.
const TRY_EVERY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(8));

/// The machine's clock must go back this far, in ms, to be logged.
const SET_BACK_MILLIS: i64 = 1_000;

/// The trial file that shows whether the disk has room, and its length.
const TRIAL_NAME: &str = "slotcast.trial";
const TRIAL_BYTES: usize = 1024 * 1024;

/// The queue to the writer. The writer's thread ends when this is dropped.
pub(super) struct Queue {
    jobs: Sender<Queued>,
    room: Arc<Semaphore>,
}

struct Queued {
    job: Box<dyn Job>,
    since: Instant,
    /// The job's place in the queue, which is free again once the job was taken out.
    _room: OwnedSemaphorePermit,
}

/// A piece of work for the writer.
trait Job: Send {
    /// Runs in a transaction, and keeps the result.
    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), Failure>;

    /// Answers the caller: with the result if the transaction was committed, with an error if it was not, or if the job
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
        // A caller that has gone away learns the result from the events.
        let _ = caller.send(answer);
    }
}

impl Queue {
    /// Queues work and waits for its commit. If the future is dropped before the work is queued, nothing happens; if later,
    /// the work is done all the same.
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
    name: Name,
    /// Why writes are refused after a failed write; `None` while writes are accepted.
    refused: Option<String>,
    /// When a write is tried next, and the pause after that.
    next_trial: (Instant, Duration),
    /// Commits that the file has.
    commits: u64,
    next_clean: Instant,
    next_reopen: Instant,
    /// How far the clock was set back when that was last logged, in ms.
    told_set_back: i64,
}

impl Writer {
    /// Prepares a writer and the queue to it.
    pub(super) fn new(shared: Arc<Shared>, mark: Mark, name: Name, commits: u64) -> (Self, Queue) {
        let (sender, jobs) = channel();
        let now = clock::instant();
        let next_trial = (now, TRY_EVERY.0);
        let (refused, next_clean, next_reopen) = (None, now, now);
        let told_set_back = 0;
        let writer =
            Self { shared, jobs, mark, name, refused, next_trial, commits, next_clean, next_reopen, told_set_back };
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
        let next = match &self.refused {
            _ if !self.shared.is_open() => self.next_reopen,
            Some(_) => self.next_trial.0,
            None => self.next_clean,
        };
        next.saturating_duration_since(clock::instant()).min(LOOK_EVERY)
    }

    /// Does what is due between two batches.
    fn tend(&mut self) {
        self.tell_set_back();
        self.rewrite_if_asked();
        if !self.shared.is_open() {
            self.reopen();
        } else if !self.name.is_there() {
            self.after_failure(Failure::Gone);
        } else if self.refused.is_some() {
            self.try_to_write();
        } else if self.next_clean <= clock::instant() {
            self.clean();
        }
    }

    /// Logs once that the machine's clock was set back.
    fn tell_set_back(&mut self) {
        let millis = self.shared.clock.set_back_by();
        if millis > self.told_set_back + SET_BACK_MILLIS {
            self.told_set_back = millis;
            tracing::warn!(
                clock.set_back_ms = millis,
                "the machine's clock was set back. The store goes on by the time that it had, so what has ended stays \
                 ended. Restart the node to follow the clock"
            );
        }
    }

    /// Writes the file anew if somebody waits for that.
    fn rewrite_if_asked(&mut self) {
        let waiting = self.shared.rewrites.lock().take_waiting();
        if waiting.is_empty() {
            return;
        }
        let started = clock::instant();
        let written = match &self.refused {
            Some(reason) => Err(Failure::Refused(reason.clone())),
            None => self.shared.write_anew(),
        };
        let answer = match written {
            Ok(name) => {
                self.name = name;
                let took = clock::instant().saturating_duration_since(started);
                tracing::info!(took_ms = took.as_millis(), "the data file was written anew, without what was erased");
                Ok(())
            }
            // The open file stays in use. If the new file already has the name, the next look finds that, and opens the
            // new file.
            Err(failure) => {
                tracing::error!(error = %failure, "the data file could not be written anew");
                Err(failure.into())
            }
        };
        for asked in waiting {
            self.shared.rewrites.lock().answer(asked, answer.clone());
        }
    }

    fn run_jobs(&mut self, first: Queued) {
        let mut jobs = vec![first];
        // While writes are refused, a refused job must not be in one batch with jobs that only read.
        let most = if self.refused.is_some() { 1 } else { BATCH_JOBS };
        jobs.extend(self.jobs.try_iter().take(most - 1));
        let result = self.run_batch(&mut jobs).map_err(|failure| self.after_failure(failure));
        for queued in jobs {
            queued.job.answer(result.clone());
        }
    }

    /// Runs jobs in one transaction, commits it if anything was written, then announces.
    fn run_batch(&mut self, jobs: &mut [Queued]) -> Result<(), Failure> {
        self.commit(|shared, batch| {
            // Checked before each job, because the jobs before it may have taken long.
            for queued in jobs.iter_mut().filter(|queued| !queued.is_late()) {
                batch.set_now(shared.clock.now());
                queued.job.run(batch)?;
            }
            Ok(())
        })
    }

    /// Commits one transaction with all of the work, or nothing if the work fails or panics.
    fn commit<T>(&mut self, work: impl FnOnce(&Shared, &mut Batch<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        self.shared.writing_since.store(self.shared.clock.now().as_millis(), Ordering::SeqCst);
        let result = self.commit_work(work);
        self.name.note_written();
        self.shared.writing_since.store(i64::MAX, Ordering::SeqCst);
        result
    }

    fn commit_work<T>(
        &mut self,
        work: impl FnOnce(&Shared, &mut Batch<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if !self.name.is_there() {
            return Err(Failure::Gone);
        }
        let shared = self.shared.clone();
        let (transaction, epoch) = shared.begin_write()?;
        let done = {
            let mut batch = Batch::begin(&transaction, epoch, shared.clock.now(), shared.journal)?;
            // A panic leaves only the transaction behind, which is undone.
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
        if let (true, Some(reason)) = (wrote, &self.refused) {
            transaction.abort()?;
            return Err(Failure::Refused(reason.clone()));
        }
        if wrote {
            self.commit_counted(transaction)?;
        } else {
            transaction.abort()?;
        }
        self.announce(announcements);
        Ok(value)
    }

    /// Commits durably and under the file's name. Only then may the work be answered.
    fn commit_counted(&mut self, transaction: WriteTransaction) -> Result<(), Failure> {
        note_instant(&transaction, self.shared.clock.now())?;
        count_commit(&transaction, self.commits + 1)?;
        transaction.commit()?;
        if !self.name.is_there() {
            return Err(Failure::Gone);
        }
        self.committed();
        Ok(())
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

    /// Removes a part of the data that has ended. The next part waits until after the jobs that wait now.
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

    /// Logs a failure once. Closes the file if redb may refuse everything from now on.
    fn after_failure(&mut self, failure: Failure) -> StoreError {
        if !failure.is_old() {
            tracing::error!(error = %failure, "a write to the data file failed and was undone");
        }
        match &failure {
            Failure::Gone => {
                self.shared
                    .health
                    .set(StoreFault::FileGone, format!("{failure}: nothing is written until a whole one is there"));
            }
            Failure::Storage(error) => self.refuse_writes(error.to_string()),
            _ => {}
        }
        if failure.needs_reopening() {
            self.shared.close(&failure);
            // Readers wait for the file, so it is opened again at once.
            self.next_reopen = clock::instant();
        }
        failure.into()
    }

    /// Refuses writes until a trial succeeds. Otherwise each failed write would close the file for readers, too.
    fn refuse_writes(&mut self, reason: String) {
        self.shared.health.set(StoreFault::WritesRefused, format!("a write to the data file failed: {reason}"));
        self.refused = Some(reason);
        self.put_off_trial();
    }

    fn put_off_trial(&mut self) {
        let pause = self.next_trial.1;
        self.next_trial = (clock::instant() + pause, (pause * 2).min(TRY_EVERY.1));
    }

    /// Tries whether the disk takes writes again. It first writes beside the data file, where a failure closes nothing.
    fn try_to_write(&mut self) {
        if clock::instant() < self.next_trial.0 {
            return;
        }
        if try_disk(&self.shared.folder).is_err() {
            self.put_off_trial();
            return;
        }
        let tried = self.shared.begin_write().and_then(|(transaction, _)| self.commit_counted(transaction));
        self.name.note_written();
        match tried {
            Ok(()) => {
                self.refused = None;
                self.next_trial.1 = TRY_EVERY.0;
                self.shared.health.clear(StoreFault::WritesRefused);
            }
            Err(failure) => drop(self.after_failure(failure)),
        }
    }

    /// Opens the file again, as at start. Either everything that was committed is there, or the epoch changes.
    fn reopen(&mut self) {
        if clock::instant() < self.next_reopen {
            return;
        }
        self.next_reopen = clock::instant() + REOPEN_EVERY;
        match open(&self.shared.folder, Absent::Refuse) {
            Ok(Opened { database, epoch, commits, mark, name, .. }) => {
                (self.mark, self.name) = (mark, name);
                self.shared.health.clear(StoreFault::FileGone);
                self.commits = commits;
                self.shared.set_commits(commits);
                self.shared.reopened(database, epoch);
                // A commit that was reported as failed may be in the file after all, so followers read the log.
                self.shared.hub.lag_all();
                tracing::info!("the data file is open again");
            }
            Err(error) => self.shared.still_closed(&error),
        }
    }
}

/// Whether the disk of a folder has room for some writes.
fn try_disk(folder: &Path) -> io::Result<()> {
    let path = folder.join(TRIAL_NAME);
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0; TRIAL_BYTES])?;
        file.sync_all()
    });
    // If this fails, the next trial overwrites the file.
    let _ = fs::remove_file(&path);
    written
}

impl Queued {
    fn is_late(&self) -> bool {
        clock::instant().saturating_duration_since(self.since) > START_WITHIN
    }
}
