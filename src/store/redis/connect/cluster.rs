//! The connections to a cluster, one to each primary. Each is kept up by itself, so a failed server concerns only the
//! callers who need its slots.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::aim::{Aim, Target};
use super::connector::Connector;
use super::keeper::{Judge, Keeper};
use super::line::{Line, Server};
use super::not_connected;
use super::slots::{SLOTS, View, owners};
use crate::store::redis::endpoint::Node;

/// How often the servers are asked for their slots while all is well. A redirection tells of a move at once.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// How often the servers are asked while one of them cannot be reached, or while a slot has no owner.
const ASK_OFTEN: Duration = Duration::from_millis(100);

/// How long an unwell cluster is asked often. Most failovers take less.
const SOON_WELL: Duration = Duration::from_secs(60);

/// How long a server is away, or a slot without an owner, before that is logged. A shorter absence is only a reconnection.
const AWAY_AFTER: Duration = Duration::from_secs(1);

/// How long a server may take to tell its slots.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// How long the servers of a cluster usually need to hear of a change from each other.
const GOSSIP: Duration = Duration::from_millis(20);

/// A handle to the connections to a cluster. They are kept up in the background until the last handle is dropped.
#[derive(Clone)]
pub(super) struct Cluster {
    connector: Arc<Connector>,
    map: watch::Receiver<Map>,
    wishes: mpsc::UnboundedSender<Wish>,
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only what tells of readiness asks for it"))]
    away: watch::Receiver<Option<Arc<str>>>,
    /// Notified when a server could not be reached, or does not know the owner of a slot.
    doubts: Arc<Notify>,
}

/// The owners of the slots, to which commands go.
#[derive(Clone, Default)]
struct Map {
    /// By slot: the place in `lines`.
    owners: Arc<[Option<u16>]>,
    lines: Arc<[(Node, Line)]>,
    /// Why the slots are unknown; `None` until the first attempt to ask has ended.
    failure: Option<Arc<str>>,
}

/// A request to the task.
enum Wish {
    /// A slot was found at another server.
    Moved(u16, Node),
    /// A question: do the other servers say that a node is a primary?
    Judge(Node, oneshot::Sender<bool>),
}

impl Cluster {
    /// Starts to connect, in a task of the current runtime.
    pub(super) fn start(connector: Arc<Connector>) -> Self {
        let (map_sender, map) = watch::channel(Map::default());
        let (wishes, wish_receiver) = mpsc::unbounded_channel();
        let (away_sender, away) = watch::channel(None);
        let doubts = Arc::new(Notify::new());
        let task = Task {
            connector: connector.clone(),
            map: map_sender,
            judge: Arc::new(Others { wishes: wishes.clone() }),
            wishes: wish_receiver,
            doubts: doubts.clone(),
            away: away_sender,
            unwell: Unwell::default(),
            lines: HashMap::new(),
            replicas: Vec::new(),
        };
        tokio::spawn(task.run());
        Self { connector, map, wishes, away, doubts }
    }

    /// Which part of the cluster has been out of reach for a while, in words; `None` while every slot has a reachable
    /// owner.
    #[cfg(feature = "server")]
    pub(super) fn away(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.away.clone()
    }

    /// The server that has a slot, or any server. Waits for the first attempt to connect to it, until the deadline.
    pub(super) async fn server(&self, slot: Option<u16>, deadline: Instant) -> RedisResult<Server> {
        if let Some(server) = self.map.borrow().line(slot).and_then(Line::connected) {
            return Ok(server);
        }
        Box::pin(self.wait_for_server(slot, deadline)).await
    }

    async fn wait_for_server(&self, slot: Option<u16>, deadline: Instant) -> RedisResult<Server> {
        let map = self.wait_for_map(deadline).await?;
        let line = map.line(slot).cloned();
        // There is no connection, so the task must find out why.
        self.doubts.notify_one();
        match line {
            Some(line) => line.server(deadline).await,
            None => Err(not_connected("no server of the cluster has the slot")),
        }
    }

    /// The owners of the slots. Waits for the first answer, until the deadline.
    async fn wait_for_map(&self, deadline: Instant) -> RedisResult<Map> {
        let mut map = self.map.clone();
        let settled = map.wait_for(|map| !map.owners.is_empty() || map.failure.is_some());
        match tokio::time::timeout_at(deadline, settled).await {
            Ok(Ok(map)) if map.owners.is_empty() => Err(not_connected(map.failure.as_deref().unwrap_or_default())),
            Ok(Ok(map)) => Ok(map.clone()),
            Ok(Err(_)) => Err(not_connected("this process is ending")),
            Err(_) => Err(not_connected("no answer yet")),
        }
    }

    /// Each primary that has slots.
    pub(super) async fn servers(&self, deadline: Instant) -> RedisResult<Vec<Server>> {
        let map = self.wait_for_map(deadline).await?;
        let servers = map.lines.iter().map(|(_, line)| line.server(deadline));
        join_all(servers).await.into_iter().collect()
    }

    /// A server to which a slot is moving, for the commands of one call.
    pub(super) async fn asking(&self, node: &Node) -> RedisResult<Server> {
        let line = self.map.borrow().lines.iter().find(|(known, _)| known == node).map(|(_, line)| line.clone());
        if let Some(server) = line.and_then(|line| line.connected()) {
            return Ok(Server { is_asking: true, ..server });
        }
        // Moves are rare and short, so a connection to a server without slots is not kept.
        let connection = self.connector.connect_once(node).await?;
        Ok(Server { is_asking: true, ..Server::unkept(node.clone(), connection) })
    }

    /// Learns from a refusal: a slot has moved, or a server does not know the owner of a slot.
    pub(super) fn learn(&self, error: &RedisError) {
        match (error.kind(), moved_to(error)) {
            (ErrorKind::Server(ServerErrorKind::Moved), Some((slot, node))) => {
                // The send cannot fail: the task outlives every handle.
                let _ = self.wishes.send(Wish::Moved(slot, node));
            }
            _ => self.doubts.notify_one(),
        }
    }
}

/// The slot and the node that a `MOVED` or `ASK` names.
pub(super) fn moved_to(error: &RedisError) -> Option<(u16, Node)> {
    let (address, slot) = error.redirect_node()?;
    let (host, port) = address.rsplit_once(':')?;
    let node = Node { host: host.trim_matches(['[', ']']).into(), port: port.parse().ok()? };
    (!node.host.is_empty()).then_some((slot, node))
}

impl Map {
    fn line(&self, slot: Option<u16>) -> Option<&Line> {
        let place = match slot {
            Some(slot) => (*self.owners.get(usize::from(slot))?)?.into(),
            None => {
                let up: Vec<usize> = (0..self.lines.len())
                    .filter(|place| self.lines.get(*place).is_some_and(|(_, line)| line.connected().is_some()))
                    .collect();
                fastrand::choice(up).unwrap_or(0)
            }
        };
        self.lines.get(place).map(|(_, line)| line)
    }
}

/// The answers of the cluster's other servers.
struct Others {
    wishes: mpsc::UnboundedSender<Wish>,
}

#[async_trait]
impl Judge for Others {
    async fn is_primary(&self, node: &Node) -> bool {
        let (answer, verdict) = oneshot::channel();
        let _ = self.wishes.send(Wish::Judge(node.clone(), answer));
        verdict.await.unwrap_or(false)
    }

    /// A replica redirects to the owner of the slot, so commands may go to a replica as well.
    fn names_primaries(&self) -> bool {
        false
    }
}

struct Task {
    connector: Arc<Connector>,
    map: watch::Sender<Map>,
    judge: Arc<Others>,
    wishes: mpsc::UnboundedReceiver<Wish>,
    doubts: Arc<Notify>,
    away: watch::Sender<Option<Arc<str>>>,
    unwell: Unwell,
    /// The connections. The sender beside each tells its keeper the server's address, which never changes.
    lines: HashMap<Node, (Line, watch::Sender<Aim>)>,
    /// The replicas as last told. They are asked if no primary answers.
    replicas: Vec<Node>,
}

impl Task {
    async fn run(mut self) {
        loop {
            let views = self.ask_all().await;
            self.take(views);
            let pause = self.pause();
            let next = Instant::now() + pause.mul_f64(0.75 + fastrand::f64() / 2.0);
            if !self.serve_until(next).await {
                return;
            }
        }
    }

    /// Serves requests until it is time to ask the servers again. Answers `false` once nobody has a handle.
    async fn serve_until(&mut self, next: Instant) -> bool {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => return true,
                () = self.map.closed() => return false,
                () = self.doubts.notified() => {
                    tokio::time::sleep(GOSSIP).await;
                    return true;
                }
                wish = self.wishes.recv() => match wish {
                    None => return false,
                    Some(Wish::Moved(slot, node)) => self.move_slot(slot, node),
                    Some(Wish::Judge(node, answer)) => {
                        tokio::time::sleep(GOSSIP).await;
                        let views = self.ask_all().await;
                        let _ = answer.send(is_primary_by_others(&views, &node));
                        self.take(views);
                    }
                },
            }
        }
    }

    /// The answers of all connected primaries. If there are none, the answer of any known server.
    async fn ask_all(&self) -> Vec<(Node, View)> {
        let servers = self.lines.values().filter_map(|(line, _)| line.connected());
        let views: Vec<(Node, View)> = join_all(servers.map(ask_server)).await.into_iter().flatten().collect();
        if !views.is_empty() {
            return views;
        }
        let mut strangers: Vec<&Node> =
            self.connector.endpoint.nodes.iter().chain(&self.replicas).chain(self.lines.keys()).collect();
        fastrand::shuffle(&mut strangers);
        let mut failure: Option<RedisError> = None;
        for node in strangers {
            match self.ask_stranger(node).await {
                Ok(view) => return vec![view],
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            let text: Arc<str> = error.to_string().into();
            self.map.send_modify(|map| map.failure = Some(text));
        }
        Vec::new()
    }

    async fn ask_stranger(&self, node: &Node) -> RedisResult<(Node, View)> {
        let asking = async {
            let connection = self.connector.connect_once(node).await?;
            let answer = Server::unkept(node.clone(), connection).send(redis::cmd("CLUSTER").arg("SLOTS")).await?;
            Ok((node.clone(), View::read(&answer, node)))
        };
        let timeout = |_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        tokio::time::timeout(ANSWER_TIME, asking).await.map_err(timeout)?
    }

    /// Adopts the owners of slots that the servers tell.
    fn take(&mut self, views: Vec<(Node, View)>) {
        if views.iter().all(|(_, view)| view.ranges.is_empty()) {
            return;
        }
        let by_slot = owners(&views);
        self.replicas = views.into_iter().flat_map(|(_, view)| view.replicas).collect();
        self.replicas.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        self.replicas.dedup();
        self.publish(by_slot);
    }

    /// Notes that one slot has moved, whatever the other servers know of it.
    fn move_slot(&mut self, slot: u16, node: Node) {
        let mut by_slot: Vec<Option<Node>> = {
            let map = self.map.borrow();
            let node_at = |place: &Option<u16>| map.lines.get(usize::from((*place)?)).map(|(node, _)| node.clone());
            map.owners.iter().map(node_at).collect()
        };
        if let Some(owner) = by_slot.get_mut(usize::from(slot))
            && owner.as_ref() != Some(&node)
        {
            *owner = Some(node);
            self.publish(by_slot);
        }
    }

    fn publish(&mut self, by_slot: Vec<Option<Node>>) {
        let mut places: HashMap<&Node, u16> = HashMap::new();
        let mut nodes: Vec<&Node> = Vec::new();
        let mut slots = Vec::with_capacity(SLOTS.into());
        for owner in &by_slot {
            slots.push(owner.as_ref().map(|node| {
                *places.entry(node).or_insert_with(|| {
                    nodes.push(node);
                    // There are fewer servers than slots, so this always fits.
                    u16::try_from(nodes.len() - 1).unwrap_or(u16::MAX)
                })
            }));
        }
        let is_same = {
            let map = self.map.borrow();
            map.failure.is_none()
                && *map.owners == *slots
                && map.lines.iter().map(|(node, _)| node).eq(nodes.iter().copied())
        };
        if is_same {
            return;
        }
        let nodes: Vec<Node> = nodes.into_iter().cloned().collect();
        let lines: Vec<(Node, Line)> = nodes.iter().map(|node| (node.clone(), self.line(node))).collect();
        self.lines.retain(|node, _| nodes.contains(node));
        self.map.send_replace(Map { owners: slots.into(), lines: lines.into(), failure: None });
    }

    fn line(&mut self, node: &Node) -> Line {
        let make = || {
            let (aim, listener) = watch::channel(Aim::At(Target::fixed(node.clone())));
            (Keeper::start(self.connector.clone(), listener, Some(self.judge.clone())), aim)
        };
        self.lines.entry(node.clone()).or_insert_with(make).0.clone()
    }

    /// Logs which servers cannot be reached. Answers the pause before the servers are asked again.
    fn pause(&mut self) -> Duration {
        let missing = self.missing();
        let unwell_for = self.unwell.look(missing.is_none(), Instant::now());
        let away = missing.filter(|_| unwell_for.is_some_and(|time| time >= AWAY_AFTER));
        self.away.send_if_modified(|told| {
            let is_new = *told != away;
            *told = away;
            is_new
        });
        match unwell_for {
            None => ASK_EVERY,
            Some(time) if time < SOON_WELL => ASK_OFTEN,
            Some(_) => ASK_EVERY / 4,
        }
    }

    /// Which servers cannot be reached now, in words.
    fn missing(&self) -> Option<Arc<str>> {
        let map = self.map.borrow();
        if let Some(failure) = &map.failure {
            return Some(failure.clone());
        }
        if let Some((node, _)) = map.lines.iter().find(|(_, line)| line.connected().is_none()) {
            return Some(format!("there is no connection to {node}, a primary of the cluster").into());
        }
        let has_all = !map.lines.is_empty() && map.owners.iter().all(Option::is_some);
        (!has_all).then(|| "no server of the cluster has one of its slots".into())
    }
}

/// Since when the cluster has not been well.
#[derive(Default)]
struct Unwell(Option<Instant>);

impl Unwell {
    /// How long the cluster has not been well; `None` if it is well.
    fn look(&mut self, is_well: bool, now: Instant) -> Option<Duration> {
        self.0 = if is_well { None } else { self.0.or(Some(now)) };
        self.0.map(|since| now.saturating_duration_since(since))
    }
}

async fn ask_server(server: Server) -> Option<(Node, View)> {
    let mut question = redis::cmd("CLUSTER");
    question.arg("SLOTS");
    let answer: Value = tokio::time::timeout(ANSWER_TIME, server.send(&question)).await.ok()?.ok()?;
    Some((server.node.as_ref().clone(), View::read(&answer, &server.node)))
}

/// Whether more of the other servers call the node a primary than do not. If there is only one server, its own word
/// counts.
fn is_primary_by_others(views: &[(Node, View)], node: &Node) -> bool {
    let says_so = |view: &View| view.ranges.iter().any(|(_, _, owner)| owner == node);
    let others: Vec<bool> = views.iter().filter(|(by, _)| by != node).map(|(_, view)| says_so(view)).collect();
    if others.is_empty() {
        return views.iter().any(|(_, view)| says_so(view));
    }
    others.iter().filter(|yes| **yes).count() * 2 > others.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_unwell_since_it_was_last_well() {
        let (mut unwell, begin) = (Unwell::default(), Instant::now());
        let mut look = |is_well, millis| unwell.look(is_well, begin + Duration::from_millis(millis));
        assert_eq!(look(true, 0), None);
        assert_eq!(look(false, 10), Some(Duration::ZERO));
        assert_eq!(look(false, 900), Some(Duration::from_millis(890)));
        // A connection that is back in time is never logged.
        assert_eq!(look(true, 950), None);
        assert_eq!(look(false, 1_500), Some(Duration::ZERO));
        assert_eq!(look(false, 2_500), Some(AWAY_AFTER));
    }
}
