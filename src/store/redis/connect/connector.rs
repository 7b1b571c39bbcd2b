//! Makes connections.

use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, TlsMode, Value,
};

use super::commands::Connection;
use super::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, misused};
use crate::store::StoreError;
use crate::store::redis::endpoint::{Endpoint, Node, Topology};

/// After how long without an acknowledgement of what was sent the kernel gives a connection up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// Makes connections to an endpoint.
pub(in crate::store::redis) struct Connector {
    pub(in crate::store::redis) endpoint: Endpoint,
    certificates: TlsCertificates,
    cluster: Option<ClusterClient>,
}

impl Connector {
    /// Reads the file of certificates, if there is one.
    pub(in crate::store::redis) fn new(endpoint: &Endpoint) -> Result<Self, StoreError> {
        let certificates = TlsCertificates { client_tls: None, root_cert: read_ca(endpoint)? };
        let mut connector = Self { endpoint: endpoint.clone(), certificates, cluster: None };
        if endpoint.topology == Topology::Cluster {
            let cluster = connector.build_cluster();
            connector.cluster = Some(cluster.map_err(|error| StoreError::new("cannot use REDIS_URL", error))?);
        }
        Ok(connector)
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// Makes a connection for commands; `on_loss` is called at most once when one to a single server ends by itself.
    pub(super) async fn connect(&self, on_loss: impl Fn() + Send + Sync + 'static) -> RedisResult<Connection> {
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
    pub(in crate::store::redis) async fn primary(&self) -> RedisResult<Node> {
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
    pub(super) async fn ask(&self, node: &Node, command: &Cmd) -> RedisResult<Value> {
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
    pub(in crate::store::redis) fn client(&self, node: &Node) -> RedisResult<Client> {
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
pub(in crate::store::redis) fn read_ca(endpoint: &Endpoint) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(path) = endpoint.tls.as_ref().and_then(|tls| tls.ca.as_ref()) else { return Ok(None) };
    match std::fs::read(path) {
        Ok(pem) => Ok(Some(pem)),
        Err(error) => {
            Err(StoreError::new(&format!("cannot read {}, the ca parameter of REDIS_URL", path.display()), error))
        }
    }
}
