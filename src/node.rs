//! A running node: how its parts are wired, and how it leaves.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::{App, AppState, Health};
use crate::auth::{NodeKey, Verifier};
use crate::config::{AuthConfig, Config};
use crate::feed::{Feed, Rooms};
use crate::net::connection::{ConnectionHandle, Connections};
use crate::presence::{self, LocalPresence};
use crate::realtime::Realtime;
use crate::realtime::engine_ids::EngineIds;
use crate::realtime::owners::{self, Owners};
use crate::realtime::sessions::Sessions;
use crate::store::health::StoreHealth;
use crate::store::measured::Measured;
use crate::store::{SlotStore, Subscriptions};
use crate::sweeper::deadlines::Told;
use crate::sweeper::timer;
use crate::telemetry::metrics::Metrics;
use crate::{app, http, net, random, telemetry, webhooks};

/// The part of the drain time in which sockets are closed. Requests and the store get the rest.
const CLOSING_SHARE: f64 = 0.6;

/// How much each socket lengthens the closing: a few sockets are closed at once, many over the whole time.
const CLOSING_PER_SOCKET: Duration = Duration::from_millis(20);

/// The most batches in which sockets are closed.
const CLOSING_BATCHES: usize = 100;

/// A store, and its announcements.
#[derive(Clone)]
pub struct Stores {
    /// State.
    pub store: Arc<dyn SlotStore>,
    /// Brings the store's announcements.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// Whether other nodes may be on the store.
    pub is_shared: bool,
    /// The store's present faults.
    pub health: Arc<StoreHealth>,
}

/// The listeners of a node.
pub struct Listeners {
    /// For clients.
    pub public: TcpListener,
    /// For metrics, if there is one.
    pub admin: Option<TcpListener>,
}

/// Runs a node until `shutdown` is cancelled, then drains it: refuses new sockets, closes the present ones bit by bit so
/// that they come back elsewhere, and finishes what is in flight.
///
/// # Errors
///
/// The configuration has no keys for tokens, or they cannot be used. Or a part that the node cannot be without panicked.
pub async fn run(
    config: Config,
    stores: Stores,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (drain_time, drain_grace) = (config.listen.drain_time, config.listen.drain_grace);
    let mut background = JoinSet::new();
    let parts = Parts::wire(config, stores, &listeners, &shutdown, &mut background)?;
    let stopped = CancellationToken::new();
    if let Some(admin) = listeners.admin {
        let routes = telemetry::admin::router(parts.app.metrics.clone(), parts.connections.clone());
        tokio::spawn(net::server::serve(admin, routes, Connections::default(), stopped.clone()));
    }
    let serving = net::server::serve(listeners.public, parts.routes(), parts.connections.clone(), stopped.clone());
    let serving = tokio::spawn(serving);
    let ended_early = tokio::select! {
        () = shutdown.cancelled() => false,
        // None of these tasks ends by itself. If one ended, the node would go on serving without its work, and nobody
        // would notice.
        _ = background.join_next() => true,
    };
    let deadline = Instant::now() + drain_time;
    start_draining(&parts.app, drain_grace).await;
    close_sockets(&parts.connections, deadline.saturating_duration_since(Instant::now())).await;
    stopped.cancel();
    if tokio::time::timeout_at(deadline, serving).await.is_err() {
        tracing::warn!("requests were still in flight at the end of the drain time");
    }
    background.shutdown().await;
    anyhow::ensure!(!ended_early, "a part of the node panicked. The log says where. Start the node again");
    tracing::info!("stopped");
    Ok(())
}

/// The parts of a node, connected to each other.
struct Parts {
    app: Arc<App>,
    realtime: Realtime,
    connections: Connections,
}

impl Parts {
    /// Makes the parts, and starts the tasks that run in the background.
    fn wire(
        config: Config,
        stores: Stores,
        listeners: &Listeners,
        shutdown: &CancellationToken,
        background: &mut JoinSet<()>,
    ) -> anyhow::Result<Self> {
        let auth = config.auth.as_ref().ok_or_else(|| {
            anyhow::anyhow!("no keys that check tokens are configured: set JWT_SECRET or JWT_JWKS_URL")
        })?;
        let verifier = Verifier::new(auth)?;
        let (sessions, rooms) = (Arc::new(Sessions::default()), Arc::new(Rooms::default()));
        let (node_id, node_key) = (new_node_id()?, Arc::new(node_key_of(auth, stores.is_shared)?));
        let address = match &config.listen.advertise {
            Some(address) => address.clone(),
            None => listeners.public.local_addr()?.to_string(),
        };
        let presence = LocalPresence {
            id: node_id.clone(),
            proof: owners::prove_address(&node_key, &node_id, &address),
            address,
            started_at: crate::clock::wall(),
            sessions: sessions.clone(),
            rooms: rooms.clone(),
        };
        let metrics = Metrics::new();
        let store: Arc<dyn SlotStore> = Arc::new(Measured::new(stores.store, metrics.clone()));
        let health = Health::of_store(stores.health);
        let presence = Arc::new(presence);
        let (app, told) = App::new(app::Parts { config, store, verifier, metrics, health, presence });
        let app = Arc::new(app);
        let foreign = stores.subscriptions.foreign_messages();
        let feed = Feed::new(app.clone(), stores.subscriptions, rooms);
        let room = net::descriptors::room_for_connections();
        let connections = Connections::limited(room, app.metrics.tcp_refused.clone());
        let owners = stores.is_shared.then(|| Owners::new(node_key.clone()));
        let ids = EngineIds::new(node_id.clone(), node_key);
        let realtime =
            Realtime::start(app.clone(), feed.clone(), sessions, connections.clone(), owners, ids, background);
        foreign.into_iter().for_each(|messages| realtime.hear_emitters(messages, background));
        let parts = Self { app, realtime, connections };
        parts.start_background(feed, told, node_id, shutdown, background);
        Ok(parts)
    }

    /// Starts the tasks that are not about sockets.
    fn start_background(
        &self,
        feed: Feed,
        told: Told,
        node_id: String,
        shutdown: &CancellationToken,
        background: &mut JoinSet<()>,
    ) {
        let app = &self.app;
        let fetching = app.clone();
        // This task ends when its work is done, so it does not belong to the tasks that never end.
        tokio::spawn(async move { fetching.verifier.fetch_first_keys().await });
        background.spawn(feed.compare_heads());
        background.spawn(presence::run(app.clone()));
        if !app.config.webhooks.is_empty() {
            let (endpoints, leaving) = (app.config.webhooks.clone(), shutdown.clone());
            background.spawn(webhooks::run(app.webhook_tools(), endpoints, node_id.clone(), leaving));
        }
        // Without an interval the receiver is dropped here, and this node frees nothing by itself.
        if let Some(interval) = app.config.holds.timer_interval {
            background.spawn(timer::run(app.sweeper_tools(), told, interval, node_id));
        }
    }

    fn routes(&self) -> Router {
        let sockets = self.realtime.routes().layer(http::cors_layer(&self.app.config));
        http::router(AppState(self.app.clone())).merge(sockets).merge(http::page::routes(&self.app.config))
    }
}

/// The key with which nodes sign. Nodes without a common key take each other's addresses on trust.
fn node_key_of(auth: &AuthConfig, has_other_nodes: bool) -> anyhow::Result<NodeKey> {
    if let Some(secret) = &auth.node_secret {
        let key = NodeKey::shared(secret);
        return Ok(match &auth.previous_secret {
            Some(previous) => key.with_previous(previous),
            None => key,
        });
    }
    if has_other_nodes {
        tracing::warn!(
            "JWT_SECRET is not set, so nodes cannot prove their addresses to each other: a program that can write to \
             Redis can have the tokens of clients that poll sent to it. Set it on all nodes, besides JWT_JWKS_URL"
        );
    }
    Ok(NodeKey::own()?)
}

fn new_node_id() -> anyhow::Result<String> {
    Ok(format!("{:016x}", u64::from_be_bytes(random::bytes()?)))
}

/// Refuses new sockets, and gives balancers time to notice. The present sockets are served meanwhile: a client whose socket
/// is closed too early would come back to this node.
async fn start_draining(app: &App, grace: Duration) {
    app.health.start_draining();
    app.metrics.draining.set(1);
    app.metrics.ready.set(0);
    tracing::info!(grace_ms = grace.as_millis(), "not ready any more");
    tokio::time::sleep(grace).await;
}

/// Closes the sockets, in batches in random order, over a part of the time that is left.
async fn close_sockets(connections: &Connections, time_left: Duration) {
    let mut sockets = connections.with_sockets();
    fastrand::shuffle(&mut sockets);
    let count = u32::try_from(sockets.len()).unwrap_or(u32::MAX);
    let window = CLOSING_PER_SOCKET.saturating_mul(count).min(time_left.mul_f64(CLOSING_SHARE));
    tracing::info!(sockets = count, window_ms = window.as_millis(), "draining");
    let batch = sockets.len().div_ceil(CLOSING_BATCHES).max(1);
    let batches = u32::try_from(sockets.len().div_ceil(batch)).unwrap_or(u32::MAX).max(1);
    for batch in sockets.chunks(batch) {
        batch.iter().for_each(ConnectionHandle::kill_socket);
        tokio::time::sleep((window / batches).mul_f64(0.5 + fastrand::f64())).await;
    }
    // Closes sockets that slipped in meanwhile, and polling clients whose next request has come.
    connections.with_sockets().iter().for_each(ConnectionHandle::kill_socket);
}
