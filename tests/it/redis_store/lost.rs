//! Lost replies and lost servers.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_whose_reply_was_lost_is_applied_once() {
    let server = RedisServer::start();
    let proxy = LossyProxy::start(server.address()).await;
    let (store, direct) = (store_at(&proxy.url(), "slotcast"), server.store());
    let topic = Topic::Space(space(1));
    store.apply(act(1, &[9], hold("z", MINUTE))).await.unwrap();

    // If a release, an extension or an update were done twice, the version would show it.
    let steps: [(SlotActKind, u64); 6] = [
        (hold("lost", MINUTE), 2),
        (extend("lost", 2 * MINUTE), 2),
        (book("lost"), 2),
        (set(StaffStatus::Blocked), 2),
        (set(StaffStatus::Available), 2),
        (hold("lost", MINUTE), 2),
    ];
    for (kind, events) in steps {
        let before = head(&direct, topic).await;
        proxy.lose_reply_of("\r\n2090-05-05\r\n");
        let outcome = store.apply(act(1, &[1, 2], kind.clone())).await.unwrap();
        assert!(proxy.has_lost_all());
        assert_eq!(head(&direct, topic).await.version, before.version + events, "{kind:?}");
        assert_eq!(outcome.at.version, before.version + events, "{kind:?}");
        if let SlotActKind::Hold { token, .. } = &kind {
            let read = direct.read_day(space(1), day()).await.unwrap();
            let hold = outcome.hold.unwrap();
            assert_eq!(hold.token, *token);
            assert_eq!(read.records[&slot(1).number].live_hold(read.now).unwrap().until, hold.until);
        }
    }
    proxy.lose_reply_of("\r\n2090-05-05\r\n");
    store.apply(act(1, &[1, 2], release("lost"))).await.unwrap();
    let again = store.apply(act(1, &[1, 2], release("lost"))).await;
    assert!(matches!(again, Err(ApplyError::Refused(refusal)) if refusal.code == Code::NotHeld));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_a_message_and_a_sweep_whose_reply_was_lost_happen_once() {
    let server = RedisServer::start();
    let proxy = LossyProxy::start(server.address()).await;
    let (store, direct) = (store_at(&proxy.url(), "slotcast"), server.store());
    store.apply(act(2, &[1], hold("z", MINUTE))).await.unwrap();

    proxy.lose_reply_of("Europe/Rome");
    let change = SpaceChange::new(space(1), Some(ScheduleSpec::default()), None).unwrap();
    let put = store.put_space(change).await.unwrap();
    assert!(proxy.has_lost_all());
    assert_eq!((put.version, head(&direct, Topic::Space(space(1))).await), (1, put.clone()));

    proxy.lose_reply_of("hello");
    let data = serde_json::value::RawValue::from_string("1".into()).unwrap();
    store.publish(Publication::ToUser { user: user("a"), event: "hello".into(), data }).await.unwrap();
    assert!(proxy.has_lost_all());
    assert_eq!(direct.messages_of(&user("a"), None, usize::MAX).await.unwrap().messages.len(), 1);
    assert_eq!(head(&direct, Topic::Bucket(user("a").bucket())).await.version, 1);

    let of_bucket = Topic::Bucket(space(3).bucket());
    let ended = store.apply(act(3, &[1, 2], hold("b", 20))).await.unwrap().hold.unwrap();
    while direct.ping().await.unwrap() <= ended.until {}
    let before = head(&direct, of_bucket).await;
    proxy.lose_reply_of("\r\n2090-05-05\r\n");
    store.sweep(space(3).bucket(), 10).await.unwrap();
    assert!(proxy.has_lost_all());
    assert_eq!(messages(&direct, of_bucket, &before).await.len(), 1);
    assert_eq!(head(&direct, Topic::Space(space(3))).await.version, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_that_starts_after_its_deadline_does_nothing() {
    let server = RedisServer::start();
    let store = server.store();
    store.apply(act(1, &[9], hold("z", MINUTE))).await.unwrap();
    let before = head(&store, Topic::Space(space(1))).await;

    let began = clock::instant();
    server.cli(&["CLIENT", "PAUSE", "4000", "ALL"]);
    let sent = clock::instant();
    let result = store.apply(act(1, &[1], hold("a", MINUTE))).await;
    assert!(is_unavailable(&result), "{result:?}");
    assert!(sent.elapsed() < Duration::from_millis(3_500), "{:?}", sent.elapsed());
    // The act was sent. Redis runs it when the pause ends, which is after its deadline.
    wait_until(|| server.cli(&["PING"]) == "PONG").await;
    assert!(began.elapsed() >= Duration::from_millis(3_500));
    assert_eq!(head(&store, Topic::Space(space(1))).await, before);
    store.apply(act(1, &[1], hold("b", MINUTE))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_acts_fail_within_a_second_and_come_back_by_themselves() {
    let server = RedisServer::start();
    let store = server.store();
    store.apply(act(1, &[1], hold("a", MINUTE))).await.unwrap();
    server.kill();
    for _ in 0..3 {
        let began = clock::instant();
        let result = store.apply(act(1, &[2], hold("b", MINUTE))).await;
        assert!(is_unavailable(&result), "{result:?}");
        assert!(began.elapsed() < in_time(), "{:?}", began.elapsed());
        assert!(store.ping().await.is_err());
    }
    server.restart_with(&[]);
    let began = clock::instant();
    while store.ping().await.is_err() {
        assert!(began.elapsed() < PATIENCE, "it does not come back");
    }
    // Each acknowledged act is there, and no failed act is.
    let read = store.read_day(space(1), day()).await.unwrap();
    assert_eq!(read.records.keys().map(|number| number.get()).collect::<Vec<_>>(), [1]);
    store.apply(act(1, &[2], hold("b", MINUTE))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acts_under_load_survive_a_kill_of_redis() {
    let server = Arc::new(RedisServer::start());
    let store = Arc::new(server.store());
    let (in_all, is_restarted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let tasks: Vec<_> = (1..=8_u64)
        .map(|n| {
            let (store, in_all, is_restarted) = (store.clone(), in_all.clone(), is_restarted.clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut sent, mut since_restart) = (0_u64, 0_u64, 0_u64);
                let began = clock::instant();
                while since_restart < 10 {
                    assert!(began.elapsed() < PATIENCE, "{acknowledged} acknowledged of {sent}");
                    sent += 1;
                    if store.apply(act(n, &[1], set(StaffStatus::Blocked))).await.is_ok() {
                        acknowledged += 1;
                        in_all.fetch_add(1, Ordering::Relaxed);
                        since_restart += u64::from(is_restarted.load(Ordering::Relaxed));
                    }
                }
                (n, acknowledged, sent)
            })
        })
        .collect();
    wait_until(|| in_all.load(Ordering::Relaxed) > 100).await;
    let restarted = server.clone();
    tokio::task::spawn_blocking(move || restarted.restart_with(&[])).await.unwrap();
    is_restarted.store(true, Ordering::Relaxed);
    for task in tasks {
        let (n, acknowledged, sent) = task.await.unwrap();
        let version = head(&store, Topic::Space(space(n))).await.version;
        assert!((acknowledged..=sent).contains(&version), "{acknowledged} acknowledged of {sent}, {version} kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_refuses_acts_and_shows_boards() {
    let server = RedisServer::start();
    let store = server.store();
    store.apply(act(1, &[1], hold("a", MINUTE))).await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let began = clock::instant();
    let refused = store.apply(act(1, &[1], book("a"))).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    assert!(began.elapsed() < in_time(), "{:?}", began.elapsed());
    assert!(store.ping().await.is_err());
    assert_eq!(store.read_day(space(1), day()).await.unwrap().records.len(), 1);
    assert_eq!(store.read_space(space(1)).await.unwrap().taken.len(), 1);
    assert_eq!(head(&store, Topic::Space(space(1))).await.version, 1);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    store.apply(act(1, &[1], book("a"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let server = RedisServer::start();
    let store = server.store();
    for n in 1..=3 {
        assert_eq!(store.apply(act(1, &[n], hold("a", MINUTE))).await.unwrap().at.version, n);
        assert_eq!(server.cli(&["SCRIPT", "FLUSH", "SYNC"]), "OK");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_clock_is_elsewhere_still_acts() {
    let server = RedisServer::start();
    let shifted = |shift| {
        let options = RedisOptions { clock_shift_millis: shift, ..RedisOptions::default() };
        RedisStore::open(&server.url(), "slotcast", options).unwrap()
    };
    let (store, later) = (shifted(0), shifted(2 * MINUTE));
    store.apply(act(1, &[1], hold("a", MINUTE))).await.unwrap();
    let taken = later.apply(act(1, &[1], hold("b", MINUTE))).await.unwrap();
    assert_eq!(taken.at.version, 3);
}

#[test]
fn a_prefix_with_a_brace_is_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    let refused = RedisStore::open("redis://127.0.0.1:1", "a{b}", RedisOptions::default()).err().unwrap();
    assert!(refused.0.contains("brace"), "{refused}");
}
