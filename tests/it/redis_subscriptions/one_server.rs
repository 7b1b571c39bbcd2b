//! Subscriptions to one Redis server that dies, freezes or falls silent.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_in_order() {
    let redis = RedisServer::start(&[]);
    let node = Node::start(&redis.url()).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    let mut bucket = node.subscriptions.watch(Topic::Bucket(Bucket::EVERYONE)).await.unwrap();
    for version in 1..=500 {
        node.publish(space(1), version).await;
        node.publish(space(2), version).await;
    }
    node.publish(Topic::Bucket(Bucket::EVERYONE), 7).await;
    for version in 1..=500 {
        let message = next_message(&mut watch).await;
        assert_eq!((message.at.version, &*message.at.epoch), (version, "e"));
        assert_eq!(message.payload.get(), format!("{{\"n\":\"{version}\\n\"}}"));
    }
    assert_eq!(next_message(&mut bucket).await.at.version, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_topics_are_watched_on_one_connection() {
    let redis = RedisServer::start(&[]);
    let node = Node::start(&redis.url()).await;
    let started = clock::instant();
    let asked: Vec<_> = (1..=10_000)
        .map(|number| {
            let subscriptions = node.subscriptions.clone();
            // On a slow machine the 10,000 requests may together take longer than one may take. So a request is made
            // again, as the feed does.
            tokio::spawn(async move {
                let deadline = clock::instant() + PATIENCE;
                loop {
                    match subscriptions.watch(space(number)).await {
                        Ok(watch) => return watch,
                        Err(error) => assert!(clock::instant() < deadline, "{error}"),
                    }
                }
            })
        })
        .collect();
    let mut watches = Vec::new();
    for watch in asked {
        watches.push(watch.await.unwrap());
    }
    println!("10,000 topics watched after {:?}", clock::instant() - started);
    assert_eq!(subscriber_ids(&redis).len(), 1);
    for number in [1, 5_000, 10_000] {
        node.publish(space(number), number).await;
        assert_eq!(next_message(&mut watches[number as usize - 1]).await.at.version, number);
    }
    redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    for watch in &mut watches {
        await_lag(watch).await;
    }
    node.publish(space(9_999), 3).await;
    assert_eq!(next_message(&mut watches[9_998]).await.at.version, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_subscription_is_made_anew_and_then_said() {
    let redis = RedisServer::start(&[]);
    let node = Node::start(&redis.url()).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    for round in 1..=5 {
        assert_eq!(redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).trim(), "1");
        await_lag(&mut watch).await;
        // The node has subscribed again before it reports the lag. So every later message arrives.
        node.publish(space(1), round).await;
        assert_eq!(next_message(&mut watch).await.at.version, round);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_is_an_outage_that_ends() {
    let redis = RedisServer::start(&[]);
    let node = Node::start(&redis.url()).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    redis.freeze();
    for _ in 0..6 {
        let started = clock::instant();
        assert!(node.ping().await.is_err());
        assert!(clock::instant() - started < in_time());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    redis.thaw();
    let deadline = clock::instant() + PATIENCE;
    while let Err(error) = node.ping().await {
        assert!(clock::instant() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    await_lag(&mut watch).await;
    node.publish(space(1), 1).await;
    assert_eq!(next_message(&mut watch).await.at.version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_and_commands_outlast_a_killed_redis() {
    let redis = RedisServer::start(&[]);
    let node = Node::start(&redis.url()).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    node.publish(space(1), 1).await;
    assert_eq!(next_message(&mut watch).await.at.version, 1);
    redis.kill();

    let started = clock::instant();
    assert!(node.subscriptions.watch(space(2)).await.is_err());
    assert!((Duration::from_millis(900)..in_time() * 2).contains(&(clock::instant() - started)));
    let started = clock::instant();
    let failed = redis::cmd("PING").query_async::<()>(&mut node.commands.clone()).await.unwrap_err();
    assert!(clock::instant() - started < in_time(), "{failed}");

    redis.restart();
    redis.wait_until_answering();
    await_lag(&mut watch).await;
    node.publish(space(1), 2).await;
    assert_eq!(next_message(&mut watch).await.at.version, 2);
    // The refused watch has left no subscription behind.
    assert_eq!(subscribers(&redis, space(2)), 0);
    node.subscriptions.watch(space(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_replaced() {
    let redis = RedisServer::start(&[]);
    let proxy = Proxy::start(redis.port).await;
    let node = Node::start(&format!("redis://{}", proxy.address)).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    node.ping().await.unwrap();
    proxy.silence();

    let started = clock::instant();
    let failed = node.ping().await.unwrap_err();
    assert!(failed.is_timeout(), "{failed}");
    assert!(clock::instant() - started < in_time());
    await_lag(&mut watch).await;
    println!("a silent subscription was replaced after {:?}", clock::instant() - started);
    assert!(clock::instant() - started < PATIENCE);
    node.publish(space(1), 5).await;
    assert_eq!(next_message(&mut watch).await.at.version, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_brings_nothing_gets_a_new_connection() {
    let redis = RedisServer::start(&[]);
    let node = Node::start(&redis.url()).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    let before = subscriber_ids(&redis);
    // A hundred topics ask for a new connection at once. One new connection is enough for all.
    for _ in 0..100 {
        node.subscriptions.renew(space(1)).await;
    }
    await_lag(&mut watch).await;
    node.publish(space(1), 1).await;
    assert_eq!(next_message(&mut watch).await.at.version, 1);
    let after = subscriber_ids(&redis);
    assert_eq!(after.len(), 1);
    assert!(after.is_disjoint(&before), "{before:?} {after:?}");
    assert!(tokio::time::timeout(Duration::from_millis(500), watch.next()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_watch_unsubscribes() {
    let redis = RedisServer::start(&[]);
    let node = Node::start(&redis.url()).await;
    let kept = node.subscriptions.watch(space(1)).await.unwrap();
    let dropped = node.subscriptions.watch(space(2)).await.unwrap();
    assert_eq!((subscribers(&redis, space(1)), subscribers(&redis, space(2))), (1, 1));
    drop(dropped);
    wait_until("the channel is left", || subscribers(&redis, space(2)) == 0);
    assert_eq!(subscribers(&redis, space(1)), 1);
    drop(kept);
    wait_until("the channel is left", || subscribers(&redis, space(1)) == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_left_and_watched_again_loses_nothing() {
    let redis = RedisServer::start(&[]);
    let node = Node::start(&redis.url()).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    for version in 1..=300 {
        // On odd rounds the old watch ends first. On even rounds the new watch replaces the old one.
        if version % 2 == 0 {
            watch = node.subscriptions.watch(space(1)).await.unwrap();
        } else {
            drop(watch);
            if version % 3 == 0 {
                tokio::task::yield_now().await;
            }
            watch = node.subscriptions.watch(space(1)).await.unwrap();
        }
        node.publish(space(1), version).await;
        assert_eq!(next_message(&mut watch).await.at.version, version);
    }
    drop(watch);
    wait_until("the channel is left", || subscribers(&redis, space(1)) == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_heard_or_said_to_be_missed() {
    let redis = RedisServer::start(&[]);
    let node = Node::start(&redis.url()).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    let mut flood = redis::pipe();
    for version in 1..=5_000_u64 {
        flood.publish(channel(space(1)), payload(version)).ignore();
    }
    flood.query_async::<()>(&mut node.commands.clone()).await.unwrap();
    node.publish(space(1), 5_001).await;
    let (mut last, mut is_said) = (0, false);
    while last < 5_001 {
        match tokio::time::timeout(PATIENCE, watch.next()).await {
            Ok(Signal::Message(message)) => {
                assert!(message.at.version == last + 1 || is_said, "{last} {}", message.at.version);
                last = message.at.version;
            }
            Ok(Signal::Lagged) => is_said = true,
            // The last messages were dropped, and the lag was reported.
            Err(_) if is_said => break,
            Err(_) => panic!("silence after {last}"),
        }
    }
}
