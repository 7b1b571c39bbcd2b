//! The server to connect to, as the sentinels, the name or the cluster say.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::store::redis::endpoint::Node;

/// The server to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::redis) enum Aim {
    /// Nobody has said which server it is.
    Unknown {
        /// Why it is unknown; `None` until the first question is answered.
        failure: Option<Arc<str>>,
    },
    /// Another server is about to become the primary. It would not have what the present one accepted now.
    Replacing,
    /// The server to connect to is this one.
    At(Target),
}

/// A server to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::redis) struct Target {
    /// Its name or address.
    pub(in crate::store::redis) node: Node,
    /// The addresses of the name now; empty for a connection that looks the name up itself, once.
    pub(in crate::store::redis) addresses: Vec<SocketAddr>,
}

impl Target {
    /// A server whose address is not watched while it is connected.
    pub(in crate::store::redis) fn fixed(node: Node) -> Self {
        Self { node, addresses: Vec::new() }
    }

    /// Whether a connection to a node at an address is a connection to this server.
    pub(in crate::store::redis) fn is_at(&self, node: &Node, address: Option<SocketAddr>) -> bool {
        *node == self.node && (self.addresses.is_empty() || address.is_some_and(|at| self.addresses.contains(&at)))
    }
}

/// Waits for a change. Never returns if nobody is left to make one.
pub(in crate::store::redis) async fn changed(aim: &mut watch::Receiver<Aim>) {
    if aim.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
