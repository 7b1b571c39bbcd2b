//! `slotcast serve`: runs a node until SIGTERM or SIGINT.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::token::{TokenArgs, make_token};
use crate::auth::Role;
use crate::config::{Config, Environment, ListenConfig, StoreKind};
use crate::domain::UserId;
use crate::net::{advertise, descriptors};
use crate::node::{self, Listeners, Stores};
use crate::store::embedded::EmbeddedStore;
use crate::store::finding::{Finding, Severity};
use crate::store::redis::checks::{self, Checked};
use crate::store::redis::watch::Watch;
use crate::store::redis::{Commands, Endpoint, Fence, RedisOptions, RedisStore, RedisSubscriptions};
use crate::store::{SlotStore, Subscriptions};
use crate::{http, net};

/// The pause before a node that starts asks a silent Redis again.
const RETRY: Duration = Duration::from_millis(500);

/// Every 20th unanswered question is logged.
const SAY_EVERY: usize = 20;

/// Runs a node. `shutdown` is cancelled by the caller when the process is to end.
///
/// # Errors
///
/// The store cannot be opened, or an address cannot be bound. The text is for the operator.
pub async fn serve(mut config: Config, shutdown: CancellationToken, out: &mut dyn Write) -> anyhow::Result<()> {
    match descriptors::raise_limit() {
        Ok(limit) => tracing::info!(limit, connections = descriptors::room_for_connections(), "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files (`ulimit -n`) cannot be raised"),
    }
    let listeners = bind(&config.listen).await?;
    // The listeners answer before the store does, so that a health check sees what the node waits for.
    let stores = tokio::select! {
        stores = open_stores(&config) => stores?,
        () = net::server::serve_meanwhile(&listeners.public, http::operations::starting_router()) => return Ok(()),
        () = shutdown.cancelled() => return Ok(()),
    };
    let address = listeners.public.local_addr()?;
    if config.listen.advertise.is_none() {
        config.listen.advertise = find_own_address(address, &config.store.kind).await;
    }
    announce(&config, address, &listeners, out)?;
    node::run(config, stores, listeners, shutdown).await
}

/// Opens the configured store, and its announcements.
async fn open_stores(config: &Config) -> anyhow::Result<Stores> {
    match &config.store.kind {
        StoreKind::Embedded(folder) => {
            let store = Arc::new(EmbeddedStore::open_with(folder, config.stored_journal())?);
            let health = store.health();
            Ok(Stores { store: store.clone(), subscriptions: store, is_shared: false, health })
        }
        StoreKind::Redis(url) => {
            let (store, subscriptions) = open_redis(url, config).await?;
            let health = store.health();
            Ok(Stores { store, subscriptions, is_shared: true, health })
        }
    }
}

/// Opens the store for a command that runs once. It checks nothing beforehand, and subscribes to nothing.
pub(super) fn open_store(config: &Config) -> anyhow::Result<Arc<dyn SlotStore>> {
    match &config.store.kind {
        StoreKind::Embedded(folder) => Ok(Arc::new(EmbeddedStore::open_with(folder, config.stored_journal())?)),
        StoreKind::Redis(url) => {
            let options = RedisOptions {
                fence: Fence::WhereAllowed,
                journal: config.stored_journal(),
                ..RedisOptions::default()
            };
            Ok(Arc::new(RedisStore::open(url, &config.store.redis_prefix, options)?))
        }
    }
}

/// Waits until Redis answers, checks it, and logs what is wrong.
async fn open_redis(url: &str, config: &Config) -> anyhow::Result<(Arc<RedisStore>, Arc<dyn Subscriptions>)> {
    let prefix = &config.store.redis_prefix;
    let endpoint = Endpoint::parse(url)?;
    let commands = Commands::start(&endpoint)?;
    let checked = check_until_answered(&commands, &endpoint, prefix).await;
    checked.findings.iter().for_each(log_finding);
    refuse_what_is_unsafe(&checked, config.environment)?;
    let options = RedisOptions { journal: config.stored_journal(), ..RedisOptions::default() };
    let store = RedisStore::new(commands.clone(), prefix, options)?;
    store.health().set_fenced(checked.is_fenced);
    let mut watch = Watch::new(commands.clone(), prefix, store.health());
    watch.look().await;
    // This task ends with the process.
    tokio::spawn(watch.run());
    let mut subscriptions = RedisSubscriptions::connect(&commands, prefix, store.formats(), store.positions())?;
    if config.store.hears_emitters {
        subscriptions = subscriptions.with_emitters(&commands)?;
    }
    Ok((Arc::new(store), Arc::new(subscriptions)))
}

/// Redis may start at the same time as this node, or be away for a while. If the node ended instead, its platform would
/// restart it at ever longer intervals, and it would not be there when Redis is back.
async fn check_until_answered(commands: &Commands, endpoint: &Endpoint, prefix: &str) -> Checked {
    let mut failures = 0_usize;
    loop {
        let failure = match checks::check(commands, endpoint, prefix).await {
            Ok(checked) => return checked,
            Err(failure) => failure,
        };
        if failures.is_multiple_of(SAY_EVERY) {
            tracing::error!("{} Will ask again.", checks::describe_unreachable(endpoint, &failure));
        }
        failures += 1;
        tokio::time::sleep(RETRY).await;
    }
}

/// Where other nodes reach this one if no address is configured. Other nodes send the requests of polling sessions there.
async fn find_own_address(listener: SocketAddr, store: &StoreKind) -> Option<String> {
    let StoreKind::Redis(url) = store else { return None };
    let server = Endpoint::parse(url).ok()?.nodes.into_iter().next();
    let environment = |name: &str| std::env::var(name).ok();
    let find = move || {
        let server = server.as_ref().map(|server| (server.host.as_str(), server.port));
        advertise::find_address(listener, server, environment)
    };
    let found = tokio::task::spawn_blocking(find).await.ok().flatten();
    match found {
        Some(address) => tracing::info!(%address, "other nodes reach this one here"),
        None => tracing::warn!(
            "cannot find the address at which other nodes reach this one, so polling clients lose their sessions: set \
             SLOTCAST_ADVERTISE_ADDR"
        ),
    }
    found.map(|address| address.to_string())
}

fn log_finding(finding: &Finding) {
    match finding.severity {
        Severity::Good => tracing::info!("{}", finding.text),
        Severity::Warning => tracing::warn!("{}", finding.text),
        Severity::Error => tracing::error!("{}", finding.text),
    }
}

/// Development refuses only a Redis that cannot work at all.
fn refuse_what_is_unsafe(checked: &Checked, environment: Environment) -> anyhow::Result<()> {
    let is_wrong = checked.findings.iter().any(|finding| finding.severity == Severity::Error);
    if checked.is_too_old || (is_wrong && environment == Environment::Production) {
        let wrong = checked.findings.iter().filter(|finding| finding.severity == Severity::Error);
        let wrong: Vec<&str> = wrong.map(|finding| finding.text.as_str()).collect();
        anyhow::bail!("Redis cannot serve slotcast: {}", wrong.join("; "));
    }
    Ok(())
}

async fn bind(config: &ListenConfig) -> anyhow::Result<Listeners> {
    let public = net::server::listen(config.address)
        .with_context(|| format!("cannot listen on {} (HOST, PORT): is another program there?", config.address))?;
    Ok(Listeners { public, admin: Some(bind_admin(config).await?) })
}

/// Binds the address of the metrics. If the default port is taken, any free one will do, so that a second node starts
/// on the same machine.
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

/// Prints where the node listens. If the secret was made at start, also prints tokens, because nobody else can make
/// them.
fn announce(config: &Config, address: SocketAddr, listeners: &Listeners, out: &mut dyn Write) -> anyhow::Result<()> {
    let admin = listeners.admin.as_ref().map(TcpListener::local_addr).transpose()?;
    let admin = admin.map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(%address, admin, version = env!("CARGO_PKG_VERSION"), "listening");
    if config.environment == Environment::Development {
        writeln!(out, "slotcast listens on http://{address}/")?;
    }
    if config.auth.as_ref().is_some_and(|auth| auth.secret_is_random) {
        writeln!(out, "JWT_SECRET is not set. A random secret is used until this process ends. Tokens for one day:")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(severity: Severity, is_too_old: bool, environment: Environment) -> Option<String> {
        let findings = vec![Finding { severity, text: "it forgets".into() }];
        let checked = Checked { findings, is_fenced: true, is_too_old };
        refuse_what_is_unsafe(&checked, environment).err().map(|error| error.to_string())
    }

    #[test]
    fn production_refuses_what_development_only_says() {
        let refused = Some("Redis cannot serve slotcast: it forgets".to_owned());
        assert_eq!(refusal(Severity::Error, false, Environment::Production), refused);
        assert_eq!(refusal(Severity::Error, false, Environment::Development), None);
        assert_eq!(refusal(Severity::Error, true, Environment::Development), refused);
        assert_eq!(refusal(Severity::Warning, false, Environment::Production), None);
    }
}
