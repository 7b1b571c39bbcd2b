//! Boards that several callers request at the same time. One read of the store serves all of them.
//!
//! A caller shares only a read that began after its request. So no caller is shown anything older than its own read would
//! give. A board that a crowd requests is read without pause, one read after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::catalog::{Board, Catalog};
use crate::domain::{Day, Refusal, SpaceKey};

type Key = (SpaceKey, Day);

/// The boards that are being read now.
#[derive(Default)]
pub struct SharedBoards {
    /// Held for a map access only, never across an await.
    reads: Mutex<HashMap<Key, Arc<Reads>>>,
}

/// The reads of one board, one after the other.
#[derive(Default)]
struct Reads {
    /// How many have begun.
    begun: AtomicU64,
    /// The last finished read, with its number. Held during the next read.
    last: tokio::sync::Mutex<Option<(u64, Result<Board, Refusal>)>>,
}

impl SharedBoards {
    /// The board as the store has it after this call began.
    pub async fn read(&self, catalog: &Catalog, space: SpaceKey, day: Day) -> Result<Board, Refusal> {
        let key = (space, day);
        let reads = self.lock().entry(key).or_default().clone();
        let waiting = Waiting { boards: self, key, reads };
        waiting.reads.share(catalog.read_board(space, day)).await
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Reads>>> {
        self.reads.lock()
    }
}

/// One caller, until it is answered or gone.
struct Waiting<'a> {
    boards: &'a SharedBoards,
    key: Key,
    reads: Arc<Reads>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut all = self.boards.lock();
        // This caller and the map hold one reference each, so nobody else waits.
        if Arc::strong_count(&self.reads) == 2 {
            all.remove(&self.key);
        }
    }
}

impl Reads {
    async fn share(&self, read: impl Future<Output = Result<Board, Refusal>>) -> Result<Board, Refusal> {
        let begun = self.begun.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        if let Some((number, board)) = &*last
            && *number > begun
        {
            return board.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let board = read.await;
        *last = Some((number, board.clone()));
        board
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::domain::Code;

    // Attack 5.
    #[tokio::test]
    async fn a_crowd_shares_a_read_that_began_after_all_of_it_had_asked() {
        let (reads, count, gate) =
            (Arc::new(Reads::default()), Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (reads, count, gate) = (reads.clone(), count.clone(), gate.clone());
            tokio::spawn(async move {
                let read = async {
                    count.fetch_add(1, Ordering::Relaxed);
                    let _ = gate.acquire().await;
                    Err(Refusal::new(Code::Unavailable))
                };
                reads.share(read).await.is_err()
            })
        };
        let first = ask();
        while count.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        // The first caller's read has begun already, so it need not show what happens now.
        let crowd: Vec<_> = (0..100).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        gate.add_permits(1_000);
        assert!(first.await.unwrap());
        for one in crowd {
            assert!(one.await.unwrap());
        }
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
