//! How a node hears the store's announcements: one subscription for each watched topic, on one connection to the
//! primary. On a cluster any node will do, because all nodes hear every published message.
//!
//! One task owns the connection and follows the [`Hub`]: it subscribes to topics that are watched there, and unsubscribes
//! from others, in the order in which that changes. It pings the connection. If the connection ends, is silent, or no
//! longer brings a topic's messages, the task replaces it and subscribes anew to all watched topics. Only then does every
//! watcher hear [`Signal::Lagged`](crate::store::Signal::Lagged).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fred::types::Message as Delivered;
use fred::types::config::TlsConfig;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::connect::{Aim, Commands, Connector, Target, changed};
use super::emitter;
use super::endpoint::Node;
use super::formats::{self, Formats};
use super::keys::{channel, channel_prefix, parse_message, topic_of_channel};
use super::link::{self, Link, config_of, tls_of};
use super::positions::Positions;
use crate::store::hub::{Hub, Watch};
use crate::store::{ForeignMessage, StoreError, Subscriptions, Topic};

/// How long a new watch waits for its subscription.
const WATCH_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the connection is pinged. After that long without an answer, it counts as lost.
const PING_EVERY: Duration = Duration::from_secs(2);

/// How long it may take to find a node and connect to it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The pause after the first failed attempt to connect. It doubles with each failure.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// The longest wait between two attempts.
const LAST_RETRY: Duration = Duration::from_millis(500);

/// How long a lag may stay untold while messages come too fast.
const LAG_DELAY: Duration = Duration::from_millis(250);

/// How many requests are served with one command.
const BATCH: usize = 1_024;

/// The subscriptions of a node, kept up in the background until this is dropped.
pub struct RedisSubscriptions {
    hub: Hub,
    wishes: mpsc::UnboundedSender<Wish>,
    /// The number of the present connection.
    link_number: Arc<AtomicU64>,
    /// The messages of other programs' emitters, until somebody takes the receiver; `None` if they are not heard.
    foreign: Mutex<Option<mpsc::Receiver<ForeignMessage>>>,
}

/// A request to the task.
enum Wish {
    /// Asks for a topic's subscription, and for an answer once it is there. The hub watches the topic already.
    Subscribe(Topic, oneshot::Sender<()>),
    /// Replaces the connection with this number, unless it has been replaced.
    Renew(Topic, u64),
}

impl RedisSubscriptions {
    /// Starts to connect to the servers that take commands, in a task of the current runtime. `prefix` is the beginning of
    /// all channels' names. `formats` and `positions` are those of the store.
    ///
    /// # Errors
    ///
    /// The file of certificates cannot be used.
    pub fn connect(
        commands: &Commands,
        prefix: &str,
        formats: Formats,
        positions: Positions,
    ) -> Result<Self, StoreError> {
        let (unwatched, unwatched_receiver) = mpsc::unbounded_channel();
        let (wishes, wish_receiver) = mpsc::unbounded_channel();
        let (hub, link_number) = (Hub::telling_unwatched(unwatched), Arc::new(AtomicU64::new(0)));
        let task = Task {
            hub: hub.clone(),
            nodes: Nodes::of(commands, tls_of(&commands.connector().endpoint)?),
            names: Names::new(prefix, commands.connector().endpoint.database, formats),
            positions,
            wishes: wish_receiver,
            unwatched: unwatched_receiver,
            link_number: link_number.clone(),
            waiting: Vec::new(),
            subscribed: HashSet::new(),
        };
        tokio::spawn(task.run());
        Ok(Self { hub, wishes, link_number, foreign: Mutex::default() })
    }

    /// Also hears the emitters of other programs, until this is dropped.
    ///
    /// # Errors
    ///
    /// The file of certificates cannot be used.
    pub fn with_emitters(self, commands: &Commands) -> Result<Self, StoreError> {
        let foreign = Mutex::new(Some(emitter::hear_emitters(commands)?));
        Ok(Self { foreign, ..self })
    }
}

#[async_trait]
impl Subscriptions for RedisSubscriptions {
    /// Waits at most a second. A granted watch lasts through any outage.
    async fn watch(&self, topic: Topic) -> Result<Watch, StoreError> {
        // The hub watches the topic before the request is sent, so the task sees the watch when it sees the request.
        let watch = self.hub.watch(topic);
        let (done, subscribed) = oneshot::channel();
        // The send cannot fail: the task ends only when this is dropped.
        let _ = self.wishes.send(Wish::Subscribe(topic, done));
        match tokio::time::timeout(WATCH_TIMEOUT, subscribed).await {
            Ok(Ok(())) => Ok(watch),
            _ => Err(StoreError("cannot subscribe in Redis: no connection within a second".into())),
        }
    }

    fn foreign_messages(&self) -> Option<mpsc::Receiver<ForeignMessage>> {
        self.foreign.lock().take()
    }

    async fn renew(&self, topic: Topic) {
        // The send cannot fail, for the same reason.
        let _ = self.wishes.send(Wish::Renew(topic, self.link_number.load(Ordering::Acquire)));
    }
}

struct Task {
    hub: Hub,
    positions: Positions,
    nodes: Nodes,
    names: Names,
    wishes: mpsc::UnboundedReceiver<Wish>,
    unwatched: mpsc::UnboundedReceiver<Topic>,
    link_number: Arc<AtomicU64>,
    /// The callers whose subscriptions are not confirmed yet.
    waiting: Vec<(Topic, oneshot::Sender<()>)>,
    /// The topics that the present connection is subscribed to.
    subscribed: HashSet<Topic>,
}

/// Why a connection is given up.
enum End {
    Lost(String),
    /// Nobody listens any more.
    Unneeded,
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        End::Lost(error.0)
    }
}

impl Task {
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            match self.open().await {
                Ok((mut link, reader)) => {
                    tracing::debug!(node = ?self.nodes.last, "the subscription connection is open");
                    let end = self.serve(&mut link, &mut retry).await;
                    reader.abort();
                    match end {
                        End::Lost(reason) => {
                            tracing::warn!(reason, "the subscription connection is lost; connecting again")
                        }
                        End::Unneeded => return,
                    }
                }
                Err(error) if retry == FIRST_RETRY => {
                    tracing::warn!(%error, "cannot open the subscription connection; will try again");
                }
                Err(_) => {}
            }
            if self.wishes.is_closed() {
                return;
            }
            tokio::time::sleep(retry.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// Connects, and starts to pass on what it receives.
    async fn open(&mut self) -> Result<(Link, JoinHandle<()>), StoreError> {
        let opening = async {
            let (node, address) = self.nodes.pick().await?;
            let config = config_of(&self.nodes.connector.endpoint, &node, address, self.nodes.tls.clone());
            let opened =
                Link::open(config, link::CAPACITY).await.map_err(|error| StoreError::new(&node.to_string(), error));
            if let Ok((link, _)) = &opened {
                self.nodes.learn(link).await?;
            }
            opened
        };
        let (link, messages) = match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
            Ok(opened) => opened?,
            Err(_) => return Err(StoreError("no answer".into())),
        };
        let reader = tokio::spawn(hand_on(
            messages,
            link.received.clone(),
            self.hub.clone(),
            self.names.clone(),
            self.positions.clone(),
        ));
        Ok((link, reader))
    }

    /// Uses a connection as long as it works.
    async fn serve(&mut self, link: &mut Link, retry: &mut Duration) -> End {
        if let Err(end) = self.subscribe_all(link).await {
            return end;
        }
        *retry = FIRST_RETRY;
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut wishes, mut unwatched) = (Vec::new(), Vec::new());
        loop {
            let done = tokio::select! {
                reason = link.closed() => return End::Lost(reason),
                count = self.wishes.recv_many(&mut wishes, BATCH) => match count {
                    0 => return End::Unneeded,
                    _ => self.grant(link, wishes.drain(..)).await,
                },
                _ = self.unwatched.recv_many(&mut unwatched, BATCH) => self.unsubscribe(link, &mut unwatched).await,
                () = self.nodes.moved() => return End::Lost("the server to listen to has changed".into()),
                _ = ping.tick() => link.ping().await.map_err(End::from),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Subscribes to all watched topics, and then tells the watchers that messages may have been missed.
    async fn subscribe_all(&mut self, link: &Link) -> Result<(), End> {
        self.subscribed.clear();
        let topics = self.hub.topics();
        link.subscribe(&self.channels(&topics)).await?;
        self.subscribed.extend(topics);
        // From here on, a request to renew means this connection.
        if self.link_number.fetch_add(1, Ordering::AcqRel) > 0 {
            self.hub.lag_all();
        }
        self.answer_waiting();
        Ok(())
    }

    async fn grant(&mut self, link: &Link, wishes: impl Iterator<Item = Wish>) -> Result<(), End> {
        let mut renewal = None;
        for wish in wishes {
            match wish {
                Wish::Subscribe(topic, done) => self.waiting.push((topic, done)),
                Wish::Renew(topic, number) if number == self.link_number.load(Ordering::Acquire) => {
                    renewal = Some(topic)
                }
                Wish::Renew(..) => {}
            }
        }
        if let Some(topic) = renewal {
            return Err(End::Lost(format!("the connection brought no message of {topic:?}")));
        }
        // Callers that gave up during the outage no longer watch, and nothing else would remove their requests.
        self.waiting.retain(|(topic, _)| self.hub.is_watched(*topic));
        let wanted: HashSet<Topic> = self.waiting.iter().map(|(topic, _)| *topic).collect();
        let new: Vec<Topic> = wanted.difference(&self.subscribed).copied().collect();
        if !new.is_empty() {
            link.subscribe(&self.channels(&new)).await?;
            self.subscribed.extend(new);
        }
        self.answer_waiting();
        Ok(())
    }

    /// Ends the subscriptions to topics that nobody watches. If a topic is watched again meanwhile, either this sees it, or
    /// the new request comes after this.
    async fn unsubscribe(&mut self, link: &Link, unwatched: &mut Vec<Topic>) -> Result<(), End> {
        let is_unneeded = |topic: &Topic| !self.hub.is_watched(*topic) && self.subscribed.contains(topic);
        let topics: HashSet<Topic> = unwatched.drain(..).filter(is_unneeded).collect();
        if topics.is_empty() {
            return Ok(());
        }
        let topics: Vec<Topic> = topics.into_iter().collect();
        topics.iter().for_each(|topic| {
            self.subscribed.remove(topic);
        });
        Ok(link.unsubscribe(&self.channels(&topics)).await?)
    }

    fn channels(&self, topics: &[Topic]) -> Vec<String> {
        topics.iter().flat_map(|topic| self.names.of(*topic)).collect()
    }

    fn answer_waiting(&mut self) {
        for (topic, done) in std::mem::take(&mut self.waiting) {
            if self.subscribed.contains(&topic) {
                // A caller that has given up does not listen.
                let _ = done.send(());
            } else {
                self.waiting.push((topic, done));
            }
        }
        self.waiting.retain(|(_, done)| !done.is_closed());
    }
}

/// Passes the messages of one connection on to the watchers of their topics. If messages were dropped because they came too
/// fast, the watchers are told after the rest was passed on: if they were told at once, reading the logs would slow this
/// down further.
async fn hand_on(
    mut messages: broadcast::Receiver<Delivered>,
    received: Arc<AtomicU64>,
    hub: Hub,
    names: Names,
    positions: Positions,
) {
    let mut missed_since: Option<Instant> = None;
    loop {
        if missed_since.is_some_and(|since| messages.is_empty() || since.elapsed() >= LAG_DELAY) {
            missed_since = None;
            hub.lag_all();
        }
        match messages.recv().await {
            Ok(message) => {
                received.fetch_add(1, Ordering::Relaxed);
                announce(&message, &hub, &names, &positions);
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                if missed_since.is_none() {
                    tracing::warn!(missed, "too many messages at once: the logs will be read instead");
                    missed_since = Some(Instant::now());
                }
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn announce(delivered: &Delivered, hub: &Hub, names: &Names, positions: &Positions) {
    let Some(bytes) = delivered.value.as_bytes() else { return };
    // The checks at start publish empty messages to see whether they may publish.
    if bytes.is_empty() {
        return;
    }
    if names.is_of_another_database(&delivered.channel, bytes) {
        return;
    }
    match (names.topic(&delivered.channel), parse_message(bytes)) {
        (Some(topic), Some(message)) => {
            positions.learn(topic, &message.at);
            hub.announce(topic, message);
        }
        _ => tracing::error!(channel = %delivered.channel, "not a message of slotcast"),
    }
}

/// The names of the channels that a node listens to.
///
/// In a database other than 0, the channels' names differ from those of 0.1. While a bucket has format 1, the node listens
/// to both names. The old name is also that of database 0.
#[derive(Clone)]
struct Names {
    prefix: Arc<str>,
    /// `None` in database 0.
    old_prefix: Option<Arc<str>>,
    formats: Formats,
}

impl Names {
    fn new(prefix: &str, database: u8, formats: Formats) -> Self {
        let old_prefix = (database > 0).then(|| prefix.into());
        Self { prefix: channel_prefix(prefix, database).into(), old_prefix, formats }
    }

    fn of(&self, topic: Topic) -> impl Iterator<Item = String> {
        let hears_old = self.formats.of(topic.bucket()) != Some(formats::NEWEST);
        let old = self.old_prefix.as_ref().filter(|_| hears_old).map(|prefix| channel(prefix, topic));
        std::iter::once(channel(&self.prefix, topic)).chain(old)
    }

    fn topic(&self, channel: &str) -> Option<Topic> {
        let old = || topic_of_channel(self.old_prefix.as_ref()?, channel);
        topic_of_channel(&self.prefix, channel).or_else(old)
    }

    /// Whether a message under the old name cannot be of this database, because its bucket has format 2 and does not use
    /// that name.
    fn is_of_another_database(&self, channel: &str, message: &[u8]) -> bool {
        let Some(topic) = self.old_prefix.as_ref().and_then(|prefix| topic_of_channel(prefix, channel)) else {
            return false;
        };
        !message.starts_with(b"1\n") || self.formats.of(topic.bucket()) == Some(formats::NEWEST)
    }
}

/// Finds the node to connect to.
pub(super) struct Nodes {
    pub(super) connector: Arc<Connector>,
    pub(super) tls: Option<TlsConfig>,
    /// `None` on a cluster.
    aim: Option<watch::Receiver<Aim>>,
    /// The cluster's primaries, as last told.
    known: Vec<Node>,
    last: Option<(Node, Option<SocketAddr>)>,
    /// How many times a node was picked. Each time another of its addresses is used, because one of them may be silent.
    picked: usize,
}

impl Nodes {
    /// The nodes to which commands go.
    pub(super) fn of(commands: &Commands, tls: Option<TlsConfig>) -> Self {
        Self { tls, connector: commands.connector(), aim: commands.aim(), known: Vec::new(), last: None, picked: 0 }
    }

    /// A node, with its address if its name was looked up.
    pub(super) async fn pick(&mut self) -> Result<(Node, Option<SocketAddr>), StoreError> {
        let picked = match &mut self.aim {
            None => (self.pick_any()?, None),
            Some(aim) => {
                // The sender lives as long as the process.
                let told = aim.wait_for(|aim| matches!(aim, Aim::At(_))).await;
                match told.as_deref() {
                    Ok(Aim::At(Target { node, addresses })) => {
                        (node.clone(), addresses.iter().cycle().nth(self.picked % addresses.len().max(1)).copied())
                    }
                    _ => return Err(StoreError("no server or sentinel says which server is the primary".into())),
                }
            }
        };
        self.picked += 1;
        self.last = Some(picked.clone());
        Ok(picked)
    }

    /// Resolves once the present connection leads to the wrong server.
    pub(super) async fn moved(&mut self) {
        let (Some(aim), Some((node, address))) = (&mut self.aim, &self.last) else {
            return std::future::pending().await;
        };
        loop {
            if matches!(&*aim.borrow_and_update(), Aim::At(target) if !target.is_at(node, *address)) {
                return;
            }
            changed(aim).await;
        }
    }

    /// A random node, but not the last one, which may be cut off.
    fn pick_any(&self) -> Result<Node, StoreError> {
        let mut nodes: Vec<&Node> = self.known.iter().chain(&self.connector.endpoint.nodes).collect();
        let last = self.last.as_ref().map(|(node, _)| node);
        if nodes.iter().any(|node| Some(*node) != last) {
            nodes.retain(|node| Some(*node) != last);
        }
        fastrand::choice(nodes).cloned().ok_or_else(|| StoreError("REDIS_URL names no host".into()))
    }

    /// Remembers the cluster's nodes, so that the cluster is found without the nodes that REDIS_URL names.
    pub(super) async fn learn(&mut self, link: &Link) -> Result<(), StoreError> {
        if self.aim.is_none() {
            let mut known = link.primaries().await?;
            known.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
            known.dedup();
            self.known = known;
        }
        Ok(())
    }
}
