//! Epochs: a history that the store has lost never goes on in its old epoch.

use super::*;

/// The content of each (epoch, version) of a space that was ever told.
#[derive(Default)]
pub(super) struct Witness {
    told: HashMap<(String, u64), String>,
    epochs: BTreeSet<String>,
}

impl Witness {
    /// Does an act, and notes what the log has at its position.
    async fn act(&mut self, store: &RedisStore, act: SlotAct) -> Position {
        let topic = Topic::Space(act.space);
        let at = store.apply(act).await.unwrap().at;
        let since = Position { version: at.version - 1, ..at.clone() };
        for message in messages(store, topic, &since).await {
            let key = (message.at.epoch.to_string(), message.at.version);
            let known = self.told.entry(key).or_insert_with(|| message.payload.get().to_owned());
            assert_eq!(known, message.payload.get(), "{:?} names two contents", message.at);
        }
        self.epochs.insert(at.epoch.to_string());
        at
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_version_names_two_contents_after_a_flush_or_a_restart() {
    let server = RedisServer::start();
    let store = server.store();
    let mut witness = Witness::default();
    witness.act(&store, act(1, &[1], hold("a", MINUTE))).await;
    let before = witness.act(&store, act(1, &[1], book("a"))).await;

    // The server loses everything. Versions begin again, in another epoch.
    server.cli(&["FLUSHALL"]);
    let flushed = witness.act(&store, act(1, &[2], hold("b", MINUTE))).await;
    assert_eq!(flushed.version, 1);
    assert_ne!(flushed.epoch, before.epoch);
    let read = store.read_log(Topic::Space(space(1)), &before).await.unwrap();
    assert!(matches!(read, LogRead::Gone(at) if at == flushed));

    // The server keeps everything. Only the epoch changes, which was not needed.
    server.restart_with(&[]);
    let board = retry_read(&store).await;
    assert_eq!((board.at.version, board.records.len()), (1, 1));
    assert_ne!(board.at.epoch, flushed.epoch);
    let kept = witness.act(&store, act(1, &[2], book("b"))).await;
    assert_eq!((kept.version, &kept.epoch), (2, &board.at.epoch));
    // A position in the epoch before proves nothing about this epoch.
    let since = Position { version: 0, ..kept.clone() };
    assert!(matches!(store.read_log(Topic::Space(space(1)), &since).await.unwrap(), LogRead::Gone(_)));

    // The server restarts without its data.
    server.restart_with(&["--appendonly", "no"]);
    assert_eq!(retry_read(&store).await.at.version, 0);
    let emptied = witness.act(&store, act(1, &[3], hold("c", MINUTE))).await;
    assert_eq!(emptied.version, 1);
    assert_eq!(witness.epochs.len(), 4);
}

/// Reads, and tries again while the connection is made anew.
pub(super) async fn retry_read(store: &RedisStore) -> slotcast::store::DayState {
    let began = clock::instant();
    loop {
        match store.read_day(space(1), day()).await {
            Ok(read) => return read,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_version_names_two_contents_after_a_failover_that_lost_writes() {
    let (primary, replica) = (RedisServer::start(), RedisServer::start());
    let store = primary.store();
    let port = primary.address().port().to_string();
    replica.cli(&["REPLICAOF", "127.0.0.1", &port]);
    wait_until(|| replica.cli(&["INFO", "replication"]).contains("master_link_status:up")).await;
    let mut witness = Witness::default();
    witness.act(&store, act(1, &[1], hold("a", MINUTE))).await;
    let head_key = format!("slotcast:{{b{}}}:head:1:1", space(1).bucket().get());
    wait_until(|| replica.cli(&["HGET", &head_key, "v"]) == "1").await;

    // The replica hears no more, so it does not have what the primary acknowledges now.
    replica.cli(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    let lost = witness.act(&store, act(1, &[1], book("a"))).await;
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    primary.kill();

    let promoted = replica.store();
    let next = witness.act(&promoted, act(1, &[1], release("a"))).await;
    assert_eq!(next.version, lost.version);
    assert_ne!(next.epoch, lost.epoch);

    // The old primary comes back with its old data, and issues versions of its own.
    primary.restart_with(&[]);
    let again = retry_read(&store).await;
    assert_ne!(again.at.epoch, lost.epoch);
    let of_old = witness.act(&store, act(1, &[2], hold("b", MINUTE))).await;
    assert_ne!(of_old.epoch, next.epoch);
}

pub(super) async fn wait_until(mut holds: impl FnMut() -> bool) {
    let began = clock::instant();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it did not come to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_and_a_comparison_of_heads_change_the_epoch_too() {
    let server = RedisServer::start();
    let store = server.store();
    let topics = [Topic::Space(space(1)), Topic::Bucket(space(1).bucket())];
    let before = store.heads(&topics).await.unwrap();
    server.cli(&["FLUSHALL"]);
    let after = store.heads(&topics).await.unwrap();
    assert!(after.iter().all(|head| head.epoch == after[0].epoch && head.epoch != before[0].epoch));
    server.cli(&["FLUSHALL"]);
    let read = store.read_day(space(1), day()).await.unwrap();
    assert_ne!(read.at.epoch, after[0].epoch);
    assert_eq!(store.apply(act(1, &[1], hold("a", MINUTE))).await.unwrap().at.epoch, read.at.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_was_lost_is_not_taken_for_the_one_that_has_its_version() {
    let server = RedisServer::start();
    let store: Arc<dyn SlotStore> = Arc::new(server.store());
    let catalog = Catalog::new(store.clone(), Arc::default(), CatalogConfig { open: true, max_days: 400 });
    let put = async |slot_minutes| {
        let spec = ScheduleSpec { slot_minutes, ..ScheduleSpec::default() };
        let revised_at = store.read_space(space(1)).await.unwrap().revised_at();
        store.put_space(SpaceChange::new(space(1), Some(spec), revised_at).unwrap()).await.unwrap()
    };
    let lost = put(30).await;
    let resolved = catalog.resolve(space(1)).await.unwrap();
    assert_eq!(resolved.revision, Some(lost.clone()));
    server.cli(&["FLUSHALL"]);
    let removal = SpaceChange::new(space(1), None, Some(lost.clone())).unwrap();
    assert_eq!(store.put_space(removal).await, Err(ApplyError::Stale));
    let kept = put(60).await;
    assert_eq!(kept.version, lost.version);

    let on_lost = SlotAct { revision: resolved.revision, ..act(1, &[1], hold("a", MINUTE)) };
    assert_eq!(store.apply(on_lost.clone()).await, Err(ApplyError::Stale));
    catalog.forget(space(1));
    let revision = catalog.resolve(space(1)).await.unwrap().revision;
    store.apply(SlotAct { revision, ..on_lost }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_info_is_refused_a_store_without_the_fence_works() {
    let server = RedisServer::start();
    server.cli(&["ACL", "SETUSER", "default", "-info"]);
    let refused = server.store().apply(act(1, &[1], hold("a", MINUTE))).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    let open = |fence| {
        let options = RedisOptions { fence, ..RedisOptions::default() };
        RedisStore::open(&server.url(), "slotcast", options).unwrap()
    };
    let store = open(Fence::Down);
    let held = store.apply(act(1, &[1], hold("a", MINUTE))).await.unwrap();
    assert_eq!(head(&store, Topic::Space(space(1))).await, held.at);
    let passing = open(Fence::WhereAllowed);
    assert_eq!(head(&passing, Topic::Space(space(1))).await, held.at);
    server.cli(&["FLUSHALL"]);
    assert_ne!(head(&store, Topic::Space(space(1))).await.epoch, held.at.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_has_not_asked_takes_no_version_of_an_epoch_that_others_fence() {
    let server = RedisServer::start();
    let held = server.store().apply(act(1, &[1], hold("a", 1))).await.unwrap();
    server.cli(&["ACL", "SETUSER", "sweeper", "on", ">secret", "~*", "&*", "+@all", "-info"]);
    let url = server.url().replace("redis://", "redis://sweeper:secret@");
    let options = RedisOptions { fence: Fence::WhereAllowed, ..RedisOptions::default() };
    let sweeper = RedisStore::open(&url, "slotcast", options).unwrap();
    let ended = held.hold.unwrap().until;
    while server.store().ping().await.unwrap() <= ended {}
    let refused = sweeper.sweep(space(1).bucket(), 10).await.unwrap_err();
    assert!(refused.0.contains("ACL SETUSER <user> +info"), "{refused}");
    assert_eq!(head(&server.store(), Topic::Space(space(1))).await, held.at);
    // This is the command that the error names.
    server.cli(&["ACL", "SETUSER", "sweeper", "+info"]);
    assert_eq!(sweeper.sweep(space(1).bucket(), 10).await.unwrap().freed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_has_not_asked_is_fenced_where_info_is_allowed() {
    let server = RedisServer::start();
    let held = server.store().apply(act(1, &[1], hold("a", MINUTE))).await.unwrap();
    let options = RedisOptions { fence: Fence::WhereAllowed, ..RedisOptions::default() };
    let store = RedisStore::open(&server.url(), "slotcast", options).unwrap();
    assert_eq!(head(&store, Topic::Space(space(1))).await, held.at);
    server.cli(&["DEBUG", "CHANGE-REPL-ID"]);
    assert_ne!(head(&store, Topic::Space(space(1))).await.epoch, held.at.epoch);
}
