//! One connection for subscriptions, until it is lost; [`super::subscriptions`] replaces it.
//!
//! The library's own reconnection is off. With it, a command that waits on the old connection would be answered on the
//! new connection, and so would confirm a subscription that does not exist.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::error::ErrorKind;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, Server, ServerConfig, TcpConfig, TlsConfig, TlsConnector,
};
use fred::types::{ClusterHash, CustomCommand, Message, RespVersion, Value};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::connect::read_ca;
use super::endpoint::{Endpoint, Node};
use crate::store::StoreError;

/// How long the server may take to answer before the connection counts as lost.
pub(super) const SILENCE: Duration = Duration::from_secs(2);

/// How many messages may wait for the reader. Any more are a lag. The library makes eight channels of this length, which
/// take about 900 bytes a message in all and are never given back.
pub(super) const CAPACITY: usize = 16_384;

/// How many channels one command names.
const CHANNELS_A_COMMAND: usize = 500;

/// A connection for subscriptions. Dropping it closes the connection.
pub(super) struct Link {
    client: Client,
    running: JoinHandle<Result<(), fred::error::Error>>,
    /// The number of received messages, counted by the receiver's reader.
    pub(super) received: Arc<AtomicU64>,
}

impl Link {
    /// Connects to a node. Messages of later subscriptions come through the receiver, in which `capacity` may wait.
    pub(super) async fn open(
        config: Config,
        capacity: usize,
    ) -> Result<(Self, broadcast::Receiver<Message>), StoreError> {
        let performance = PerformanceConfig {
            broadcast_channel_capacity: capacity,
            default_command_timeout: SILENCE,
            ..PerformanceConfig::default()
        };
        let connection = ConnectionConfig {
            connection_timeout: SILENCE,
            internal_command_timeout: SILENCE,
            max_command_attempts: 1,
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            ..ConnectionConfig::default()
        };
        let client = Client::new(config, Some(performance), Some(connection), None);
        let messages = client.message_rx();
        let mut link = Self { running: client.connect(), client: client.clone(), received: Arc::default() };
        tokio::select! {
            // This ping waits in the client's queue until the connection is there.
            pinged = client.ping::<Value>(None) => sign_of_life(pinged).map_err(|error| failure("cannot connect", &error))?,
            reason = link.closed() => return Err(StoreError(reason)),
        }
        Ok((link, messages))
    }

    /// Subscribes to channels. Once this resolves, everything that is published in them is received.
    pub(super) async fn subscribe(&self, channels: &[String]) -> Result<(), StoreError> {
        for channels in channels.chunks(CHANNELS_A_COMMAND) {
            self.client.subscribe(channels.to_vec()).await.map_err(|error| failure("cannot subscribe", &error))?;
        }
        // The library does not wait for the server's confirmations. The server answers in order, so its answer to a later
        // command confirms them all.
        self.ping().await
    }

    /// Subscribes to a pattern of channels. Once this resolves, everything that is published in them is received.
    pub(super) async fn subscribe_pattern(&self, pattern: &'static str) -> Result<(), StoreError> {
        self.client.psubscribe(pattern).await.map_err(|error| failure("cannot subscribe to a pattern", &error))?;
        self.ping().await
    }

    /// Ends subscriptions. Once this resolves, they have ended.
    pub(super) async fn unsubscribe(&self, channels: &[String]) -> Result<(), StoreError> {
        for channels in channels.chunks(CHANNELS_A_COMMAND) {
            self.client.unsubscribe(channels.to_vec()).await.map_err(|error| failure("cannot unsubscribe", &error))?;
        }
        self.ping().await
    }

    /// Pings the server. An answer that is late because of messages before it does not count as silence.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        loop {
            let before = self.received.load(Ordering::Relaxed);
            match sign_of_life(self.client.ping::<Value>(None).await) {
                Ok(()) => return Ok(()),
                Err(error)
                    if *error.kind() == ErrorKind::Timeout && self.received.load(Ordering::Relaxed) != before => {}
                Err(error) => return Err(failure("no answer to a ping", &error)),
            }
        }
    }

    /// The cluster's primaries, as the node knows them.
    pub(super) async fn primaries(&self) -> Result<Vec<Node>, StoreError> {
        let slots = CustomCommand::new_static("CLUSTER", ClusterHash::FirstKey, false);
        let answer: Value = self
            .client
            .custom(slots, vec!["SLOTS"])
            .await
            .map_err(|error| failure("cannot ask for the nodes of the cluster", &error))?;
        Ok(answer.into_array().into_iter().filter_map(primary_of_range).collect())
    }

    /// Resolves when the connection has ended, with the reason.
    pub(super) async fn closed(&mut self) -> String {
        match (&mut self.running).await {
            Ok(Ok(())) => "the connection was closed".into(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The task owns the connection.
        self.running.abort();
    }
}

/// The outcome of a ping. A server with a full disk refuses PING, too, but lives.
fn sign_of_life(pinged: Result<Value, fred::error::Error>) -> Result<(), fred::error::Error> {
    match pinged {
        Err(error) if !error.details().contains("MISCONF") => Err(error),
        _ => Ok(()),
    }
}

/// The first node of `[from, to, [host, port, ..], ..]`. A node that does not know its own name is left out.
fn primary_of_range(range: Value) -> Option<Node> {
    let primary = range.into_array().into_iter().nth(2)?.into_array();
    let host = primary.first()?.as_string().filter(|host| !host.is_empty())?;
    let port = primary.get(1)?.as_u64()?.try_into().ok()?;
    Some(Node { host, port })
}

fn failure(doing: &str, error: &fred::error::Error) -> StoreError {
    StoreError::new(doing, error)
}

/// The settings for a connection to one node of an endpoint, at an address that its name leads to, if there is one.
///
/// # Errors
///
/// The certificates to trust cannot be used.
pub(super) fn config_of(
    endpoint: &Endpoint,
    node: &Node,
    address: Option<SocketAddr>,
    tls: Option<TlsConfig>,
) -> Config {
    let server = match address {
        // The certificate names the host, not its address.
        Some(address) => Server::new_with_tls(address.ip().to_string(), address.port(), Some(node.host.clone())),
        None => Server::new(node.host.clone(), node.port),
    };
    Config {
        username: endpoint.login.username.clone(),
        password: endpoint.login.password.clone(),
        server: ServerConfig::Centralized { server },
        version: RespVersion::RESP3,
        database: (endpoint.database > 0).then_some(endpoint.database),
        tls,
        ..Config::default()
    }
}

/// The settings for encryption, which are made once because they read the certificates to trust.
///
/// # Errors
///
/// The certificates cannot be used.
pub(super) fn tls_of(endpoint: &Endpoint) -> Result<Option<TlsConfig>, StoreError> {
    if endpoint.tls.is_none() {
        return Ok(None);
    }
    let Some(pem) = read_ca(endpoint)? else {
        let system =
            TlsConnector::default_rustls().map_err(|error| failure("cannot use the system's certificates", &error))?;
        return Ok(Some(system.into()));
    };
    let unusable = |error: &dyn std::fmt::Display| {
        StoreError::new("cannot use the certificates in the file of the ca parameter of REDIS_URL", error)
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"there is none"));
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(Some(TlsConnector::from(config).into()))
}
