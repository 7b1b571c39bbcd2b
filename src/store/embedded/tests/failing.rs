//! Storage that fails.

use super::*;

/// A file whose writes or syncs fail when told to.
#[derive(Debug)]
struct FailingBackend {
    file: FileBackend,
    fail_writes: Arc<AtomicBool>,
    fail_syncs: Arc<AtomicBool>,
}

fn fail_if(told: &AtomicBool) -> io::Result<()> {
    if told.load(Ordering::Acquire) { Err(io::Error::other("told to fail")) } else { Ok(()) }
}

impl StorageBackend for FailingBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        fail_if(&self.fail_writes)?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        fail_if(&self.fail_syncs)?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        fail_if(&self.fail_writes)?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

struct FailingStore {
    folder: TempDir,
    store: EmbeddedStore,
    fail_writes: Arc<AtomicBool>,
    fail_syncs: Arc<AtomicBool>,
}

/// A store whose file is first opened on storage that can fail. After a failure the plain file is opened.
fn open_failing_store() -> FailingStore {
    let folder = tempfile::tempdir().unwrap();
    let Opened { database, epoch, commits, mark, was_moved, .. } = open::open(folder.path(), Absent::Create).unwrap();
    database.close().unwrap();
    let (fail_writes, fail_syncs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let file = OpenOptions::new().read(true).write(true).open(folder.path().join(open::FILE_NAME)).unwrap();
    let backend = FailingBackend {
        file: FileBackend::new(file).unwrap(),
        fail_writes: fail_writes.clone(),
        fail_syncs: fail_syncs.clone(),
    };
    let database = Builder::new().create_with_backend(backend).unwrap();
    // The guard is one of another file, because the failing storage has none.
    let other = folder.path().join("other");
    std::fs::write(&other, "").unwrap();
    let guard = GuardedBackend::new(std::fs::File::open(other).unwrap()).unwrap().guard();
    let name = open::Name::of(&folder.path().join(open::FILE_NAME), guard).unwrap();
    let opened = Opened { database, epoch, commits, mark, was_moved, name };
    let store = EmbeddedStore::start(folder.path(), opened, StoreClock::default(), JournalBounds::default()).unwrap();
    FailingStore { folder, store, fail_writes, fail_syncs }
}

/// Waits until the store answers and writes again. The writer opens the file again and tries a write by itself.
async fn wait_until_it_writes(store: &EmbeddedStore) {
    for _ in 0..1_000 {
        if store.ping().await.is_ok() && store.health().faults().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the store does not come back");
}

#[tokio::test]
async fn a_batch_that_cannot_be_written_fails_whole_and_the_store_comes_back() {
    let FailingStore { folder: _folder, store, fail_writes, .. } = open_failing_store();
    let first = store.apply(block(&store)).await.unwrap();
    let mut watch = store.watch(Topic::Space(space(1))).await.unwrap();
    fail_writes.store(true, Ordering::Release);
    let (one, other) = tokio::join!(store.apply(block(&store)), store.apply(hold(&store, 2, "a")));
    for failed in [one, other] {
        assert!(matches!(failed, Err(ApplyError::Store(_))), "{failed:?}");
    }

    wait_until_it_writes(&store).await;
    assert_eq!(head(&store).await, first.at);
    assert!(matches!(watch.next().await, Signal::Lagged));
    let next = store.apply(block(&store)).await.unwrap();
    assert_eq!(next.at, Position { version: 2, ..first.at });
    match watch.next().await {
        Signal::Message(message) => assert_eq!(message.at, next.at),
        Signal::Lagged => panic!("lagged twice"),
    }
}

#[tokio::test]
async fn a_commit_whose_sync_failed_is_in_the_file_whole_or_not_at_all() {
    let FailingStore { folder, store, fail_syncs, .. } = open_failing_store();
    let first = store.apply(block(&store)).await.unwrap();
    fail_syncs.store(true, Ordering::Release);
    let failed = store.apply(hold(&store, 2, "a")).await;
    assert!(matches!(failed, Err(ApplyError::Store(_))), "{failed:?}");

    wait_until_it_writes(&store).await;
    let at = head(&store).await;
    assert_eq!(at.epoch, first.at.epoch);
    assert!([1, 2].contains(&at.version), "{at:?}");
    let held = store.holds_of(&user("a")).await.unwrap().len() as u64;
    assert_eq!(held, at.version - 1);
    assert_eq!(log_length(&store, 0).await, Some(at.version as usize));
    let next = store.apply(block(&store)).await.unwrap().at;
    assert_eq!(next.version, at.version + 1);
    drop(store);
    assert_eq!(head(&EmbeddedStore::open(folder.path()).unwrap()).await, next);
}
