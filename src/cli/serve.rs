//! `slotcast serve`: runs a node until SIGTERM or SIGINT.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::token::{TokenArgs, make_token};
use crate::auth::Role;
use crate::config::{Config, Environment, ListenConfig, StoreKind};
use crate::domain::UserId;
use crate::node::{self, Listeners, Stores};
use crate::store::embedded::EmbeddedStore;

/// Runs a node. `shutdown` is cancelled by the caller when the process is to end.
///
/// # Errors
///
/// The store cannot be opened or an address not be bound, in words for the operator.
pub async fn serve(config: Config, shutdown: CancellationToken, out: &mut dyn Write) -> anyhow::Result<()> {
    let stores = open_stores(&config)?;
    let listeners = bind(&config.listen).await?;
    let address = listeners.public.local_addr()?;
    announce(&config, address, &listeners, out)?;
    node::run(config, stores, listeners, shutdown).await
}

/// Opens the store that the configuration names.
pub(super) fn open_stores(config: &Config) -> anyhow::Result<Stores> {
    match &config.store.kind {
        StoreKind::Embedded(folder) => {
            let store = Arc::new(EmbeddedStore::open(folder)?);
            Ok(Stores { store: store.clone(), subscriptions: store, directory: None })
        }
        StoreKind::Redis(_) => anyhow::bail!(
            "REDIS_URL is set, but this version has only the embedded store: unset it, or set SLOTCAST_STORE=embedded"
        ),
    }
}

async fn bind(config: &ListenConfig) -> anyhow::Result<Listeners> {
    let public = listen_deep(config.address)
        .with_context(|| format!("cannot listen on {} (HOST, PORT): is another program there?", config.address))?;
    Ok(Listeners { public, admin: Some(bind_admin(config).await?) })
}

/// The default address gives way when its port is taken, so that a second node on one machine starts.
async fn bind_admin(config: &ListenConfig) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(config.admin).await {
        Ok(listener) => Ok(listener),
        Err(error) if !config.admin_is_explicit => {
            tracing::warn!(%error, address = %config.admin, "the metrics' usual port is taken; using a free one");
            let any = SocketAddr::new(config.admin.ip(), 0);
            TcpListener::bind(any).await.with_context(|| format!("cannot listen on {any} for metrics"))
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot listen on {} (SLOTCAST_ADMIN_ADDR) for metrics", config.admin))
        }
    }
}

/// Says where the node is, and with a secret that was made at start, gives the tokens that nobody else could make.
fn announce(config: &Config, address: SocketAddr, listeners: &Listeners, out: &mut dyn Write) -> anyhow::Result<()> {
    let admin = listeners.admin.as_ref().map(TcpListener::local_addr).transpose()?;
    let admin = admin.map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(%address, admin, version = env!("CARGO_PKG_VERSION"), "listening");
    if config.environment == Environment::Development {
        writeln!(out, "slotcast listens on http://{address}/")?;
    }
    if config.auth.as_ref().is_some_and(|auth| auth.secret_is_random) {
        writeln!(out, "JWT_SECRET is not set: a random one holds until this process ends. Tokens for a day:")?;
        for (user, role) in [("7", None), ("8", None), ("1", Some(Role::Manager))] {
            let Some(id) = UserId::new(user) else { continue };
            let args = TokenArgs { user: id, role, sites: None, ttl: std::time::Duration::from_secs(86_400) };
            let token = make_token(config.auth.as_ref(), &args, crate::clock::wall())?;
            writeln!(
                out,
                "  user {user}{}: {token}",
                role.map(|role| format!(" ({})", role.as_str())).unwrap_or_default()
            )?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Listens with a queue that a storm of reconnecting clients fits into; the kernel clamps it to its own limit. Connections
/// beyond the queue are dropped, and the peer's kernel tries again at doubling intervals, all of them at the same moments.
fn listen_deep(address: std::net::SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(65_535)
}
