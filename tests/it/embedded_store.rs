//! The embedded store: the conformance suite, and what only a store in a file must do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use slotcast::domain::act::StaffStatus;
use slotcast::domain::{
    Day, Position, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime, UserId,
};
use slotcast::store::embedded::open::{FILE_NAME, MARK_NAME};
use slotcast::store::embedded::{EmbeddedStore, OpenError};
use slotcast::store::{ActOutcome, LogRead, Publication, SlotStore, Topic, read_whole_log};
use tempfile::TempDir;

use crate::store_conformance;
use crate::store_conformance::{Handles, StoreFactory};
use crate::support::faulty_store::PatientStore;

/// A store with a folder of its own, which ends with the store.
pub struct Embedded {
    /// `None` only while it restarts.
    store: Option<Arc<EmbeddedStore>>,
    folder: TempDir,
}

#[async_trait]
impl StoreFactory for Embedded {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Some(open(folder.path())), folder }
    }

    async fn open(&self) -> Handles {
        let store = self.store.clone().unwrap();
        Handles { store: Arc::new(PatientStore(store.clone())), subscriptions: store }
    }

    async fn restart(&mut self) {
        let store = self.store.take().and_then(Arc::into_inner);
        drop(store.expect("a handle is still in use"));
        self.store = Some(open(self.folder.path()));
    }
}

fn open(folder: &Path) -> Arc<EmbeddedStore> {
    Arc::new(EmbeddedStore::open(folder).unwrap())
}

store_conformance!(conformance, super::Embedded);

// Acts that are always allowed.

fn space(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

fn block(in_space: u64, slot: u64) -> SlotAct {
    let start = StoreTime::from_millis(4_000_000_000_000);
    let number = SlotNumber::new(slot).unwrap();
    SlotAct {
        space: space(in_space),
        day: Day::parse("2096-10-02").unwrap(),
        slots: vec![SlotTime { number, start, end: start.plus_millis(1), label: "09:00".into() }],
        revision: None,
        kind: SlotActKind::Update { to: StaffStatus::Blocked, data: None, user: None },
        idempotency: None,
        origin: None,
    }
}

async fn act(store: &EmbeddedStore) -> ActOutcome {
    store.apply(block(1, 1)).await.unwrap()
}

async fn head(store: &EmbeddedStore) -> Position {
    store.heads(&[Topic::Space(space(1))]).await.unwrap().remove(0)
}

fn file_in(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

fn open_error(folder: &Path) -> OpenError {
    match EmbeddedStore::open(folder) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

// These tests are about many acts that share one fsync.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acts_that_wait_together_share_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let before = store.commit_count();
    let acts = (0..200).map(|n| store.apply(block(1 + n % 7, 1 + n % 5)));
    for outcome in futures_util::future::join_all(acts).await {
        outcome.unwrap();
    }
    let commits = store.commit_count() - before;
    assert!((1..=20).contains(&commits), "{commits} commits for 200 acts");
}

#[tokio::test]
async fn what_writes_nothing_is_not_committed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    act(&store).await;
    let before = store.commit_count();
    store
        .apply(SlotAct { revision: Some(Position { epoch: "e".into(), version: 9 }), ..block(1, 1) })
        .await
        .unwrap_err();
    store.sweep(space(1).bucket(), 10).await.unwrap();
    store.ping().await.unwrap();
    assert_eq!(store.commit_count(), before);
    act(&store).await;
    assert_eq!(store.commit_count(), before + 1);
}

// These tests are about whether a file continues the file that this node left.

#[tokio::test]
async fn a_restart_keeps_the_epoch_and_a_copy_takes_its_own() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(folder.path());
    let outcome = act(&store).await;
    drop(store);
    fs::copy(file_in(folder.path()), file_in(copy.path())).unwrap();
    fs::copy(folder.path().join(MARK_NAME), copy.path().join(MARK_NAME)).unwrap();

    let (original, copied) = (open(folder.path()), open(copy.path()));
    assert_eq!(head(&original).await, outcome.at);
    let copied_head = head(&copied).await;
    assert_ne!(copied_head.epoch, outcome.at.epoch);
    // Versions continue, but the log begins anew, because its messages name the old epoch.
    assert_eq!(copied_head.version, outcome.at.version);
    let topic = Topic::Space(space(1));
    for version in 0..outcome.at.version {
        let since = Position { version, ..copied_head.clone() };
        let read = copied.read_log(topic, &since).await.unwrap();
        assert!(matches!(read, LogRead::Gone(at) if at == copied_head));
    }
    assert!(matches!(copied.read_log(topic, &outcome.at).await.unwrap(), LogRead::Gone(_)));
    let next = act(&copied).await.at;
    assert_eq!(next, Position { version: 2, ..copied_head.clone() });
    match copied.read_log(topic, &copied_head).await.unwrap() {
        LogRead::Messages(messages) => assert_eq!(messages.len(), 1),
        LogRead::Gone(_) => panic!("gone"),
    }
    drop(copied);
    // The copy is now a file of its own.
    assert_eq!(head(&open(copy.path())).await, next);
}

#[tokio::test]
async fn a_backup_restored_in_place_takes_a_new_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let backup = tempfile::NamedTempFile::new().unwrap();
    let store = open(folder.path());
    let kept = act(&store).await.at;
    drop(store);
    fs::copy(file_in(folder.path()), backup.path()).unwrap();
    let store = open(folder.path());
    let lost = act(&store).await.at;
    assert_eq!(lost.epoch, kept.epoch);
    drop(store);

    // A file that is written over keeps its inode and its time of birth. Only the mark shows the change.
    fs::copy(backup.path(), file_in(folder.path())).unwrap();
    let restored = open(folder.path());
    let again = act(&restored).await.at;
    assert_eq!(again.version, lost.version);
    assert_ne!(again.epoch, lost.epoch, "one position names two contents");
}

#[tokio::test]
async fn a_backup_restored_under_the_name_takes_a_new_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    let store = open(folder.path());
    let kept = act(&store).await.at;
    drop(store);
    // The mark of the same moment is restored, too.
    fs::copy(file_in(folder.path()), &backup).unwrap();
    fs::remove_file(file_in(folder.path())).unwrap();
    fs::copy(&backup, file_in(folder.path())).unwrap();
    let restored = head(&open(folder.path())).await;
    assert_eq!(restored.version, kept.version);
    assert_ne!(restored.epoch, kept.epoch);
}

#[tokio::test]
async fn a_file_without_its_mark_takes_a_new_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let kept = act(&store).await.at;
    drop(store);
    fs::remove_file(folder.path().join(MARK_NAME)).unwrap();
    assert_ne!(head(&open(folder.path())).await.epoch, kept.epoch);
}

// These tests are about unusable files, which stay unchanged.

/// Checks that a file is refused, and has the same bytes afterwards.
fn assert_refused_untouched(folder: &Path, what: &str) -> OpenError {
    let before = fs::read(file_in(folder)).unwrap();
    let error = open_error(folder);
    assert!(fs::read(file_in(folder)).unwrap() == before, "{what}: the file was changed");
    let text = error.to_string();
    assert!(text.contains(FILE_NAME), "{what}: {text}");
    // Nothing is left beside the file, either.
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let others: Vec<String> = names.filter(|name| name != FILE_NAME && name != MARK_NAME).collect();
    assert!(others.is_empty(), "{what}: {others:?}");
    error
}

#[test]
fn what_is_no_data_file_is_refused_and_untouched() {
    for (what, bytes) in [
        ("empty", vec![]),
        ("text", b"not a database".to_vec()),
        ("zeros", vec![0; 100_000]),
        ("noise", (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
        ("magic alone", vec![b'r', b'e', b'd', b'b', 0x1A, 0x0A, 0xA9, 0x0D, 0x0A]),
        ("magic and noise", {
            let magic = [b'r', b'e', b'd', b'b', 0x1A, 0x0A, 0xA9, 0x0D, 0x0A];
            let noise = (0..50_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
            magic.into_iter().chain(noise).collect()
        }),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(file_in(folder.path()), bytes).unwrap();
        let error = assert_refused_untouched(folder.path(), what);
        assert!(matches!(error, OpenError::Corrupt { .. }), "{what}: {error:?}");
    }
}

/// A data file with content: closed, or as a killed process leaves it.
async fn data_file(closed: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let acts = (0..300).map(|n| store.apply(block(1 + n % 50, 1 + n % 9)));
    futures_util::future::join_all(acts).await;
    if closed {
        drop(store);
        return fs::read(file_in(folder.path())).unwrap();
    }
    fs::read(file_in(folder.path())).unwrap()
}

#[tokio::test]
async fn a_data_file_cut_short_is_refused_and_untouched() {
    for closed in [true, false] {
        let whole = data_file(closed).await;
        for length in [1, 300, 4_096, 5_000, whole.len() / 4, whole.len() / 2] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(file_in(folder.path()), &whole[..length]).unwrap();
            let what = format!("closed {closed}, {length} of {}", whole.len());
            let error = assert_refused_untouched(folder.path(), &what);
            assert!(matches!(error, OpenError::Corrupt { .. }), "{what}: {error:?}");
        }
    }
}

/// Flips bytes all over the file. If the file is accepted, it must be whole: then the damage was outside of the parts
/// in use.
#[tokio::test]
async fn a_damaged_data_file_is_refused_and_untouched() {
    let whole = data_file(true).await;
    let mut refused = 0;
    let pages = whole.len() / 4_096;
    for page in (0..pages).filter(|page| whole[page * 4_096..(page + 1) * 4_096].iter().any(|byte| *byte != 0)) {
        let folder = tempfile::tempdir().unwrap();
        let mut damaged = whole.clone();
        for byte in &mut damaged[page * 4_096 + 64..page * 4_096 + 600] {
            *byte ^= 0x55;
        }
        fs::write(file_in(folder.path()), &damaged).unwrap();
        match EmbeddedStore::open(folder.path()) {
            Ok(store) => {
                let read = store.read_space(space(1)).await.unwrap();
                assert_eq!((read.at.version, read.taken.len()), (6, 6), "page {page} was damaged, and it opened");
            }
            Err(_) => {
                fs::write(file_in(folder.path()), &damaged).unwrap();
                let error = assert_refused_untouched(folder.path(), &format!("page {page}"));
                assert!(matches!(error, OpenError::Corrupt { .. }), "page {page}: {error:?}");
                refused += 1;
            }
        }
    }
    assert!(refused >= 10, "only {refused} of {pages} pages were noticed");
}

#[test]
fn a_newer_format_is_refused_and_untouched() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    const META: redb::TableDefinition<&str, &str> = redb::TableDefinition::new("meta");
    let database = redb::Database::open(file_in(folder.path())).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", "3").unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = assert_refused_untouched(folder.path(), "newer");
    assert!(matches!(&error, OpenError::NewerFormat { found, known: 2, .. } if found == "3"), "{error:?}");
}

#[test]
fn another_programs_database_is_refused_and_untouched() {
    let folder = tempfile::tempdir().unwrap();
    const OTHER: redb::TableDefinition<u64, u64> = redb::TableDefinition::new("other");
    let database = redb::Database::create(file_in(folder.path())).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(OTHER).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = assert_refused_untouched(folder.path(), "foreign");
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_in_use_is_refused_and_its_user_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    act(&store).await;
    let error = assert_refused_untouched(folder.path(), "in use");
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains("locked by another process"), "{error}");
    assert_eq!(act(&store).await.at.version, 2);
    drop(store);
    assert_eq!(head(&open(folder.path())).await.version, 2);
}

#[test]
fn a_folder_that_cannot_be_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = open_error(&path);
        assert!(matches!(error, OpenError::Folder { .. }), "{error:?}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"text");
    // A folder is in the file's place.
    fs::create_dir(file_in(folder.path())).unwrap();
    let error = open_error(folder.path());
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn an_absent_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("some/where");
    assert_eq!(act(&open(&deep)).await.at.version, 1);
    let mut names: Vec<_> = fs::read_dir(&deep).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [MARK_NAME, FILE_NAME]);
}

#[test]
fn of_many_that_make_the_file_at_once_one_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let opened: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| EmbeddedStore::open(path))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 1);
    for error in opened.iter().filter_map(|opened| opened.as_ref().err()) {
        assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    }
}

// These tests are about a process that ends at any moment.

/// Where the child of [`every_acknowledged_act_survives_a_kill`] keeps its store.
const CHILD_FOLDER: &str = "SLOTCAST_TEST_CHILD_FOLDER";

/// This is not a test. It is the process that gets killed. It acts as fast as it can, and prints each acknowledged
/// version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_acts_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let store = open(Path::new(&folder));
    let mut tasks = tokio::task::JoinSet::new();
    for in_space in 1..=8 {
        let store = store.clone();
        tasks.spawn(async move {
            loop {
                let at = store.apply(block(in_space, 1)).await.unwrap().at;
                // Written by one call, so that another task cannot cut the line in two.
                let line = format!("acknowledged {in_space} {} {}\n", at.version, at.epoch);
                std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).unwrap();
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn every_acknowledged_act_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = [0_u64; 9];
    let mut epochs = std::collections::BTreeSet::new();
    for round in 0..10_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "embedded_store::child_that_acts_until_it_is_killed", "--nocapture"])
            .env(CHILD_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut killer = None;
        let mut child = Some(child);
        while let Some(Ok(line)) = lines.next() {
            let Some((_, line)) = line.split_once("acknowledged ") else { continue };
            // Each round kills the process at another moment, counted from the first act.
            if let Some(mut child) = child.take() {
                killer = Some(std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_micros(3_000 + round * 17_377 % 61_000));
                    child.kill().unwrap();
                    child.wait().unwrap()
                }));
            }
            let mut words = line.split(' ');
            let in_space: usize = words.next().unwrap().parse().unwrap();
            // The kill may cut the last line short.
            let (Some(version), Some(epoch)) = (words.next(), words.next()) else { continue };
            if epoch.len() == 32 {
                acknowledged[in_space] = version.parse().unwrap();
                epochs.insert(epoch.to_owned());
            }
        }
        killer.expect("the child did nothing").join().unwrap();

        let store = open(folder.path());
        for in_space in 1..=8_u64 {
            let read = store.read_space(space(in_space)).await.unwrap();
            let known = acknowledged[in_space as usize];
            assert!(read.at.version >= known, "round {round}: {known} was acknowledged, {} is there", read.at.version);
            epochs.insert(read.at.epoch.to_string());
            // State, version and log belong to one moment.
            assert_eq!(read.taken.first().map_or(0, |(_, _, record)| record.version), read.at.version);
            let since = Position { version: read.at.version.saturating_sub(1_000), ..read.at.clone() };
            match read_whole_log(store.as_ref(), Topic::Space(space(in_space)), &since).await.unwrap() {
                LogRead::Messages(messages) => assert_eq!(messages.len() as u64, read.at.version - since.version),
                LogRead::Gone(_) => panic!("the log is gone"),
            }
        }
        drop(store);
    }
    assert!(acknowledged.iter().sum::<u64>() >= 10, "{acknowledged:?}");
    assert_eq!(epochs.len(), 1, "the epoch changed: {epochs:?}");
}

// This measures the speed. Run it by hand: cargo test --release --test it -- --ignored --nocapture acts_a_second

#[ignore = "a measurement, which says nothing on a busy machine"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acts_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for callers in [1_u64, 8, 64, 256] {
        let began = slotcast::clock::instant();
        let before = store.commit_count();
        let each = if callers == 1 { 500 } else { 6_000 / callers };
        let tasks = (0..callers).map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..each {
                    store.apply(block(1 + caller % 16, 1 + n % 9)).await.unwrap();
                }
            })
        });
        futures_util::future::join_all(tasks).await;
        let took = slotcast::clock::instant() - began;
        let (acts, commits) = (callers * each, store.commit_count() - before);
        println!("{callers} callers: {:.0} acts/s, {commits} commits", acts as f64 / took.as_secs_f64());
    }
    let reads = 5_000;
    let began = slotcast::clock::instant();
    for n in 0..reads {
        store.read_day(space(1 + n % 16), Day::parse("2096-10-02").unwrap()).await.unwrap();
    }
    println!("read_day: {:.1} us", (slotcast::clock::instant() - began).as_secs_f64() * 1e6 / reads as f64);
    let at = head(&store).await;
    let began = slotcast::clock::instant();
    for _ in 0..100 {
        let since = Position { version: at.version.saturating_sub(1_000), ..at.clone() };
        store.read_log(Topic::Space(space(1)), &since).await.unwrap();
    }
    println!("read_log of up to 1,000: {:.0} us", (slotcast::clock::instant() - began).as_secs_f64() * 1e6 / 100.0);
}

#[tokio::test]
async fn a_cursor_from_before_the_file_was_rolled_back_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let backup = tempfile::NamedTempFile::new().unwrap();
    let user = UserId::new("a").unwrap();
    let notify = async |store: &EmbeddedStore, text: &str| {
        let data = serde_json::value::RawValue::from_string(format!("{text:?}")).unwrap();
        let publication = Publication::ToUser { user: user.clone(), event: "e".into(), data };
        store.publish(publication).await.unwrap();
    };
    let texts = async |store: &EmbeddedStore, since: u64| {
        let messages = store.messages_of(&user, Some(since), usize::MAX).await.unwrap().messages;
        let texts: Vec<String> = messages.iter().map(|message| message.data.get().to_owned()).collect();
        (texts, messages.last().map_or(since, |message| message.sequence))
    };
    let store = open(folder.path());
    act(&store).await;
    notify(&store, "kept").await;
    drop(store);
    fs::copy(file_in(folder.path()), backup.path()).unwrap();
    let store = open(folder.path());
    let lost = act(&store).await.at;
    for _ in 0..3 {
        notify(&store, "lost").await;
    }
    // The position of the last event that a socket got, which is also its client's position.
    let (_, cursor) = texts(&store, 0).await;
    store.mark_received(&user, cursor).await.unwrap();
    drop(store);
    fs::copy(backup.path(), file_in(folder.path())).unwrap();

    let store = open(folder.path());
    notify(&store, "new").await;
    assert_eq!(
        texts(&store, cursor).await.0,
        ["\"new\""],
        "a new message has the number of one that the socket has had"
    );
    assert_eq!(texts(&store, 0).await.0, ["\"kept\"", "\"new\""]);
    act(&store).await;
    let read = store.read_log(Topic::Space(space(1)), &lost).await.unwrap();
    assert!(matches!(read, LogRead::Gone(_)), "{read:?}");
}

#[tokio::test]
async fn the_last_hundred_messages_of_a_user_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let user = UserId::new("a").unwrap();
    for n in 0..150 {
        let data = serde_json::value::RawValue::from_string(n.to_string()).unwrap();
        store.publish(Publication::ToUser { user: user.clone(), event: "e".into(), data }).await.unwrap();
    }
    let kept = store.messages_of(&user, Some(0), usize::MAX).await.unwrap().messages;
    let kept: Vec<&str> = kept.iter().map(|message| message.data.get()).collect();
    assert_eq!(kept, (50..150).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_that_is_extended_is_never_missing_and_never_there_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    crate::store_conformance::an_extended_hold_is_always_there([store.clone(), store]).await;
}
