//! Which node an Engine.IO session lives on, so that polling works without sticky sessions.
//!
//! A session that begins by polling is claimed in the store's directory by the node that made it, before the client
//! learns its id. A request that reaches another node is sent on to the owner. Only addresses from the nodes' leases are
//! called. A session that begins on a websocket needs none of this.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;

use crate::app::App;
use crate::clock;
use crate::net::proxy::Proxy;
use crate::store::{SessionDirectory, StoreError};

/// How long a claim holds without being renewed: longer than a session lives without a request, 45 s.
const LEASE: Duration = Duration::from_secs(90);

/// How old a claim may grow before a request renews it.
const RENEW_AFTER: Duration = Duration::from_secs(30);

/// How long the other nodes' addresses are remembered.
const ADDRESSES_LAST: Duration = Duration::from_secs(2);

/// Below how many own sessions the ended ones are not looked for.
const FORGET_FROM: usize = 1_024;

/// What this node knows of who owns which session.
pub struct Owners {
    directory: Arc<dyn SessionDirectory>,
    node_id: String,
    proxy: Proxy,
    /// Own sessions that began by polling, with the last claim. Held for a map access only, never across an await.
    own: Mutex<Own>,
    /// Held for a map access only, never across an await.
    addresses: Mutex<Option<(Instant, HashMap<String, String>)>>,
}

struct Own {
    claimed: HashMap<String, Instant>,
    forget_at: usize,
}

/// Where a request belongs.
pub(super) enum Place {
    /// Here, or nowhere: the library answers.
    Here,
    /// To the node at this address.
    Elsewhere(String),
}

impl Owners {
    /// Nothing is claimed yet.
    pub fn new(directory: Arc<dyn SessionDirectory>, node_id: String) -> Self {
        let own = Mutex::new(Own { claimed: HashMap::new(), forget_at: FORGET_FROM });
        Self { directory, node_id, proxy: Proxy::default(), own, addresses: Mutex::default() }
    }

    /// Claims a session that this node has just made, or renews the claim.
    pub(super) async fn claim(&self, engine_id: &str) -> Result<(), StoreError> {
        self.directory.claim(engine_id, &self.node_id, LEASE).await?;
        let now = clock::instant();
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.claimed.insert(engine_id.to_owned(), now);
        if own.claimed.len() >= own.forget_at {
            own.claimed.retain(|_, claimed| now.saturating_duration_since(*claimed) < LEASE);
            own.forget_at = FORGET_FROM.max(own.claimed.len() * 2);
        }
        Ok(())
    }

    /// Finds where a request of a session belongs, and keeps the claim of an own one. One that another node has sent on
    /// belongs here or nowhere.
    pub(super) async fn place(&self, app: &App, engine_id: &str, is_forwarded: bool) -> Result<Place, StoreError> {
        if let Some(claimed) = self.last_claim(engine_id) {
            if clock::instant().saturating_duration_since(claimed) > RENEW_AFTER
                && let Err(error) = self.claim(engine_id).await
            {
                // A node without its store keeps its connections.
                tracing::warn!(%error, "a session's claim cannot be renewed");
            }
            return Ok(Place::Here);
        }
        if is_forwarded {
            return Ok(Place::Here);
        }
        let Some(owner) = self.directory.owner(engine_id).await? else { return Ok(Place::Here) };
        let address = if owner == self.node_id { None } else { self.address_of(app, &owner).await? };
        Ok(address.map_or(Place::Here, Place::Elsewhere))
    }

    /// Sends a request on; `None` when the owner gives no answer, so that the session is over.
    pub(super) async fn forward(&self, request: Request, address: &str) -> Option<Response> {
        let answered = self.proxy.forward(request, address).await;
        answered.inspect_err(|error| tracing::info!(%error, "a session's node cannot be reached")).ok()
    }

    /// Whether the session was claimed by this node.
    pub(super) fn is_own(&self, engine_id: &str) -> bool {
        self.last_claim(engine_id).is_some()
    }

    fn last_claim(&self, engine_id: &str) -> Option<Instant> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).claimed.get(engine_id).copied()
    }

    /// A live node's address, from its lease.
    async fn address_of(&self, app: &App, node_id: &str) -> Result<Option<String>, StoreError> {
        let now = clock::instant();
        let known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((read, addresses)) = known
            && now.saturating_duration_since(read) < ADDRESSES_LAST
            && let Some(address) = addresses.get(node_id)
        {
            return Ok(Some(address.clone()));
        }
        let nodes = app.store.nodes().await?;
        let addresses: HashMap<String, String> = nodes.into_iter().map(|node| (node.id, node.address)).collect();
        let address = addresses.get(node_id).cloned();
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, addresses));
        Ok(address)
    }
}
