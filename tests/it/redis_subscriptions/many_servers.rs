//! Sentinels and Clusters.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_are_followed_to_the_new_primary() {
    let redis = Sentinels::start();
    let node = Node::start(&redis.url()).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    let mut commands = node.commands.clone();
    commands.set::<_, _, ()>("key", "1").await.unwrap();
    let old = redis.primary_port();
    assert_eq!(old, redis.servers[0].port);
    redis.servers[0].kill();
    wait_until("the sentinels name another primary", || redis.primary_port() != old);

    let deadline = clock::instant() + PATIENCE;
    while let Err(error) = commands.set::<_, _, ()>("key", "2").await {
        assert!(clock::instant() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    await_lag(&mut watch).await;
    node.publish(space(1), 9).await;
    assert_eq!(next_message(&mut watch).await.at.version, 9);
    assert_eq!(subscribers(&redis.servers[1], space(1)), 1);

    // The old primary comes back as a replica. The node neither listens to it nor sends it acts.
    redis.servers[0].restart();
    wait_until("the old primary is a replica", || {
        redis.servers[0].cli(&["INFO", "replication"]).contains("role:slave")
    });
    commands.set::<_, _, ()>("key", "3").await.unwrap();
    assert_eq!(subscribers(&redis.servers[0], space(1)), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_of_a_cluster_brings_the_messages_of_all() {
    let redis = Cluster::start();
    let node = Node::start(&redis.url()).await;
    let mut watches = Vec::new();
    for number in 1..=30 {
        watches.push(node.subscriptions.watch(space(number)).await.unwrap());
    }
    watches_hear(&node, &mut watches).await;
    // The server closes the connection of the subscriptions, and the node subscribes at another server.
    let used = redis.servers.iter().find(|server| !subscriber_ids(server).is_empty()).unwrap();
    used.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    for watch in &mut watches {
        await_lag(watch).await;
    }
    watches_hear(&node, &mut watches).await;
    let checked = node.check(&redis.url()).await;
    assert!(checked.is_fenced);
    assert_eq!(texts(&checked, Severity::Good).len(), 3);
    assert_eq!(texts(&checked, Severity::Error), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_nodes_die_in_turn_is_used_again() {
    let redis = Cluster::start();
    let node = Node::start(&redis.url()).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    let mut commands = node.commands.clone();
    // The URL names only the first server. Keys of all three are used.
    for killed in &redis.servers {
        let had_subscriptions = !subscriber_ids(killed).is_empty();
        killed.kill();
        if had_subscriptions {
            await_lag(&mut watch).await;
        }
        killed.restart();
        killed.wait_until_answering();
        for server in &redis.servers {
            wait_until("the cluster is well", || server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
        }
        let deadline = clock::instant() + PATIENCE;
        for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            while let Err(error) = commands.incr::<_, _, u64>(key, 1).await {
                assert!(clock::instant() < deadline, "{key}: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        node.publish(space(1), u64::from(killed.port)).await;
        assert_eq!(next_message(&mut watch).await.at.version, u64::from(killed.port));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_node_of_a_cluster_does_not_stop_the_others() {
    let redis = Cluster::start();
    let node = Node::start(&redis.url()).await;
    let mut commands = node.commands.clone();
    let frozen = &redis.servers[1];
    let is_theirs = |server: &RedisServer, key: &str| !server.cli(&["GET", key]).contains("MOVED");
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let (its, others): (Vec<&str>, Vec<&str>) = keys.into_iter().partition(|key| is_theirs(frozen, key));
    assert!(!its.is_empty() && !others.is_empty());
    frozen.freeze();
    let frozen_since = clock::instant();
    let (mut rounds, mut unhindered) = (0, 0);
    while clock::instant() - frozen_since < Duration::from_secs(8) {
        let started = clock::instant();
        let mut of_frozen = commands.clone();
        let of_frozen = of_frozen.incr::<_, _, u64>(its[0], 1);
        let of_others = async {
            for key in &others {
                commands.incr::<_, _, u64>(*key, 1).await?;
            }
            redis::RedisResult::Ok(())
        };
        rounds += 1;
        // If the whole machine stands still for a while, both calls wait.
        let of_others = tokio::time::timeout(ANSWER_TIMEOUT, of_others);
        let (answer, done): (redis::RedisResult<u64>, _) = tokio::join!(of_frozen, of_others);
        unhindered += u32::from(matches!(done, Ok(Ok(()))));
        assert!(answer.is_err());
        assert!(clock::instant() - started < in_time());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        unhindered * 2 > rounds,
        "the others waited for the frozen node in all but {unhindered} of {rounds} rounds"
    );
    frozen.thaw();
    let deadline = clock::instant() + PATIENCE;
    while let Err(error) = commands.incr::<_, _, u64>(its[0], 1).await {
        assert!(clock::instant() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn watches_hear(node: &Node, watches: &mut [Watch]) {
    for (index, watch) in watches.iter_mut().enumerate() {
        let number = index as u64 + 1;
        node.publish(space(number), number).await;
        assert_eq!(next_message(watch).await.at.version, number);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_follows_a_slot_that_moves() {
    let redis = Cluster::start();
    let node = Node::start(&redis.url()).await;
    let mut commands = node.commands.clone();
    commands.set::<_, _, ()>("{moving}:1", "a").await.unwrap();
    let slot = redis.servers[0].cli(&["CLUSTER", "KEYSLOT", "{moving}"]).trim().to_owned();
    let ids: Vec<String> =
        redis.servers.iter().map(|server| server.cli(&["CLUSTER", "MYID"]).trim().to_owned()).collect();
    let owner = redis.servers.iter().position(|server| server.cli(&["GET", "{moving}:1"]).trim() == "a").unwrap();
    let (from, to) = (&redis.servers[owner], &redis.servers[(owner + 1) % 3]);
    let (from_id, to_id) = (&ids[owner], &ids[(owner + 1) % 3]);
    to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", from_id]);
    from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", to_id]);
    // This key is not there yet, so the owner of the slot redirects to the next server.
    commands.set::<_, _, ()>("{moving}:2", "b").await.unwrap();
    assert_eq!(commands.get::<_, String>("{moving}:1").await.unwrap(), "a");
    assert_eq!(commands.get::<_, String>("{moving}:2").await.unwrap(), "b");
    from.cli(&["MIGRATE", "127.0.0.1", &to.port.to_string(), "{moving}:1", "0", "1000"]);
    assert_eq!(commands.get::<_, String>("{moving}:1").await.unwrap(), "a");
    for server in [to, from] {
        server.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", to_id]);
    }
    for _ in 0..20 {
        assert_eq!(commands.get::<_, String>("{moving}:1").await.unwrap(), "a");
    }
}
