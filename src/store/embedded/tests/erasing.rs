//! Writing the file anew takes longer than the call that erases may wait.

use super::*;
use crate::store::Erasure;

/// Erases a user whole, as `calls::erasure` does.
async fn erase(store: &EmbeddedStore, user: &UserId) {
    let stand_in = store.begin_erasure(user).await.unwrap();
    let erasure = Erasure { user: user.clone(), stand_in };
    for bucket in Bucket::all() {
        store.erase_in(bucket, &erasure).await.unwrap();
    }
    store.end_erasure(user).await.unwrap();
}

/// Which file has the name now, as a number that differs from the number of the file that it replaced.
fn file(folder: &TempDir) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(folder.path().join("slotcast.redb")).unwrap().ino()
}

/// Asks for a rewrite for a user whose call has given up meanwhile.
async fn write_anew_for_nobody(store: &EmbeddedStore, user: &UserId) {
    let gone = store.shared.rewrites.lock().ask(user);
    assert!(gone.is_some(), "it was not done yet");
    drop(gone);
    let deadline = crate::clock::instant() + std::time::Duration::from_secs(60);
    while !store.shared.rewrites.lock().is_done_for(user) {
        assert!(crate::clock::instant() < deadline, "the file is written anew");
        store.write(|_| Ok(())).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_when_nobody_waited_any_more_is_not_done_again_by_the_repeat() {
    let (folder, store) = open_store();
    let anna = user("anna");
    write_anew_for_nobody(&store, &anna).await;
    let written = file(&folder);
    erase(&store, &user("ben")).await;
    let for_another = file(&folder);
    assert_ne!(for_another, written, "of each user");
    erase(&store, &anna).await;
    assert_eq!(file(&folder), for_another, "the repeat is answered at once");
    erase(&store, &anna).await;
    assert_ne!(file(&folder), for_another, "and the call after it is a new one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_there_again_meanwhile_is_erased_again() {
    let (folder, store) = open_store();
    let anna = user("anna");
    write_anew_for_nobody(&store, &anna).await;
    let written = file(&folder);
    let data = RawValue::from_string("{}".into()).unwrap();
    store.publish(Publication::ToUser { user: anna.clone(), event: "news".into(), data }).await.unwrap();
    erase(&store, &anna).await;
    assert_ne!(file(&folder), written, "the old file has the notification");
    let bytes = std::fs::read(folder.path().join("slotcast.redb")).unwrap();
    assert!(!bytes.windows(4).any(|window| window == b"anna"));
}
