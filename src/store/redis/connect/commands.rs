//! Sends commands to Redis.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use super::aim::Aim;
use super::cluster::{Cluster, moved_to};
use super::connector::Connector;
use super::keeper::{Judge, Keeper};
use super::line::{Line, Server};
use super::sentinels::Sentinels;
use super::slots::{slot_of, slot_of_key};
use super::{ANSWER_TIMEOUT, names};
use crate::store::StoreError;
use crate::store::redis::endpoint::{Endpoint, Node, Topology};

/// How many times a command follows a slot that moves.
const REDIRECTS: u32 = 8;

/// The pause before the first redirection is followed. Meanwhile the nodes of a cluster hear of the move. The pause
/// grows with each redirection.
const REDIRECT_WAIT: Duration = Duration::from_millis(5);

/// The connection to Redis for commands. Clones share it. It is kept up in the background until the last clone is dropped.
#[derive(Clone)]
pub struct Commands {
    connector: Arc<Connector>,
    way: Way,
    /// The server for commands, as it changes; `None` on a cluster.
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only who listens asks for it"))]
    aim: Option<watch::Receiver<Aim>>,
}

#[derive(Clone)]
enum Way {
    Single(Line),
    Cluster(Cluster),
}

/// The route of one command to its server, including redirections.
pub(in crate::store::redis) struct Route {
    /// `None` for any server.
    slot: Option<u16>,
    /// The node to which the slot is moving. It is used for the next try only.
    asked: Option<Node>,
    followed: u32,
}

impl Route {
    /// A route to the server of a key.
    pub(in crate::store::redis) fn to_key(key: &str) -> Self {
        Self { slot: Some(slot_of_key(key.as_bytes())), asked: None, followed: 0 }
    }

    /// A route to any server.
    fn to_any() -> Self {
        Self { slot: None, asked: None, followed: 0 }
    }

    fn of(command: &Cmd) -> Self {
        Self { slot: slot_of(command), asked: None, followed: 0 }
    }
}

impl Commands {
    /// Starts to connect, in a task of the current runtime. The first command waits for the connection.
    ///
    /// # Errors
    ///
    /// The file of certificates cannot be used.
    pub fn start(endpoint: &Endpoint) -> Result<Self, StoreError> {
        let connector = Arc::new(Connector::new(endpoint)?);
        let unusable = |error: RedisError| StoreError::new("cannot use REDIS_URL", error);
        let (way, aim) = match &endpoint.topology {
            Topology::Cluster => (Way::Cluster(Cluster::start(connector.clone())), None),
            Topology::Standalone => {
                let node = endpoint.nodes.first().ok_or_else(|| StoreError("REDIS_URL names no host".into()))?;
                let aim = names::follow(node.clone());
                (Way::Single(Keeper::start(connector.clone(), aim.clone(), None)), Some(aim))
            }
            Topology::Sentinel { .. } => {
                let (sentinels, aim) = Sentinels::start(connector.clone()).map_err(unusable)?;
                let judge: Arc<dyn Judge> = Arc::new(sentinels);
                (Way::Single(Keeper::start(connector.clone(), aim.clone(), Some(judge))), Some(aim))
            }
        };
        Ok(Self { connector, way, aim })
    }

    /// Makes connections to the same servers.
    #[cfg(feature = "server")]
    pub(in crate::store::redis) fn connector(&self) -> Arc<Connector> {
        self.connector.clone()
    }

    /// The server for commands, as it changes; `None` on a cluster.
    #[cfg(feature = "server")]
    pub(in crate::store::redis) fn aim(&self) -> Option<watch::Receiver<Aim>> {
        self.aim.clone()
    }

    /// Which part of a cluster has been out of reach for a while, as it changes. `None` for a single server, whose
    /// absence each command reports.
    #[cfg(feature = "server")]
    pub(in crate::store::redis) fn away(&self) -> Option<watch::Receiver<Option<Arc<str>>>> {
        match &self.way {
            Way::Single(_) => None,
            Way::Cluster(cluster) => Some(cluster.away()),
        }
    }

    /// Sends a command to the server, or to each primary of a cluster. Answers their replies with their addresses.
    ///
    /// # Errors
    ///
    /// One of them did not answer, or refused.
    pub async fn ask_primaries<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<Vec<(String, T)>> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let servers = match &self.way {
            Way::Single(line) => vec![line.server(deadline).await?],
            Way::Cluster(cluster) => cluster.servers(deadline).await?,
        };
        let answers = servers.iter().map(async |server| {
            let answer = server.send(command).await?;
            Ok((server.node.to_string(), redis::from_redis_value(answer)?))
        });
        futures_util::future::join_all(answers).await.into_iter().collect()
    }

    /// A separate connection to the server for commands, or to any primary of a cluster.
    ///
    /// # Errors
    ///
    /// There is no server, or no answer in time.
    #[cfg(feature = "server")]
    pub(in crate::store::redis) async fn open_another(&self) -> RedisResult<redis::aio::MultiplexedConnection> {
        let server = self.server(&Route::to_any()).await?;
        self.connector.connect_once(&server.node).await
    }

    /// A separate connection to a server.
    ///
    /// # Errors
    ///
    /// There is no connection in time.
    #[cfg(feature = "server")]
    pub(in crate::store::redis) async fn open_to(&self, node: &Node) -> RedisResult<redis::aio::MultiplexedConnection> {
        self.connector.connect_once(node).await
    }

    /// The server for a command. Waits for a first attempt to connect, or for a failover.
    pub(in crate::store::redis) async fn server(&self, route: &Route) -> RedisResult<Server> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        match (&self.way, &route.asked) {
            (Way::Single(line), _) => line.server(deadline).await,
            (Way::Cluster(cluster), None) => cluster.server(route.slot, deadline).await,
            (Way::Cluster(cluster), Some(node)) => cluster.asking(node).await,
        }
    }

    /// Whether an error redirects the command to another server of a cluster. If so, points the route there, after a moment
    /// in which all servers hear of the move. A redirected command was not done.
    pub(in crate::store::redis) async fn follow(&self, route: &mut Route, error: &RedisError) -> bool {
        let Way::Cluster(cluster) = &self.way else { return false };
        route.asked = None;
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) if route.followed == REDIRECTS => false,
            ErrorKind::Server(ServerErrorKind::Moved) => {
                cluster.learn(error);
                route.followed += 1;
                tokio::time::sleep(REDIRECT_WAIT * route.followed).await;
                true
            }
            ErrorKind::Server(ServerErrorKind::Ask) => {
                route.followed += 1;
                route.asked = moved_to(error).map(|(_, node)| node);
                route.asked.is_some()
            }
            ErrorKind::Server(ServerErrorKind::ClusterDown) => {
                cluster.learn(error);
                false
            }
            _ => false,
        }
    }

    /// Sends a command, and answers its reply.
    ///
    /// # Errors
    ///
    /// The command was refused, or there was no answer in time.
    pub(in crate::store::redis) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let mut route = Route::of(command);
        loop {
            match self.server(&route).await?.send(command).await {
                Err(error) if self.follow(&mut route, &error).await => {}
                answer => return answer,
            }
        }
    }

    async fn send_all(&self, pipeline: &Pipeline, offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let route = pipeline.cmd_iter().next().map_or_else(Route::to_any, Route::of);
        self.server(&route).await?.send_all(pipeline, offset, count).await
    }
}

impl ConnectionLike for Commands {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.send(command).boxed()
    }

    /// On a cluster all commands of a pipeline must use one slot. A slot that moves is an error.
    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.send_all(pipeline, offset, count).boxed()
    }

    fn get_db(&self) -> i64 {
        self.connector.endpoint.database.into()
    }
}
