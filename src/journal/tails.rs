//! Tells readers when the journal has new entries. One question serves all readers that wait; without readers nothing
//! is asked.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::domain::Bucket;
use crate::store::SlotStore;

/// The most calls that may wait at once on a node.
pub const MOST_WAITING: usize = 256;

/// How often the tails are asked while somebody waits.
const EVERY: Duration = Duration::from_millis(400);

/// The tails of all buckets as of the last answer, in the order of the buckets. `None` if the store did not answer.
pub type Known = Option<Arc<[u64]>>;

/// Asks for the tails while somebody waits.
pub struct Tails {
    store: Arc<dyn SlotStore>,
    seats: Arc<Semaphore>,
    known: watch::Sender<Known>,
    /// Whether a task is asking. Held briefly, never across an await.
    is_asking: Mutex<bool>,
}

/// A reader that waits.
pub struct Waiting {
    known: watch::Receiver<Known>,
    _seat: Option<OwnedSemaphorePermit>,
}

impl Tails {
    /// The tails of a store. Nothing is asked yet.
    pub fn new(store: Arc<dyn SlotStore>) -> Arc<Self> {
        let seats = Arc::new(Semaphore::new(MOST_WAITING));
        Arc::new(Self { store, seats, known: watch::Sender::default(), is_asking: Mutex::default() })
    }

    /// Begins to wait. `None` if as many calls wait as may.
    pub fn wait(self: &Arc<Self>) -> Option<Waiting> {
        let seat = self.seats.clone().try_acquire_owned().ok()?;
        Some(self.listen(Some(seat)))
    }

    /// Begins to wait for the node itself, which does not count as a waiting call.
    pub fn follow(self: &Arc<Self>) -> Waiting {
        self.listen(None)
    }

    fn listen(self: &Arc<Self>, seat: Option<OwnedSemaphorePermit>) -> Waiting {
        let mut is_asking = self.is_asking.lock();
        let known = self.known.subscribe();
        if !*is_asking {
            *is_asking = true;
            tokio::spawn(self.clone().ask());
        }
        Waiting { known, _seat: seat }
    }

    /// Asks until nobody waits any more.
    async fn ask(self: Arc<Self>) {
        let buckets: Vec<Bucket> = Bucket::all().collect();
        loop {
            tokio::time::sleep(EVERY).await;
            if self.is_alone() {
                return;
            }
            let tails = self.store.journal_tails(&buckets).await;
            if let Err(error) = &tails {
                tracing::debug!(%error, "cannot read the tails of the journal");
            }
            // The answer is sent even if it has no news or is missing, so that waiting calls can check whether their
            // time is up.
            self.known.send_replace(tails.ok().map(Into::into));
        }
    }

    /// Whether nobody waits. Then this task ends, and the next reader starts a new one.
    fn is_alone(&self) -> bool {
        let mut is_asking = self.is_asking.lock();
        *is_asking = self.known.receiver_count() > 0;
        !*is_asking
    }
}

impl Waiting {
    /// The next answer of the store.
    pub async fn next(&mut self) -> Known {
        if self.known.changed().await.is_err() {
            return None;
        }
        self.known.borrow_and_update().clone()
    }
}
