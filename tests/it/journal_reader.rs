//! Reading the journal. A reader may repeat entries and never skips one, whatever the store has lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use slotcast::domain::act::StaffStatus;
use slotcast::domain::{
    Bucket, Day, JournalEntry, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime,
};
use slotcast::journal::{Begins, Cursor, JournalRead, ReadError, read};
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::redis::{RedisOptions, RedisStore};
use slotcast::store::{JournalBounds, SlotStore};

use crate::support::faulty_store::PatientStore;
use crate::support::redis::RedisServer;

fn space(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

fn act(in_space: u64) -> SlotAct {
    let (number, start) = (SlotNumber::new(1).unwrap(), StoreTime::from_millis(3_797_000_000_000));
    SlotAct {
        space: space(in_space),
        day: Day::parse("2090-05-05").unwrap(),
        slots: vec![SlotTime { number, start, end: start.plus_millis(1), label: "09:00".into() }],
        revision: None,
        kind: SlotActKind::Update { to: StaffStatus::Blocked, data: None, user: None },
        idempotency: None,
        origin: None,
    }
}

async fn act_times(store: &dyn SlotStore, in_space: u64, times: usize) {
    for _ in 0..times {
        store.apply(act(in_space)).await.unwrap();
    }
}

fn all() -> Vec<Bucket> {
    Bucket::all().collect()
}

async fn read_after(store: &dyn SlotStore, after: Option<&Cursor>) -> Result<JournalRead, ReadError> {
    // The cursor in the form that clients keep.
    let after = after.map(|after| Cursor::decode(&after.encode()).unwrap());
    read(store, &[space(1).bucket()], after.as_ref(), |_| true, 500).await
}

fn versions(entries: &[JournalEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.position.version).collect()
}

fn on_a_file(bounds: JournalBounds) -> (Arc<dyn SlotStore>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open_with(folder.path(), bounds).unwrap());
    (Arc::new(PatientStore(store)), folder)
}

fn on_redis(server: &RedisServer, bounds: JournalBounds) -> RedisStore {
    RedisStore::open(&server.url(), "slotcast", RedisOptions { journal: bounds, ..RedisOptions::default() }).unwrap()
}

async fn every_entry_is_read_once_in_order_within_its_space(store: &dyn SlotStore) {
    for round in 0..40 {
        for in_space in 1..=3 {
            act_times(store, in_space, 1 + round % 2).await;
        }
    }
    for limit in [1, 7, 500] {
        let (mut after, mut seen): (Option<Cursor>, BTreeMap<SpaceKey, Vec<u64>>) = Default::default();
        loop {
            let read = read(store, &all(), after.as_ref(), |_| true, limit).await.unwrap();
            assert!(read.entries.len() <= limit);
            for entry in &read.entries {
                seen.entry(entry.space).or_default().push(entry.position.version);
            }
            after = Some(read.next);
            if !read.more {
                break;
            }
            assert_eq!(read.entries.len(), limit, "it stops early only where there are enough");
        }
        let expected: Vec<u64> = (1..=60).collect();
        assert_eq!(seen.len(), 3);
        assert!(seen.values().all(|versions| *versions == expected), "{seen:?}");
        let again = read(store, &all(), after.as_ref(), |_| true, limit).await.unwrap();
        assert_eq!((again.entries.len(), again.more, Some(again.next)), (0, false, after));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_entry_is_read_once_in_order_on_a_file() {
    let (store, _folder) = on_a_file(JournalBounds::default());
    every_entry_is_read_once_in_order_within_its_space(store.as_ref()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_entry_is_read_once_in_order_on_redis() {
    let server = RedisServer::start();
    every_entry_is_read_once_in_order_within_its_space(&on_redis(&server, JournalBounds::default())).await;
}

async fn a_place_before_what_is_kept_is_gone(store: &dyn SlotStore) {
    let empty = read_after(store, None).await.unwrap().next;
    act_times(store, 1, 10).await;
    let ten = read_after(store, None).await.unwrap().next;
    act_times(store, 1, 420).await;
    for old in [&empty, &ten] {
        let Err(ReadError::Gone(Begins { cursor, at })) = read_after(store, Some(old)).await else {
            panic!("not gone")
        };
        let first = store.read_journal(space(1).bucket(), 0, 1).await.unwrap().remove(0);
        assert_eq!(at, first.entry.map(|entry| entry.at));
        let rest = read_after(store, Some(&cursor)).await.unwrap();
        assert_eq!(versions(&rest.entries), (first.number..=430).collect::<Vec<_>>());
    }
    // Without a cursor, reading begins at the oldest entry.
    assert_eq!(versions(&read_after(store, None).await.unwrap().entries).last(), Some(&430));
}

const FEW: JournalBounds = JournalBounds { days: 90, max: 100 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_before_what_is_kept_is_gone_on_a_file() {
    let (store, _folder) = on_a_file(FEW);
    a_place_before_what_is_kept_is_gone(store.as_ref()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_before_what_is_kept_is_gone_on_redis() {
    let server = RedisServer::start();
    a_place_before_what_is_kept_is_gone(&on_redis(&server, FEW)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_read_looks_at_ten_thousand_entries_at_most() {
    let (store, _folder) = on_a_file(JournalBounds { days: 90, max: 100_000 });
    // The acts come in portions, because the store refuses an act that waits for more than a second on a busy machine.
    for _ in 0..670 {
        futures_util::future::try_join_all((0..15).map(|_| store.apply(act(1)))).await.unwrap();
    }
    let none = read(store.as_ref(), &all(), None, |_| false, 10).await.unwrap();
    assert!(none.entries.is_empty() && none.more);
    let rest = read(store.as_ref(), &all(), Some(&none.next), |_| true, 500).await.unwrap();
    assert_eq!((rest.entries.len(), rest.more), (50, false));
}

/// A Redis whose journal goes back to an earlier state under a new epoch, like after a failover that has lost writes.
struct Lossy {
    server: RedisServer,
    store: RedisStore,
    epochs: u32,
}

impl Lossy {
    fn start() -> Self {
        let server = RedisServer::start();
        let store = on_redis(&server, JournalBounds::default());
        Self { server, store, epochs: 0 }
    }

    fn key(&self, name: &str) -> String {
        format!("slotcast:{{b{}}}:{name}", space(1).bucket().get())
    }

    fn remember(&self) {
        self.server.cli(&["COPY", &self.key("journal"), &self.key("backup")]);
    }

    fn go_back(&mut self) {
        self.server.cli(&["DEL", &self.key("journal")]);
        self.server.cli(&["RENAME", &self.key("backup"), &self.key("journal")]);
        self.change_epoch();
    }

    fn change_epoch(&mut self) {
        self.epochs += 1;
        self.server.cli(&["HSET", &self.key("fence"), "epoch", &format!("{:032x}", self.epochs)]);
    }

    async fn act(&self, times: usize) {
        act_times(&self.store, 1, times).await;
    }

    async fn read(&self, after: Option<&Cursor>) -> JournalRead {
        read_after(&self.store, after).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_after_a_loss_is_read_once() {
    // After the loss come fewer entries than were lost, as many, or more.
    for after_loss in [1, 5, 9] {
        let mut lossy = Lossy::start();
        lossy.act(5).await;
        lossy.remember();
        lossy.act(5).await;
        let read = lossy.read(None).await;
        assert_eq!(versions(&read.entries), (1..=10).collect::<Vec<_>>());
        lossy.go_back();
        assert_eq!(lossy.read(Some(&read.next)).await.entries.len(), 0);
        lossy.act(after_loss).await;
        let rest = lossy.read(Some(&read.next)).await;
        let expected: Vec<u64> = (11..=10 + after_loss as u64).collect();
        assert_eq!(versions(&rest.entries), expected, "{after_loss} after the loss");
        assert!(lossy.read(Some(&rest.next)).await.entries.is_empty());
        // This reader had not seen the lost entries.
        let all = lossy.read(None).await.entries.len();
        assert_eq!(all, 5 + after_loss);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_alone_repeats_nothing() {
    let mut lossy = Lossy::start();
    lossy.act(3).await;
    let read = lossy.read(None).await;
    lossy.change_epoch();
    assert!(lossy.read(Some(&read.next)).await.entries.is_empty());
    lossy.act(2).await;
    lossy.change_epoch();
    lossy.act(2).await;
    let rest = lossy.read(Some(&read.next)).await;
    assert_eq!(versions(&rest.entries), [4, 5, 6, 7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_read_that_comes_after_everything_was_lost() {
    for after_loss in [3, 12] {
        let mut lossy = Lossy::start();
        lossy.act(10).await;
        let read = lossy.read(None).await;
        lossy.server.cli(&["DEL", &lossy.key("journal")]);
        lossy.change_epoch();
        let empty = lossy.read(Some(&read.next)).await;
        assert!(empty.entries.is_empty() && !empty.more);
        lossy.act(after_loss).await;
        for after in [&read.next, &empty.next] {
            assert_eq!(lossy.read(Some(after)).await.entries.len(), after_loss);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_was_taken_back_is_passed() {
    let lossy = Lossy::start();
    lossy.act(4).await;
    let read = lossy.read(None).await;
    lossy.server.cli(&["XDEL", &lossy.key("journal"), "0-4"]);
    lossy.act(2).await;
    assert_eq!(versions(&lossy.read(Some(&read.next)).await.entries), [5, 6]);
}
