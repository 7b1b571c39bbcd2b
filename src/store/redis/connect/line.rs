//! One connection that is kept up: [`Line`] is a handle to it, [`Server`] the server behind it at an instant.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::clock::ServerClock;
use super::{ANSWER_TIMEOUT, not_connected};
use crate::store::redis::endpoint::Node;

/// A handle to a connection. A [`Keeper`](super::keeper::Keeper) keeps the connection up until the last handle is dropped.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) state: watch::Receiver<State>,
}

/// The server to which commands can be sent now.
pub(super) enum State {
    Connecting {
        /// Why the last attempt failed; `None` until an attempt has failed.
        failure: Option<Arc<str>>,
    },
    /// Another server is about to replace this one.
    Paused,
    Connected(Server),
}

/// A connection to one server. Clones share it.
#[derive(Clone)]
pub(in crate::store::redis) struct Server {
    /// The connection's number, which no other connection of this process ever has.
    pub(in crate::store::redis) number: u64,
    pub(in crate::store::redis) node: Arc<Node>,
    /// The address to which the node's name led; `None` if the connection was made by an address.
    pub(super) address: Option<SocketAddr>,
    pub(super) connection: MultiplexedConnection,
    pub(super) facts: Arc<Facts>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    /// Whether commands go to a slot that is moving to this server.
    pub(super) is_asking: bool,
}

/// The facts that are known of the server behind a connection.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) clock: ServerClock,
    /// The number of its replicas when it was last asked, or when others last confirmed that it is the primary.
    pub(super) replicas: AtomicU64,
}

/// A report of a connection's user to the keeper.
pub(super) enum Report {
    /// The connection with this number must be replaced.
    Lost(u64),
    /// The server behind the connection with this number has lost a replica, so it may no longer be the primary.
    Alone(u64),
}

impl Line {
    /// The server. Waits, until the deadline, for a first attempt to connect or for a failover.
    pub(super) async fn server(&self, deadline: Instant) -> RedisResult<Server> {
        if let Some(server) = self.connected() {
            return Ok(server);
        }
        // The future is boxed, like that of every rare case here, because a command's future is moved several times on
        // its way.
        Box::pin(self.wait_for_server(deadline)).await
    }

    /// The server, if it is there.
    pub(super) fn connected(&self) -> Option<Server> {
        match &*self.state.borrow() {
            State::Connected(server) => Some(server.clone()),
            State::Connecting { .. } | State::Paused => None,
        }
    }

    async fn wait_for_server(&self, deadline: Instant) -> RedisResult<Server> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting { failure: None } | State::Paused));
        match tokio::time::timeout_at(deadline, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Connected(server) => Ok(server.clone()),
                State::Connecting { failure } => Err(not_connected(failure.as_deref().unwrap_or_default())),
                State::Paused => Err(not_connected("the primary is being replaced")),
            },
            Ok(Err(_)) => Err(not_connected("this process is ending")),
            Err(_) if matches!(&*self.state.borrow(), State::Paused) => {
                Err(not_connected("the primary is being replaced"))
            }
            Err(_) => Err(not_connected("no answer yet")),
        }
    }
}

impl Server {
    /// A server behind a connection that no keeper keeps up.
    pub(super) fn unkept(node: Node, connection: MultiplexedConnection) -> Self {
        let (reports, _) = mpsc::unbounded_channel();
        let facts = Arc::new(Facts::default());
        // The numbers of kept connections begin above 0.
        Self { number: 0, node: node.into(), address: None, connection, facts, reports, is_asking: false }
    }

    /// Sends a command, and answers its reply.
    ///
    /// # Errors
    ///
    /// The command was refused, or there was no answer in time.
    pub(in crate::store::redis) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        let mut connection = self.connection.clone();
        if self.is_asking {
            let mut pipeline = redis::pipe();
            pipeline.cmd("ASKING").add_command(command.clone());
            let answers = self.bounded(async { connection.req_packed_commands(&pipeline, 1, 1).await }).await?;
            let nothing = || RedisError::from((ErrorKind::UnexpectedReturnType, "nothing"));
            return answers.into_iter().next().ok_or_else(nothing)?.extract_error();
        }
        self.bounded(async { connection.send_packed_command(command).await.and_then(Value::extract_error) }).await
    }

    pub(super) async fn send_all(&self, pipeline: &Pipeline, offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let mut connection = self.connection.clone();
        self.bounded(async { connection.req_packed_commands(pipeline, offset, count).await }).await
    }

    /// Waits for an answer no longer than an act may take, and reports a connection that must be replaced.
    async fn bounded<T>(&self, asked: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        let answer = match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "Redis has not answered in time").into()),
        };
        if let Err(error) = &answer
            && is_reason_to_reconnect(error)
        {
            self.report(Report::Lost(self.number));
        }
        answer
    }

    /// The clock of the server.
    pub(in crate::store::redis) fn clock(&self) -> &ServerClock {
        &self.facts.clock
    }

    /// The number of its replicas as last seen; 0 if nobody could confirm the primary.
    pub(in crate::store::redis) fn replicas(&self) -> u64 {
        self.facts.replicas.load(Ordering::Relaxed)
    }

    /// Reports that the server has fewer replicas. Others are then asked whether it is still the primary.
    pub(in crate::store::redis) fn tell_alone(&self) {
        self.report(Report::Alone(self.number));
    }

    fn report(&self, report: Report) {
        // A kept connection's keeper outlives every handle. An unkept connection has no keeper, and ends after its use.
        let _ = self.reports.send(report);
    }
}

/// Whether an error says that the connection is gone or silent, or leads to a server that is no longer the primary.
fn is_reason_to_reconnect(error: &RedisError) -> bool {
    let is_demoted = matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) | ErrorKind::AuthenticationFailed
    );
    is_demoted || error.is_timeout() || error.is_connection_dropped() || error.is_unrecoverable_error()
}
