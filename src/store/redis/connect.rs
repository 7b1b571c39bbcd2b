//! The connection to Redis that commands take.
//!
//! [`Commands`] is made again by itself whenever it is lost, follows the sentinels' primary and the cluster's slots, and
//! answers or fails within [`ANSWER_TIMEOUT`].
//!
//! **Invariant:** no command is sent twice. By [`was_not_sent`] the store knows that it was not sent at all; after any
//! other error the store decides what is safe to repeat. (A command that another node of a cluster is responsible for was
//! refused, not done: sending it there is not sending it twice.)

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo,
    Pipeline, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisFuture, RedisResult,
    ServerErrorKind, TlsCertificates, TlsMode, Value,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::endpoint::{Endpoint, Node, Topology};
use crate::store::StoreError;

/// The longest that a command takes, waiting for a connection included: an act is to fail within a second.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(800);

/// The longest that one attempt to connect takes, with asking sentinels or the nodes of a cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// After how long without an acknowledgement of what was sent the kernel gives a connection up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// The wait after the first failed attempt to connect; it doubles with each.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// The longest wait between two attempts: what a node is late after an outage.
const LAST_RETRY: Duration = Duration::from_millis(500);

/// How soon the connections to a cluster may be replaced again: they mend themselves, except where a node is silent.
const CLUSTER_RENEWAL: Duration = Duration::from_secs(5);

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
enum State {
    Connecting {
        /// Why the last attempt failed; `None` before the first has.
        failure: Option<Arc<str>>,
    },
    Connected(Current),
}

#[derive(Clone)]
struct Current {
    /// Counts the connections, so that a late report about an old one is known as such.
    number: u64,
    connection: Connection,
}

#[derive(Clone)]
enum Connection {
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
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
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

/// Whether an error of [`Commands`] says that there was no connection, so that nothing was sent.
pub fn was_not_sent(error: &RedisError) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Arc<Cause>>());
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>()).and_then(io::Error::get_ref);
    cause.is_some_and(|cause| cause.is::<NotConnected>())
}

/// A cause as the library keeps it.
type Cause = dyn std::error::Error + Send + Sync;

#[derive(Debug, thiserror::Error)]
#[error("Redis cannot be reached: {0}")]
struct NotConnected(String);

fn not_connected(why: &str) -> RedisError {
    io::Error::new(io::ErrorKind::NotConnected, NotConnected(why.to_owned())).into()
}

fn misused(what: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, what).into()
}

/// Keeps a connection up for as long as somebody has a handle.
struct Keeper {
    connector: Arc<Connector>,
    state: watch::Sender<State>,
    reporter: mpsc::UnboundedSender<u64>,
    reports: mpsc::UnboundedReceiver<u64>,
    number: u64,
}

impl Keeper {
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            if self.state.is_closed() {
                return;
            }
            match self.connect().await {
                Ok(connection) => {
                    if self.number > 1 || retry > FIRST_RETRY {
                        tracing::info!(redis = %self.connector.endpoint, "connected to Redis");
                    }
                    retry = FIRST_RETRY;
                    self.state.send_replace(State::Connected(Current { number: self.number, connection }));
                    if !self.wait_for_loss().await {
                        return;
                    }
                    tracing::warn!(redis = %self.connector.endpoint, "the connection to Redis is lost; connecting again");
                }
                Err(error) => {
                    if retry == FIRST_RETRY {
                        tracing::warn!(redis = %self.connector.endpoint, %error, "cannot connect to Redis; will try again");
                    }
                    if !self.has_old_connection() {
                        self.state.send_replace(State::Connecting { failure: Some(error.to_string().into()) });
                    }
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
            // With jitter, so that the nodes do not come all at once to a Redis that has just started.
            tokio::time::sleep(retry.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        }
    }

    async fn connect(&mut self) -> RedisResult<Connection> {
        self.number += 1;
        let (number, reporter) = (self.number, self.reporter.clone());
        let connecting = self.connector.connect(move || {
            // After the keeper's end nobody needs to know.
            let _ = reporter.send(number);
        });
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer").into()),
        }
    }

    /// Waits until the present connection has to be replaced; `false` when nobody has a handle any more.
    async fn wait_for_loss(&mut self) -> bool {
        let connected = Instant::now();
        loop {
            tokio::select! {
                () = self.state.closed() => return false,
                report = self.reports.recv() => match report {
                    Some(number) if number == self.number => break,
                    Some(_) => {}
                    None => return false,
                },
            }
        }
        if self.connector.is_cluster() {
            // One silent node must not cut off the others: the connections are used until there are new ones.
            tokio::time::sleep_until(connected + CLUSTER_RENEWAL).await;
        } else {
            self.state.send_replace(State::Connecting { failure: None });
        }
        true
    }

    fn has_old_connection(&self) -> bool {
        matches!(&*self.state.borrow(), State::Connected(_))
    }
}

/// Makes connections to an endpoint.
pub(super) struct Connector {
    pub(super) endpoint: Endpoint,
    certificates: TlsCertificates,
    cluster: Option<ClusterClient>,
}

impl Connector {
    /// Reads the file of certificates, if there is one.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, StoreError> {
        let certificates = TlsCertificates { client_tls: None, root_cert: read_ca(endpoint)? };
        let mut connector = Self { endpoint: endpoint.clone(), certificates, cluster: None };
        if endpoint.topology == Topology::Cluster {
            let cluster = connector.build_cluster();
            connector.cluster = Some(cluster.map_err(|error| StoreError::new("cannot use REDIS_URL", error))?);
        }
        Ok(connector)
    }

    fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// Makes a connection for commands; `on_loss` is called at most once when one to a single server ends by itself.
    async fn connect(&self, on_loss: impl Fn() + Send + Sync + 'static) -> RedisResult<Connection> {
        if let Some(cluster) = &self.cluster {
            return Ok(Connection::Cluster(cluster.get_async_connection().await?));
        }
        let node = self.primary().await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            // Whoever waits for an answer has a timer already.
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    on_loss();
                }
                Ok::<(), std::convert::Infallible>(())
            });
        let connection = self.client(&node)?.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Connection::Single(connection, node.to_string().into()))
    }

    /// The server, or the one that the sentinels say is the primary and that says so itself.
    pub(super) async fn primary(&self) -> RedisResult<Node> {
        let Topology::Sentinel { master, .. } = &self.endpoint.topology else {
            return self.endpoint.nodes.first().cloned().ok_or_else(|| misused("REDIS_URL names no host"));
        };
        let mut sentinels = self.sentinels(master)?.build()?;
        match sentinels.async_get_client().await?.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Ok(Node { host: host.clone(), port: *port })
            }
            _ => Err(misused("the sentinels name no host")),
        }
    }

    fn sentinels(&self, master: &str) -> RedisResult<SentinelClientBuilder> {
        let Topology::Sentinel { login, .. } = &self.endpoint.topology else {
            return Err(misused("REDIS_URL names no sentinels"));
        };
        let mut nodes: Vec<ConnectionAddr> = self.endpoint.nodes.iter().map(|node| self.address(node)).collect();
        // Not always the same one first: it could be the one that is silent.
        fastrand::shuffle(&mut nodes);
        let mut builder = SentinelClientBuilder::new(nodes, master, SentinelServerType::Master)?
            .set_client_to_redis_protocol(ProtocolVersion::RESP3)
            .set_client_to_redis_db(self.endpoint.database.into())
            .set_client_to_redis_tcp_settings(tcp_settings())
            .set_client_to_sentinel_tcp_settings(tcp_settings());
        if self.endpoint.tls.is_some() {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(self.certificates.clone())
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(self.certificates.clone());
        }
        if let Some(username) = &self.endpoint.login.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &self.endpoint.login.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(username) = &login.username {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = &login.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        Ok(builder)
    }

    /// Connects to one node to have it do a command of a slot that is moving there. Moves are rare and short, so that
    /// the connection is not kept.
    async fn ask(&self, node: &Node, command: &Cmd) -> RedisResult<Value> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_TIMEOUT));
        let mut connection = self.client(node)?.get_multiplexed_async_connection_with_config(&config).await?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("ASKING").add_command(command.clone());
        let answers = connection.req_packed_commands(&pipeline, 1, 1).await?;
        let answer =
            answers.into_iter().next().ok_or_else(|| RedisError::from((ErrorKind::UnexpectedReturnType, "nothing")))?;
        answer.extract_error()
    }

    /// A client of one node.
    pub(super) fn client(&self, node: &Node) -> RedisResult<Client> {
        let info = self.connection_info(node)?;
        match self.endpoint.tls {
            Some(_) => Client::build_with_tls(info, self.certificates.clone()),
            None => Client::open(info),
        }
    }

    fn connection_info(&self, node: &Node) -> RedisResult<ConnectionInfo> {
        let mut settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(self.endpoint.database.into())
            .set_lib_name("slotcast", env!("CARGO_PKG_VERSION"));
        if let Some(username) = &self.endpoint.login.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.endpoint.login.password {
            settings = settings.set_password(password);
        }
        let info = self.address(node).into_connection_info()?;
        Ok(info.set_redis_settings(settings).set_tcp_settings(tcp_settings()))
    }

    fn address(&self, node: &Node) -> ConnectionAddr {
        let Node { host, port } = node.clone();
        match self.endpoint.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        }
    }

    fn build_cluster(&self) -> RedisResult<ClusterClient> {
        let nodes = self.endpoint.nodes.iter().map(|node| self.connection_info(node));
        let mut builder = ClusterClientBuilder::new(nodes.collect::<RedisResult<Vec<_>>>()?)
            .retries(0)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(CONNECT_TIMEOUT / 2)
            .response_timeout(ANSWER_TIMEOUT)
            .overall_response_timeout(Some(ANSWER_TIMEOUT))
            .tcp_settings(tcp_settings());
        if self.endpoint.tls.is_some() {
            builder = builder.tls(TlsMode::Secure).certs(self.certificates.clone());
        }
        builder.build()
    }
}

fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED);
    settings
}

/// The certificates to trust in place of the system's.
pub(super) fn read_ca(endpoint: &Endpoint) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(path) = endpoint.tls.as_ref().and_then(|tls| tls.ca.as_ref()) else { return Ok(None) };
    match std::fs::read(path) {
        Ok(pem) => Ok(Some(pem)),
        Err(error) => {
            Err(StoreError::new(&format!("cannot read {}, the ca parameter of REDIS_URL", path.display()), error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_had_no_connection_was_not_sent() {
        assert!(was_not_sent(&not_connected("why")));
        // The system's own error of that kind comes in the middle of things.
        assert!(!was_not_sent(&io::Error::from(io::ErrorKind::NotConnected).into()));
        assert!(!was_not_sent(&io::Error::new(io::ErrorKind::TimedOut, "late").into()));
        assert!(!was_not_sent(&misused("so")));
    }
}
