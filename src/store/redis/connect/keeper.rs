//! Keeps up a connection to the server that commands go to.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{Fuse, FusedFuture, FutureExt};
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::sync::{mpsc, watch};

use super::CONNECT_TIMEOUT;
use super::aim::{Aim, Target, changed};
use super::connector::Connector;
use super::line::{Facts, Line, Report, Server, State};
use crate::store::redis::endpoint::Node;

/// The pause after the first failed attempt to connect. It doubles with each failure.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// The longest pause between two attempts, and so the longest delay after an outage.
const LAST_RETRY: Duration = Duration::from_millis(500);

/// How often a server is asked for its role, if another server could replace it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Other servers that know whether a server is the primary.
#[async_trait]
pub(super) trait Judge: Send + Sync {
    /// Whether enough of them say now that the node is the primary.
    async fn is_primary(&self, node: &Node) -> bool;

    /// Whether a server that calls itself a replica must not be used.
    fn names_primaries(&self) -> bool;
}

/// Keeps a connection up as long as somebody has a handle.
pub(super) struct Keeper {
    connector: Arc<Connector>,
    aim: watch::Receiver<Aim>,
    /// `None` if no server can take this one's place under the same address.
    judge: Option<Arc<dyn Judge>>,
    state: watch::Sender<State>,
    reporter: mpsc::UnboundedSender<Report>,
    reports: mpsc::UnboundedReceiver<Report>,
}

/// Why a connection is given up.
enum End {
    Lost,
    /// Another server is the right one now.
    Replaced,
    /// Nobody has a handle any more.
    Unneeded,
}

impl Keeper {
    /// Starts to connect to the server that `aim` names, in a task of the current runtime.
    pub(super) fn start(connector: Arc<Connector>, aim: watch::Receiver<Aim>, judge: Option<Arc<dyn Judge>>) -> Line {
        let (state_sender, state) = watch::channel(State::Connecting { failure: None });
        let (reporter, reports) = mpsc::unbounded_channel();
        let keeper = Self { connector, aim, judge, state: state_sender, reporter, reports };
        tokio::spawn(keeper.run());
        Line { state }
    }

    async fn run(mut self) {
        let (mut retry, mut is_first, mut failures) = (FIRST_RETRY, true, 0);
        while let Some(target) = self.wait_for_target().await {
            let mut aim = self.aim.clone();
            let connected = tokio::select! {
                connected = self.connect(&target, failures) => connected,
                () = changed(&mut aim) => continue,
            };
            match connected {
                Ok(server) => {
                    if !is_first || retry > FIRST_RETRY {
                        tracing::info!(redis = %self.connector.endpoint, server = %server.node, "connected to Redis");
                    }
                    (retry, is_first, failures) = (FIRST_RETRY, false, 0);
                    match self.serve(server).await {
                        End::Unneeded => return,
                        End::Replaced => continue,
                        End::Lost => {}
                    }
                }
                Err(error) => {
                    if retry == FIRST_RETRY {
                        let server = &target.node;
                        tracing::warn!(redis = %self.connector.endpoint, %server, %error, "cannot connect to Redis; will try again");
                    }
                    self.state.send_replace(State::Connecting { failure: Some(error.to_string().into()) });
                    (retry, failures) = ((retry * 2).min(LAST_RETRY), failures + 1);
                }
            }
            // Jitter keeps the nodes from coming all at once to a Redis that has just started.
            tokio::select! {
                () = tokio::time::sleep(retry.mul_f64(0.5 + 0.5 * fastrand::f64())) => {}
                () = changed(&mut self.aim) => {}
            }
        }
    }

    /// The server to connect to; `None` once nobody has a handle.
    async fn wait_for_target(&mut self) -> Option<Target> {
        loop {
            if self.state.is_closed() {
                return None;
            }
            let aim = self.aim.borrow_and_update().clone();
            match aim {
                Aim::At(target) => return Some(target),
                Aim::Replacing => self.state.send_replace(State::Paused),
                Aim::Unknown { failure } => self.state.send_replace(State::Connecting { failure }),
            };
            tokio::select! {
                () = changed(&mut self.aim) => {}
                () = self.state.closed() => return None,
            }
        }
    }

    async fn connect(&self, target: &Target, failures: usize) -> RedisResult<Server> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let reporter = self.reporter.clone();
        let connecting = self.connector.connect(target, failures, move || {
            // The send fails only after the keeper's end, when nobody needs the report.
            let _ = reporter.send(Report::Lost(number));
        });
        let server = async {
            let (connection, address) = connecting.await?;
            let server = Server {
                number,
                node: target.node.clone().into(),
                address,
                connection,
                facts: Arc::new(Facts::default()),
                reports: self.reporter.clone(),
                is_asking: false,
            };
            if let Some(judge) = &self.judge
                && !look(&server).await?
                && judge.names_primaries()
            {
                return Err(io::Error::other("the server is a replica, or about to become one").into());
            }
            Ok(server)
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, server).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer").into()),
        }
    }

    /// Lets a connection be used until it must be replaced.
    async fn serve(&mut self, server: Server) -> End {
        self.state.send_replace(State::Connected(server.clone()));
        let end = self.watch(&server).await;
        if matches!(end, End::Lost) {
            let redis = &self.connector.endpoint;
            tracing::warn!(%redis, server = %server.node, "the connection to Redis is lost; connecting again");
        }
        self.state.send_replace(State::Connecting { failure: None });
        end
    }

    async fn watch(&mut self, server: &Server) -> End {
        let judge = self.judge.clone();
        let mut demoted = pin!(look_for_ever(server, judge.as_deref()));
        let mut verdict = pin!(Fuse::terminated());
        loop {
            tokio::select! {
                () = self.state.closed() => return End::Unneeded,
                () = &mut demoted => return End::Lost,
                report = self.reports.recv() => match report {
                    None => return End::Unneeded,
                    Some(Report::Lost(number)) if number == server.number => return End::Lost,
                    Some(Report::Alone(number)) if number == server.number && verdict.is_terminated() => {
                        if let Some(judge) = &judge {
                            verdict.set(judge.is_primary(&server.node).fuse());
                        }
                    }
                    Some(_) => {}
                },
                is_primary = &mut verdict => if is_primary {
                    server.facts.replicas.store(0, Ordering::Relaxed);
                },
                () = changed(&mut self.aim) => {
                    let aim = self.aim.borrow_and_update().clone();
                    match aim {
                        Aim::At(target) if target.is_at(&server.node, server.address) => {
                            self.state.send_replace(State::Connected(server.clone()));
                        }
                        Aim::At(target) => {
                            tracing::info!(
                                from = %server.node, to = %target.node,
                                "the primary is another server now; connecting to it"
                            );
                            return End::Replaced;
                        }
                        Aim::Replacing => {
                            tracing::info!(server = %server.node, "the primary is being replaced; waiting for the next one");
                            self.state.send_replace(State::Paused);
                        }
                        Aim::Unknown { .. } => {}
                    }
                }
            }
        }
    }
}

/// Asks a server for its role at intervals. Resolves when it no longer is the primary although it must be.
async fn look_for_ever(server: &Server, judge: Option<&dyn Judge>) {
    let Some(judge) = judge else { return std::future::pending().await };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // The server's handle reports a connection that does not answer.
        if look(server).await.is_ok_and(|is_primary| !is_primary) && judge.names_primaries() {
            return;
        }
    }
}

/// Asks a server for its role, and notes how many replicas it has. Answers whether it is a primary.
///
/// # Errors
///
/// There is no answer.
async fn look(server: &Server) -> RedisResult<bool> {
    let info: String = match server.send(redis::cmd("INFO").arg("replication")).await {
        Err(error) if is_refusal(&error) => return has_role_of_a_primary(server).await,
        info => redis::from_redis_value(info?)?,
    };
    let replicas = info.lines().filter(|line| line.starts_with("slave") && line.contains("state=online")).count();
    server.facts.replicas.store(replicas as u64, Ordering::Relaxed);
    Ok(!info.contains("role:slave"))
}

/// Whether the server's role is that of a primary. This is for servers that refuse INFO.
async fn has_role_of_a_primary(server: &Server) -> RedisResult<bool> {
    match server.send(&redis::cmd("ROLE")).await {
        Err(error) if is_refusal(&error) => Ok(true),
        role => {
            let role: Vec<Value> = redis::from_redis_value(role?)?;
            Ok(!matches!(role.first(), Some(Value::BulkString(name)) if name == b"slave"))
        }
    }
}

fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError))
}
