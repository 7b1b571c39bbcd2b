//! Another program that writes to the open file.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::*;
use crate::store::health::StoreFault;

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store with two acts from before a copy was made, and two from after it.
struct Overwritten {
    folder: TempDir,
    file: PathBuf,
    store: EmbeddedStore,
    copy: Vec<u8>,
    last: Position,
}

impl Overwritten {
    async fn start() -> Self {
        let (folder, store) = open_store();
        let file = folder.path().join(open::FILE_NAME);
        for slot in [1, 2] {
            store.apply(hold(&store, slot, "a")).await.unwrap();
        }
        let copy = fs::read(&file).unwrap();
        store.apply(hold(&store, 3, "a")).await.unwrap();
        let last = store.apply(hold(&store, 4, "a")).await.unwrap().at;
        Self { folder, file, store, copy, last }
    }

    async fn until(&self, what: &str, holds: impl Fn(&StoreHealth) -> bool) {
        let deadline = clock_of_process::instant() + PATIENCE;
        while !holds(&self.store.health()) {
            assert!(clock_of_process::instant() < deadline, "{what}: {:?}", self.store.health().faults());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Acts until an act is done. The acts before it are refused.
    async fn next_act(&self) -> Position {
        let deadline = clock_of_process::instant() + PATIENCE;
        loop {
            match self.store.apply(hold(&self.store, 5, "b")).await {
                Ok(outcome) => return outcome.at,
                Err(error) => assert!(clock_of_process::instant() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Writes over the file as `cp` does, which keeps the file's inode.
fn write_over(file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_copy_that_is_written_over_the_open_file_is_gone_on_with_under_another_epoch() {
    let all = Overwritten::start().await;
    write_over(&all.file, &all.copy);
    let next = all.next_act().await;
    assert!(next.epoch != all.last.epoch && next.version == 3, "{next:?} after {:?}", all.last);
    all.until("well again", |health| health.faults().is_empty()).await;
    // The act is on the disk.
    let Overwritten { folder, store, .. } = all;
    drop(store);
    assert_eq!(head(&EmbeddedStore::open(folder.path()).unwrap()).await, next);
}

#[tokio::test]
async fn nothing_is_answered_that_a_file_cut_or_damaged_under_the_node_does_not_keep() {
    let damage = |bytes: &[u8], way: &str| match way {
        "emptied" => Vec::new(),
        "halved" => bytes[..bytes.len() / 2].to_vec(),
        _ => vec![0; bytes.len()],
    };
    for way in ["emptied", "halved", "zeroed"] {
        let all = Overwritten::start().await;
        let damaged = damage(&fs::read(&all.file).unwrap(), way);
        let file = OpenOptions::new().write(true).open(&all.file).unwrap();
        file.set_len(damaged.len() as u64).unwrap();
        file.write_all_at(&damaged, 0).unwrap();
        for slot in [5, 6] {
            let refused = all.store.apply(hold(&all.store, slot, "b")).await;
            assert!(matches!(refused, Err(ApplyError::Store(_))), "{way}: {refused:?}");
        }
        all.until(way, |health| health.has(StoreFault::FileGone)).await;
        assert!(fs::read(&all.file).unwrap() == damaged, "{way}: the file is left as it was found");
        // A whole copy is put over the file.
        write_over(&all.file, &all.copy);
        let next = all.next_act().await;
        assert!(next.epoch != all.last.epoch && next.version == 3, "{way}: {next:?}");
        all.until(way, |health| health.faults().is_empty()).await;
    }
}

#[tokio::test]
async fn damage_is_noticed_when_nobody_acts() {
    let all = Overwritten::start().await;
    OpenOptions::new().write(true).open(&all.file).unwrap().set_len(0).unwrap();
    all.until("noticed", |health| health.has(StoreFault::FileGone)).await;
}
