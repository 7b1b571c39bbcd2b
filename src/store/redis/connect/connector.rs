//! Makes connections.

use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::AsyncDNSResolver;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, PushInfo,
    PushKind, RedisConnectionInfo, RedisFuture, RedisResult, TlsCertificates,
};

use super::aim::Target;
use super::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, misused};
use crate::store::StoreError;
use crate::store::redis::endpoint::{Endpoint, Node, Topology};

/// How long a sentinel may take to answer.
pub(super) const SENTINEL_TIMEOUT: Duration = Duration::from_millis(700);

/// The kernel gives up a connection if sent data is not acknowledged for this long.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// Makes connections to the servers of an endpoint, and to its sentinels.
pub(in crate::store::redis) struct Connector {
    pub(in crate::store::redis) endpoint: Endpoint,
    certificates: TlsCertificates,
}

/// What kind of server the connection is to, which decides the login.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    Server,
    Sentinel,
}

impl Connector {
    /// Reads the file of certificates, if there is one.
    pub(in crate::store::redis) fn new(endpoint: &Endpoint) -> Result<Self, StoreError> {
        let certificates = TlsCertificates { client_tls: None, root_cert: read_ca(endpoint)? };
        Ok(Self { endpoint: endpoint.clone(), certificates })
    }

    /// Connects to a server, at the first of its addresses that answers. Answers that address if the name was looked up
    /// before. Each failure in a row moves the first address back, because a silent address uses up all of the time.
    /// `on_loss` is called at most once, if the connection ends by itself.
    pub(super) async fn connect(
        &self,
        target: &Target,
        failures: usize,
        on_loss: impl Fn() + Clone + Send + Sync + 'static,
    ) -> RedisResult<(MultiplexedConnection, Option<SocketAddr>)> {
        let client = self.client(&target.node)?;
        let config = || {
            let on_loss = on_loss.clone();
            AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                // The caller that waits for an answer has a timer of its own.
                .set_response_timeout(None)
                .set_push_sender(move |push: PushInfo| {
                    if push.kind == PushKind::Disconnection {
                        on_loss();
                    }
                    Ok::<(), std::convert::Infallible>(())
                })
        };
        if target.addresses.is_empty() {
            return Ok((client.get_multiplexed_async_connection_with_config(&config()).await?, None));
        }
        let mut failure = misused("REDIS_URL names no host");
        let count = target.addresses.len();
        for address in target.addresses.iter().cycle().skip(failures % count).take(count) {
            let there = config().set_dns_resolver(Only(*address));
            match client.get_multiplexed_async_connection_with_config(&there).await {
                Ok(connection) => return Ok((connection, Some(*address))),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Connects to a sentinel. `on_push` gets its unrequested messages, and the end.
    pub(super) async fn connect_to_sentinel(
        &self,
        node: &Node,
        on_push: impl Fn(&PushInfo) + Send + Sync + 'static,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(SENTINEL_TIMEOUT))
            .set_response_timeout(Some(SENTINEL_TIMEOUT))
            .set_push_sender(move |push: PushInfo| {
                on_push(&push);
                Ok::<(), std::convert::Infallible>(())
            });
        self.client_of(node, Peer::Sentinel)?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Connects for a single question, and waits for the answer no longer than an act may take.
    pub(super) async fn connect_once(&self, node: &Node) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT))
            .set_push_sender(|_: PushInfo| Ok::<(), std::convert::Infallible>(()));
        self.client(node)?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A client of one node.
    pub(in crate::store::redis) fn client(&self, node: &Node) -> RedisResult<Client> {
        self.client_of(node, Peer::Server)
    }

    fn client_of(&self, node: &Node, peer: Peer) -> RedisResult<Client> {
        let info = self.connection_info(node, peer)?;
        match self.endpoint.tls {
            Some(_) => Client::build_with_tls(info, self.certificates.clone()),
            None => Client::open(info),
        }
    }

    fn connection_info(&self, node: &Node, peer: Peer) -> RedisResult<ConnectionInfo> {
        let (login, database) = match (&self.endpoint.topology, peer) {
            (Topology::Sentinel { login, .. }, Peer::Sentinel) => (login, 0),
            _ => (&self.endpoint.login, self.endpoint.database),
        };
        let mut settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(database.into())
            .set_lib_name("slotcast", env!("CARGO_PKG_VERSION"));
        if let Some(username) = &login.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &login.password {
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
}

/// Resolves every name to one address.
struct Only(SocketAddr);

impl AsyncDNSResolver for Only {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _host: &'b str,
        _port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        let address: Box<dyn Iterator<Item = SocketAddr> + Send> = Box::new(std::iter::once(self.0));
        Box::pin(std::future::ready(Ok(address)))
    }
}

fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED);
    settings
}

/// The longest file of certificates, in bytes. A system's full list has a fourth of that.
const LONGEST_CA: u64 = 1024 * 1024;

/// The certificates to trust instead of the system's.
pub(in crate::store::redis) fn read_ca(endpoint: &Endpoint) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(path) = endpoint.tls.as_ref().and_then(|tls| tls.ca.as_ref()) else { return Ok(None) };
    match crate::files::read_bounded(path, LONGEST_CA) {
        Ok(pem) => Ok(Some(pem)),
        Err(error) => {
            Err(StoreError::new(&format!("cannot read {}, the ca parameter of REDIS_URL", path.display()), error))
        }
    }
}
