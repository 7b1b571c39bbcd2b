//! Subscriptions and connections against real servers: what is heard, and what a node does when it hears no more.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use redis::AsyncCommands;
use slotcast::cli::check_config;
use slotcast::clock;
use slotcast::config::{Config, Needs};
use slotcast::domain::{Bucket, SiteId, SpaceId, SpaceKey};
use slotcast::store::finding::Severity;
use slotcast::store::hub::Watch;
use slotcast::store::redis::checks::{self, Checked};
use slotcast::store::redis::connect::{ANSWER_TIMEOUT, was_not_sent};
use slotcast::store::redis::formats::Formats;
use slotcast::store::redis::positions::Positions;
use slotcast::store::redis::{Commands, Endpoint, RedisSubscriptions};
use slotcast::store::{Message, Signal, Subscriptions, Topic};

use crate::support::redis_server::{Certificates, Cluster, Proxy, RedisServer, Sentinels, free_port, wait_until};

const PREFIX: &str = "test";

/// Longer than anything may take that is waited for here.
const PATIENCE: Duration = Duration::from_secs(20);

/// Within what a call fails that is to take less than a second, on a machine with much else to do.
const IN_TIME: Duration = Duration::from_secs(3);

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
            // All at once they may take a slow machine longer than one of them may take: asked again, as a feed does.
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
        // Subscribed again before the lag is told: what is published from there on arrives.
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
        assert!(clock::instant() - started < IN_TIME);
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
    assert!((Duration::from_millis(900)..IN_TIME * 2).contains(&(clock::instant() - started)));
    let started = clock::instant();
    let failed = redis::cmd("PING").query_async::<()>(&mut node.commands.clone()).await.unwrap_err();
    assert!(clock::instant() - started < IN_TIME, "{failed}");

    redis.restart();
    redis.wait_until_answering();
    await_lag(&mut watch).await;
    node.publish(space(1), 2).await;
    assert_eq!(next_message(&mut watch).await.at.version, 2);
    // The watch that was refused has left nothing behind.
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
    assert!(clock::instant() - started < IN_TIME);
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
    // A hundred topics notice at once; one new connection is enough for all.
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
        // On odd rounds the old one goes first, on even ones the new one takes its place.
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
            // The last ones themselves were dropped, which was said.
            Err(_) if is_said => break,
            Err(_) => panic!("silence after {last}"),
        }
    }
}

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

    // The old one comes back as a replica; nothing of it is heard or done.
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
    // The connection's node ends; the others have taken the subscriptions over.
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
    // The first is the only one that the URL names; keys of all three are used.
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
        // On a machine that stands still for a while, both wait.
        let of_others = tokio::time::timeout(ANSWER_TIMEOUT, of_others);
        let (answer, done): (redis::RedisResult<u64>, _) = tokio::join!(of_frozen, of_others);
        unhindered += u32::from(matches!(done, Ok(Ok(()))));
        assert!(answer.is_err());
        assert!(clock::instant() - started < IN_TIME);
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
    // The key is not there yet, so the owner redirects to the next server.
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

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_by_the_named_certificates_alone() {
    let certificates = Certificates::make();
    let port = free_port();
    let path = |name: &str| certificates.path(name).to_str().unwrap().to_owned();
    let _redis = RedisServer::start_with(
        port,
        &[
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &path("server.pem"),
            "--tls-key-file",
            &path("server.key"),
            "--tls-ca-cert-file",
            &path("ca.pem"),
            "--tls-auth-clients",
            "no",
            "--requirepass",
            "hunter2",
        ],
    );
    wait_until("the server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let url = format!("rediss://:hunter2@127.0.0.1:{port}?ca={}", path("ca.pem"));
    let node = Node::start(&url).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    node.publish(space(1), 1).await;
    assert_eq!(next_message(&mut watch).await.at.version, 1);
    assert_eq!(texts(&node.check(&url).await, Severity::Good).len(), 1);

    // Nobody that the system trusts has signed it.
    let other = Node::connect(&format!("rediss://:hunter2@127.0.0.1:{port}"));
    assert!(other.ping().await.is_err());
    assert!(other.subscriptions.watch(space(1)).await.is_err());
    let missing = Endpoint::parse("rediss://h?ca=/nowhere/ca.pem").unwrap();
    let failure = Commands::start(&missing).err().unwrap();
    assert!(failure.0.contains("/nowhere/ca.pem"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_given_and_a_wrong_one_said() {
    let redis = RedisServer::start(&["--requirepass", "p@ss/word"]);
    let url = format!("redis://:p%40ss%2Fword@127.0.0.1:{}/3", redis.port);
    let node = Node::start(&url).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    node.publish(space(1), 1).await;
    assert_eq!(next_message(&mut watch).await.at.version, 1);

    let findings = checks::check_url(&format!("redis://:hunter2@127.0.0.1:{}", redis.port), PREFIX).await;
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].severity, Severity::Error);
    assert!(findings[0].text.contains("WRONGPASS") && !findings[0].text.contains("hunter2"), "{findings:?}");
    assert!(findings[0].text.contains(&format!("redis://127.0.0.1:{}", redis.port)), "{findings:?}");
    let nobody = checks::check_url(&format!("redis://127.0.0.1:{}", free_port()), PREFIX).await;
    assert!(nobody[0].text.contains("Is it running"), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_redis_gets_one_line() {
    let redis = RedisServer::start(&[]);
    let checked = Node::connect(&redis.url()).check(&redis.url()).await;
    assert_eq!(checked.findings.len(), 1, "{:?}", checked.findings);
    assert!(names_the_server(&checked.findings[0].text), "{:?}", checked.findings);
    assert!(checked.is_fenced && !checked.is_too_old);
    assert_eq!(redis.cli(&["DBSIZE"]).trim(), "0", "the checks leave no key behind");
}

/// Whether a line says what is tested on: Debian's Redis, or another server by its own name.
fn names_the_server(line: &str) -> bool {
    line.contains("is Redis 7.") || line.contains("is Valkey ")
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_asks_the_redis_that_is_set() {
    let redis = RedisServer::start(&["--requirepass", "hunter2", "--appendfsync", "everysec"]);
    let report = async |url: String| {
        let env = BTreeMap::from([("REDIS_URL".to_owned(), url)]);
        let loaded = Config::load(&env, Needs::CHECK);
        let findings = check_config::check_store(&loaded).await;
        let mut out = Vec::new();
        let code =
            check_config::report(&loaded, &findings, check_config::CheckConfigArgs::default(), &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    };
    let (code, text) = report(format!("redis://:hunter2@127.0.0.1:{}", redis.port)).await;
    assert_eq!(code, 0, "{text}");
    let line = text.lines().find(|line| line.starts_with(&format!("ok: 127.0.0.1:{} is ", redis.port)));
    assert!(line.is_some_and(names_the_server), "{text}");
    assert!(text.contains("\nwarning: ") && text.contains("has appendfsync everysec"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");

    let (code, text) = report(format!("redis://:hunter3@127.0.0.1:{}", redis.port)).await;
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("\nerror: redis://127.0.0.1:") && !text.contains("hunter3"), "{text}");

    let (code, text) = report("redis://hunter2@localhost".into()).await;
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("REDIS_URL has a user without a password") && !text.contains("hunter2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_unsafe_setting_has_its_line() {
    let redis = RedisServer::start(&[]);
    let node = Node::start(&redis.url()).await;
    let has = async |severity, words: &str| {
        let found = texts(&node.check(&redis.url()).await, severity);
        assert!(found.iter().any(|text| text.contains(words)), "{words}: {found:?}");
    };
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    has(Severity::Error, "set noeviction").await;
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    redis.cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
    has(Severity::Warning, "set appendfsync always").await;
    redis.cli(&["CONFIG", "SET", "appendfsync", "always"]);
    redis.cli(&["CONFIG", "SET", "appendonly", "no"]);
    has(Severity::Error, "set appendonly yes").await;
    redis.cli(&["CONFIG", "SET", "appendonly", "yes"]);
    let _replica = RedisServer::start(&["--replicaof", "127.0.0.1", &redis.port.to_string()]);
    wait_until("there is a replica", || redis.cli(&["INFO", "replication"]).contains("connected_slaves:1"));
    has(Severity::Warning, "set min-replicas-to-write 1").await;
    redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    wait_until("the replica is in step", || redis.cli(&["INFO", "replication"]).contains("min_slaves_good_slaves:1"));
    assert_eq!(texts(&node.check(&redis.url()).await, Severity::Warning), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_a_user_lacks_are_found_before_the_first_act() {
    let redis = RedisServer::start(&[]);
    let lines = async |rights: &[&str]| {
        let mut command = vec!["ACL", "SETUSER", "anna", "reset", "on", ">secret"];
        command.extend(rights);
        assert_eq!(redis.cli(&command).trim(), "OK");
        let url = format!("redis://anna:secret@127.0.0.1:{}", redis.port);
        Node::connect(&url).check(&url).await
    };
    let all = ["~test:*", "&test:*", "+@all"];
    assert_eq!(lines(&all).await.findings.len(), 1);

    let without = lines(&[&all[..], &["-xadd", "-zscore"]].concat()).await;
    let errors = texts(&without, Severity::Error);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("may not use XADD") && errors[1].contains("may not use ZSCORE"), "{errors:?}");
    assert!(without.is_fenced);

    let without = lines(&[&all[..], &["-info"]].concat()).await;
    assert!(!without.is_fenced);
    assert_eq!(texts(&without, Severity::Error), Vec::<String>::new());
    let warnings = texts(&without, Severity::Warning);
    assert!(warnings.iter().any(|text| text.contains("cannot tell when Redis has lost")), "{warnings:?}");

    let without = lines(&[&all[..], &["-config"]].concat()).await;
    let warnings = texts(&without, Severity::Warning);
    assert!(warnings.len() == 1 && warnings[0].contains("CONFIG is refused"), "{warnings:?}");

    let errors = texts(&lines(&["~other:*", "&test:*", "+@all"]).await, Severity::Error);
    assert!(errors.iter().any(|text| text.contains("may not run scripts on the keys test:*")), "{errors:?}");

    let errors = texts(&lines(&["~test:*", "&test:{b0}:t", "+@all"]).await, Severity::Error);
    assert!(errors.iter().any(|text| text.contains("may not use PUBLISH")), "{errors:?}");
    assert!(errors.iter().any(|text| text.contains("may not subscribe")), "{errors:?}");

    let errors = texts(&lines(&[&all[..], &["-ping"]].concat()).await, Severity::Error);
    assert!(errors.len() == 1 && errors[0].contains("may not use PING"), "{errors:?}");

    let errors = texts(&lines(&[&all[..], &["-evalsha"]].concat()).await, Severity::Error);
    assert!(errors.len() == 1 && errors[0].contains("EVALSHA"), "{errors:?}");
}

/// A node's connections.
struct Node {
    commands: Commands,
    subscriptions: std::sync::Arc<RedisSubscriptions>,
}

impl Node {
    /// Connects, and waits until the subscriptions are up, so that every lag from then on has a cause in the test.
    async fn start(url: &str) -> Self {
        let node = Self::connect(url);
        drop(node.subscriptions.watch(space(1_000_000)).await.unwrap());
        node
    }

    fn connect(url: &str) -> Self {
        let endpoint = Endpoint::parse(url).unwrap();
        let commands = Commands::start(&endpoint).unwrap();
        let subscriptions =
            RedisSubscriptions::connect(&commands, PREFIX, Formats::default(), Positions::default()).unwrap();
        Self { commands, subscriptions: subscriptions.into() }
    }

    /// Publishes once; while there is no connection nothing is sent, and so it is tried again.
    async fn publish(&self, topic: Topic, version: u64) {
        let deadline = clock::instant() + PATIENCE;
        let mut commands = self.commands.clone();
        while let Err(error) = commands.publish::<_, _, ()>(channel(topic), payload(version)).await {
            assert!(was_not_sent(&error) && clock::instant() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ping(&self) -> redis::RedisResult<String> {
        redis::cmd("PING").query_async(&mut self.commands.clone()).await
    }

    async fn check(&self, url: &str) -> Checked {
        checks::check(&self.commands, &Endpoint::parse(url).unwrap(), PREFIX).await.unwrap()
    }
}

fn space(number: u64) -> Topic {
    Topic::Space(SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() })
}

/// As the scripts name it.
fn channel(topic: Topic) -> String {
    match topic {
        Topic::Bucket(bucket) => format!("{PREFIX}:{{b{}}}:t", bucket.get()),
        Topic::Space(space) => format!("{PREFIX}:{{b{}}}:t:{}:{}", space.bucket().get(), space.site, space.space),
    }
}

/// As the scripts write it.
fn payload(version: u64) -> String {
    format!("1\ne\n{version}\nslot_update\n{{\"n\":\"{version}\\n\"}}")
}

/// The next message; a lag before it is passed over.
async fn next_message(watch: &mut Watch) -> Message {
    loop {
        match tokio::time::timeout(PATIENCE, watch.next()).await.expect("a message in time") {
            Signal::Message(message) => return message,
            Signal::Lagged => {}
        }
    }
}

/// Waits until the watch is told of a lag; messages before it are passed over.
async fn await_lag(watch: &mut Watch) {
    while !matches!(tokio::time::timeout(PATIENCE, watch.next()).await.expect("a lag in time"), Signal::Lagged) {}
}

fn subscribers(redis: &RedisServer, topic: Topic) -> u64 {
    let answer = redis.cli(&["PUBSUB", "NUMSUB", &channel(topic)]);
    answer.lines().nth(1).and_then(|count| count.trim().parse().ok()).expect("a number")
}

fn subscriber_ids(redis: &RedisServer) -> HashSet<String> {
    let clients = redis.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    clients.lines().filter_map(|line| line.split(' ').next()).filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

fn texts(checked: &Checked, severity: Severity) -> Vec<String> {
    let found = checked.findings.iter().filter(|finding| finding.severity == severity);
    found.map(|finding| finding.text.clone()).collect()
}
