//! Subscriptions and connections to real servers: what is heard, and what a node does if it hears nothing any more.

mod one_server;
mod many_servers;
mod access;
mod findings;

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

use crate::support::lateness::in_time;
use crate::support::redis_server::{Certificates, Cluster, Proxy, RedisServer, Sentinels, free_port, wait_until};

const PREFIX: &str = "test";

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node's connections.
struct Node {
    commands: Commands,
    subscriptions: std::sync::Arc<RedisSubscriptions>,
}

impl Node {
    /// Connects, and waits until the subscriptions are up. So each later lag has a cause in the test.
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

    /// Publishes one message. If there is no connection, nothing was sent, so it tries again.
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

/// The name of a topic's channel, as the scripts write it.
fn channel(topic: Topic) -> String {
    match topic {
        Topic::Bucket(bucket) => format!("{PREFIX}:{{b{}}}:t", bucket.get()),
        Topic::Space(space) => format!("{PREFIX}:{{b{}}}:t:{}:{}", space.bucket().get(), space.site, space.space),
    }
}

/// A message, as the scripts write it.
fn payload(version: u64) -> String {
    format!("1\ne\n{version}\nslot_update\n{{\"n\":\"{version}\\n\"}}")
}

/// The next message. Skips a lag before it.
async fn next_message(watch: &mut Watch) -> Message {
    loop {
        match tokio::time::timeout(PATIENCE, watch.next()).await.expect("a message in time") {
            Signal::Message(message) => return message,
            Signal::Lagged => {}
        }
    }
}

/// Waits until the watch reports a lag. Skips the messages before it.
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
