//! A writer that is held up.

use super::*;

/// Work that holds up the writer until the sender is dropped. The receiver hears when the work has begun.
fn gate() -> (
    mpsc::Sender<()>,
    tokio::sync::oneshot::Receiver<()>,
    impl FnOnce(&mut Batch<'_>) -> Result<(), Failure> + Send + 'static,
) {
    let (open, opened) = mpsc::channel::<()>();
    let (enter, entered) = tokio::sync::oneshot::channel();
    let work = move |_: &mut Batch<'_>| {
        let _ = enter.send(());
        let _ = opened.recv();
        Ok(())
    };
    (open, entered, work)
}

#[tokio::test]
async fn what_waited_too_long_is_never_done() {
    let (_folder, store) = open_store();
    let (open, entered, wait) = gate();
    let behind = async {
        entered.await.unwrap();
        tokio::join!(store.apply(block(&store)), async {
            tokio::time::sleep(START_WITHIN + Duration::from_millis(50)).await;
            drop(open);
        })
        .0
    };
    let (held_up, late) = tokio::join!(store.write(wait), behind);
    held_up.unwrap();
    assert!(matches!(late, Err(ApplyError::Store(_))), "{late:?}");
    assert_eq!(head(&store).await.version, 0);
    assert_eq!(store.apply(block(&store)).await.unwrap().at.version, 1);
}

#[tokio::test]
async fn what_waits_behind_a_slow_job_of_its_own_batch_is_late_too() {
    let (_folder, store) = open_store();
    let (open, entered, wait) = gate();
    let slow = store.write(|_| {
        std::thread::sleep(START_WITHIN + Duration::from_millis(50));
        Ok(())
    });
    let behind = async {
        entered.await.unwrap();
        tokio::join!(slow, store.apply(block(&store)), async { drop(open) })
    };
    let (held_up, (slow, late, ())) = tokio::join!(store.write(wait), behind);
    held_up.unwrap();
    slow.unwrap();
    assert!(matches!(late, Err(ApplyError::Store(_))), "{late:?}");
    assert_eq!(head(&store).await.version, 0);
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_nothing() {
    let (_folder, store) = open_store();
    let (open, entered, wait) = gate();
    let behind = async {
        entered.await.unwrap();
        let impatient = tokio::time::timeout(Duration::from_millis(20), store.apply(block(&store))).await;
        drop(open);
        impatient
    };
    let (held_up, gone) = tokio::join!(store.write(wait), behind);
    held_up.unwrap();
    assert!(gone.is_err());
    // The act was queued, so it is done.
    assert_eq!(store.apply(block(&store)).await.unwrap().at.version, 2);
}

#[tokio::test]
async fn a_panic_undoes_its_batch_and_nothing_else() {
    let (_folder, store) = open_store();
    store.apply(block(&store)).await.unwrap();
    let mut watch = store.watch(Topic::Space(space(1))).await.unwrap();
    let commits = store.commit_count();
    let (open, entered, wait) = gate();
    let panics = store.write(|batch| -> Result<(), Failure> {
        batch.append(Topic::Space(space(1)), crate::store::MessageKind::SpaceChanged, |_| "null".into())?;
        panic!("on purpose");
    });
    // Acts that are queued while the writer is held up are one batch.
    let behind = async {
        entered.await.unwrap();
        tokio::join!(store.apply(block(&store)), panics, store.apply(block(&store)), async { drop(open) })
    };
    let (held_up, (before, panicked, after, ())) = tokio::join!(store.write(wait), behind);
    held_up.unwrap();
    assert!(panicked.is_err());
    assert!(matches!(before, Err(ApplyError::Store(_))), "{before:?}");
    assert!(matches!(after, Err(ApplyError::Store(_))), "{after:?}");
    assert_eq!((head(&store).await.version, store.commit_count()), (1, commits));

    assert_eq!(store.apply(block(&store)).await.unwrap().at.version, 2);
    match watch.next().await {
        Signal::Message(message) => assert_eq!(message.at.version, 2),
        Signal::Lagged => panic!("lagged"),
    }
}
