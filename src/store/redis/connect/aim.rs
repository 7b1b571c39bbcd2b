//! Which server to talk to, as the sentinels, the name or the cluster says.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::store::redis::endpoint::Node;

/// Which server is the one to talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::redis) enum Aim {
    /// Nobody has said it.
    Unknown {
        /// Why not; `None` while the first who was asked has not answered yet.
        failure: Option<Arc<str>>,
    },
    /// Another server is about to become the primary: what the present one took now would be lost.
    Replacing,
    /// This one.
    At(Target),
}

/// A server to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::redis) struct Target {
    /// Its name or address.
    pub(in crate::store::redis) node: Node,
    /// Where the name leads now; empty where a connection looks that up itself, once.
    pub(in crate::store::redis) addresses: Vec<SocketAddr>,
}

impl Target {
    /// A server whose address does not move while it is connected to.
    pub(in crate::store::redis) fn fixed(node: Node) -> Self {
        Self { node, addresses: Vec::new() }
    }

    /// Whether a connection to a node at an address leads to this.
    pub(in crate::store::redis) fn is_at(&self, node: &Node, address: Option<SocketAddr>) -> bool {
        *node == self.node && (self.addresses.is_empty() || address.is_some_and(|at| self.addresses.contains(&at)))
    }
}

/// Waits for a change of the aim. Never returns where nobody is left who could change it.
pub(in crate::store::redis) async fn changed(aim: &mut watch::Receiver<Aim>) {
    if aim.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
