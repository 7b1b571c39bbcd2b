//! What commands are sent through.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::connector::Connector;
use super::keeper::Keeper;
use super::{ANSWER_TIMEOUT, not_connected};
use crate::store::StoreError;
use crate::store::redis::endpoint::{Endpoint, Node};

/// How many times a command follows a slot that moves.
const REDIRECTS: u32 = 8;

/// The wait before the first following, until all nodes of a cluster know of the move; it grows with each.
const REDIRECT_WAIT: Duration = Duration::from_millis(5);

/// The connection to Redis that commands take. Clones share it; it is kept up in the background until the last is gone.
#[derive(Clone)]
pub struct Commands {
    connector: Arc<Connector>,
    state: watch::Receiver<State>,
    broken: mpsc::UnboundedSender<u64>,
}

/// What there is to send commands to.
pub(super) enum State {
    Connecting {
        /// Why the last attempt failed; `None` before the first has.
        failure: Option<Arc<str>>,
    },
    Connected(Current),
}

#[derive(Clone)]
pub(super) struct Current {
    /// Counts the connections, so that a late report about an old one is known as such.
    pub(super) number: u64,
    pub(super) connection: Connection,
}

#[derive(Clone)]
pub(super) enum Connection {
    /// With the server's address.
    Single(MultiplexedConnection, Arc<str>),
    Cluster(ClusterConnection),
}

impl Commands {
    /// Starts to connect, in the background of the current runtime; the first command waits for that.
    ///
    /// # Errors
    ///
    /// The file of certificates cannot be used.
    pub fn start(endpoint: &Endpoint) -> Result<Self, StoreError> {
        let connector = Arc::new(Connector::new(endpoint)?);
        let (state_sender, state) = watch::channel(State::Connecting { failure: None });
        let (broken, reports) = mpsc::unbounded_channel();
        let keeper =
            Keeper { connector: connector.clone(), state: state_sender, reporter: broken.clone(), reports, number: 0 };
        tokio::spawn(keeper.run());
        Ok(Self { connector, state, broken })
    }

    /// Sends a command to the server, or to each primary of a cluster; the answers with their addresses.
    ///
    /// # Errors
    ///
    /// One of them did not answer, or refused.
    pub async fn ask_primaries<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<Vec<(String, T)>> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let current = self.acquire(deadline).await?;
        let asked = async {
            match current.connection.clone() {
                Connection::Single(mut connection, address) => {
                    let answer = connection.send_packed_command(command).await?.extract_error()?;
                    Ok(vec![(address.to_string(), redis::from_redis_value(answer)?)])
                }
                Connection::Cluster(mut connection) => {
                    let primaries = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                    let answers = connection.route_command(command.clone(), primaries).await?.extract_error()?;
                    Ok(redis::from_redis_value(answers)?)
                }
            }
        };
        self.bounded(current.number, deadline, asked).await
    }

    /// The present connection, waited for while the first attempt to make it is under way.
    async fn acquire(&self, deadline: Instant) -> RedisResult<Current> {
        if let State::Connected(current) = &*self.state.borrow() {
            return Ok(current.clone());
        }
        // In a box, as all that is rare: a command's future is moved several times on its way.
        Box::pin(self.wait_for_connection(deadline)).await
    }

    async fn wait_for_connection(&self, deadline: Instant) -> RedisResult<Current> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting { failure: None }));
        match tokio::time::timeout_at(deadline, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Connected(current) => Ok(current.clone()),
                State::Connecting { failure } => Err(not_connected(failure.as_deref().unwrap_or_default())),
            },
            Ok(Err(_)) => Err(not_connected("this process is ending")),
            Err(_) => Err(not_connected("no answer yet")),
        }
    }

    /// Waits for an answer no longer than up to the deadline, and reports a connection that has to be replaced.
    async fn bounded<T>(
        &self,
        number: u64,
        deadline: Instant,
        asked: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        let answer = match tokio::time::timeout_at(deadline, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "Redis has not answered in time").into()),
        };
        if let Err(error) = &answer
            && is_reason_to_reconnect(error)
        {
            // The keeper outlives every handle.
            let _ = self.broken.send(number);
        }
        answer
    }

    /// Sends a command, and gives its answer.
    ///
    /// # Errors
    ///
    /// It was refused, or there was no answer in time.
    pub(in crate::store::redis) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let current = self.acquire(deadline).await?;
        let asked = async {
            match current.connection.clone() {
                Connection::Single(mut connection, _) => {
                    connection.send_packed_command(command).await.and_then(Value::extract_error)
                }
                Connection::Cluster(connection) => Box::pin(self.send_to_cluster(connection, command)).await,
            }
        };
        self.bounded(current.number, deadline, asked).await
    }

    /// Sends a command to whichever node of the cluster is responsible. Without retries the library itself sends a
    /// command once only; it learns from a refusal where the slot is now.
    async fn send_to_cluster(&self, mut connection: ClusterConnection, command: &Cmd) -> RedisResult<Value> {
        let mut attempt = 0;
        loop {
            let answer = connection.req_packed_command(command).await.and_then(Value::extract_error);
            let Err(error) = &answer else { return answer };
            if attempt == REDIRECTS {
                return answer;
            }
            attempt += 1;
            match error.kind() {
                ErrorKind::Server(ServerErrorKind::Moved) => tokio::time::sleep(REDIRECT_WAIT * attempt).await,
                ErrorKind::Server(ServerErrorKind::Ask) => match asked_node(error) {
                    Some(node) => return self.connector.ask(&node, command).await,
                    None => return answer,
                },
                _ => return answer,
            }
        }
    }

    async fn send_all(&self, pipeline: &Pipeline, offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let current = self.acquire(deadline).await?;
        let asked = async {
            match current.connection.clone() {
                Connection::Single(mut connection, _) => connection.req_packed_commands(pipeline, offset, count).await,
                Connection::Cluster(mut connection) => connection.req_packed_commands(pipeline, offset, count).await,
            }
        };
        self.bounded(current.number, deadline, asked).await
    }
}

impl ConnectionLike for Commands {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.send(command).boxed()
    }

    /// On a cluster, all commands of a pipeline are of one slot, and a slot that moves is an error.
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

/// Whether an error says that the connection is gone, silent, or leads to a server that is no primary any more.
fn is_reason_to_reconnect(error: &RedisError) -> bool {
    let is_demoted = matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) | ErrorKind::AuthenticationFailed
    );
    is_demoted || error.is_timeout() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

/// Where `ASK` sends a command.
fn asked_node(error: &RedisError) -> Option<Node> {
    let (address, _slot) = error.redirect_node()?;
    let (host, port) = address.rsplit_once(':')?;
    let node = Node { host: host.trim_matches(['[', ']']).into(), port: port.parse().ok()? };
    (!node.host.is_empty()).then_some(node)
}
